r"""Compares two answers by rules, without a computer algebra system: equal, different or undecided (None).

math-verify decides what is undecided here. The result does not depend on the order of the two sides.

- A list without brackets (`1,-2`, `x=1 or x=2`) and a set are unordered; a tuple, a vector and an interval
  are ordered. A list is compared with a tuple in order, with a set without order. A set never equals a tuple.
- Named values keep their names (see `bindings`): `x=1, y=2` equals `(1,2)`, but not `(2,1)` or `x=1`.
- Sets of real numbers are compared as sets, in any notation (see `reals`).
- `x = 5` and `f(x) = 5` equal 5; `\sqrt2 \approx 1.41` equals either side; `x < 5` equals `(-\infty, 5)`.
  Two equations are equal if one is a multiple of the other.
"""

import itertools
import re
from collections.abc import Sequence

from distillpipe.verify.math.bindings import (
    NamedValues,
    conjunction,
    equal_named,
    equal_unnamed,
    equal_unordered,
    named_values,
)
from distillpipe.verify.math.equations import (
    interval_of,
    is_name,
    same_inequality,
    same_zeros,
    sides_agree,
    sides_are_constant,
)
from distillpipe.verify.math.latex import normalized
from distillpipe.verify.math.parser import variable_names
from distillpipe.verify.math.rationals import normalized_digits, plain_number
from distillpipe.verify.math.reals import is_interval_set, same_set
from distillpipe.verify.math.structure import EQUALITIES, Parsed, Structure, read_structure
from distillpipe.verify.math.value import Value, equal_values, read_value

_CONNECTIVE = re.compile(r"\\l(?:and|or)(?![a-zA-Z])")
_RELATION = re.compile(r"[<>=]|\\(?:le|ge|neq|in)(?![a-zA-Z])")
_ONLY_DIGITS = re.compile(r"[0-9]{1,9}")


def same_answer(answer: str, reference: str) -> bool | None:
    """Whether two answers are the same; None if the rules cannot decide."""
    left, right = normalized(answer), normalized(reference)
    # `P and Q` and `P or Q` without a relation are logical formulas, not lists of values.
    signs = set(_CONNECTIVE.findall(left)), set(_CONNECTIVE.findall(right))
    if signs[0] and signs[1] and signs[0] != signs[1] and not _RELATION.search(left + right):
        return False
    return equal_parsed(read_structure(left), read_structure(right))


def equal_parsed(left: Parsed, right: Parsed) -> bool | None:
    """Whether two parsed answers are equal; None if undecided."""
    if isinstance(left, Value) and isinstance(right, Value):
        return equal_values(left, right)
    if left == right:
        return True
    if is_interval_set(left) or is_interval_set(right):
        is_same_set = same_set(left, right)
        if is_same_set is not None:
            return is_same_set
    named = named_values(left), named_values(right)
    if max(len(pairs or ()) for pairs in named) > 1:
        return _equal_names(named, left, right)
    for side, other in ((left, right), (right, left)):
        if isinstance(side, Structure) and side.kind == "relation":
            if isinstance(other, Structure) and other.kind == "relation":
                return _equal_relations(side, other)
            return _equal_to_relation(side, other)
    if isinstance(left, Structure) and isinstance(right, Structure) and left.kind == right.kind:
        return _equal_kind(left, right)
    return _equal_mixed(left, right)


def _equal_names(
    named: tuple[NamedValues | None, NamedValues | None], left: Parsed, right: Parsed
) -> bool | None:
    """Whether two answers are equal, of which at least one has several named values; None if undecided."""
    if named[0] and named[1]:
        if len({name for name, _ in named[0]}) == len(named[0]) and _has_or(left) != _has_or(right):
            return False  # `x=1 and y=2` differs from `x=1 or y=2`
        all_names = named_values(left, all_names=True), named_values(right, all_names=True)
        return equal_named(all_names[0] or named[0], all_names[1] or named[1], equal_parsed)
    if named[0]:
        return equal_unnamed(named[0], right, equal_parsed)
    return equal_unnamed(named[1] or [], left, equal_parsed)


def _has_or(side: Parsed) -> bool:
    return isinstance(side, Structure) and "or" in side.detail


def _equal_kind(left: Structure, right: Structure) -> bool | None:
    """Whether two structures of the same kind are equal; None if undecided."""
    if left.kind in ("list", "set", "union"):
        return _equal_parts_unordered(left, right)
    if left.kind == "group":
        # Two parts may be an interval, whose brackets count.
        is_same_kind = left.detail == right.detail or min(len(left.parts), len(right.parts)) > 2
        return is_same_kind and _equal_parts_in_order(left.parts, right.parts)
    if left.kind == "ratio":
        if _clock(left) is not None and _clock(right) is not None:
            return _clock(left) == _clock(right)  # as ratios 4:15 would equal 8:30
        return _equal_parts_in_order(left.parts, right.parts) or _are_proportional(left, right)
    if left.kind == "time":
        return left.detail == right.detail
    return _equal_parts_in_order(left.parts, right.parts)  # a matrix, a row of one


