r"""Compares answers with named values: `x=1, y=2` differs from `(2,1)` and from `x=1`.

- Two lists of names are compared name by name, in any order. Several values of one name are a set.
- Against a tuple, a vector or an unnamed list, the values are compared in the order of the names: alphabetical
  if the names are neighbours in the alphabet (x, y, z), else as written.
- Against a set, only indices of one letter (`x_1, x_2`) or one single name are compared without an order.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from distillpipe.verify.math.equations import is_name
from distillpipe.verify.math.structure import EQUALITIES, Parsed, Structure
from distillpipe.verify.math.value import Value

Comparison = Callable[[Parsed, Parsed], bool | None]
NamedValues = list[tuple[str, Parsed]]
MAX_PAIRS = 2_500
_FAMILIES = ("abcdefg", "ijkl", "mn", "pqrs", "uvw", "xyz", "ABCDEFG", "XYZ", "PQRS", "MN")
_DECORATION = re.compile(r"\\text|[\s{}]")


def named_values(side: Parsed, *, all_names: bool = False) -> NamedValues | None:
    """The values with their names; None unless every value has a name.

    `a=b=3` gives the one pair of `a`, or with `all_names` a pair for each name.
    """
    if not isinstance(side, Structure):
        return None
    if side.kind == "relation":
        return _from_relation(side, all_names=all_names)
    if side.kind != "list":
        return None
    named: NamedValues = []
    for part in side.parts:
        if isinstance(part, Structure) and part.kind == "relation":
            pairs = _from_relation(part, all_names=all_names)
            if pairs is None:
                return None
            named += pairs
        elif named and len({name for name, _ in named}) == 1:
            named.append((named[0][0], part))  # `x = 1, 2`
        else:
            return None
    return named or None


def _from_relation(relation: Structure, *, all_names: bool) -> NamedValues | None:
    if not set(relation.detail) <= EQUALITIES:
        return None
    first, value = relation.parts[0], relation.parts[-1]
    if len(relation.parts) == 2 and (pairs := _from_tuples(first, value)) is not None:
        return pairs
    if not is_name(relation.texts[0]):
        return None
    name = _plain_name(relation.texts[0])
    if all_names and len(relation.parts) > 2 and all(map(is_name, relation.texts[:-1])):
        return [(_plain_name(text), value) for text in relation.texts[:-1]]
    if len(relation.parts) == 2 and isinstance(value, Structure) and value.kind in ("list", "set"):
        return [(name, part) for part in value.parts]
    return [(name, relation if len(relation.parts) > 2 else value)]


def _from_tuples(names: Parsed, values: Parsed) -> NamedValues | None:
    """`(x,y)=(1,2)`."""
    if not isinstance(names, Structure) or not isinstance(values, Structure):
        return None
    if names.kind != "group" or values.kind != "group" or len(names.parts) != len(values.parts):
        return None
    if not all(map(is_name, names.texts)):
        return None
    return list(zip(map(_plain_name, names.texts), values.parts, strict=True))


def _plain_name(name: str) -> str:
    return _DECORATION.sub("", name)


def equal_named(left: NamedValues, right: NamedValues, equal: Comparison) -> bool | None:
    """Whether two lists of named values are equal; None if undecided."""
    names = [name for name, _ in left]
    if set(names) != {name for name, _ in right}:
        return False
    left_rows, right_rows = _rows(left), _rows(right)
    if left_rows is not None and right_rows is not None and len(left_rows) * len(right_rows) > 1:
        return equal_unordered(
            left_rows, right_rows, lambda row, other: _equal_row(row, other, equal)
        )
    return conjunction(
        [
            equal_unordered(_values_of(left, name), _values_of(right, name), equal)
            for name in dict.fromkeys(names)
        ]
    )


def equal_unnamed(named: NamedValues, other: Parsed, equal: Comparison) -> bool | None:
    """Whether named values equal values without names; None if undecided."""
    distinct = {name for name, _ in named}
    if len(distinct) == 1 and len(named) > 1:
        return _equal_single_name(named, other, equal)
    if isinstance(other, Value) or len(distinct) == 1:
        return False if len(named) > 1 else None
    rows = _rows(named)
    if rows is not None and len(rows) > 1:
        if other.kind not in ("list", "set"):
            return False
        return equal_unordered(rows, other.parts, lambda row, part: equal_unnamed(row, part, equal))
    if other.kind == "set":
        if len({name.split("_")[0] for name in distinct}) == 1:
            return equal_unordered([value for _, value in named], other.parts, equal)
        return False
    values = _ordered_values(other)
    if values is None:
        return None
    if len(values) != len(named):
        return False
    ordered = _alphabetical(named)
    return conjunction(
        [equal(value, part) for (_, value), part in zip(ordered, values, strict=True)]
    )


def _equal_single_name(named: NamedValues, other: Parsed, equal: Comparison) -> bool | None:
    values = [value for _, value in named]
    if isinstance(other, Structure) and other.kind in ("list", "set"):
        return equal_unordered(values, other.parts, equal)
    unnamed = _ordered_values(other) if isinstance(other, Structure) else [other]
    if unnamed is None:
        return None
    if len(unnamed) != len(values):
        return False
    return conjunction([equal(value, part) for value, part in zip(values, unnamed, strict=True)])


def _ordered_values(other: Structure) -> Sequence[Parsed] | None:
    """The values of a list, a tuple or a vector, in order; None for anything else."""
    if other.kind == "list" or (other.kind == "group" and other.detail in (("(", ")"), ("[", "]"))):
        return other.parts
    if other.kind == "matrix":
        rows = [row.parts for row in other.parts if isinstance(row, Structure)]
        if len(rows) == 1 or all(len(row) == 1 for row in rows):
            return [cell for row in rows for cell in row]
    return None


def _alphabetical(named: NamedValues) -> NamedValues:
    letters = "".join(name for name, _ in named)
    if len(letters) == len(named) and any(set(letters) <= set(family) for family in _FAMILIES):
        return sorted(named, key=lambda pair: pair[0])
    return named


def _rows(named: NamedValues) -> list[NamedValues] | None:
    """Split `x=1, y=2, x=3, y=4` into two rows with the same names; None if the names do not repeat."""
    names = [name for name, _ in named]
    width = len(set(names))
    if width < 2 or len(named) % width:
        return None
    rows = [named[begin : begin + width] for begin in range(0, len(named), width)]
    return rows if all({name for name, _ in row} == set(names) for row in rows) else None


def _equal_row(left: NamedValues, right: NamedValues, equal: Comparison) -> bool | None:
    values = dict(right)
    return conjunction([equal(value, values[name]) for name, value in left])


def _values_of(named: NamedValues, wanted_name: str) -> list[Parsed]:
    return [value for name, value in named if name == wanted_name]


def conjunction(results: Sequence[bool | None]) -> bool | None:
    """The three-valued `and`: None is undecided."""
    return False if False in results else None if None in results else True


def equal_unordered(
    left: Sequence[Any], right: Sequence[Any], equal: Callable[[Any, Any], bool | None]
) -> bool | None:
    """Whether every part has an equal part on the other side, in any order; repetitions do not count.

    None if undecided, or if there are more pairs than `MAX_PAIRS`.
    """
    if len(left) * len(right) > MAX_PAIRS:
        return None
    table = [[equal(part, other) for other in right] for part in left]
    lines = [*table, *zip(*table, strict=True)]
    if any(all(cell is False for cell in line) for line in lines):
        return False
    return True if all(True in line for line in lines) else None
