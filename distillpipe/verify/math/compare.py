r"""Whether two answers are plainly the same or plainly not, without a computer algebra system.

None is said wherever the rules are not sure: math-verify decides then. True and False do not depend on
the order of the two sides.

- A list without brackets has no order (`1,-2`, `x=1 or x=2`), nor has a set; a tuple, a vector and an
  interval have. A list beside a tuple is compared in order, beside a set without one; a set is no tuple.
- Values with names keep them (see `bindings`): `x=1, y=2` is `(1,2)`, and neither `(2,1)` nor `x=1`.
- Sets of real numbers are compared as such (see `reals`), however they are written.
- `x = 5` is 5, as is `f(x) = 5`, and `\sqrt2 \approx 1.41` is either side; two equations are the same where
  one is a multiple of the other. `x < 5` is `(-\infty, 5)`.
"""

import itertools
import re
from collections.abc import Sequence

from distillpipe.verify.math.bindings import Named, named_values, same_bare, same_named
from distillpipe.verify.math.equations import (
    interval,
    is_name,
    same_inequality,
    same_zeros,
    sides_agree,
    sides_differ,
)
from distillpipe.verify.math.latex import cleaned
from distillpipe.verify.math.parser import names
from distillpipe.verify.math.rationals import plain, regrouped
from distillpipe.verify.math.reals import is_range, same_set
from distillpipe.verify.math.structure import Shape, read
from distillpipe.verify.math.value import Leaf, leaf, same_leaf

Read = Shape | Leaf
_EQUALITIES = frozenset(["=", r"\approx"])
_CONNECTIVE = re.compile(r"\\l(?:and|or)(?![a-zA-Z])")
_RELATION = re.compile(r"[<>=]|\\(?:le|ge|neq|in)(?![a-zA-Z])")
_MAX_PAIRS = 2_500
_ONLY_DIGITS = re.compile(r"[0-9]{1,9}")


def same_answer(answer: str, reference: str) -> bool | None:
    """Whether two answers are the same; None where that is not plain."""
    left, right = cleaned(answer), cleaned(reference)
    found = same(read(left), read(right))
    signs = set(_CONNECTIVE.findall(left)), set(_CONNECTIVE.findall(right))
    if signs[0] and signs[1] and signs[0] != signs[1] and not _RELATION.search(left + right):
        return False  # of logic, not of values
    return found


def same(left: Read, right: Read) -> bool | None:
    """Whether what was read of two answers is the same; None where that is not plain."""
    if isinstance(left, Leaf) and isinstance(right, Leaf):
        return same_leaf(left, right)
    if left == right:
        return True
    if (is_range(left) or is_range(right)) and (found := same_set(left, right)) is not None:
        return found
    named = named_values(left), named_values(right)
    if max(len(one or ()) for one in named) > 1:
        return _same_names(named, left, right)
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Shape) and one.kind == "relation":
            if isinstance(other, Shape) and other.kind == "relation":
                return _same_relation(one, other)
            return _same_as_relation(one, other)
    kinds = {side.kind if isinstance(side, Shape) else "leaf" for side in (left, right)}
    if len(kinds) == 1 and isinstance(left, Shape) and isinstance(right, Shape):
        return _same_kind(left, right)
    return _mixed(left, right)


def _same_names(named: tuple[Named | None, Named | None], left: Read, right: Read) -> bool | None:
    if named[0] and named[1]:
        if len({name for name, _ in named[0]}) == len(named[0]) and _has_or(left) != _has_or(right):
            return False  # both, or one of them
        all_names = named_values(left, of_all=True), named_values(right, of_all=True)
        return same_named(all_names[0] or named[0], all_names[1] or named[1], same)
    return same_bare(named[0], right, same) if named[0] else same_bare(named[1] or [], left, same)


def _has_or(side: Read) -> bool:
    return isinstance(side, Shape) and "or" in side.detail


def _same_kind(left: Shape, right: Shape) -> bool | None:
    if left.kind in ("list", "set", "union"):
        return _unordered(left, right)
    if left.kind == "group":
        return _same_group(left, right)
    if left.kind == "ratio":
        if _clock(left) is not None and _clock(right) is not None:
            return _clock(left) == _clock(right)  # 4:15 is not 8:30
        return _in_order(left.parts, right.parts) or _proportional(left, right)
    if left.kind == "time":
        return left.detail == right.detail
    return _in_order(left.parts, right.parts)  # matrices and their rows


