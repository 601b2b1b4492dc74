r"""The verifier `numeric`: the same number, exactly, however it is written.

Whole numbers, decimals, thousands separators, percent, simple fractions (`3/4`, `\\frac{3}{4}`), with a
dollar sign, a degree sign or a unit in `\\text{}` beside them.
"""

import re
from fractions import Fraction

from distillpipe.records import Verdict

_LATEX_WORDS = re.compile(r"\\(?:text|mathrm|mbox)\{[^{}]*\}")
_LATEX_NOISE = re.compile(r"\\(?:left|right|,|!|;|:| |\$|%)|[$°]|\^\\circ|\^\{\\circ\}")
_FRACTION = re.compile(r"(?P<sign>[-+]?)\\[dt]?frac\s*(?:\{(\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d))")
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?")
_MAX_DIGITS = 1000


def number(text: str) -> Fraction | None:
    """The number that `text` stands for, null where it is not plainly one."""
    percent = text.rstrip("$ ").endswith("%")
    text = _LATEX_WORDS.sub(" ", text)  # a space, so that `6\text{ and }8` is not 68
    text = _LATEX_NOISE.sub("", text).strip().rstrip(".%").strip()
    if not text or len(text) > _MAX_DIGITS:
        return None
    if fraction := _FRACTION.fullmatch(text):
        parts = [part for part in fraction.groups()[1:] if part is not None]
        value = _quotient(Fraction(parts[0]), Fraction(parts[1]))
        value = -value if value is not None and fraction["sign"] == "-" else value
    elif text.count("/") == 1:
        above, _, below = text.partition("/")
        value = _quotient(_plain(above), _plain(below))
    else:
        value = _plain(text)
    return value / 100 if percent and value is not None else value


def same_number(answer: str, reference: str) -> Verdict:
    """`unverifiable` where the reference is no number; 50% is 50 as well as 0.5."""
    wanted = number(reference)
    if wanted is None:
        return "unverifiable"
    given = number(answer)
    if given is None:
        return "wrong"
    one_is_percent = ("%" in answer) != ("%" in reference)
    scaled = one_is_percent and given * (100 if "%" in answer else 1) == wanted * (
        100 if "%" in reference else 1
    )
    return "correct" if given == wanted or scaled else "wrong"


def _plain(text: str) -> Fraction | None:
    text = text.strip()
    if not text or not _NUMBER.fullmatch(text) or not any(map(str.isdigit, text)):
        return None
    return Fraction(text.replace(",", ""))


def _quotient(above: Fraction | None, below: Fraction | None) -> Fraction | None:
    return None if above is None or not below else above / below
