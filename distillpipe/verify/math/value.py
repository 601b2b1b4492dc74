r"""Reads and compares single values: a number, an expression, or words.

A decimal equals a value that has no finite decimal, 1/3 or pi, if it is that value rounded or truncated
to at least `MIN_DIGITS` digits and `MIN_PLACES` places; 0.333 is not 1/3, and 2.0001 is not 2.
"""

import functools
import re
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from distillpipe.verify.math import evaluate, lexer, parser
from distillpipe.verify.math.arithmetic import COMPARE_CONTEXT, CONTEXT
from distillpipe.verify.math.numeric import equal_but_for_percent
from distillpipe.verify.math.parser import Node
from distillpipe.verify.math.quantities import number_of, read_quantity, with_unit
from distillpipe.verify.math.rationals import plain_number
from distillpipe.verify.math.unit_table import UNITS
from distillpipe.verify.math.units import Quantity, Unit, convertible, units_agree

MIN_DIGITS = 6
MIN_PLACES = 4
_SHORT_NUMBER = re.compile(r"([-+]?[0-9][0-9.,]*)([kKMB])")
_NUMBER_AND_LETTER = re.compile(r"([-+]?[0-9][0-9.,]*|.*\}) ?([a-zA-Z])")
_SHORT = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9}
_BASED = re.compile(r"([0-9A-F]+)\s*_\s*\{?\s*(?:\\text\{)?\s*([0-9]{1,2}|[a-z]+)\s*\}?\}?")
_INFINITE = re.compile(r"([-+]?)\s*(?:\\infty|\\text\{infinity\}|infinity|inf|oo)", re.IGNORECASE)
_DECIMAL = re.compile(r"[-+]?([0-9]*)\.([0-9]+)")
_WRAPPER = re.compile(r"\\text\{([^{}]*)\}")
_SPACES = re.compile(r"(?<![0-9]) | (?![0-9])")  # not those between digits: `1 5` is not 15
_WORDS = re.compile(r"[A-Za-z' .,\-]+")
_LONG_WORD = re.compile(r"[A-Za-z]{4,}|[A-Za-z]{2,} +[A-Za-z]{2,}")
_ARTICLES = re.compile(r"\b(?:a|an|the|all)\b +")
_SAME_WORDS = {
    "no solution": "none", "no solutions": "none", "no real solution": "none", "empty set": "none",
    "no real solutions": "none", r"\emptyset": "none", r"\{\}": "none", r"\{ \}": "none",
    "all real numbers": "r", "all reals": "r", "all real values": "r", "real numbers": "r", "reals": "r", "real values": "r",
    "undefined": "does not exist", "dne": "does not exist",
}  # fmt: skip


class Value(NamedTuple):
    """A text without structure, read as a number, an expression or words; other fields are None."""

    text: str
    number: Fraction | None = None
    node: Node | None = None
    "the expression tree, for a number too"
    words: str | None = None
    is_words: bool = False
    "words, not a product of variables"
    is_percent: bool = False
    unit: Unit | None = None
    infinity: str | None = None
    '"+" or "-"'
    digits_and_base: tuple[str, str] | None = None

    @property
    def has_unit_or_noun(self) -> bool:
        """Whether the value says what it counts or measures."""
        return self.unit is not None and self.unit.has_unit_or_noun


@functools.lru_cache(maxsize=4096)
def read_value(text: str) -> Value:
    """Read a normalized text as one value."""
    if match := _INFINITE.fullmatch(text):
        return Value(text, infinity="-" if match[1] == "-" else "+")
    if match := _BASED.fullmatch(text):
        return Value(text, digits_and_base=(match[1].lstrip("0") or "0", match[2]))
    words, is_words = _words(text)
    if is_words:
        return Value(text, words=words, is_words=True)
    quantity = read_quantity(text)
    number = number_of(quantity)
    if number is None:
        node = _node(quantity)
    else:
        number = _remainder(number, quantity.unit)
        words, node = None, fraction_node(number)
    return Value(text, number, node, words, False, quantity.is_percent, quantity.unit)


def _node(quantity: Quantity) -> Node | None:
    """The expression of a quantity in its own unit; None if it cannot be parsed."""
    try:
        node = parser.parse(quantity.body)
    except (lexer.Unreadable, RecursionError):
        return None
    if quantity.factor != 1:
        node = ("product", (node, fraction_node(quantity.factor)))
    for operation in quantity.operations:
        power = {"square": "2", "cube": "3"}.get(operation)
        node = ("power", node, ("number", power)) if power else ("factorial", node)
    return node


