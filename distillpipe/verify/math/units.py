r"""Reads the words and signs next to a value: units, currencies, factors, modifiers, nouns.

No word is ignored. It is a unit (`cm`), a factor (`million`), neutral (`exactly`), a modifier that changes the
value (`or more`), or a noun, which says what is counted (`apples`). Two values are compared only if
`units_agree`: one side may omit the unit.
"""

import re
from fractions import Fraction
from typing import NamedTuple

from distillpipe.verify.math.unit_table import (
    CURRENCY_BEFORE,
    JOINED_PERCENT,
    JOINED_UNITS,
    LABELS,
    MODIFIERS,
    MODIFYING_CHARACTERS,
    NEUTRAL_WORDS,
    OPERATIONS,
    PERCENT,
    SCALES,
    SYNONYMS,
    UNITS,
    Dimensions,
    UnitEntry,
)

_MAX_NOUNS = 6  # more are prose
_MAX_WORD_CHARS = 6  # longest table entry in a script without spaces
_ORDINAL_ENDS = frozenset(["st", "nd", "rd", "th"])
# Symbols that may be written in any case.
_TWO_LETTERS = frozenset(["cm", "mm", "km", "kg", "ft", "lb", "hr", "oz", "ml", "ha"])
_COPULAS = ("是", "为", "為", "は")  # the words before them name the number
_TABLES = (SCALES, UNITS, PERCENT, MODIFIERS, NEUTRAL_WORDS)
_WRAPPER = re.compile(r"\\text|[{}\s]")


class Unit(NamedTuple):
    """The unit, currency, nouns and modifiers of a number; conversion as in `UnitEntry`."""

    dimensions: Dimensions = ()
    scale: Fraction = Fraction(1)
    num_pi: int = 0
    offset: Fraction = Fraction(0)
    currency: frozenset[str] = frozenset()
    nouns: frozenset[str] = frozenset()
    "what is counted"
    modifiers: tuple[str, ...] = ()
    "words that the other side must have too"

    @property
    def has_unit_or_noun(self) -> bool:
        return bool(self.dimensions or self.nouns)


class Quantity(NamedTuple):
    """The text of a value, and what the words and signs next to it say."""

    body: str
    is_percent: bool = False
    unit: Unit | None = None
    factor: Fraction = Fraction(1)
    operations: tuple[str, ...] = ()
    "square, cube or factorial, written as words"


class Token(NamedTuple):
    """A word or a sign."""

    kind: str
    value: str
    start: int
    "position of the token, or of the `\\text` group around it"
    depth: int
    "number of brackets around it"
    in_text: bool
    is_spaced: bool


def units_agree(left: Unit | None, right: Unit | None) -> bool:
    """Whether units, nouns and modifiers of two values do not contradict; one side may omit the unit."""
    left, right = left or Unit(), right or Unit()
    if left.modifiers != right.modifiers:
        return False
    if not left.has_unit_or_noun or not right.has_unit_or_noun:
        return True
    if left.dimensions != right.dimensions:
        return any(
            _is_generic(unit, other) or _are_pounds(unit, other)
            for unit, other in ((left, right), (right, left))
        )
    if left.currency and right.currency and not left.currency & right.currency:
        return False
    if left.nouns and right.nouns:
        return left.nouns <= right.nouns or right.nouns <= left.nouns
    return True


def convertible(left: Unit | None, right: Unit | None) -> bool:
    """Whether two units have the same dimensions and different sizes."""
    return bool(
        left and right and left.dimensions
        and left.dimensions == right.dimensions
        and left[1:4] != right[1:4]
    )  # fmt: skip


def _is_generic(left: Unit, right: Unit) -> bool:
    """Whether `left` is `units`, which matches any unit, or `square units`, which matches any area."""
    if len(left.dimensions) != 1 or left.dimensions[0][0] != "unit" or left.nouns:
        return False
    power = left.dimensions[0][1]
    return power == 1 or right.dimensions in ((), (("m", power),))


def _are_pounds(left: Unit, right: Unit) -> bool:
    """Whether `left` is a pound of mass and `right` the pound sterling: `pound` may mean either."""
    pound = UNITS["pound"]
    is_pound = left.dimensions == pound.dimensions and left.scale == pound.scale
    return is_pound and "GBP" in right.currency and right.scale == 1