def _mixed(left: Read, right: Read) -> bool | None:
    """Two answers of different kinds."""
    by_kind = {side.kind if isinstance(side, Shape) else "leaf": side for side in (left, right)}
    shapes = {kind: side for kind, side in by_kind.items() if isinstance(side, Shape)}
    kinds = by_kind.keys()
    if kinds == {"list", "set"}:
        return _unordered(shapes["list"], shapes["set"])
    if kinds == {"list", "union"}:
        intervals = _intervals(shapes["list"])
        return None if intervals is None else _unordered(intervals, shapes["union"])
    if "time" in kinds:
        return _time_and_other(shapes.pop("time"), next(iter(shapes.values()), by_kind.get("leaf")))
    if kinds == {"list", "group"}:
        return _list_and_group(shapes["list"], shapes["group"])
    if kinds == {"matrix", "group"}:
        return _vector(shapes["matrix"], shapes["group"])
    if kinds == {"leaf", "list"} or kinds == {"leaf", "set"}:
        return _several_and_one(next(iter(shapes.values())), by_kind["leaf"])
    if "leaf" in kinds and kinds & {"group", "matrix", "union"}:
        return False if _is_scalar(by_kind["leaf"]) else None
    if kinds == {"leaf", "ratio"} and len(shapes["ratio"].texts) == 2:
        return same(leaf(_as_fraction(*shapes["ratio"].texts)), by_kind["leaf"]) or None
    if kinds == {"leaf", "ratio"} and _is_scalar(by_kind["leaf"]):
        return False  # 2:3:1 beside 2/3
    return False if kinds == {"set", "group"} else None


def _is_number(side: Read) -> bool:
    return isinstance(side, Leaf) and side.number is not None


def _is_scalar(side: Read) -> bool:
    """A number, a word or an expression of numbers; letters may be vectors."""
    if not isinstance(side, Leaf):
        return False
    is_constant = side.node is not None and not names(side.node)
    return side.number is not None or side.is_words or is_constant


def _clock(ratio: Shape) -> int | None:
    """The seconds of what may be a time: `8:30`; None for a ratio that can be none, `2:3`."""
    if not 2 <= len(ratio.texts) <= 3 or not all(map(_ONLY_DIGITS.fullmatch, ratio.texts)):
        return None
    hour, *rest = map(int, ratio.texts)
    if hour > 24 or any(len(text) != 2 for text in ratio.texts[1:]) or max(rest) > 59:
        return None
    minutes, seconds = [*rest, 0][:2]
    return hour * 3600 + minutes * 60 + seconds


def _time_and_other(time: Shape, other: Read | None) -> bool | None:
    """A time with its half of the day beside one of the day or of twelve hours, or beside a full hour."""
    seconds = int(time.detail[0])
    if isinstance(other, Leaf):
        if other.unit is not None and other.unit.names != {"o'clock"}:
            return False
        return (
            other.number is not None and other.number % 12 * 3600 == seconds and other.number <= 12
        )
    clock = _clock(other) if other is not None and other.kind == "ratio" else None
    if clock is None:
        return False
    late = seconds + 12 * 3600 * (time.detail[1] == "pm")
    return clock == late or (clock % (12 * 3600) == seconds and clock < 13 * 3600)


def _as_fraction(above: str, below: str) -> str:
    return rf"\frac{{{above}}}{{{below}}}"


def _in_order(left: Sequence[Read], right: Sequence[Read]) -> bool | None:
    if len(left) != len(right):
        return False
    found = [same(one, other) for one, other in zip(left, right, strict=True)]
    return False if False in found else None if None in found else True


def _unordered(left: Shape, right: Shape) -> bool | None:
    """Whether every part has an equal one on the other side; how often it stands there says nothing."""
    if len(left.parts) * len(right.parts) > _MAX_PAIRS:
        return None
    table = [[same(one, other) for other in right.parts] for one in left.parts]
    lines = [*table, *zip(*table, strict=True)]
    if any(all(cell is False for cell in line) for line in lines):
        # [0,1) and (0,1] may be written as one interval
        return None if left.kind == "union" and len(left.parts) != len(right.parts) else False
    return True if all(True in line for line in lines) else None


def _intervals(several: Shape) -> Shape | None:
    r"""The union that `x<1 or x>2` says."""
    relations = [
        part for part in several.parts if isinstance(part, Shape) and part.kind == "relation"
    ]
    found = [one for one in map(interval, relations) if one is not None]
    if len(found) < len(several.parts) or len({name for name, _ in found}) != 1:
        return None
    return Shape("union", tuple(values for _, values in found))


