r"""Values with names: `x=1, y=2` says which is which, so that `(2,1)` is another answer and `x=1` half of one.

- Two lists of names are compared name by name, in any order; one name with several values is a set of them.
- Beside a tuple, a vector or a bare list the values are compared in the order of the names: that of the
  alphabet where they are neighbours in it (x, y, z), else as written.
- Beside a set only names of one letter with indices (`x_1, x_2`) or one name are the same without an order.
"""

import re
from collections.abc import Callable, Sequence

from distillpipe.verify.math.equations import is_name
from distillpipe.verify.math.structure import Shape
from distillpipe.verify.math.value import Leaf

Read = Shape | Leaf
Same = Callable[[Read, Read], bool | None]
Named = list[tuple[str, Read]]
_FAMILIES = ("abcdefg", "ijkl", "mn", "pqrs", "uvw", "xyz", "ABCDEFG", "XYZ", "PQRS", "MN")
_EQUALITIES = frozenset(["=", r"\approx"])
_DECORATION = re.compile(r"\\text|[\s{}]")


def named_values(side: Read, *, of_all: bool = False) -> Named | None:
    """The values and their names, where all have one; None for anything else.

    `a=b=3` names one value, or one of each name (`of_all`).
    """
    if not isinstance(side, Shape):
        return None
    if side.kind == "relation":
        return _of_relation(side, of_all=of_all)
    if side.kind != "list":
        return None
    found: Named = []
    for part in side.parts:
        if isinstance(part, Shape) and part.kind == "relation":
            of_part = _of_relation(part, of_all=of_all)
            if of_part is None:
                return None
            found += of_part
        elif found and len({name for name, _ in found}) == 1:
            found.append((found[0][0], part))  # `x = 1, 2`
        else:
            return None
    return found or None


def _of_relation(relation: Shape, *, of_all: bool) -> Named | None:
    if not set(relation.detail) <= _EQUALITIES:
        return None
    first, value = relation.parts[0], relation.parts[-1]
    if len(relation.parts) == 2 and (pairs := _of_tuples(first, value)) is not None:
        return pairs
    if not is_name(relation.texts[0]):
        return None
    name = _plain(relation.texts[0])
    if of_all and len(relation.parts) > 2 and all(map(is_name, relation.texts[:-1])):
        return [(_plain(text), value) for text in relation.texts[:-1]]
    if len(relation.parts) == 2 and isinstance(value, Shape) and value.kind in ("list", "set"):
        return [(name, part) for part in value.parts]
    return [(name, relation if len(relation.parts) > 2 else value)]


def _of_tuples(names: Read, values: Read) -> Named | None:
    """`(x,y)=(1,2)`."""
    if not isinstance(names, Shape) or not isinstance(values, Shape):
        return None
    if names.kind != "group" or values.kind != "group" or len(names.parts) != len(values.parts):
        return None
    if not all(map(is_name, names.texts)):
        return None
    return list(zip(map(_plain, names.texts), values.parts, strict=True))


def _plain(name: str) -> str:
    return _DECORATION.sub("", name)


def same_named(left: Named, right: Named, same: Same) -> bool | None:
    """Two lists of names and values."""
    names = [name for name, _ in left]
    if set(names) != {name for name, _ in right}:
        return False
    rows, others = _rows(left), _rows(right)
    if rows is not None and others is not None and len(rows) * len(others) > 1:
        return _each_has_one(rows, others, lambda one, other: _same_row(one, other, same))
    found = [
        _each_has_one(_values(left, name), _values(right, name), same)
        for name in dict.fromkeys(names)
    ]
    return _all(found)


def same_bare(named: Named, other: Read, same: Same) -> bool | None:
    """Names and values beside values without a name."""
    distinct = {name for name, _ in named}
    if len(distinct) == 1 and len(named) > 1:
        return _one_name(named, other, same)
    if isinstance(other, Leaf) or len(distinct) == 1:
        return False if len(named) > 1 else None
    rows = _rows(named)
    if rows is not None and len(rows) > 1:
        if other.kind not in ("list", "set"):
            return False
        return _each_has_one(rows, other.parts, lambda row, one: same_bare(row, one, same))
    if other.kind == "set":
        if len({name.split("_")[0] for name in distinct}) == 1:
            return _each_has_one([value for _, value in named], other.parts, same)
        return False
    values = _bare_values(other)
    if values is None:
        return None
    if len(values) != len(named):
        return False
    ordered = _by_alphabet(named)
    return _all([same(value, one) for (_, value), one in zip(ordered, values, strict=True)])


def _one_name(named: Named, other: Read, same: Same) -> bool | None:
    values = [value for _, value in named]
    if isinstance(other, Shape) and other.kind in ("list", "set"):
        return _each_has_one(values, other.parts, same)
    bare = _bare_values(other) if isinstance(other, Shape) else [other]
    if bare is None:
        return None
    if len(bare) != len(values):
        return False
    return _all([same(value, one) for value, one in zip(values, bare, strict=True)])


def _bare_values(other: Shape) -> Sequence[Read] | None:
    """The values of a list, a tuple or a vector, in order."""
    if other.kind == "list" or (other.kind == "group" and other.detail in (("(", ")"), ("[", "]"))):
        return other.parts
    if other.kind == "matrix":
        rows = [row.parts for row in other.parts if isinstance(row, Shape)]
        if len(rows) == 1 or all(len(row) == 1 for row in rows):
            return [cell for row in rows for cell in row]
    return None


def _by_alphabet(named: Named) -> Named:
    letters = "".join(name for name, _ in named)
    if len(letters) == len(named) and any(set(letters) <= set(family) for family in _FAMILIES):
        return sorted(named, key=lambda pair: pair[0])
    return named


def _rows(named: Named) -> list[Named] | None:
    """`x=1, y=2, x=3, y=4` as two rows of the same names; None where the names do not repeat so."""
    names = [name for name, _ in named]
    width = len(set(names))
    if width < 2 or len(named) % width:
        return None
    rows = [named[begin : begin + width] for begin in range(0, len(named), width)]
    wanted = set(names)
    return rows if all({name for name, _ in row} == wanted for row in rows) else None


def _same_row(left: Named, right: Named, same: Same) -> bool | None:
    values = dict(right)
    return _all([same(value, values[name]) for name, value in left])


def _values(named: Named, wanted: str) -> list[Read]:
    return [value for name, value in named if name == wanted]


def _all(found: Sequence[bool | None]) -> bool | None:
    return False if False in found else None if None in found else True


def _each_has_one(left: Sequence, right: Sequence, same: Callable) -> bool | None:  # type: ignore[type-arg]
    """Whether every part has an equal one on the other side."""
    if len(left) * len(right) > 2_500:
        return None
    table = [[same(one, other) for other in right] for one in left]
    lines = [*table, *zip(*table, strict=True)]
    if any(all(cell is False for cell in line) for line in lines):
        return False
    return True if all(True in line for line in lines) else None
