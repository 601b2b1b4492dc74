r"""Sets of real numbers: intervals, points, unions, complements, and whether two of them are the same.

`a<0 \text{ or } a=1`, `(-\infty,0)\cup\{1\}` and `x \neq 3`, `R \setminus \{3\}` are read alike: as intervals in
order, a point as an interval of its own. An end that is no number of ours makes the set unknown (None).
"""

from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from distillpipe.verify.math import evaluate
from distillpipe.verify.math.arithmetic import COMPARING, CONTEXT
from distillpipe.verify.math.equations import interval, is_name
from distillpipe.verify.math.structure import Shape
from distillpipe.verify.math.value import Leaf, leaf, same_leaf

_INFINITY = Decimal("Infinity")
_SAME = Decimal(10) ** -50
_MAX_INTERVALS = 100
_INEQUALITIES = frozenset(["<", ">", r"\le", r"\ge", r"\neq"])
_EVERY_LETTER = ""

Read = Shape | Leaf


class Interval(NamedTuple):
    """From `low` to `high`, with or without its ends; the ends also as they were written."""

    low: Decimal
    has_low: bool
    high: Decimal
    has_high: bool
    low_leaf: Leaf
    high_leaf: Leaf


Set = list[Interval]
_NO_RELATION = Shape("relation", (), (), ())
_LEAST, _MOST = leaf(r"-\infty"), leaf(r"\infty")
_REALS = [Interval(-_INFINITY, False, _INFINITY, False, _LEAST, _MOST)]


def is_range(side: Read) -> bool:
    """Whether a value is a set with an interval in it beyond doubt: `(1,2)` may be a point."""
    if isinstance(side, Leaf):
        return is_reals(side)
    if side.kind in ("union", "difference"):
        return True
    if side.kind == "relation":
        return bool(_INEQUALITIES & set(side.detail)) or (
            side.detail == (r"\in",) and is_range(side.parts[1])
        )
    if side.kind == "group":
        ends = [part for part in side.parts if isinstance(part, Leaf) and part.infinity]
        return len(side.parts) == 2 and (bool(ends) or side.detail in (("[", ")"), ("(", "]")))
    return side.kind == "list" and any(
        isinstance(part, Shape) and part.kind == "relation" and is_range(part)
        for part in side.parts
    )


def is_reals(side: Read) -> bool:
    return isinstance(side, Leaf) and (side.text == "R" or (side.is_words and side.words == "r"))


def same_set(left: Read, right: Read) -> bool | None:
    """Whether two sets are the same; None where one of them is not known."""
    sets = _named_set(left), _named_set(right)
    if sets[0] is None or sets[1] is None:
        return None
    if sets[0][0] and sets[1][0] and sets[0][0] != sets[1][0]:
        return False  # of other letters
    left_set, right_set = _in_order(sets[0][1]), _in_order(sets[1][1])
    if len(left_set) != len(right_set):
        return False
    return all(_same_interval(*pair) for pair in zip(left_set, right_set, strict=True))


def _same_interval(left: Interval, right: Interval) -> bool:
    if left.has_low != right.has_low or left.has_high != right.has_high:
        return False
    return _same_end(left.low, right.low, left.low_leaf, right.low_leaf) and _same_end(
        left.high, right.high, left.high_leaf, right.high_leaf
    )


def _same_end(left: Decimal, right: Decimal, left_leaf: Leaf, right_leaf: Leaf) -> bool:
    return _order(left, right) == 0 or same_leaf(left_leaf, right_leaf) is True


def _order(left: Decimal, right: Decimal) -> int:
    if left == right:
        return 0
    is_finite = left.is_finite() and right.is_finite()
    if is_finite:  # of values at the end of CONTEXT's range the difference may be beyond it
        difference = COMPARING.abs(COMPARING.subtract(left, right))
        largest = max(COMPARING.abs(left), COMPARING.abs(right))
        if difference <= COMPARING.multiply(_SAME, largest):
            return 0
    return -1 if left < right else 1


def _named_set(side: Read) -> tuple[str, Set] | None:
    """The set, and the letter whose values they are, where there is one."""
    if isinstance(side, Leaf):
        if is_reals(side):
            return _EVERY_LETTER, _REALS
        return (_EVERY_LETTER, []) if side.is_words and side.words == "none" else None
    if side.kind == "relation":
        return _of_relation(side)
    if side.kind == "list":
        return _of_list(side)
    found = _set(side)
    return None if found is None else (_EVERY_LETTER, found)


def _set(side: Read) -> Set | None:
    if isinstance(side, Leaf):
        named = _named_set(side)
        return None if named is None else named[1]
    if side.kind == "group" and len(side.parts) == 2:
        return _of_ends(side)
    if side.kind == "set":
        return _points(side)
    if side.kind in ("union", "difference"):
        parts = [_set(part) for part in side.parts]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or sum(map(len, known)) > _MAX_INTERVALS:
            return None
        if side.kind == "union":
            return [one for part in known for one in part]
        return _common(known[0], _complement(_in_order(known[1])))
    return None