def find_unit(name: str) -> UnitEntry | None:
    """The unit with this symbol, or with this name in any case, singular or plural; None if unknown."""
    if name in UNITS:
        return UNITS[name]
    lower = name.lower()
    if len(lower) < 3 and lower not in _TWO_LETTERS:
        return None
    for spelling in (lower, lower.removesuffix("s"), lower.removesuffix("es")):
        if spelling in UNITS and len(spelling) > 1:
            return UNITS[spelling]
    return UNITS.get(lower.upper()) if len(lower) == 3 else None


def currency(sign: str) -> UnitEntry:
    r"""The currency of `US\$`, `€` or `\pounds`."""
    return CURRENCY_BEFORE[re.sub(r"\s", "", sign)]


def singular(word: str) -> str:
    """A word without the ending of the plural."""
    if word in SYNONYMS:
        return SYNONYMS[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    is_plural = word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 2
    return word[:-1] if is_plural else word


class UnitReader:
    """Collects what the words and signs before and after a value say; `result` gives the quantity."""

    def __init__(self) -> None:
        self.dimensions: dict[str, int] = {}
        self.scale = self.factor = Fraction(1)
        self.num_pi = 0
        self.offset = Fraction(0)
        self.currency: frozenset[str] = frozenset()
        self.nouns: list[str] = []
        self.modifiers: list[str] = []
        self.operations: list[str] = []
        self.is_negative = False
        self.is_percent = False
        self.power = 1  # of the next unit: 2 after `square`, 3 after `cubic`
        self.is_denominator = False  # after `per` or a slash
        self.last_unit: tuple[UnitEntry, int] | None = None  # with its exponent

    def result(self, body: str) -> Quantity:
        """The quantity of a value whose text is `body`."""
        dimensions = tuple(sorted(pair for pair in self.dimensions.items() if pair[1]))
        if self.dimensions and not dimensions:
            dimensions = (("ratio", 1),)  # hours per day
        prose = self.nouns if len(self.nouns) > _MAX_NOUNS else []
        is_single = len(dimensions) == 1 and dimensions[0][1] == 1
        unit = Unit(
            dimensions, self.scale, self.num_pi, self.offset if is_single else Fraction(0),
            self.currency, frozenset(self.nouns), (*self.modifiers, *prose),
        )  # fmt: skip
        return Quantity(
            body, self.is_percent, None if unit == Unit() else unit, self.factor, tuple(self.operations)
        )  # fmt: skip

    def read_word_before(self, token: Token) -> bool:
        """Read a word before the value; False if it belongs to the value."""
        lower = token.value.lower()
        entry = CURRENCY_BEFORE.get(token.value) or CURRENCY_BEFORE.get(lower.upper())
        if entry:
            self.add_unit(entry)
        elif lower in ("minus", "negative", "负", "負", "минус"):
            self.is_negative = not self.is_negative
        elif singular(lower) in LABELS:
            self.nouns.append(singular(lower))
        elif len(lower) == 1 and lower.isascii() and not token.in_text:
            return False
        elif lower not in NEUTRAL_WORDS and not (
            lower.endswith(_COPULAS) and MODIFYING_CHARACTERS.isdisjoint(lower)
        ):
            self.modifiers.append(lower)
        return True

    def read_after(self, tokens: list[Token]) -> None:
        """Read all tokens after the value."""
        self.last_unit = None
        position = 0
        while position < len(tokens):
            position += self._read_token(tokens, position)

    def _read_token(self, tokens: list[Token], position: int) -> int:
        """Read the token at `position`; return the number of tokens read."""
        token = tokens[position]
        if token.kind == "word":
            return self._read_words(tokens, position)
        if token.kind == "power":
            self._raise_last(int(re.sub(r"[\^{}\s]", "", token.value)))
        elif token.kind == "currency":
            self.add_unit(currency(token.value))
        elif token.kind in ("micro", "sign"):
            self._read_table_word(_WRAPPER.sub("", token.value))
        elif token.value == "/":
            self.is_denominator = True
        elif token.value not in (r"\cdot", r"\times", "*", ".", "-", "(", ")", ":", "{", "}"):
            self.modifiers.append(token.value)
        return 1

    def _read_words(self, tokens: list[Token], position: int) -> int:
        """Read one word, or two that belong together (`fluid ounces`, `per cent`); return their number."""
        token = tokens[position]
        following = tokens[position + 1] if position + 1 < len(tokens) else None
        if following is not None and following.kind == "word":
            joined = f"{singular(token.value.lower())} {singular(following.value.lower())}"
            if joined in JOINED_PERCENT:
                self._read_percent(JOINED_PERCENT[joined])
                return 2
            if joined in JOINED_UNITS:
                self.add_unit(JOINED_UNITS[joined])
                return 2
        elif token.value == "in":
            self.add_unit(UNITS["in"])
            return 1
        self._read_word(token)
        return 1

    def _read_word(self, token: Token) -> None:
        name, lower = token.value, token.value.lower()
        if lower in _ORDINAL_ENDS and not token.is_spaced:
            return
        if name != lower and len(name) < 3 and name in UNITS:
            self.add_unit(UNITS[name])  # `A` is the ampere, `a` an article
        elif not self._read_operation(lower):
            self._read_noun(name, lower)

    def _read_operation(self, lower: str) -> bool:
        """Read a word that multiplies, divides or raises to a power; False for other words."""
        if lower in SCALES and not self.is_denominator and not self._has_unit_or_noun():
            self.factor *= SCALES[lower]
        elif lower == "per" or (
            lower in ("a", "an", "each", "every") and self.last_unit is not None
        ):
            self.is_denominator = True
        elif lower in ("square", "sq", "cubic", "cu"):
            self.power = 3 if lower.startswith("cu") else 2
        elif lower in ("squared", "cubed") and self.last_unit is not None:
            self._raise_last(2 if lower == "squared" else 3)
        elif lower in OPERATIONS:
            self.operations.append(OPERATIONS[lower])
        elif lower in PERCENT:
            self._read_percent(PERCENT[lower])
        else:
            return False
        return True

    def _read_noun(self, name: str, lower: str) -> None:
        """Read a modifier, a unit or a noun."""
        entry = find_unit(name)
        is_distance = self.last_unit is not None and self.last_unit[0].dimensions == (("m", 1),)
        if lower == "from" and is_distance:
            pass  # 45 miles from home
        elif lower in MODIFIERS or (len(name) == 1 and name.isascii() and entry is None):
            self.modifiers.append(lower)
        elif lower in NEUTRAL_WORDS:
            pass
        elif entry is not None:
            self.add_unit(entry)
        elif not name.isascii() and any(map(is_ideograph, name)):
            self._read_unspaced(name)
        else:
            self.nouns.append(singular(lower))

    def _read_unspaced(self, run: str) -> None:
        """Read text without spaces (Chinese, Japanese, Korean): take the longest table word each time."""
        position = 0
        name = ""  # characters since the last word of a table
        while position < len(run):
            lengths = range(min(_MAX_WORD_CHARS, len(run) - position), 0, -1)
            words = (run[position : position + length] for length in lengths)
            word = next((word for word in words if any(word in table for table in _TABLES)), "")
            if word:
                self.nouns += [name] if name else []
                name = ""
                self._read_table_word(word)
                position += len(word)
                continue
            if run[position] in MODIFYING_CHARACTERS:
                self.modifiers.append(run[position])
            name += run[position]
            position += 1
        self.nouns += [name] if name else []

    def _has_unit_or_noun(self) -> bool:
        return self.last_unit is not None or bool(self.nouns)

    def _read_table_word(self, word: str) -> None:
        if word in SCALES and not self._has_unit_or_noun():
            self.factor *= SCALES[word]
        elif word in UNITS:
            self.add_unit(UNITS[word])
        elif word in PERCENT:
            self._read_percent(PERCENT[word])
        elif word not in NEUTRAL_WORDS:
            self.modifiers.append(word)

    def _read_percent(self, factor: Fraction) -> None:
        self.is_percent = True
        self.factor *= factor

    def add_unit(self, entry: UnitEntry) -> None:
        """Multiply by a unit, or divide by it after `per`."""
        power = self.power * (-1 if self.is_denominator else 1)
        self.power = 1
        self.last_unit = (entry, power)
        self._multiply(entry, power)

    def _multiply(self, entry: UnitEntry, power: int) -> None:
        for name, exponent in entry.dimensions:
            self.dimensions[name] = self.dimensions.get(name, 0) + exponent * power
        self.scale *= entry.scale**power
        self.num_pi += entry.num_pi * power
        self.offset = entry.offset
        self.currency |= entry.currency

    def _raise_last(self, power: int) -> None:
        """Raise the last unit to a power: `cm^2`."""
        if self.last_unit is None:
            self.modifiers.append(f"^{power}")
            return
        entry, exponent = self.last_unit
        self._multiply(entry, exponent * power - exponent)
        self.last_unit = (entry, exponent * power)


def is_ideograph(char: str) -> bool:
    """Whether a character belongs to a script that is written without spaces."""
    return (
        "\u3040" <= char <= "\u30ff" or "\u4e00" <= char <= "\u9fff" or "\uac00" <= char <= "\ud7a3"
    )
