r"""Units beside a value: `15\text{ cm}^2`, `5 apples`, `28 percent`; a value without one fits any unit.

Only units of the same dimension are converted, so that 5 cm is not 5 m, and 30 minutes are half an hour.
"""

import re
from fractions import Fraction
from typing import NamedTuple

_SCALES: dict[str, dict[str, str]] = {
    "length": {
        "m meter metre": "1", "cm centimeter centimetre": "1/100", "mm millimeter millimetre": "1/1000",
        "km kilometer kilometre": "1000", "in inch inches": "127/5000", "ft foot feet": "381/1250",
        "yd yard": "1143/1250", "mi mile": "201168/125",
    },
    "mass": {
        "g gram": "1", "kg kilogram": "1000", "mg milligram": "1/1000", "lb lbs pound": "45359237/100000",
        "oz ounce": "45359237/1600000",
    },
    "time": {
        "s sec second": "1", "min minute": "60", "h hr hour": "3600", "day": "86400", "week": "604800",
    },
    "money": {"dollar usd": "1", "cent": "1/100"},
    "volume": {"l liter litre": "1", "ml milliliter millilitre": "1/1000"},
}  # fmt: skip
_KNOWN = {
    name: (dimension, Fraction(scale))
    for dimension, units in _SCALES.items()
    for spellings, scale in units.items()
    for name in spellings.split()
}
_PERCENT = {"percent", "percentage", "pct", "%"}
_MATH = {
    "sqrt",
    "sin",
    "cos",
    "tan",
    "cot",
    "sec",
    "csc",
    "log",
    "exp",
    "arcsin",
    "arccos",
    "arctan",
    "mod",
}
_POWER = r"(?:\s*\^\s*\{?\s*([0-9])\s*\}?)?\s*$"
_IN_TEXT = re.compile(r"\\text\{([^{}]*)\}" + _POWER)
_IN_OTHER_SCRIPT = re.compile(r"(?<=[0-9])\s*([^\x00-\x7f]+)()$")
_IN_WORDS = re.compile(
    r"(?<=[0-9})\s])(?<![A-Za-z\\])([A-Za-z]+(?:[ /.-]{1,3}[A-Za-z]+){0,5})" + _POWER
)


class Measured(NamedTuple):
    """A text taken apart."""

    body: str
    is_percent: bool
    unit: tuple[str, int, Fraction] | None
    "dimension, power and scale of a unit that we know"


def measured(text: str) -> Measured:
    """The text without its unit; the text is one that `cleaned` made."""
    body, unit = text, None
    match = _IN_TEXT.search(text) or _in_words(text) or _IN_OTHER_SCRIPT.search(text)
    if match and (rest := text[: match.start()].rstrip(" ,\\")):
        body, unit = rest, _known(match[1], int(match[2] or 1))
        if match[1].strip().lower() in _PERCENT:
            return Measured(body.removesuffix("%").rstrip(), True, None)
    if body.endswith("%"):
        return Measured(body.rstrip("% "), True, None)
    if body.startswith("\\text{") and (end := body.find("}")) < len(body) - 1:
        body = body[end + 1 :].strip()
    return Measured(body, False, unit)


def _in_words(text: str) -> re.Match[str] | None:
    match = _IN_WORDS.search(text)
    if match is None or not any(map(str.isdigit, text[: match.start()])):
        return None
    first = re.split(r"[ /.-]", match[1])[0].lower()
    known = len(first) > 1 and (first in _KNOWN or first in _PERCENT)
    spaced = text[: match.start()].endswith(" ") and len(first) > 2
    return match if (known or spaced) and first not in _MATH else None


def _known(name: str, power: int) -> tuple[str, int, Fraction] | None:
    name = name.strip(" .").lower()
    found = _KNOWN.get(name) or _KNOWN.get(name.removesuffix("s"))
    if found is None and name.startswith(("square ", "sq ", "cubic ")):
        power = 3 if name.startswith("cubic") else 2
        name = name.split(" ", 1)[1]
        found = _KNOWN.get(name) or _KNOWN.get(name.removesuffix("s"))
    return None if found is None else (found[0], power, found[1] ** power)