def _equal_mixed(left: Parsed, right: Parsed) -> bool | None:
    """Whether two answers of different kinds are equal; None if undecided."""
    by_kind = {
        side.kind if isinstance(side, Structure) else "value": side for side in (left, right)
    }
    structures = {kind: side for kind, side in by_kind.items() if isinstance(side, Structure)}
    kinds = by_kind.keys()
    if kinds == {"list", "set"}:
        return _equal_parts_unordered(structures["list"], structures["set"])
    if kinds == {"list", "union"}:
        intervals = _intervals(structures["list"])
        return None if intervals is None else _equal_parts_unordered(intervals, structures["union"])
    if "time" in kinds:
        return _equal_time(
            structures.pop("time"), next(iter(structures.values()), by_kind.get("value"))
        )
    if kinds == {"list", "group"}:
        return _equal_list_and_group(structures["list"], structures["group"])
    if kinds == {"matrix", "group"}:
        return _equal_vector(structures["matrix"], structures["group"])
    if kinds == {"value", "list"} or kinds == {"value", "set"}:
        return _equal_several_and_single(next(iter(structures.values())), by_kind["value"])
    if "value" in kinds and kinds & {"group", "matrix", "union"}:
        return False if _is_scalar(by_kind["value"]) else None
    if kinds == {"value", "ratio"} and len(structures["ratio"].texts) == 2:
        fraction = read_value(r"\frac{{{}}}{{{}}}".format(*structures["ratio"].texts))
        return equal_parsed(fraction, by_kind["value"]) or None
    if kinds == {"value", "ratio"} and _is_scalar(by_kind["value"]):
        return False  # 2:3:1 and 2/3
    return False if kinds == {"set", "group"} else None


def _is_number(side: Parsed) -> bool:
    return isinstance(side, Value) and side.number is not None


def _is_scalar(side: Parsed) -> bool:
    """Whether a side is a number, a word or a constant expression; variables may stand for vectors."""
    if not isinstance(side, Value):
        return False
    is_constant = side.node is not None and not variable_names(side.node)
    return side.number is not None or side.is_words or is_constant


def _clock(ratio: Structure) -> int | None:
    """The seconds since midnight of a ratio that may be a time (`8:30`); None for other ratios (`2:3`)."""
    if not 2 <= len(ratio.texts) <= 3 or not all(map(_ONLY_DIGITS.fullmatch, ratio.texts)):
        return None
    hour, *rest = map(int, ratio.texts)
    if hour > 24 or any(len(text) != 2 for text in ratio.texts[1:]) or max(rest) > 59:
        return None
    minutes, seconds = [*rest, 0][:2]
    return hour * 3600 + minutes * 60 + seconds


def _equal_time(time: Structure, other: Parsed | None) -> bool | None:
    """Whether `8:30 pm` equals a time on a 12- or 24-hour clock, or a number of full hours."""
    seconds = int(time.detail[0])  # since noon or midnight
    if isinstance(other, Value):
        if other.unit is not None and other.unit.nouns != {"o'clock"}:
            return False
        return (
            other.number is not None and other.number % 12 * 3600 == seconds and other.number <= 12
        )
    clock = _clock(other) if other is not None and other.kind == "ratio" else None
    if clock is None:
        return False
    seconds_of_day = seconds + 12 * 3600 * (time.detail[1] == "pm")
    return clock == seconds_of_day or (clock % (12 * 3600) == seconds and clock < 13 * 3600)


def _equal_parts_in_order(left: Sequence[Parsed], right: Sequence[Parsed]) -> bool | None:
    if len(left) != len(right):
        return False
    return conjunction([equal_parsed(*pair) for pair in zip(left, right, strict=True)])


def _equal_parts_unordered(left: Structure, right: Structure) -> bool | None:
    """Whether every part has an equal part on the other side, in any order; None if undecided."""
    result = equal_unordered(left.parts, right.parts, equal_parsed)
    if result is False and left.kind == "union" and len(left.parts) != len(right.parts):
        return None  # [0,1) and (0,1] may be written as one interval
    return result