def _same_group(left: Shape, right: Shape) -> bool | None:
    found = _in_order(left.parts, right.parts)
    if left.detail == right.detail or (len(left.parts) > 2 and len(right.parts) > 2):
        return found
    return False


def _list_and_group(several: Shape, group: Shape) -> bool | None:
    if group.detail != ("(", ")") and (group.detail != ("[", "]") or len(group.parts) == 2):
        return False  # an interval
    return _in_order(several.parts, group.parts)


def _vector(matrix: Shape, group: Shape) -> bool | None:
    rows = [row.parts for row in matrix.parts if isinstance(row, Shape)]
    if group.detail not in (("(", ")"), ("[", "]")) or (len(rows) > 1 and len(rows[0]) > 1):
        return None
    cells = rows[0] if len(rows) == 1 else [cell for row in rows for cell in row]
    return _in_order(cells, group.parts)


def _several_and_one(several: Shape, one: Read) -> bool | None:
    found = [same(part, one) for part in several.parts]
    if found and all(found):
        return True
    if False in found:
        return _one_number(several, one)
    return None


def _one_number(several: Shape, one: Read) -> bool:
    """`1,22` beside 1.22 is a number, as is `12,34,567` beside 1234567; `7,500` beside `7, 500` is none."""
    if not isinstance(one, Leaf) or one.number is None or several.detail != ("tight",):
        return False
    joined = ",".join(several.texts)
    return (number := regrouped(joined)) != joined and plain(number) == one.number


def _proportional(left: Shape, right: Shape) -> bool:
    sides = [
        [part.number for part in side.parts if isinstance(part, Leaf)] for side in (left, right)
    ]
    if len(sides[0]) != len(sides[1]) or not all(number for side in sides for number in side):
        return False
    return len({one / other for one, other in zip(*sides, strict=True) if one and other}) == 1


def _same_as_relation(relation: Shape, other: Read) -> bool | None:
    """An equation is the value it gives a name, an inequality is its interval."""
    signs = set(relation.detail)
    if signs == {r"\in"}:
        return same(relation.parts[-1], other)
    if not signs <= _EQUALITIES:
        found_interval = interval(relation)
        return None if found_interval is None else same(found_interval[1], other)
    named = is_name(relation.texts[0])
    if named or sides_agree(relation) or _sides_are_same(relation.parts):
        values = _values(relation, named)
        if _sides_are_same(relation.parts[named:]):
            values = list(relation.parts[named:])
        found = [same(side, other) for side in values]
        return True if True in found else None if None in found else False
    if len(relation.parts) == 2 and is_name(relation.texts[1]):
        return same(relation.parts[0], other)
    return False if sides_differ(relation) else None


def _sides_are_same(parts: Sequence[Read]) -> bool:
    return all(same(one, next_one) is True for one, next_one in itertools.pairwise(parts))


def _values(relation: Shape, named: bool) -> list[Read]:
    r"""What an equation says: its last side, and the last one before an `\approx`."""
    signs = [*relation.detail, r"\approx"]
    exact = signs.index(r"\approx")
    return [relation.parts[number] for number in {exact, len(signs) - 1} if number or not named]


def _same_relation(left: Shape, right: Shape) -> bool | None:
    if left.detail == right.detail and _in_order(left.parts, right.parts):
        return True
    intervals = interval(left), interval(right)
    if intervals[0] and intervals[1]:
        in_one_letter = intervals[0][0] == intervals[1][0]
        return same(intervals[0][1], intervals[1][1]) if in_one_letter else False
    if set(left.detail) <= _EQUALITIES and set(right.detail) <= _EQUALITIES:
        return _same_equation(left, right)
    if len(left.detail) == len(right.detail) == 1:
        return same_inequality(left, right)
    return None


def _same_equation(left: Shape, right: Shape) -> bool | None:
    if left.texts[0].replace(" ", "") == right.texts[0].replace(" ", "") and is_name(left.texts[0]):
        return same(left.parts[-1], right.parts[-1])
    if len(left.parts) != 2 or len(right.parts) != 2:
        return None
    if all(is_name(side.texts[0]) and _is_number(side.parts[1]) for side in (left, right)):
        return False  # the value of something else
    return same_zeros(left, right)
