r"""Compares sets of real numbers: intervals, points, unions, complements.

Every notation becomes a sorted list of intervals, in which a point is an interval too: `a<0 \text{ or } a=1`
and `(-\infty,0)\cup\{1\}`; `x \neq 3` and `R \setminus \{3\}`. A set is unknown (None) if one of its ends has
no numeric value.
"""

import itertools
from decimal import Decimal
from typing import NamedTuple

from distillpipe.verify.math import evaluate
from distillpipe.verify.math.arithmetic import COMPARE_CONTEXT, CONTEXT
from distillpipe.verify.math.equations import interval_of, is_name
from distillpipe.verify.math.structure import Parsed, Structure
from distillpipe.verify.math.value import Value, equal_values, read_value

_INFINITY = Decimal("Infinity")
_TOLERANCE = Decimal(10) ** -50
_MAX_INTERVALS = 100
_INEQUALITIES = frozenset(["<", ">", r"\le", r"\ge", r"\neq"])
_ANY_VARIABLE = ""


class Interval(NamedTuple):
    """The numbers from `low` to `high`, with or without each end; the values keep the ends as written."""

    low: Decimal
    has_low: bool
    high: Decimal
    has_high: bool
    low_value: Value
    high_value: Value


Intervals = list[Interval]
_EMPTY_RELATION = Structure("relation", (), (), ())
_MINUS_INFINITY, _PLUS_INFINITY = read_value(r"-\infty"), read_value(r"\infty")
_REALS = [Interval(-_INFINITY, False, _INFINITY, False, _MINUS_INFINITY, _PLUS_INFINITY)]


def is_interval_set(side: Parsed) -> bool:
    """Whether a side is certainly a set with an interval in it; `(1,2)` may also be a point."""
    if isinstance(side, Value):
        return is_reals(side)
    if side.kind in ("union", "difference"):
        return True
    if side.kind == "relation":
        return bool(_INEQUALITIES & set(side.detail)) or (
            side.detail == (r"\in",) and is_interval_set(side.parts[1])
        )
    if side.kind == "group":
        ends = [part for part in side.parts if isinstance(part, Value) and part.infinity]
        return len(side.parts) == 2 and (bool(ends) or side.detail in (("[", ")"), ("(", "]")))
    return side.kind == "list" and any(
        isinstance(part, Structure) and part.kind == "relation" and is_interval_set(part)
        for part in side.parts
    )


def is_reals(side: Parsed) -> bool:
    return isinstance(side, Value) and (side.text == "R" or (side.is_words and side.words == "r"))


def same_set(left: Parsed, right: Parsed) -> bool | None:
    """Whether two sets are the same; None if one of them is unknown."""
    left_set, right_set = _named_intervals(left), _named_intervals(right)
    if left_set is None or right_set is None:
        return None
    (left_name, left_intervals), (right_name, right_intervals) = left_set, right_set
    if left_name and right_name and left_name != right_name:
        return False  # values of different variables
    left_intervals, right_intervals = _merged(left_intervals), _merged(right_intervals)
    if len(left_intervals) != len(right_intervals):
        return False
    return all(
        (part.has_low, part.has_high) == (other.has_low, other.has_high)
        and _same_end(part.low, other.low, part.low_value, other.low_value)
        and _same_end(part.high, other.high, part.high_value, other.high_value)
        for part, other in zip(left_intervals, right_intervals, strict=True)
    )


def _same_end(left: Decimal, right: Decimal, left_value: Value, right_value: Value) -> bool:
    return _order(left, right) == 0 or equal_values(left_value, right_value) is True


def _order(left: Decimal, right: Decimal) -> int:
    """-1, 0 or 1, as `left` is less than, equal to (within `_TOLERANCE`) or greater than `right`."""
    if left == right:
        return 0
    if left.is_finite() and right.is_finite():
        # COMPARE_CONTEXT, since the difference may be beyond the range of CONTEXT.
        difference = COMPARE_CONTEXT.abs(COMPARE_CONTEXT.subtract(left, right))
        largest = max(COMPARE_CONTEXT.abs(left), COMPARE_CONTEXT.abs(right))
        if difference <= COMPARE_CONTEXT.multiply(_TOLERANCE, largest):
            return 0
    return -1 if left < right else 1


def _named_intervals(side: Parsed) -> tuple[str, Intervals] | None:
    """The variable, or `_ANY_VARIABLE`, and the set of its values; None if unknown."""
    if isinstance(side, Value):
        if is_reals(side):
            return _ANY_VARIABLE, _REALS
        return (_ANY_VARIABLE, []) if side.is_words and side.words == "none" else None
    if side.kind == "relation":
        return _from_relation(side)
    if side.kind == "list":
        return _from_list(side)
    intervals = _intervals(side)
    return None if intervals is None else (_ANY_VARIABLE, intervals)


def _intervals(side: Parsed) -> Intervals | None:
    if isinstance(side, Value):
        named = _named_intervals(side)
        return None if named is None else named[1]
    if side.kind == "group" and len(side.parts) == 2:
        return _from_ends(side)
    if side.kind == "set":
        return _points(side)
    if side.kind in ("union", "difference"):
        sets = [part for part in map(_intervals, side.parts) if part is not None]
        if len(sets) < len(side.parts) or sum(map(len, sets)) > _MAX_INTERVALS:
            return None
        if side.kind == "union":
            return [interval for part in sets for interval in part]
        return _intersection(sets[0], _complement(_merged(sets[1])))
    return None


