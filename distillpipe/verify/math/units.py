r"""What stands beside a value, taken up word by word: units, currencies, factors, words that change it.

Nothing is thrown away. A word is a unit (`cm`), a factor (`million`), one that adds nothing (`exactly`), one
that changes the value (`or more`), or the name of what is counted (`apples`). Two values are compared only
where `agree` says that what stands beside them does not contradict; a unit may be left out on one side.
"""

import re
from fractions import Fraction
from typing import NamedTuple

from distillpipe.verify.math.unit_table import (
    ADDS_NOTHING,
    CHANGES,
    CHANGING_CHARACTERS,
    CURRENCY_BEFORE,
    JOINED_PERCENT,
    JOINED_UNITS,
    NAMES_BEFORE,
    OPERATIONS,
    PERCENT,
    SCALES,
    SYNONYMS,
    UNITS,
    Dimensions,
    Known,
)

_MAX_NAMES = 6  # words of a name; more are prose
_LONGEST_WORD = 6  # of the table, in characters, in a script without spaces
_ORDINAL_ENDS = frozenset(["st", "nd", "rd", "th"])
_TWO_LETTERS = frozenset(
    ["cm", "mm", "km", "kg", "ft", "lb", "hr", "oz", "ml", "ha"]
)  # in any case
_IS = ("是", "为", "為", "は")  # what comes before says what the number is
_WRAPPER = re.compile(r"\\text|[{}\s]")


class Unit(NamedTuple):
    """What stands beside a number and is no part of its value."""

    dimensions: Dimensions = ()
    scale: Fraction = Fraction(1)
    num_pi: int = 0
    offset: Fraction = Fraction(0)
    currency: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    "of what is counted"
    changes: tuple[str, ...] = ()
    "what the other side must have too"

    @property
    def says_what(self) -> bool:
        return bool(self.dimensions or self.names)


class Measured(NamedTuple):
    """A text taken apart."""

    body: str
    is_percent: bool = False
    unit: Unit | None = None
    factor: Fraction = Fraction(1)
    operations: tuple[str, ...] = ()
    "square, cube or factorial, where they were said in words"


class Token(NamedTuple):
    """A word or a sign."""

    kind: str
    value: str
    start: int
    "where it begins, or the text group in which it stands"
    depth: int
    "of the brackets around it"
    in_text: bool
    is_spaced: bool


def agree(left: Unit | None, right: Unit | None) -> bool:
    """Whether what stands beside two values does not contradict; a unit may be left out on one side."""
    left, right = left or Unit(), right or Unit()
    if left.changes != right.changes:
        return False
    if not left.says_what or not right.says_what:
        return True
    if left.dimensions != right.dimensions:
        return any(
            _is_generic(one, other) or _are_pounds(one, other)
            for one, other in ((left, right), (right, left))
        )
    if left.currency and right.currency and not left.currency & right.currency:
        return False
    if left.names and right.names:
        return left.names <= right.names or right.names <= left.names
    return True


def comparable(left: Unit | None, right: Unit | None) -> bool:
    """Whether both have a unit of the same dimensions and of another size."""
    return bool(
        left and right and left.dimensions
        and left.dimensions == right.dimensions
        and left[1:4] != right[1:4]
    )  # fmt: skip


def _is_generic(left: Unit, right: Unit) -> bool:
    """`square units` fit any area, `units` anything."""
    if len(left.dimensions) != 1 or left.dimensions[0][0] != "unit" or left.names:
        return False
    power = left.dimensions[0][1]
    return power == 1 or right.dimensions in ((), (("m", power),))


def _are_pounds(left: Unit, right: Unit) -> bool:
    """A pound is a mass or money."""
    pound = UNITS["pound"]
    is_pound = left.dimensions == pound.dimensions and left.scale == pound.scale
    return is_pound and "GBP" in right.currency and right.scale == 1


def unit_named(name: str) -> Known | None:
    """A unit by its symbol, or by its name in any case, singular or plural."""
    if name in UNITS:
        return UNITS[name]
    small = name.lower()
    if len(small) < 3 and small not in _TWO_LETTERS:
        return None
    for spelling in (small, small.removesuffix("s"), small.removesuffix("es")):
        if spelling in UNITS and len(spelling) > 1:
            return UNITS[spelling]
    return UNITS.get(small.upper()) if len(small) == 3 else None


