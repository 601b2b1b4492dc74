r"""Random sets of real numbers in all notations, and random named values."""

import random
from fractions import Fraction

from distillpipe.verify.math.compare import same_answer

Piece = tuple[Fraction | None, bool, Fraction | None, bool]  # None is infinite; closed or not


def _drawn(draw: random.Random) -> list[Piece]:
    """Sorted intervals and points that do not touch."""
    count = draw.randint(1, 3)
    ends = sorted(draw.sample(range(-20, 20), 2 * count))
    pieces: list[Piece] = []
    for low, high in zip(ends[::2], ends[1::2], strict=True):
        is_point = draw.random() < 0.3
        below = low - draw.choice([Fraction(0), Fraction(1, 2)])
        pieces.append(
            (below, True, below, True) if is_point
            else (below, draw.random() < 0.5, Fraction(high), draw.random() < 0.5)
        )  # fmt: skip
    if draw.random() < 0.4:
        pieces[0] = (None, False, *pieces[0][2:])
    if draw.random() < 0.4:
        pieces[-1] = (*pieces[-1][:2], None, False)
    if all(low == high and low is not None for low, _, high, _ in pieces):
        pieces.append((Fraction(30), True, None, False))
    return pieces


def _interval(piece: Piece, draw: random.Random, *, is_french: bool) -> str:
    low, has_low, high, has_high = piece
    if low == high and low is not None:
        return rf"\{{{low}\}}"
    first = r"-\infty" if low is None else str(low)
    last = draw.choice([r"\infty", r"+\infty"]) if high is None else str(high)
    if is_french:
        begin, end = "[" if has_low else "]", "]" if has_high else "["
        return f"{begin}{first}{draw.choice([',', '; '])}{last}{end}"
    return f"{'[' if has_low else '('}{first}, {last}{']' if has_high else ')'}"


def _relation(piece: Piece, name: str) -> str:
    low, has_low, high, has_high = piece
    if low == high and low is not None:
        return f"{name} = {low}"
    if low is None and high is None:
        return rf"{name} \in \mathbb{{R}}"
    if low is None:
        return f"{name} {'≤' if has_high else '<'} {high}"
    if high is None:
        return f"{name} {'≥' if has_low else '>'} {low}"
    return rf"{low} {'≤' if has_low else '<'} {name} {'≤' if has_high else '<'} {high}"


def _spelled(pieces: list[Piece], draw: random.Random) -> str:
    way = draw.choice(["union", "relations", "complement"])
    shuffled = draw.sample(pieces, len(pieces))
    if way == "relations":
        return r" \text{ or } ".join(_relation(piece, "x") for piece in shuffled)
    if way == "complement":
        return rf"\mathbb{{R}} \setminus ({_union(_gaps(pieces), draw)})" if _gaps(pieces) else "R"
    return _union(shuffled, draw)


def _union(pieces: list[Piece], draw: random.Random) -> str:
    is_french = draw.random() < 0.3
    return r" \cup ".join(_interval(piece, draw, is_french=is_french) for piece in pieces)


def _gaps(pieces: list[Piece]) -> list[Piece]:
    gaps: list[Piece] = []
    low, has_low = None, False
    for begin, has_begin, high, has_high in pieces:
        if begin is not None:
            gaps.append((low, has_low, begin, not has_begin))
        low, has_low = high, not has_high
    if low is not None:
        gaps.append((low, has_low, None, False))
    return gaps


def _changed(pieces: list[Piece], draw: random.Random) -> list[Piece]:
    """A different set: one end is included, excluded or moved, or a part is removed."""
    at = draw.randrange(len(pieces))
    low, has_low, high, has_high = pieces[at]
    if len(pieces) > 1 and draw.random() < 0.4:
        return pieces[:at] + pieces[at + 1 :]
    if low == high and low is not None:
        return [
            *pieces[:at],
            (low + Fraction(1, 3), True, low + Fraction(1, 3), True),
            *pieces[at + 1 :],
        ]
    if low is None and high is None:
        return [(None, False, Fraction(0), True)]
    if low is not None:
        return [*pieces[:at], (low, not has_low, high, has_high), *pieces[at + 1 :]]
    return [*pieces[:at], (low, has_low, high, not has_high), *pieces[at + 1 :]]


def test_a_set_of_reals_is_itself_in_every_spelling_and_no_other() -> None:
    draw = random.Random(1)
    for _ in range(600):
        pieces = _drawn(draw)
        other = _changed(pieces, draw)
        left, right = _spelled(pieces, draw), _spelled(pieces, draw)
        assert same_answer(left, right) is True, (left, right)
        if any(high is None or low != high for low, _, high, _ in other):
            third = _spelled(other, draw)
            assert same_answer(left, third) is False, (left, third)
            assert same_answer(third, left) is False, (third, left)


NAMES = [("x", "y"), ("x", "y", "z"), ("a", "b", "c"), ("m", "n"), (r"\alpha", r"\beta"), ("AB", "BC", "CA"), ("P(A)", "P(B)")]  # fmt: skip


def test_named_values_are_compared_in_any_order_and_all_of_them() -> None:
    draw = random.Random(2)
    for _ in range(600):
        names = draw.choice(NAMES)
        values = draw.sample(range(-9, 30), len(names))
        reference = _named(list(zip(names, values, strict=True)), draw, shuffled=False)
        answer = _named(list(zip(names, values, strict=True)), draw, shuffled=True)
        swapped = [values[1], values[0], *values[2:]]
        wrong = [
            _named(list(zip(names, swapped, strict=True)), draw, shuffled=True),
            _named(list(zip(names, values, strict=True))[:-1], draw, shuffled=True),
            "({})".format(", ".join(map(str, swapped))),
            ", ".join(map(str, swapped)),
            str(values[0]),
        ]
        assert same_answer(reference, answer) is True, (reference, answer)
        assert same_answer(reference, "({})".format(", ".join(map(str, values)))) is True, reference
        for other in wrong:
            assert same_answer(reference, other) is False, (reference, other)
            assert same_answer(other, reference) is False, (reference, other)


def _named(pairs: list[tuple[str, int]], draw: random.Random, *, shuffled: bool) -> str:
    pairs = draw.sample(pairs, len(pairs)) if shuffled else pairs
    joint = draw.choice([", ", r",\ ", r" \text{ and } ", "; "])
    return joint.join(f"{name} {draw.choice(['=', ' = '])} {value}" for name, value in pairs)
