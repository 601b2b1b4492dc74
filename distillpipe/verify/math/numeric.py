r"""The verifier `numeric`: the same number, exactly, however it is written.

Whole numbers, decimals, thousands separators, percent, fractions (`3/4`, `\frac{3}{4}`), mixed numbers,
`1.5e-3`, with a dollar sign, a degree sign, a name (`x =`) or a unit beside them.
"""

import re
from fractions import Fraction

from distillpipe.base.records import Verdict
from distillpipe.verify.math.latex import cleaned
from distillpipe.verify.math.quantities import measured, value_of, with_unit
from distillpipe.verify.math.rationals import MAX_DIGITS
from distillpipe.verify.math.units import Measured, Unit, agree, comparable

_NAMED = re.compile(
    r"(?<![a-zA-Z])\\?[a-zA-Z]++(?:_(?:[a-zA-Z0-9]|\{[a-zA-Z0-9]*\}))?\s*=\s*(?=[^=]*$)"
)


def number(text: str) -> Fraction | None:
    """The number that `text` stands for, null where it is not plainly one; percent are hundredths."""
    found = _measured(text)
    if found.unit is not None and found.unit.changes:
        return None
    value = value_of(found)
    return value / 100 if found.is_percent and value is not None else value


def same_number(answer: str, reference: str) -> Verdict:
    """`unverifiable` where the reference is no number; 50% is 50 as well as 0.5."""
    wanted = number(reference)
    if wanted is None:
        return "unverifiable"
    given = number(answer)
    if given is None:
        return "wrong"
    sides = _measured(answer), _measured(reference)
    if not agree(sides[0].unit, sides[1].unit):
        return "wrong"
    if comparable(sides[0].unit, sides[1].unit):
        return "correct" if _in_base(given, sides[0]) == _in_base(wanted, sides[1]) else "wrong"
    same = equal_but_for_percent(given, wanted, [side.is_percent for side in sides])
    return "correct" if same else "wrong"


def _measured(text: str) -> Measured:
    if len(text) >= MAX_DIGITS * 2:
        return Measured("")
    return measured(with_unit(_NAMED.sub("", cleaned(text), count=1)))


def _in_base(value: Fraction, side: Measured) -> tuple[Fraction, int]:
    """A value in the base units of the table, and the power of pi that is left out of it."""
    unit = side.unit or Unit()
    return (value + unit.offset) * unit.scale, unit.num_pi


def equal_but_for_percent(given: Fraction, wanted: Fraction, percents: list[bool]) -> bool:
    """Whether two values, hundredths where in percent, are equal; where one of them is in percent the sign may be left out."""
    if given == wanted:
        return True
    given_percent, wanted_percent = percents
    if given_percent == wanted_percent:
        return False
    return given * 100 == wanted if given_percent else given == wanted * 100


def same_text(answer: str, reference: str) -> Verdict:
    """The verifier `exact`: the same text, except for white space at the ends and in a row."""
    return "correct" if answer.split() == reference.split() else "wrong"