def currency(sign: str) -> Known:
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
    return (
        word[:-1]
        if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 2
        else word
    )


class Reader:
    """What the words beside a value say, taken up one by one."""

    def __init__(self) -> None:
        self.dimensions: dict[str, int] = {}
        self.scale = self.factor = Fraction(1)
        self.num_pi = 0
        self.offset = Fraction(0)
        self.currency: frozenset[str] = frozenset()
        self.names: list[str] = []
        self.changes: list[str] = []
        self.operations: list[str] = []
        self.is_negative = False
        self.is_percent = False
        self.power = 1  # of the next unit: square, cubic
        self.is_below = False  # behind `per` or a slash
        self.last: tuple[Known, int] | None = None

    def result(self, body: str) -> Measured:
        dimensions = tuple(sorted(pair for pair in self.dimensions.items() if pair[1]))
        if self.dimensions and not dimensions:
            dimensions = (("ratio", 1),)  # hours per day
        prose = self.names if len(self.names) > _MAX_NAMES else []
        is_single = len(dimensions) == 1 and dimensions[0][1] == 1
        unit = Unit(
            dimensions, self.scale, self.num_pi, self.offset if is_single else Fraction(0),
            self.currency, frozenset(self.names), (*self.changes, *prose),
        )  # fmt: skip
        return Measured(
            body, self.is_percent, None if unit == Unit() else unit, self.factor, tuple(self.operations)
        )  # fmt: skip

    def word_before(self, token: Token) -> bool:
        """Take up a word before the value; False for one that belongs to the value."""
        small = token.value.lower()
        known = CURRENCY_BEFORE.get(token.value) or CURRENCY_BEFORE.get(small.upper())
        if known:
            self._unit(known)
        elif small in ("minus", "negative", "负", "負", "минус"):
            self.is_negative = not self.is_negative
        elif singular(small) in NAMES_BEFORE:
            self.names.append(singular(small))
        elif len(small) == 1 and small.isascii() and not token.in_text:
            return False
        elif small not in ADDS_NOTHING and not (
            small.endswith(_IS) and CHANGING_CHARACTERS.isdisjoint(small)
        ):
            self.changes.append(small)
        return True

    def currency_before(self, token: Token) -> None:
        self._unit(currency(token.value))

    def behind(self, tokens: list[Token]) -> None:
        """Take up all that stands behind the value."""
        self.last = None
        position = 0
        while position < len(tokens):
            position += self._taken(tokens, position)

    def _taken(self, tokens: list[Token], position: int) -> int:
        """Take up what stands at a position; the number of tokens taken."""
        token = tokens[position]
        if token.kind == "word":
            return self._taken_words(tokens, position)
        if token.kind == "power":
            self._raise_last(int(re.sub(r"[\^{}\s]", "", token.value)))
        elif token.kind == "currency":
            self._unit(currency(token.value))
        elif token.kind in ("micro", "sign"):
            self._sign(_WRAPPER.sub("", token.value))
        elif token.value == "/":
            self.is_below = True
        elif token.value not in (r"\cdot", r"\times", "*", ".", "-", "(", ")", ":", "{", "}"):
            self.changes.append(token.value)
        return 1

    def _taken_words(self, tokens: list[Token], position: int) -> int:
        """One word, or two that are one name: `fluid ounces`, `per cent`."""
        token = tokens[position]
        following = tokens[position + 1] if position + 1 < len(tokens) else None
        if following is not None and following.kind == "word":
            joined = f"{singular(token.value.lower())} {singular(following.value.lower())}"
            if joined in JOINED_PERCENT:
                self._percent(JOINED_PERCENT[joined])
                return 2
            if joined in JOINED_UNITS:
                self._unit(JOINED_UNITS[joined])
                return 2
        elif token.value == "in":
            self._unit(UNITS["in"])
            return 1
        self._word(token)
        return 1

    def _word(self, token: Token) -> None:
        name, small = token.value, token.value.lower()
        if small in _ORDINAL_ENDS and not token.is_spaced:
            return
        if name != small and len(name) < 3 and name in UNITS:
            self._unit(UNITS[name])  # A is no article
        elif not self._of_arithmetic(small):
            self._of_counting(name, small)

    def _of_arithmetic(self, small: str) -> bool:
        """Take up a word that multiplies, divides or raises; False for any other."""
        if small in SCALES and not self.is_below and not self._counts_something():
            self.factor *= SCALES[small]
        elif small == "per" or (small in ("a", "an", "each", "every") and self.last is not None):
            self.is_below = True
        elif small in ("square", "sq", "cubic", "cu"):
            self.power = 3 if small.startswith("cu") else 2
        elif small in OPERATIONS:
            self._operation(OPERATIONS[small])
        elif small in PERCENT:
            self._percent(PERCENT[small])
        else:
            return False
        return True

    def _of_counting(self, name: str, small: str) -> None:
        """Take up a word that changes the value, a unit, or the name of what is counted."""
        known = unit_named(name)
        is_distance = self.last is not None and self.last[0].dimensions == (("m", 1),)
        if small == "from" and is_distance:
            pass  # 45 miles from home
        elif small in CHANGES or (len(name) == 1 and name.isascii() and known is None):
            self.changes.append(small)
        elif small in ADDS_NOTHING:
            pass
        elif known is not None:
            self._unit(known)
        elif not name.isascii() and any(map(is_ideograph, name)):
            self._run(name)
        else:
            self.names.append(singular(small))

    def _run(self, run: str) -> None:
        """Characters of a script without spaces, cut into the longest words that are known."""
        position = 0
        name = ""
        while position < len(run):
            lengths = range(min(_LONGEST_WORD, len(run) - position), 0, -1)
            words = (run[position : position + length] for length in lengths)
            word = next(filter(_is_known, words), "")
            if word:
                self.names += [name] if name else []
                name = ""
                self._known_word(word)
                position += len(word)
                continue
            if run[position] in CHANGING_CHARACTERS:
                self.changes.append(run[position])
            name += run[position]
            position += 1
        self.names += [name] if name else []

    def _counts_something(self) -> bool:
        return self.last is not None or bool(self.names)

    def _known_word(self, word: str) -> None:
        if word in SCALES and not self._counts_something():
            self.factor *= SCALES[word]
        elif word in UNITS:
            self._unit(UNITS[word])
        elif word in PERCENT:
            self._percent(PERCENT[word])
        elif word not in ADDS_NOTHING:
            self.changes.append(word)

    def _sign(self, sign: str) -> None:
        if sign in PERCENT:
            self._percent(PERCENT[sign])
        elif sign in UNITS:
            self._unit(UNITS[sign])
        else:
            self.changes.append(sign)

    def _percent(self, factor: Fraction) -> None:
        self.is_percent = True
        self.factor *= factor

    def _unit(self, known: Known) -> None:
        power = self.power * (-1 if self.is_below else 1)
        self.power = 1
        self.last = (known, power)
        self._times(known, power)

    def _times(self, known: Known, power: int) -> None:
        for name, exponent in known.dimensions:
            self.dimensions[name] = self.dimensions.get(name, 0) + exponent * power
        self.scale *= known.scale**power
        self.num_pi += known.num_pi * power
        self.offset = known.offset
        self.currency |= known.currency

    def _raise_last(self, power: int) -> None:
        """`cm^2`: the power of the unit before."""
        if self.last is None:
            self.changes.append(f"^{power}")
            return
        known, had = self.last
        self._times(known, had * power - had)
        self.last = (known, had * power)

    def _operation(self, operation: str) -> None:
        if self.last is not None and operation in ("square", "cube"):
            self._raise_last(2 if operation == "square" else 3)
        else:
            self.operations.append(operation)


def is_ideograph(char: str) -> bool:
    """A character of a script without spaces between its words."""
    return (
        "\u3040" <= char <= "\u30ff" or "\u4e00" <= char <= "\u9fff" or "\uac00" <= char <= "\ud7a3"
    )


def _is_known(word: str) -> bool:
    return any(word in table for table in (SCALES, UNITS, PERCENT, CHANGES, ADDS_NOTHING))