def _of_relation(relation: Shape) -> tuple[str, Set] | None:
    if set(relation.detail) == {"="} and len(relation.parts) == 2 and is_name(relation.texts[0]):
        points = _points(relation.parts[1])
        return None if points is None else (relation.texts[0], points)
    if len(relation.parts) < 2:
        return None
    if relation.detail == (r"\neq",) and is_name(relation.texts[0]):
        points = _points(relation.parts[1])
        return None if points is None else (relation.texts[0], _complement(_in_order(points)))
    found = interval(relation)
    if found is None:
        return None
    values = _set(found[1])
    return None if values is None else (found[0], values)


def _of_list(several: Shape) -> tuple[str, Set] | None:
    """`or` unites; a comma or `and` means what both say, or, where nothing is left, either."""
    found = [_of_relation(relation) for relation in _relations(several)]
    known = [one for one in found if one is not None]
    if len(known) < len(found) or len({name for name, _ in known}) != 1:
        return None
    union = [one for _, part in known for one in part]
    if "or" in several.detail:
        return known[0][0], union
    common = known[0][1]
    for _, part in known[1:]:
        common = _common(common, part)
    return known[0][0], common or union


def _relations(several: Shape) -> list[Shape]:
    r"""The relations of a list; a value without one has that before it: `x \neq 0, 1`."""
    found: list[Shape] = []
    for part, text in zip(several.parts, several.texts, strict=True):
        if isinstance(part, Shape) and part.kind == "relation":
            found.append(part)
        elif found and len(found[-1].parts) == 2:
            first = found[-1]
            found.append(first._replace(parts=(first.parts[0], part), texts=(first.texts[0], text)))
        else:
            return [_NO_RELATION]
    return found


def _of_ends(group: Shape) -> Set | None:
    low, high = group.parts
    if not isinstance(low, Leaf) or not isinstance(high, Leaf):
        return None
    ends = _number(low), _number(high)
    if ends[0] is None or ends[1] is None or _order(ends[0], ends[1]) >= 0:
        return None
    return [Interval(ends[0], group.detail[0] == "[", ends[1], group.detail[1] == "]", low, high)]


def _points(side: Read) -> Set | None:
    """The points of one value, a list or a set."""
    parts = side.parts if isinstance(side, Shape) and side.kind in ("list", "set") else (side,)
    points = [_point(part) for part in parts]
    known = [point for point in points if point is not None]
    return known if len(known) == len(points) else None


def _point(side: Read) -> Interval | None:
    if not isinstance(side, Leaf) or side.infinity:
        return None
    number = _number(side)
    return None if number is None else Interval(number, True, number, True, side, side)


def _number(side: Leaf) -> Decimal | None:
    if side.infinity:
        return _INFINITY if side.infinity == "+" else -_INFINITY
    if side.unit is not None or side.is_percent:
        return None
    if side.number is not None:
        return _decimal(side.number)
    return None if side.node is None else evaluate.constant(side.node)


def _decimal(number: Fraction) -> Decimal:
    return CONTEXT.divide(Decimal(number.numerator), Decimal(number.denominator))


def _in_order(parts: Set) -> Set:
    """The same set in intervals that do not touch, from the lowest on."""
    merged: Set = []
    for part in sorted(parts, key=lambda one: (one.low, not one.has_low)):
        last = merged[-1] if merged else None
        if last is None or not _touch(last, part):
            merged.append(part)
            continue
        order = _order(last.high, part.high)
        if order < 0:
            last = last._replace(high=part.high, has_high=part.has_high, high_leaf=part.high_leaf)
        elif order == 0:
            last = last._replace(has_high=last.has_high or part.has_high)
        if _order(last.low, part.low) == 0:
            last = last._replace(has_low=last.has_low or part.has_low)
        merged[-1] = last
    return merged


def _touch(last: Interval, part: Interval) -> bool:
    order = _order(last.high, part.low)
    return order > 0 or (order == 0 and (last.has_high or part.has_low))


def _complement(parts: Set) -> Set:
    """What intervals in order leave of the reals."""
    found: Set = []
    low, has_low, low_leaf = -_INFINITY, False, _LEAST
    for part in parts:
        gap = Interval(low, has_low, part.low, not part.has_low, low_leaf, part.low_leaf)
        if part.low.is_finite() and not _is_empty(gap):
            found.append(gap)
        low, has_low, low_leaf = part.high, not part.has_high, part.high_leaf
    if low < _INFINITY:
        found.append(Interval(low, has_low, _INFINITY, False, low_leaf, _MOST))
    return found


def _common(left: Set, right: Set) -> Set:
    """What is in both."""
    found = []
    for one in left:
        for other in right:
            begin = one if _order(one.low, other.low) > 0 or (_order(one.low, other.low) == 0 and not one.has_low) else other  # fmt: skip
            end = one if _order(one.high, other.high) < 0 or (_order(one.high, other.high) == 0 and not one.has_high) else other  # fmt: skip
            part = Interval(begin.low, begin.has_low, end.high, end.has_high, begin.low_leaf, end.high_leaf)  # fmt: skip
            if not _is_empty(part):
                found.append(part)
    return found


def _is_empty(part: Interval) -> bool:
    order = _order(part.low, part.high)
    return order > 0 or (order == 0 and not (part.has_low and part.has_high))
