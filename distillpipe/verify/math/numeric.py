r"""The verifiers `numeric`, which compares two numbers exactly, and `exact`, which compares two texts.

`numeric` reads integers, decimals, thousands separators, percent, fractions (`3/4`, `\frac{3}{4}`), mixed
numbers and `1.5e-3`, with a dollar sign, a degree sign, a name (`x =`) or a unit.
"""

import re
from fractions import Fraction

from distillpipe.base.records import Verdict
from distillpipe.verify.math.latex import normalized
from distillpipe.verify.math.quantities import number_of, read_quantity, with_unit
from distillpipe.verify.math.rationals import MAX_DIGITS
from distillpipe.verify.math.units import Quantity, Unit, convertible, units_agree

_NAMED = re.compile(
    r"(?<![a-zA-Z])\\?[a-zA-Z]++(?:_(?:[a-zA-Z0-9]|\{[a-zA-Z0-9]*\}))?\s*=\s*(?=[^=]*$)"
)


def number(text: str) -> Fraction | None:
    """The number that `text` stands for, 50% as 1/2; None if it is not a single number."""
    quantity = _read(text)
    if quantity.unit is not None and quantity.unit.modifiers:
        return None
    value = number_of(quantity)
    return value / 100 if quantity.is_percent and value is not None else value


def same_number(answer: str, reference: str) -> Verdict:
    """`unverifiable` if the reference is not a number; 50% equals both 50 and 0.5."""
    reference_value = number(reference)
    if reference_value is None:
        return "unverifiable"
    value = number(answer)
    if value is None:
        return "wrong"
    sides = _read(answer), _read(reference)
    if not units_agree(sides[0].unit, sides[1].unit):
        return "wrong"
    if convertible(sides[0].unit, sides[1].unit):
        is_same = _in_base(value, sides[0]) == _in_base(reference_value, sides[1])
    else:
        percents = [side.is_percent for side in sides]
        is_same = equal_but_for_percent(value, reference_value, percents)
    return "correct" if is_same else "wrong"


def _read(text: str) -> Quantity:
    if len(text) >= MAX_DIGITS * 2:
        return Quantity("")
    return read_quantity(with_unit(_NAMED.sub("", normalized(text), count=1)))


def _in_base(value: Fraction, side: Quantity) -> tuple[Fraction, int]:
    """A value in base units, and the power of pi by which it is still to be multiplied."""
    unit = side.unit or Unit()
    return (value + unit.offset) * unit.scale, unit.num_pi


def equal_but_for_percent(value: Fraction, other: Fraction, percents: list[bool]) -> bool:
    """Whether two values are equal, or equal when the only percent sign is ignored.

    `percents` says which of the two has a percent sign; such a value is already divided by 100.
    """
    if value == other:
        return True
    if percents[0] == percents[1]:
        return False
    return value * 100 == other if percents[0] else value == other * 100


def same_text(answer: str, reference: str) -> Verdict:
    """The verifier `exact`: the same text, except for the amount of white space."""
    return "correct" if answer.split() == reference.split() else "wrong"
