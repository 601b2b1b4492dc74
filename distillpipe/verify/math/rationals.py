r"""Reads rational numbers: integers, decimals, fractions, mixed numbers, scientific notation.

Digits may be grouped by commas, spaces or apostrophes, and by two or more dots. A comma not followed by three
digits separates two values here; `normalized_digits` reads it where the context says that there is one number.
"""

import functools
import re
from fractions import Fraction

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:[ '\u2019][0-9]{3})+|[0-9]+)"
_DOTTED = re.compile(r"[0-9]{1,3}(?:\.[0-9]{3}){2,}")
_INDIAN = re.compile(r"[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}(?:\.[0-9]+)?")
_CONTINENTAL = re.compile(r"([0-9]+|[0-9]{1,3}(?:[. '\u2019][0-9]{3})+),([0-9]+)")
_SPACED_CONTINENTAL = re.compile(r"([0-9]{1,3}(?:[ '\u2019][0-9]{3})+),([0-9]{1,2}|[0-9]{4,})")
_SCIENTIFIC = re.compile(
    rf"(?:({_DIGITS}?(?:\.[0-9]*)?) ?(?:\\times|\\cdot|\*|[xX]) ?)?\{{?10\}}? ?(?:\^|\*\*) ?"
    r"(?:\{ ?([-+]? ?[0-9]{1,3}) ?\}|([-+]?[0-9]{1,3}))"
)
_DECIMAL = re.compile(rf"({_DIGITS})?(\.[0-9]*)?(?:[eE]([-+]?[0-9]{{1,3}}))?")
_ARGUMENT = r"(?:\{\s*([-+]?[0-9.,]+)\s*\}|([0-9]))"
_FRACTION = re.compile(rf"({_DIGITS})?\s*\\frac\s*{_ARGUMENT}\s*{_ARGUMENT}")
_REPEATING = re.compile(r"([0-9]*)\.([0-9]*)\\(?:overline|bar)\s*\{([0-9]+)\}")
_MIXED = re.compile(r"([0-9]+)\s+([0-9]+)\s*/\s*([0-9]+)")
_SIMPLE = re.compile(
    r"\s*\$?([-+]?)(?:([0-9]{1,15})(?:\.([0-9]{1,3})|/([0-9]{1,9}))?"
    r"|\\[dt]?frac\{([0-9]{1,9})\}\{([0-9]{1,9})\})\$?\.?\s*"
)
_GROUP_SIGNS = re.compile(r"[, '\u2019]")
MAX_DIGITS = 1000


def simple_number(text: str) -> Fraction | int | None:
    r"""A fast path for most answers: `42`, `-1.5`, `3/4`, `\frac{3}{4}`, with or without `$` around.

    None for all other texts, and for decimals of four places or more, which may be rounded values.
    """
    match = _SIMPLE.fullmatch(text)
    if match is None:
        return None
    sign, whole, places, denominator, latex_numerator, latex_denominator = match.groups()
    if places:
        value: Fraction | int = Fraction(int(whole + places), 10 ** len(places))
    elif denominator or latex_denominator:
        divisor = int(denominator or latex_denominator)
        if not divisor:
            return None
        value = Fraction(int(whole or latex_numerator), divisor)
    else:
        value = int(whole)
    return -value if sign == "-" else value


@functools.lru_cache(maxsize=4096)
def plain_number(text: str) -> Fraction | None:
    """The number that a normalized text without a unit stands for; None for anything else."""
    if len(text) > MAX_DIGITS:
        return None
    text = text.strip()
    sign = 1
    while text[:1] in ("-", "+"):
        sign = -sign if text[0] == "-" else sign
        if (text := text[1:].lstrip())[:1] in ("-", "+"):
            return None
    value = _unsigned(text)
    return None if value is None else sign * value


def normalized_digits(text: str) -> str:
    """Write Indian `12,34,567` as `1234567` and European `1.234,56` as `1234.56`."""
    sign = text[:1] if text[:1] in ("-", "+") else ""
    digits = text[len(sign) :].strip()
    if _INDIAN.fullmatch(digits):
        return sign + digits.replace(",", "")
    if (match := _CONTINENTAL.fullmatch(digits)) and (
        len(match[2]) != 3 or not match[1].isdigit() or len(match[1]) > 3
    ):
        return f"{sign}{re.sub('[^0-9]', '', match[1])}.{match[2]}"
    return text


def _unsigned(text: str) -> Fraction | None:
    if not text or text[:1] in ("-", "+"):
        return None
    if "10" in text and (match := _SCIENTIFIC.fullmatch(text)):
        factor = _decimal(match[1].strip()) if match[1] is not None else Fraction(1)
        exponent = int((match[2] or match[3]).replace(" ", ""))
        return None if factor is None else factor * Fraction(10) ** exponent
    if _DOTTED.fullmatch(text):
        return Fraction(text.replace(".", ""))
    if (value := _decimal(text)) is not None:
        return value
    if match := _SPACED_CONTINENTAL.fullmatch(text):
        return _decimal(f"{match[1]}.{match[2]}")
    if match := _FRACTION.fullmatch(text):
        terms = [plain_number(part) for part in match.groups()[1:] if part is not None]
        whole = _decimal(match[1]) if match[1] else Fraction(0)
        fraction = _quotient(terms[0], terms[1])
        return None if whole is None or fraction is None else whole + fraction
    if match := _REPEATING.fullmatch(text):
        # `0.1\overline{6}` is 1/6
        digits, period = match[2], Fraction(int(match[3]), 10 ** len(match[3]) - 1)
        return int(match[1] or 0) + (int(digits or 0) + period) / Fraction(10 ** len(digits))
    if match := _MIXED.fullmatch(text):
        fraction = _quotient(Fraction(match[2]), Fraction(match[3]))
        return None if fraction is None else Fraction(match[1]) + fraction
    if text.count("/") == 1:
        parts = text.split("/")
        return _quotient(_bracketed(parts[0]), _bracketed(parts[1]))
    return None


def _bracketed(text: str) -> Fraction | None:
    text = text.strip()
    text = text[1:-1] if text[:1] == "(" and text[-1:] == ")" else text
    return None if "/" in text else plain_number(text)


def _decimal(text: str) -> Fraction | None:
    match = _DECIMAL.fullmatch(text)
    if match is None or not (match[1] or len(match[2] or "") > 1):
        return None
    digits = _GROUP_SIGNS.sub("", match[1] or "0") + (match[2] or "").rstrip(".")
    return Fraction(digits) * Fraction(10) ** int(match[3] or 0)


def _quotient(numerator: Fraction | None, denominator: Fraction | None) -> Fraction | None:
    return None if numerator is None or not denominator else numerator / denominator
