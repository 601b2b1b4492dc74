r"""The verifier `numeric`: the same number, exactly, however it is written.

Whole numbers, decimals, thousands separators, percent, fractions (`3/4`, `\frac{3}{4}`), mixed numbers,
`1.5e-3`, with a dollar sign, a degree sign, a name (`x =`) or a unit beside them.
"""

import functools
import re
from fractions import Fraction

from distillpipe.records import Verdict
from distillpipe.verify.latex import cleaned
from distillpipe.verify.units import measured

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:[ ][0-9]{3})+|[0-9]+)"
_DECIMAL = re.compile(rf"({_DIGITS})?(\.[0-9]*)?(?:[eE]([-+]?[0-9]{{1,3}}))?")
_ARGUMENT = r"(?:\{\s*([-+]?[0-9.,]+)\s*\}|([0-9]))"
_FRACTION = re.compile(rf"({_DIGITS})?\s*\\frac\s*{_ARGUMENT}\s*{_ARGUMENT}")
_REPEATING = re.compile(r"([0-9]*)\.([0-9]*)\\(?:overline|bar)\s*\{([0-9]+)\}")
_MIXED = re.compile(r"([0-9]+)\s+([0-9]+)\s*/\s*([0-9]+)")
_NAMED = re.compile(
    r"(?<![a-zA-Z])\\?[a-zA-Z]++(?:_(?:[a-zA-Z0-9]|\{[a-zA-Z0-9]*\}))?\s*=\s*(?=[^=]*$)"
)
_SIMPLE = re.compile(
    r"\s*\$?([-+]?)(?:([0-9]{1,15})(?:\.([0-9]{1,3})|/([0-9]{1,9}))?"
    r"|\\[dt]?frac\{([0-9]{1,9})\}\{([0-9]{1,9})\})\$?\.?\s*"
)
_MAX_DIGITS = 1000


def simple_number(text: str) -> Fraction | int | None:
    r"""The value of what most answers are, `42`, `-1.5`, `3/4`, `\frac{3}{4}`, with dollars around; quick.

    None for all else, and for decimals that may be a rounded value.
    """
    match = _SIMPLE.fullmatch(text)
    if match is None:
        return None
    sign, whole, places, below, latex_above, latex_below = match.groups()
    if places:
        value: Fraction | int = Fraction(int(whole + places), 10 ** len(places))
    elif below or latex_below:
        divisor = int(below or latex_below)
        if not divisor:
            return None
        value = Fraction(int(whole or latex_above), divisor)
    else:
        value = int(whole)
    return -value if sign == "-" else value


def number(text: str) -> Fraction | None:
    """The number that `text` stands for, null where it is not plainly one; percent are hundredths."""
    found = measured(_NAMED.sub("", cleaned(text), count=1) if len(text) < _MAX_DIGITS * 2 else "")
    value = plain(found.body)
    return value / 100 if found.is_percent and value is not None else value


@functools.lru_cache(maxsize=4096)
def plain(text: str) -> Fraction | None:
    """The number of a text that `cleaned` and `measured` have been over; None for anything else."""
    if len(text) > _MAX_DIGITS:
        return None
    text = text.strip()
    sign = 1
    while text[:1] in ("-", "+"):
        sign = -sign if text[0] == "-" else sign
        if (text := text[1:].lstrip())[:1] in ("-", "+"):
            return None
    value = _unsigned(text)
    return None if value is None else sign * value


def same_number(answer: str, reference: str) -> Verdict:
    """`unverifiable` where the reference is no number; 50% is 50 as well as 0.5."""
    wanted = number(reference)
    if wanted is None:
        return "unverifiable"
    given = number(answer)
    if given is None:
        return "wrong"
    percents = [measured(cleaned(text)).is_percent for text in (answer, reference)]
    return "correct" if equal_but_for_percent(given, wanted, percents) else "wrong"


def equal_but_for_percent(given: Fraction, wanted: Fraction, percents: list[bool]) -> bool:
    """Whether two values, hundredths where in percent, are equal; where one of them is in percent the sign may be left out."""
    if given == wanted:
        return True
    given_percent, wanted_percent = percents
    if given_percent == wanted_percent:
        return False
    return given * 100 == wanted if given_percent else given == wanted * 100


def _unsigned(text: str) -> Fraction | None:
    if not text or text[:1] in ("-", "+"):
        return None
    if (value := _decimal(text)) is not None:
        return value
    if match := _FRACTION.fullmatch(text):
        above, below = (plain(part) for part in match.groups()[1:] if part is not None)
        whole = _decimal(match[1]) if match[1] else Fraction(0)
        fraction = _quotient(above, below)
        return None if whole is None or fraction is None else whole + fraction
    if match := _REPEATING.fullmatch(text):
        return _repeating(match[1] or "0", match[2], match[3])
    if match := _MIXED.fullmatch(text):
        fraction = _quotient(Fraction(match[2]), Fraction(match[3]))
        return None if fraction is None else Fraction(match[1]) + fraction
    if text.count("/") == 1:
        parts = text.split("/")
        return _quotient(_bracketed(parts[0]), _bracketed(parts[1]))
    return None


def _repeating(whole: str, digits: str, period: str) -> Fraction:
    r"""`0.1\overline{6}` is 1/6."""
    tail = Fraction(int(period), 10 ** len(period) - 1)
    return int(whole) + (int(digits or 0) + tail) / Fraction(10 ** len(digits))


def _bracketed(text: str) -> Fraction | None:
    text = text.strip()
    text = text[1:-1] if text[:1] == "(" and text[-1:] == ")" else text
    return None if "/" in text else plain(text)


def _decimal(text: str) -> Fraction | None:
    match = _DECIMAL.fullmatch(text)
    if match is None or not (match[1] or len(match[2] or "") > 1):
        return None
    digits = (match[1] or "0").replace(",", "").replace(" ", "") + (match[2] or "").rstrip(".")
    return Fraction(digits) * Fraction(10) ** int(match[3] or 0)


def _quotient(above: Fraction | None, below: Fraction | None) -> Fraction | None:
    return None if above is None or not below else above / below