def _from_relation(relation: Structure) -> tuple[str, Intervals] | None:
    if set(relation.detail) == {"="} and len(relation.parts) == 2 and is_name(relation.texts[0]):
        points = _points(relation.parts[1])
        return None if points is None else (relation.texts[0], points)
    if len(relation.parts) < 2:
        return None
    if relation.detail == (r"\neq",) and is_name(relation.texts[0]):
        points = _points(relation.parts[1])
        return None if points is None else (relation.texts[0], _complement(_merged(points)))
    interval = interval_of(relation)
    if interval is None:
        return None
    values = _intervals(interval[1])
    return None if values is None else (interval[0], values)


def _from_list(several: Structure) -> tuple[str, Intervals] | None:
    """`or` is a union. A comma or `and` is an intersection, or a union if the intersection is empty."""
    relations = _relations(several)
    named = [pair for pair in map(_from_relation, relations) if pair is not None]
    if len(named) < len(relations) or len({name for name, _ in named}) != 1:
        return None
    name, intersection = named[0]
    union = [interval for _, part in named for interval in part]
    if "or" in several.detail:
        return name, union
    for _, part in named[1:]:
        intersection = _intersection(intersection, part)
    return name, intersection or union


def _relations(several: Structure) -> list[Structure]:
    r"""The relations of a list; a single value repeats the relation before it: `x \neq 0, 1`."""
    relations: list[Structure] = []
    for part, text in zip(several.parts, several.texts, strict=True):
        if isinstance(part, Structure) and part.kind == "relation":
            relations.append(part)
        elif relations and len(relations[-1].parts) == 2:
            last = relations[-1]
            relations.append(
                last._replace(parts=(last.parts[0], part), texts=(last.texts[0], text))
            )
        else:
            return [_EMPTY_RELATION]
    return relations


def _from_ends(group: Structure) -> Intervals | None:
    low, high = group.parts
    if not isinstance(low, Value) or not isinstance(high, Value):
        return None
    ends = _number(low), _number(high)
    if ends[0] is None or ends[1] is None or _order(ends[0], ends[1]) >= 0:
        return None
    return [Interval(ends[0], group.detail[0] == "[", ends[1], group.detail[1] == "]", low, high)]


def _points(side: Parsed) -> Intervals | None:
    """The points of a single value, a list or a set; None if one has no numeric value."""
    parts = side.parts if isinstance(side, Structure) and side.kind in ("list", "set") else (side,)
    points = [point for point in map(_point, parts) if point is not None]
    return points if len(points) == len(parts) else None


def _point(side: Parsed) -> Interval | None:
    if not isinstance(side, Value) or side.infinity:
        return None
    number = _number(side)
    return None if number is None else Interval(number, True, number, True, side, side)


def _number(side: Value) -> Decimal | None:
    if side.infinity:
        return _INFINITY if side.infinity == "+" else -_INFINITY
    if side.unit is not None or side.is_percent:
        return None
    if side.number is not None:
        numerator, denominator = side.number.as_integer_ratio()
        return CONTEXT.divide(Decimal(numerator), Decimal(denominator))
    return None if side.node is None else evaluate.constant(side.node)


def _merged(parts: Intervals) -> Intervals:
    """The same set as sorted intervals that do not touch each other."""
    merged: Intervals = []
    for part in sorted(parts, key=lambda interval: (interval.low, not interval.has_low)):
        last = merged[-1] if merged else part
        gap = _order(last.high, part.low)
        is_touching = gap > 0 or (gap == 0 and (last.has_high or part.has_low))
        if not merged or not is_touching:
            merged.append(part)
            continue
        order = _order(last.high, part.high)
        if order < 0:
            last = last._replace(high=part.high, has_high=part.has_high, high_value=part.high_value)
        elif order == 0:
            last = last._replace(has_high=last.has_high or part.has_high)
        if _order(last.low, part.low) == 0:
            last = last._replace(has_low=last.has_low or part.has_low)
        merged[-1] = last
    return merged


def _complement(parts: Intervals) -> Intervals:
    """The real numbers that are not in `parts`, which are sorted and do not touch."""
    gaps: Intervals = []
    low, has_low, low_value = -_INFINITY, False, _MINUS_INFINITY
    for part in parts:
        gap = Interval(low, has_low, part.low, not part.has_low, low_value, part.low_value)
        if part.low.is_finite() and not _is_empty(gap):
            gaps.append(gap)
        low, has_low, low_value = part.high, not part.has_high, part.high_value
    if low < _INFINITY:
        gaps.append(Interval(low, has_low, _INFINITY, False, low_value, _PLUS_INFINITY))
    return gaps


def _intersection(left: Intervals, right: Intervals) -> Intervals:
    overlaps = []
    for interval, other in itertools.product(left, right):
        low_order = _order(interval.low, other.low)
        high_order = _order(interval.high, other.high)
        # Of two equal ends, the excluded one is the tighter bound.
        begin = interval if low_order > 0 or (low_order == 0 and not interval.has_low) else other
        end = interval if high_order < 0 or (high_order == 0 and not interval.has_high) else other
        overlap = Interval(
            begin.low, begin.has_low, end.high, end.has_high, begin.low_value, end.high_value
        )
        if not _is_empty(overlap):
            overlaps.append(overlap)
    return overlaps


def _is_empty(part: Interval) -> bool:
    order = _order(part.low, part.high)
    return order > 0 or (order == 0 and not (part.has_low and part.has_high))
