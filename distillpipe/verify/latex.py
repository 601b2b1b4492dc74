r"""One spelling for the many ways to write the same answer in LaTeX, Markdown or plain text.

`cleaned` changes spelling only, never a value: `\left(\dfrac12,\,90^\circ\right)` becomes `(\frac12, 90)`.
What it leaves is printable text without `$`, sizes and spacing commands. `pieces` cuts such a text where no
bracket is open. Both take one pass over the text, whatever it holds.
"""

# ruff: noqa: RUF001 - the table is one of look-alikes
import re
from collections.abc import Callable
from typing import NamedTuple

_UNICODE: dict[int, str | int] = {
    **{0xFF01 + offset: 0x21 + offset for offset in range(94)},  # full-width ASCII
    **{ord(char): f"^{{{digit}}}" for digit, char in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{ord(char): f"_{{{digit}}}" for digit, char in enumerate("₀₁₂₃₄₅₆₇₈₉")},
    **dict.fromkeys(map(ord, "−–—‐‑"), "-"),
    **dict.fromkeys(map(ord, "\u00a0\u2009\u200a\u202f\u3000"), " "),
    **dict.fromkeys(map(ord, "\u200b\ufeff\u2061\u2062"), ""),
    **{ord(char): new for char, new in {
        "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∗": "*", "÷": "/", "⁄": "/", "∕": "/",
        "π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt ", "°": r"^\circ ", "±": r"\pm ", "∅": r"\emptyset ",
        "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\neq ", "≈": r"\approx ",
        "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}",
        "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⁻": "^-", "θ": r"\theta ",
        "α": r"\alpha ", "β": r"\beta ", "λ": r"\lambda ", "ω": r"\omega ", "，": ",", "。": ".", "€": "", "£": "",
    }.items()},
}  # fmt: skip

_COMMANDS = {
    **dict.fromkeys(["left", "right", "displaystyle", "textstyle", "limits"], ""),
    **dict.fromkeys([f"{size}{side}" for size in ("big", "Big", "bigg", "Bigg") for side in ("", "l", "m", "r")], ""),
    **dict.fromkeys(["dfrac", "tfrac", "cfrac"], r"\frac"),
    **dict.fromkeys(["dbinom", "tbinom"], r"\binom"),
    **dict.fromkeys(["leqslant", "leslant", "leqq", "leq", "le"], r"\le "),
    **dict.fromkeys(["geqslant", "geslant", "geqq", "geq", "ge"], r"\ge "),
    **dict.fromkeys(["neq", "ne"], r"\neq "),
    **dict.fromkeys(["approx", "simeq", "cong", "doteq"], r"\approx "),
    **dict.fromkeys(["lvert", "rvert", "vert", "mid"], "|"),
    **dict.fromkeys(["text", "textbf", "textit", "textrm", "textsf", "texttt", "textnormal", "mbox", "hbox", "operatorname", "boldsymbol"], r"\text"),
    **dict.fromkeys(["mathrm", "mathbf", "mathit", "mathsf", "mathcal", "mathbb"], r"\text"),
    "lt": "<", "gt": ">", "lbrace": r"\{", "rbrace": r"\}", "langle": "(", "rangle": ")",
    "varnothing": r"\emptyset ", "colon": ":",
}  # fmt: skip


def _renamed(match: re.Match[str]) -> str:
    return _COMMANDS.get(match[1], match[0])


def _unless_line_break(match: re.Match[str]) -> str:
    return match[0] if match[0] == "\\\\" else ""


_DEGREES = r"([0-9]+(?:\.[0-9]+)?) ?(?:\^ ?\{? ?(?:\\circ(?![a-zA-Z])|\\degree) ?\}?|\\degree)"
_ANGLE = re.compile(
    r"\\(sin|cos|tan|cot|sec|csc)( ?\^ ?(?:[0-9]|\{ ?[0-9] ?\}))? ?"
    rf"(?:\( ?{_DEGREES} ?\)|\{{ ?{_DEGREES} ?\}}|{_DEGREES})"
)


def _in_radians(match: re.Match[str]) -> str:
    r"""`\sin 30^\circ` is `\sin(30 \pi /180)`: without the sign it would be another angle."""
    function, power, *degrees = match.groups()
    return rf"\{function}{power or ''}({next(filter(None, degrees))} \pi /180)"


class _Rule(NamedTuple):
    """A pattern is looked for only where its trigger stands: most answers are short and plain."""

    trigger: str
    pattern: re.Pattern[str]
    new: str | Callable[[re.Match[str]], str]


_RULES = [
    _Rule("$", re.compile(r"\\?\$"), ""),
    _Rule("\\", re.compile(r"\\\\|\\[()\[\]]"), _unless_line_break),
    _Rule("box", re.compile(r"(?<!\\)\\++(?:f?box(?:ed)?|framebox)\s*+(?=\{)"), ""),
    _Rule("{,}", re.compile(r"(?<=[0-9])\{,\}(?=[0-9]{3}(?![0-9]))"), ""),
    _Rule("\\", re.compile(r"(?<=[0-9])(?:,\s*\\!\s*|\\,)(?=[0-9]{3}(?![0-9]))"), ""),
    _Rule("\\", re.compile(r"\\q?quad|(?<!\\)\\[,;:! ]|\\hspace\*?\{[^{}]*\}"), " "),
    _Rule("\\math", re.compile(r"\\math(?:rm|bf|it|sf|cal|bb)\s*\{\s*([a-zA-Z])\s*\}"), r" \1 "),
    _Rule("\\", re.compile(r"\\([a-zA-Z]+)"), _renamed),
    _Rule("\\text", re.compile(r"\\text\*?\s+(?=\{)"), r"\\text"),
    _Rule("{:}", re.compile(r"\{:\}"), ":"),
    _Rule("x", re.compile(r"(?<=[0-9]) ?x ?(?=10 ?\^)"), r"\\times "),
    _Rule("\\", _ANGLE, _in_radians),
    _Rule(
        "\\",
        re.compile(
            r" ?(?:\^ ?\{? ?(?:\\circ(?![a-zA-Z])|\\degree) ?\}?|\\degree)"
            r"(?: ?(?:\\text\{ ?[CF] ?\}|[CF](?![a-zA-Z])))?"
        ),
        " ",
    ),
    _Rule("\\%", re.compile(r"\\%"), "%"),
    _Rule("=", re.compile(r"<=|=<"), r"\\le "),
    _Rule("=", re.compile(r">=|=>"), r"\\ge "),
    _Rule("!=", re.compile("!="), r"\\neq "),
    _Rule("~", re.compile("~"), " "),
]
_SPACE = re.compile(r"\s+")
_MAX_WRAPPERS = 4
_PLAIN = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?|[-+]?[0-9]+/[0-9]+")
_WRAPPED = re.compile(r"\\text\{\s*\(?\s*([a-zA-Z])\s*\)?\s*\}|\(\s*([A-Z])\s*\)")
_WRAPPED_FORMULA = re.compile(r"\\text\{([^{}0-9=]*+[0-9=][^{}]*+|[A-Za-z](?: ?, ?[A-Za-z])+)\}")
_STRUCTURE = re.compile(r"\\[a-zA-Z]+|\\.|[()\[\]{},;:=<>|]", re.DOTALL)
OPENING, CLOSING = frozenset(["(", "[", "{", "\\{"]), frozenset([")", "]", "}", "\\}"])


def cleaned(text: str) -> str:
    r"""The text in the one spelling that the comparison reads; "" where only decoration stood.

    A box inside is opened, `\text{(C)}` and `(C)` alone are `C`, braces around all are dropped.
    """
    text = text.strip()
    if _PLAIN.fullmatch(text):
        return text
    if not text.isascii():
        text = text.translate(_UNICODE)
    text = _SPACE.sub(" ", text)
    for trigger, pattern, new in _RULES:
        if trigger in text:
            text = pattern.sub(new, text)
    text = _SPACE.sub(" ", text).strip().rstrip(".,;: ")
    if text[:2] == "**" == text[-2:]:
        text = text[2:-2].strip().rstrip(".,;: ")
    for _ in range(_MAX_WRAPPERS):
        if text[:1] != "{" or closing(text, 0) != len(text) - 1:
            break
        text = text[1:-1].strip().rstrip(".,;: ")
    if letter := _WRAPPED.fullmatch(text):
        return letter[1] or letter[2]
    if formula := _WRAPPED_FORMULA.fullmatch(text):
        return formula[1].strip()
    return text


def closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` is closed, by a bracket of any kind; -1 for nowhere."""
    depth = 0
    for token in _STRUCTURE.finditer(text, start):
        if token[0] in OPENING:
            depth += 1
        elif token[0] in CLOSING:
            depth -= 1
            if depth == 0:
                return token.end() - 1
            if depth < 0:
                return -1
    return -1


def pieces(text: str, separators: frozenset[str]) -> tuple[list[str], list[str]]:
    """The parts of `text` between separators outside brackets, and the separators found.

    Raises ValueError where brackets do not balance.
    """
    parts, found, depth, begin = [], [], 0, 0
    for token in _STRUCTURE.finditer(text):
        if token[0] in OPENING:
            depth += 1
        elif token[0] in CLOSING:
            depth -= 1
            if depth < 0:
                raise ValueError("a bracket is closed that was not opened")
        elif depth == 0 and token[0] in separators:
            parts.append(text[begin : token.start()].strip())
            found.append(token[0])
            begin = token.end()
    if depth:
        raise ValueError("a bracket is not closed")
    return [*parts, text[begin:].strip()], found