def _intervals(several: Structure) -> Structure | None:
    r"""The union of the intervals in `x<1 or x>2`; None if a part is not an interval of the same variable."""
    relations = [
        part for part in several.parts if isinstance(part, Structure) and part.kind == "relation"
    ]
    intervals = [interval for interval in map(interval_of, relations) if interval is not None]
    if len(intervals) < len(several.parts) or len({name for name, _ in intervals}) != 1:
        return None
    return Structure("union", tuple(values for _, values in intervals))


def _equal_list_and_group(several: Structure, group: Structure) -> bool | None:
    if group.detail != ("(", ")") and (group.detail != ("[", "]") or len(group.parts) == 2):
        return False  # the group is an interval
    return _equal_parts_in_order(several.parts, group.parts)


def _equal_vector(matrix: Structure, group: Structure) -> bool | None:
    rows = [row.parts for row in matrix.parts if isinstance(row, Structure)]
    if group.detail not in (("(", ")"), ("[", "]")) or (len(rows) > 1 and len(rows[0]) > 1):
        return None
    cells = rows[0] if len(rows) == 1 else [cell for row in rows for cell in row]
    return _equal_parts_in_order(cells, group.parts)


def _equal_several_and_single(several: Structure, single: Parsed) -> bool | None:
    """Whether a list or a set equals a single value; None if undecided."""
    results = [equal_parsed(part, single) for part in several.parts]
    if results and all(results):
        return True
    if False in results:
        return _is_split_number(several, single)
    return None


def _is_split_number(several: Structure, single: Parsed) -> bool:
    """Whether the commas of a list only group digits: `1,22` equals 1.22, `12,34,567` equals 1234567.

    A list with spaces, `7, 500`, is never one number.
    """
    if not isinstance(single, Value) or single.number is None or several.detail != ("tight",):
        return False
    joined = ",".join(several.texts)
    return (number := normalized_digits(joined)) != joined and plain_number(number) == single.number


def _are_proportional(left: Structure, right: Structure) -> bool:
    sides = [
        [part.number for part in side.parts if isinstance(part, Value)] for side in (left, right)
    ]
    if len(sides[0]) != len(sides[1]) or not all(number for side in sides for number in side):
        return False
    return len({term / other for term, other in zip(*sides, strict=True) if term and other}) == 1


def _equal_to_relation(relation: Structure, other: Parsed) -> bool | None:
    """Whether a relation equals another value: `x=5` equals 5, an inequality equals its interval."""
    signs = set(relation.detail)
    if signs == {r"\in"}:
        return equal_parsed(relation.parts[-1], other)
    if not signs <= EQUALITIES:
        interval = interval_of(relation)
        return None if interval is None else equal_parsed(interval[1], other)
    is_named = is_name(relation.texts[0])
    if is_named or sides_agree(relation) or _are_sides_equal(relation.parts):
        values = _right_sides(relation, is_named)
        if _are_sides_equal(relation.parts[is_named:]):
            values = list(relation.parts[is_named:])
        results = [equal_parsed(side, other) for side in values]
        return True if True in results else None if None in results else False
    if len(relation.parts) == 2 and is_name(relation.texts[1]):
        return equal_parsed(relation.parts[0], other)
    return False if sides_are_constant(relation) else None


def _are_sides_equal(parts: Sequence[Parsed]) -> bool:
    return all(equal_parsed(*pair) is True for pair in itertools.pairwise(parts))


def _right_sides(relation: Structure, is_named: bool) -> list[Parsed]:
    r"""The sides that are the value of an equation: the last side, and the last one before an `\approx`."""
    signs = [*relation.detail, r"\approx"]
    exact = signs.index(r"\approx")
    return [relation.parts[index] for index in {exact, len(signs) - 1} if index or not is_named]


def _equal_relations(left: Structure, right: Structure) -> bool | None:
    if left.detail == right.detail and _equal_parts_in_order(left.parts, right.parts):
        return True
    intervals = interval_of(left), interval_of(right)
    if intervals[0] and intervals[1]:
        has_same_variable = intervals[0][0] == intervals[1][0]
        return equal_parsed(intervals[0][1], intervals[1][1]) if has_same_variable else False
    if set(left.detail) <= EQUALITIES and set(right.detail) <= EQUALITIES:
        return _equal_equations(left, right)
    if len(left.detail) == len(right.detail) == 1:
        return same_inequality(left, right)
    return None


def _equal_equations(left: Structure, right: Structure) -> bool | None:
    if left.texts[0].replace(" ", "") == right.texts[0].replace(" ", "") and is_name(left.texts[0]):
        return equal_parsed(left.parts[-1], right.parts[-1])
    if len(left.parts) != 2 or len(right.parts) != 2:
        return None
    if all(is_name(side.texts[0]) and _is_number(side.parts[1]) for side in (left, right)):
        return False  # values of different names
    return same_zeros(left, right)