def _remainder(number: Fraction, unit: Unit | None) -> Fraction:
    r"""Reduce a number by the modulus that follows it: `10 \pmod{7}` equals `3 \pmod{7}`."""
    if unit is None or unit.modifiers[:1] != (r"\pmod",) or number.denominator != 1:
        return number
    modulus = "".join(unit.modifiers[1:])
    is_whole = modulus.isascii() and modulus.isdigit() and int(modulus)
    return number % int(modulus) if is_whole else number


def equal_values(left: Value, right: Value) -> bool | None:
    """Whether two values are equal; None if undecided."""
    if _SPACES.sub("", left.text) == _SPACES.sub("", right.text):
        return True
    if left.words is not None and right.words is not None and (left.is_words or right.is_words):
        return _same_words(left, right)
    if left.infinity or right.infinity:
        return _same_infinity(left, right)
    if left.digits_and_base or right.digits_and_base:
        return _same_based(left, right)
    return _same_quantity(_with_unit_of(left, right), _with_unit_of(right, left))


def _same_quantity(left: Value, right: Value) -> bool | None:
    """Whether two values are equal with their units, nouns and modifiers; None if undecided."""
    if not units_agree(left.unit, right.unit):
        return False
    without_percent = right if left.is_percent else left
    if left.is_percent != right.is_percent and without_percent.has_unit_or_noun:
        return False  # 5% is not 5 apples
    if (left.is_words and right.node is not None) or (right.is_words and left.node is not None):
        return False
    if left.node is None or right.node is None:
        return None
    if convertible(left.unit, right.unit):
        left, right = _in_base(left), _in_base(right)
    for value, other in ((left, right), (right, left)):
        if _equals_in_radians(value, other) or _equals_abbreviated(value, other):
            return True
    if left.number is not None and right.number is not None:
        return _same_number(left, right)
    return _same_expression(left, right)


def _with_unit_of(side: Value, other: Value) -> Value:
    r"""Read a letter after a number as a unit if the other side has one: `100 N` and `100 \text{ N}`.

    If the other side is a number without a unit, the letter must follow a space: `5 m` and 5, not `5m` and 5.
    """
    if side.unit is not None:
        return side
    if other.unit is None and other.number is not None and side.number is None:
        return side if (text := with_unit(side.text)) == side.text else read_value(text)
    if other.unit is None or not other.unit.dimensions:
        return side
    match = _NUMBER_AND_LETTER.fullmatch(side.text)
    if match is None or match[2] not in UNITS:
        return side
    return read_value(rf"{match[1]}\text{{ {match[2]}}}")


def _equals_in_radians(angle: Value, other: Value) -> bool:
    """Whether an angle in degrees equals a multiple of pi without a unit."""
    if angle.unit is None or angle.unit.dimensions != (("degree", 1),) or other.unit is not None:
        return False
    if other.node is None or not parser.contains(other.node, ("constant", "pi")):
        return False
    pi_by_180 = ("quotient", ("constant", "pi"), ("number", "180"))
    radians = ("product", (_in_base(angle).node, pi_by_180))
    return evaluate.equal(radians, other.node) is True


def _equals_abbreviated(short: Value, other: Value) -> bool:
    """Whether `5k` equals 5000."""
    match = _SHORT_NUMBER.fullmatch(short.text)
    if match is None or other.number is None or (number := plain_number(match[1])) is None:
        return False
    return number * _SHORT[match[2]] == other.number


def _same_words(left: Value, right: Value) -> bool | None:
    if left.words == right.words:
        return True
    letters = [sorted((side.words or "").replace(" ", "")) for side in (left, right)]
    # Words of the same letters may be a product of variables in another order.
    is_anagram = letters[0] == letters[1] and "\\text" not in left.text + right.text
    return None if is_anagram else False


def _same_infinity(left: Value, right: Value) -> bool | None:
    if left.infinity and right.infinity:
        return left.infinity == right.infinity
    other = right if left.infinity else left
    return False if other.number is not None or other.node is not None or other.is_words else None


def _same_based(left: Value, right: Value) -> bool | None:
    """Whether two values are equal where one has a base; the other may omit it, since the problem names it."""
    if left.digits_and_base and right.digits_and_base:
        return left.digits_and_base == right.digits_and_base
    digits, other = (
        (left.digits_and_base, right) if left.digits_and_base else (right.digits_and_base, left)
    )
    if digits is not None and other.text.lstrip("0").replace(",", "") == digits[0]:
        return True
    return False if other.number is not None or other.is_words else None


def _same_number(left: Value, right: Value) -> bool:
    values = [
        side.number / 100 if side.is_percent else side.number
        for side in (left, right)
        if side.number is not None
    ]
    if equal_but_for_percent(values[0], values[1], [left.is_percent, right.is_percent]):
        return True
    return any(
        _rounds(decimal, None if exact.node is None else evaluate.constant(exact.node))
        for decimal, exact in ((left, right), (right, left))
        if not _terminates(exact.number)
    )


