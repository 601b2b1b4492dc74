r"""Random answers from a grammar: nothing crashes or hangs, and the spelling does not change a verdict.

The grammar writes the same value in two ways, or two different values, so the right verdict is known.
100,000 cases in the long run, a tenth of them in the slow run, a thousandth in each run.
"""

import random
from collections.abc import Callable
from fractions import Fraction

import pytest

from distillpipe.verify.extract import any_answer, boxed_answer
from distillpipe.verify.math.compare import same_answer
from distillpipe.verify.math.latex import normalized
from distillpipe.verify.math.numeric import number, same_number

NUM_CASES = [
    100,
    pytest.param(10_000, marks=pytest.mark.slow),
    pytest.param(100_000, marks=pytest.mark.long),
]


def _value(draw: random.Random) -> Fraction:
    return Fraction(draw.randint(-99, 99), draw.choice([1, 1, 1, 2, 3, 4, 5, 7, 8, 10, 25]))


def _digits(whole: int, draw: random.Random) -> str:
    spellings = [str(whole)]
    if whole >= 1000:
        spellings += [
            f"{whole:,}",
            f"{whole:,}".replace(",", "{,}"),
            f"{whole:,}".replace(",", "\\,"),
        ]
    return draw.choice(spellings)


def _spelled(value: Fraction, draw: random.Random) -> str:
    """A number in one of the notations that models use."""
    above, below = abs(value.numerator), value.denominator
    sign = "-" if value < 0 else ""
    if below == 1:
        text = draw.choice([_digits(above, draw), f"{above}.0", f"\\frac{{{above * 3}}}{{3}}"])
    else:
        ways = [
            f"{above}/{below}",
            f"\\frac{{{above}}}{{{below}}}",
            f"\\dfrac{{{above * 2}}}{{{below * 2}}}",
        ]
        if 10**6 % below == 0:
            ways.append(f"{above / below:.6f}".rstrip("0"))
        if above > below:
            ways.append(f"{above // below}\\frac{{{above % below}}}{{{below}}}")
        text = draw.choice(ways)
    return draw.choice(
        ["{}", "${}$", "{}.", " {} ", "\\({}\\)", "x = {}", "{}\\text{{ cm}}"]
    ).format(sign + text)


def _bare(value: Fraction, draw: random.Random) -> str:
    return normalized(
        _spelled(value, draw)
        .replace("x =", "")
        .replace("\\text{ cm}", "")
        .replace("{,}", "")
        .replace(",", "")
        .replace("\\", "\\")
    )


def _tuple(values: list[Fraction], draw: random.Random) -> str:
    return "\\left({}\\right)".format(
        draw.choice([", ", ",", ",\\,"]).join(_bare(value, draw) for value in values)
    )


def _set(values: list[Fraction], draw: random.Random) -> str:
    shuffled = draw.sample(values, len(values))
    return "\\{" + ", ".join(_bare(value, draw) for value in shuffled) + "\\}"


@pytest.mark.parametrize("num_cases", NUM_CASES)
def test_a_number_is_itself_in_every_spelling_and_no_other(num_cases: int) -> None:
    draw = random.Random(1)
    for _ in range(num_cases):
        value, other = _value(draw), _value(draw)
        left, right, third = _spelled(value, draw), _spelled(value, draw), _spelled(other, draw)
        assert same_answer(left, right) is True, (left, right)
        assert same_answer(left, third) is (value == other), (left, third)
        assert same_answer(third, left) is (value == other), (third, left)
        assert number(left) == value, left
        assert same_number(left, third) == ("correct" if value == other else "wrong"), (left, third)


@pytest.mark.parametrize("write", [_tuple, _set])
@pytest.mark.parametrize("num_cases", NUM_CASES)
def test_tuples_keep_their_order_and_sets_have_none(
    num_cases: int, write: Callable[..., str]
) -> None:
    draw = random.Random(2)
    for _ in range(num_cases // 10):
        values = draw.sample(
            [Fraction(n, d) for n in range(-9, 10) for d in (1, 2)], draw.randint(2, 5)
        )
        other = draw.choice([values, values[::-1], values[1:], [*values[1:], values[0] + 1]])
        same = values == other if write is _tuple else set(values) == set(other)
        left, right = write(values, draw), write(other, draw)
        if len(set(other)) > 1 or write is _set:
            assert same_answer(left, right) is same, (left, right)
            assert same_answer(right, left) is same, (right, left)


PIECES = [
    "1", "0", "-", "+", "x", "y", "i", "e", ".", ",", ", ", ";", " ", "(", ")", "[", "]", "{", "}", "\\{", "\\}", "/", "*", "^", "_",
    "^{", "_{", "!", "=", "<", "\\le", "\\in", "\\frac", "\\frac{", "}{", "\\sqrt", "\\sqrt[", "\\pi", "\\infty", "\\pm", "\\cup", "%", "\\%",
    "$", "\\text{", "\\text{ cm}", " and ", "\\sin", "\\log", "\\ln", "|", "\\left", "\\right", "\\boxed{", "\\begin{pmatrix}",
    "\\end{pmatrix}", "&", "\\\\", "\\cdot", "1,000", "12:00", "answer is ", "**", "\x00", "½", "٣", "\ud800", "π", "'", "\n", "apples",
    "°", "\\$", "€", "₹", "万", "半", " million", " or more", "at least ", "\\text{ and }", "\\text{ hours }", " min", " PM", "km/h", "^{-2}",
    "\\setminus", "R ", "\\neq", "\\mod ", "\\pmod{", "\\lcm(", "x=", "y=", "10^{30}", "⁻", "¹", "1e", "\\approx ", "...", "\\infty", "]", "[",
]  # fmt: skip


@pytest.mark.parametrize("num_cases", NUM_CASES)
def test_random_pieces_are_judged_alike_in_both_directions(
    num_cases: int,
) -> None:
    draw = random.Random(3)
    for _ in range(num_cases):
        left = "".join(draw.choices(PIECES, k=draw.randint(0, 12)))
        right = (
            left if draw.random() < 0.1 else "".join(draw.choices(PIECES, k=draw.randint(0, 12)))
        )
        result = same_answer(left, right)
        assert result == same_answer(right, left), (left, right)
        assert same_answer(left, left) is not False, left
        assert number(left) is None or same_number(left, left) == "correct", left
        boxed_answer(left)
        any_answer(left)
