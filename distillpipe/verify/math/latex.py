r"""Normalizes the spelling of an answer in LaTeX, Markdown or plain text; splits it outside brackets.

`normalized` changes the spelling, never a value: `\left(\dfrac12,\,90^\circ\right)` becomes `(\frac12, 90°)`.
The result has no sizing or spacing commands, `\$` for a currency and `°` for degrees. `split_outside_brackets`
splits such a text at separators. Both run in linear time.
"""

# ruff: noqa: RUF001 - a table of look-alike characters
import itertools
import re
from collections.abc import Callable
from typing import NamedTuple

from distillpipe.verify.math.lexer import UPRIGHT

_UNICODE: dict[int, str | int] = {
    **{0xFF01 + offset: 0x21 + offset for offset in range(94)},  # full-width ASCII
    **dict.fromkeys(map(ord, "−–—‐‑"), "-"),
    **dict.fromkeys(map(ord, "\u00a0\u2009\u200a\u202f\u3000"), " "),
    **dict.fromkeys(map(ord, "\u200b\ufeff\u2061\u2062"), ""),
    **{ord(char): new for char, new in {
        "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∗": "*", "÷": "/", "⁄": "/", "∕": "/",
        "π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt ",  "±": r"\pm ", "∅": r"\emptyset ",
        "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\neq ", "≈": r"\approx ",
        "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}",
        "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "θ": r"\theta ",
        "α": r"\alpha ", "β": r"\beta ", "λ": r"\lambda ", "ω": r"\omega ", "，": ",", "。": ".", "；": ";", "：": ":", "∖": r"\setminus ", "ℝ": " R ", "∛": r"\sqrt[3]", "∓": r"\mp ", "∧": r"\land ", "∨": r"\lor ", "≡": r"\equiv ", "′": "'", "″": "''", "∠": r"\angle ", "º": "°", "˚": "°", "‘": "'", "’": "'",
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
    **dict.fromkeys(["backslash", "smallsetminus"], r"\setminus "),
    **dict.fromkeys(["bmod", "mod"], r"\mod "), "infin": r"\infty ", "lg": r"\log_{10} ", "wedge": r"\land ", "vee": r"\lor ",
}  # fmt: skip


_RAISED, _LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ", "₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙᵢₓ"
_PLAIN_SIGNS = "0123456789+-()nix"
_SCRIPTS = re.compile(rf"[{_RAISED}]+|[{_LOWERED}]+")
_TO_PLAIN = str.maketrans(_RAISED + _LOWERED, _PLAIN_SIGNS * 2)


def _plain_script(match: re.Match[str]) -> str:
    """Write `10⁻¹²` as `10^{-12}`: a run of superscript characters is one exponent."""
    sign = "^" if match[0][0] in _RAISED else "_"
    return f"{sign}{{{match[0].translate(_TO_PLAIN)}}}"


_MICRO_UNITS = "(?:[mgslLAFCVWJTNHSK]|Hz|Pa|eV|mol|min|Wb|Bq)"
_FUNCTION_NAMES = "|".join(sorted(UPRIGHT))
_GROUPED = re.compile(r"(?<![0-9{,])[0-9]{1,3}(?:\{,\}[0-9]+)+")


def _without_group_commas(match: re.Match[str]) -> str:
    """Write `1{,}234` as 1234 and `3{,}14` as 3.14: a comma in braces does not separate values."""
    groups = match[0].split("{,}")
    inner_lengths = {len(group) for group in groups[1:-1]}
    if len(groups[-1]) == 3 and (inner_lengths <= {3} or inner_lengths == {2}):
        return "".join(groups)  # groups of three digits, or Indian groups of two
    return ".".join(groups) if len(groups) == 2 else match[0]


_DOLLAR = re.compile(r"\\\$|\$")
_PRICE = re.compile(r"(?:[ }]|\\[,;! ])*[-+]?[0-9.]")


def _with_escaped_dollars(text: str) -> str:
    r"""Write the `$` of a price as `\$`; remove a `$` that only delimits a formula."""
    positions = [match.start() for match in _DOLLAR.finditer(text) if match[0] == "$"]
    prices = set()
    opening = None
    for position in positions:
        is_price = bool(_PRICE.match(text, position + 1))
        if opening is None:
            opening = position
        elif is_price and text[position - 1] in " (" and _PRICE.match(text, opening + 1):
            prices.add(opening)  # two prices, with no formula between them
            opening = position
        else:
            opening = None
    if opening is not None and _PRICE.match(text, opening + 1):
        prices.add(opening)
    replacements = (
        r"\$" if match[0] != "$" or match.start() in prices else ""
        for match in _DOLLAR.finditer(text)
    )
    return "".join(
        itertools.chain(*itertools.zip_longest(_DOLLAR.split(text), replacements, fillvalue=""))
    )


class _Rule(NamedTuple):
    """A replacement; the pattern is searched only if the text contains the trigger, to save time."""

    trigger: str
    pattern: re.Pattern[str]
    new: str | Callable[[re.Match[str]], str]


_RULES = [
    # `\[` and `\(`, but not the two backslashes of a line break
    _Rule("\\", re.compile(r"(\\\\)|\\[()\[\]]"), lambda match: match[1] or ""),
    _Rule("box", re.compile(r"(?<!\\)\\++(?:f?box(?:ed)?|framebox)\s*+(?=\{)"), ""),
    _Rule("{,}", _GROUPED, _without_group_commas),
    _Rule("\\", re.compile(r"(?<=[0-9])(?:,\s*\\!\s*|\\,)(?=[0-9]{3}(?![0-9]))"), ""),
    _Rule("\\", re.compile(r"\\q?quad|(?<!\\)\\[,;:! ]|\\hspace\*?\{[^{}]*\}"), " "),
    _Rule(
        "\\mu",
        re.compile(
            rf"\\(?:mathrm|text) ?\{{[ ~]*\\mu[ ~]*({_MICRO_UNITS})\}}|\\mu ?\\(?:mathrm|text) ?\{{[ ~]*({_MICRO_UNITS}) ?\}}"
        ),
        lambda match: rf"\text{{μ{match[1] or match[2]}}}",
    ),
    _Rule(
        "\\Omega",
        re.compile(
            r"\\(?:mathrm|text) ?\{[ ~]*([mkMG]) ?(?:\\Omega ?\}|\} ?\\Omega)|(?<=[0-9]) ([kMG]) ?\\Omega"
        ),
        lambda match: rf"\text{{ {match[1] or match[2]}Ω}}",
    ),
    _Rule(
        "\\frac",
        re.compile(
            r"(?<=[0-9}]) *+\\frac ?\{ ?\\mathrm ?\{([^{}]*)\} ?\} ?\{ ?\\mathrm ?\{([^{}]*)\}([^{}]{0,3}|\^\{[0-9]\}) ?\}"
        ),
        r"\\text{\1}/\\text{\2}\3",
    ),
    _Rule(
        "\\mathrm",
        re.compile(r"(?<=[0-9}/°]) ?\\mathrm ?\{ ?([mgsAKNJWVCFTHLlh]) ?\}"),
        r"\\text{\1}",
    ),
    _Rule("\\math", re.compile(r"\\math(?:rm|bf|it|sf|cal|bb)\s*\{\s*([a-zA-Z])\s*\}"), r" \1 "),
    _Rule("\\", re.compile(r"\\([a-zA-Z]+)"), lambda match: _COMMANDS.get(match[1], match[0])),
    _Rule("\\text", re.compile(r"\\text\*?\s+(?=\{)"), r"\\text"),
    _Rule("{:}", re.compile(r"\{:\}"), ":"),
    _Rule("x", re.compile(r"(?<=[0-9]) ?x ?(?=10 ?\^)"), r"\\times "),
    _Rule("X", re.compile(r"(?<=[0-9]) ?X ?(?=10 ?\^)"), r"\\times "),
    _Rule(
        "\\",
        re.compile(
            r" ?(?:(?:\{ ?\})?\^ ?\{? ?(?:\\circ(?![a-zA-Z])|\\degree) ?((?:\\text\{ ?[CF] ?\})?) ?\}?|\\(?:text)?degree(?![a-zA-Z]))"
        ),
        r"°\1",
    ),
    _Rule("\\text", re.compile(rf"\\text\{{ ?({_FUNCTION_NAMES}) ?\}}"), r"\\\1 "),
    _Rule(
        "\\text", re.compile(r"\\text\{ ?(min|max|sec|exp|abs|sgn) ?\}(?= ?(?:\(|\\\{))"), r"\\\1 "
    ),
    _Rule(
        "approx",
        re.compile(
            r"(?<=\S) \(? ?(?:\\text\{ ?\(? ?)?(?:approximately|approx\.?|\\approx) ?\}? ?"
            r"([-+]?[0-9][0-9.,]*) ?(?:\\text\{ ?\) ?\}|\))$"
        ),
        r" \\approx \1",
    ),
    _Rule("\\text", re.compile(r"(?<=[0-9]) ?\^ ?\{? ?\\text\{ ?(st|nd|rd|th) ?\} ?\}?"), r"\1"),
    _Rule("mod", re.compile(r"\( ?\\?mod ?([^()]*)\)"), r"\\pmod{\1}"),
    _Rule("+ -", re.compile(r"\+ +- ?"), "- "),
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
_BALANCED = re.compile(r"[^()\[\]]*(?:\([^()]*\)[^()\[\]]*)*")
_ELLIPSIS = re.compile(r"\.\.")
_DECIMAL_BEFORE = re.compile(r"[-+]?[0-9]+\.[0-9]+")
_SQUARE = re.compile(r"\\sqrt ?\[[^\[\]]*\]|[\[\]]")
OPENING, CLOSING = frozenset(["(", "[", "{", "\\{"]), frozenset([")", "]", "}", "\\}"])


def normalized(text: str) -> str:
    r"""The text in the one spelling that the comparison reads; "" if it holds only formatting.

    `\boxed` is removed, `\text{(C)}` and `(C)` alone become `C`, braces around the whole text are removed.
    """
    text = text.strip()
    if _PLAIN.fullmatch(text):
        return text
    if not text.isascii():
        text = text.translate(_UNICODE)
        text = _SCRIPTS.sub(_plain_script, text)
    text = _SPACE.sub(" ", text)
    if "$" in text:
        text = _with_escaped_dollars(text)
    for trigger, pattern, new in _RULES:
        if trigger in text:
            text = pattern.sub(new, text)
    text = _without_wrappers(_without_final_punctuation(_SPACE.sub(" ", text)))
    if "[" in text or "]" in text:
        text = _with_round_brackets(text)
    if letter := _WRAPPED.fullmatch(text):
        return letter[1] or letter[2]
    if formula := _WRAPPED_FORMULA.fullmatch(text):
        return formula[1].strip()
    return text


def _without_final_punctuation(text: str) -> str:
    """Remove the punctuation at the end of a sentence, but not an ellipsis."""
    text = text.strip()
    stripped = text.rstrip(".,;: ")
    end = text[len(stripped) :]
    if _ELLIPSIS.search(end) is None or _DECIMAL_BEFORE.fullmatch(stripped):
        return stripped
    return stripped + end.rstrip(" ,;:")


def _without_wrappers(text: str) -> str:
    if text[:2] == "**" == text[-2:]:
        text = _without_final_punctuation(text[2:-2])
    for _ in range(_MAX_WRAPPERS):
        if text[:1] != "{" or closing_bracket(text, 0) != len(text) - 1:
            break
        text = _without_final_punctuation(text[1:-1])
    return text


def _with_round_brackets(text: str) -> str:
    """Write the French interval `]2;5[` as `(2;5)`: an outward square bracket excludes its end.

    Square brackets are taken in pairs. The text stays as it is if a pair does not enclose two interval ends.
    """
    positions = [
        match.start()
        for match in _SQUARE.finditer(text)
        if match[0] in ("[", "]")  # not the brackets of a root
    ]
    pairs = list(zip(positions[::2], positions[1::2], strict=False))
    if len(positions) % 2 or all(text[begin] == "[" and text[end] == "]" for begin, end in pairs):
        return text
    if not all(_are_interval_ends(text[begin + 1 : end]) for begin, end in pairs):
        return text
    chars = list(text)
    for begin, end in pairs:
        chars[begin] = "[" if chars[begin] == "[" else "("
        chars[end] = "]" if chars[end] == "]" else ")"
    return "".join(chars)


def _are_interval_ends(inside: str) -> bool:
    """Whether the text between two brackets is the two ends of an interval."""
    ends = inside.split(";" if ";" in inside else ",")
    return len(ends) == 2 and all(map(str.strip, ends)) and _BALANCED.fullmatch(inside) is not None and r"\cup" not in inside  # fmt: skip


def closing_bracket(text: str, start: int) -> int:
    """The position of the bracket, of any kind, that closes the one at `start`; -1 if there is none."""
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


def split_outside_brackets(text: str, separators: frozenset[str]) -> tuple[list[str], list[str]]:
    """The parts of `text` between separators outside brackets, and the separators in order.

    Raises ValueError if the brackets do not balance.
    """
    parts, signs, depth, begin = [], [], 0, 0
    for token in _STRUCTURE.finditer(text):
        if token[0] in OPENING:
            depth += 1
        elif token[0] in CLOSING:
            depth -= 1
            if depth < 0:
                raise ValueError("a bracket is closed but not opened")
        elif depth == 0 and token[0] in separators:
            parts.append(text[begin : token.start()].strip())
            signs.append(token[0])
            begin = token.end()
    if depth:
        raise ValueError("a bracket is not closed")
    return [*parts, text[begin:].strip()], signs