def _same_expression(left: Value, right: Value) -> bool | None:
    """Whether two expressions are equal, at most one of which is a number; None if undecided."""
    if left.node is None or right.node is None:
        return None
    result = _equal_ignoring_case(left.node, right.node)
    if result or left.is_percent == right.is_percent:
        if result is False and (_approximates(left, right) or _approximates(right, left)):
            return True
        return result
    # One side is in percent: the sign may be omitted (above), or counts (here).
    left_node, right_node = (
        ("quotient", node, ("number", "100")) if side.is_percent else node
        for side, node in ((left, left.node), (right, right.node))
    )
    return evaluate.equal(left_node, right_node) or result


def _equal_ignoring_case(left: Node, right: Node) -> bool | None:
    """As `evaluate.equal`, where `C` equals `c` unless one side has both."""
    names = parser.variable_names(left), parser.variable_names(right)
    lowercase = [{name.lower() for name in side} for side in names]
    if names[0] == names[1] or lowercase[0] != lowercase[1] or "i" in lowercase[0]:
        return evaluate.equal(left, right)
    if any(len(folded) < len(side) for folded, side in zip(lowercase, names, strict=True)):
        return False
    return evaluate.equal(lowercased(left), lowercased(right))


def lowercased(node: Node) -> Node:
    """The tree with all variable names in lower case."""
    if node[0] == "variable":
        return ("variable", node[1].lower())
    if node[0] in ("sum", "product"):
        return (node[0], tuple(map(lowercased, node[1])))
    return tuple(lowercased(part) if isinstance(part, tuple) else part for part in node)


def _approximates(decimal: Value, exact: Value) -> bool:
    """Whether a decimal is the rounded value of an irrational constant."""
    if exact.number is not None or exact.node is None or not _DECIMAL.fullmatch(decimal.text):
        return False
    value = evaluate.constant(exact.node)
    return (
        value is not None
        and len(value.normalize(CONTEXT).as_tuple().digits) > 40  # else a finite decimal
        and _rounds(decimal, value)
    )


def _rounds(decimal: Value, value: Decimal | None) -> bool:
    """Whether a decimal is `value` rounded or truncated, with enough digits."""
    match = _DECIMAL.fullmatch(decimal.text)
    if match is None or value is None or COMPARE_CONTEXT.abs(value) > 10**20:
        return False
    if len(match[2]) < MIN_PLACES or len((match[1] + match[2]).lstrip("0")) < MIN_DIGITS:
        return False
    unit = Decimal(1).scaleb(-min(len(match[2]), 40))
    return Decimal(decimal.text) in (
        value.quantize(unit, rounding=rounding, context=CONTEXT)
        for rounding in ("ROUND_HALF_UP", "ROUND_DOWN")
    )


def _terminates(number: Fraction | None) -> bool:
    """Whether a number has a finite decimal."""
    denominator = 1 if number is None else number.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def fraction_node(number: Fraction) -> Node:
    """The expression tree of a rational number."""
    node: Node = ("number", str(abs(number.numerator)))
    if number.denominator != 1:
        node = ("quotient", node, ("number", str(number.denominator)))
    return ("negative", node) if number < 0 else node


def _in_base(side: Value) -> Value:
    """The value converted to base units."""
    if side.unit is None or side.node is None:
        return side
    unit = side.unit
    if side.number is not None and not unit.num_pi:
        number = (side.number + unit.offset) * unit.scale
        return side._replace(number=number, node=fraction_node(number))
    node = ("sum", (side.node, fraction_node(unit.offset))) if unit.offset else side.node
    node = ("product", (node, fraction_node(unit.scale)))
    if unit.num_pi:
        node = ("product", (node, ("power", ("constant", "pi"), ("number", str(unit.num_pi)))))
    return side._replace(number=None, node=node)


def _words(text: str) -> tuple[str | None, bool]:
    """The words of a text that has only words, and whether they are certainly not a product of variables."""
    if text in _SAME_WORDS:
        return _SAME_WORDS[text], True
    unwrapped = _WRAPPER.sub(r" \1 ", text)
    if not _WORDS.fullmatch(unwrapped) or not any(map(str.isalpha, unwrapped)):
        return None, False
    words = _ARTICLES.sub("", " ".join(unwrapped.casefold().replace(".", " ").split()))
    is_words = unwrapped != text or bool(_LONG_WORD.search(unwrapped))
    if unwrapped.strip() in lexer.FUNCTIONS:
        return None, False
    return _SAME_WORDS.get(words, words), is_words
