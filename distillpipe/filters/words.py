r"""The words of a problem, without differences in case, punctuation and LaTeX spelling.

    "Evaluate $\left(\dfrac12\right)^{2}\cdot 1{,}000$."  ->  evaluate 1 2 ^ 2 1000

Two spellings of one formula give the same words, and different formulas mostly give different words. Numbers, letters,
relations, signs and exponents stay; brackets, multiplication, division and layout are removed.
"""

# ruff: noqa: RUF001 - this module maps look-alike characters

import re
import unicodedata

# Removed words: layout, fonts and brackets; signs of multiplication and division, which may be left out; and the words in
# which "what is" differs from "find".
_SILENT = frozenset(
    [
        r"\left", r"\right", r"\big", r"\bigg", r"\bigl", r"\bigr", r"\biggl", r"\biggr",
        r"\middle", r"\displaystyle", r"\textstyle", r"\limits", r"\nolimits", r"\text", r"\textbf",
        r"\textit", r"\textrm", r"\texttt", r"\emph", r"\mbox", r"\hbox", r"\mathrm", r"\mathbf",
        r"\mathit", r"\mathsf", r"\mathbb", r"\mathcal", r"\boldsymbol", r"\operatorname",
        r"\overline", r"\underline", r"\vec", r"\boxed", r"\bm", r"\rm", r"\bf", r"\it",
        r"\ensuremath", r"\quad", r"\qquad", r"\hspace", r"\vspace", r"\hfill", r"\phantom",
        r"\noindent", r"\newline", r"\item", r"\label", r"\tag", r"\hline", r"\nonumber",
        r"\lbrace", r"\rbrace", r"\langle", r"\rangle", r"\lparen", r"\rparen", r"\lbrack",
        r"\rbrack", r"\frac", r"\dfrac", r"\tfrac", r"\cfrac", r"\cdot", r"\times", r"\div",
        r"\ast", r"\over", r"\nicefrac", "is", "are",
    ]
)  # fmt: skip
_SAME = {
    r"\leq": "<=", r"\le": "<=", r"\leqslant": "<=", "<=": "<=",
    r"\geq": ">=", r"\ge": ">=", r"\geqslant": ">=", ">=": ">=",
    r"\neq": "!=", r"\ne": "!=", "!=": "!=", r"\lt": "<", r"\gt": ">",
    r"\ldots": "...", r"\cdots": "...", r"\dots": "...", r"\dotsb": "...", r"\dotsc": "...",
    r"\pmod": "mod", r"\bmod": "mod", r"\dbinom": "binom", r"\tbinom": "binom", r"\choose": "binom",
    r"\vert": "|", r"\lvert": "|", r"\rvert": "|", r"\mid": "|",
    r"\rightarrow": "to", r"\to": "to", r"\implies": "to", r"\longrightarrow": "to",
    r"\varphi": "phi", r"\varepsilon": "epsilon", r"\triangle": "triangle", r"\emptyset": "varnothing",
    r"\circ": "degree", "degrees": "degree", "infinity": "infty", "%": "percent",
    "modulo": "mod", "compute": "find", "evaluate": "find", "calculate": "find", "determine": "find",
    "what": "find",
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10", "eleven": "11", "twelve": "12", "twenty": "20",
}  # fmt: skip
_SIGNS = str.maketrans(
    {
        "−": "-", "–": " ", "—": " ", "×": " ", "·": " ", "⋅": " ", "÷": " ", "∗": " ", "⁄": " ",
        "≤": "<=", "≥": ">=", "≠": "!=", "…": "...", "°": r" \circ ", "√": r"\sqrt ",
        "∞": r"\infty ", "∠": r"\angle ", "△": r"\triangle ", "π": r"\pi ", "∑": r"\sum ",
        "∫": r"\int ", "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ", "≡": r"\equiv ",
        "→": r"\to ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ",
        "ω": r"\omega ", "φ": r"\phi ", "λ": r"\lambda ",
    }
    | {mark: f"^{digit} " for digit, mark in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
    | {mark: f" {digit} " for digit, mark in enumerate("₀₁₂₃₄₅₆₇₈₉")}
)  # fmt: skip
_LETTERS = frozenset("bcdefghjklmnopqrstuvwxyz")
_DIAGRAM = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)
_WORD = re.compile(
    r"""[a-z]+
    | (?<=[\^_])\d                          # x^23 is x squared, times three
    | \d{1,3}(?:,\d{3})+(?!\d) | \d+(?:\.\d+)? | \.\d+
    | \\(?:begin|end)\s?\{[a-z*]*\}       # an environment
    | \\[dtc]?frac\s{0,8}\d                # \frac12 is one half
    | \\[a-z]+
    | \^\s?\{?\s?\\circ\b\s?\}?           # a degree
    | (?<!-)-(?!-|[a-z]{2})                 # minus; two-digit is two digit
    | (?:(?<=\d)|(?<=\b[a-z]))!(?!=)        # a factorial
    | \.\.\.+ | [<>!]= | [+=<>^%|]
    | [぀-鿿]                                # Chinese and Japanese stand without spaces
    | [^\W\d_぀-鿿]+""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"\d*\.?\d+")


class _Canonical(dict[str, str]):
    """Maps a matched spelling to its canonical word, empty for a removed one; caches results."""

    def __missing__(self, spelled: str) -> str:
        word = _canonical(spelled)
        if len(self) < 100_000 and len(spelled) < 40:  # limits the memory of the cache
            self[spelled] = word
        return word


def _canonical(spelled: str) -> str:
    if spelled in _SILENT or spelled.startswith((r"\begin", r"\end")):
        return ""
    if spelled.startswith("^") and len(spelled) > 1:
        return "degree"
    if spelled[-1].isdecimal():
        number = spelled[-1] if spelled[0] == "\\" else spelled.replace(",", "")
        return f"0{number}" if number[0] == "." else number
    return _SAME.get(spelled, spelled.removeprefix("\\"))


_CANONICAL = _Canonical()


def words_of(text: str) -> list[str]:
    """The words of a problem in order, without diagrams; empty for a text without words."""
    text = text.lower()
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_SIGNS)).lower().translate(_SIGNS)
    if "[asy]" in text:
        text = _DIAGRAM.sub(" ", text)
    return _words(text)


def diagram_numbers(text: str) -> list[str]:
    """The numbers in the diagrams (Asymptote) of a problem, in order."""
    if "[" not in text or "[asy]" not in (text := text.lower()):
        return []
    return [number for diagram in _DIAGRAM.findall(text) for number in _NUMBER.findall(diagram)]


def numbers_in(words: list[str]) -> list[str]:
    """The words that are numbers, in order."""
    return [word for word in words if "0" <= word < ":"]


def symbols_in(words: list[str]) -> list[str]:
    """The words that formulas consist of: numbers, signs, and single letters except a and i."""
    return [word for word in words if not word.isalpha() or (len(word) == 1 and word in _LETTERS)]


def _words(text: str) -> list[str]:
    if "{,}" in text or r",\!" in text:
        text = text.replace("{,}", ",").replace(r",\!", ",")
    return list(filter(None, map(_CANONICAL.__getitem__, _WORD.findall(text))))
