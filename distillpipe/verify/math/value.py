r"""One value of an answer, a number, an expression or words, and whether two of them are the same.

A decimal stands for a value that no decimal can write, 1/3 or pi, where it is that value rounded or cut
at `MIN_DIGITS` digits or more; 0.333 is not 1/3, and 2.0001 is not 2.
"""

import functools
import re
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from distillpipe.verify.math import evaluate, lexer, parser
from distillpipe.verify.math.arithmetic import COMPARING, CONTEXT
from distillpipe.verify.math.numeric import equal_but_for_percent
from distillpipe.verify.math.parser import Node
from distillpipe.verify.math.quantities import measured, value_of, with_unit
from distillpipe.verify.math.rationals import plain
from distillpipe.verify.math.unit_table import UNITS
from distillpipe.verify.math.units import Measured, Unit, agree, comparable

MIN_DIGITS = 6
MIN_PLACES = 4
_SHORT_NUMBER = re.compile(r"([-+]?[0-9][0-9.,]*)([kKMB])")
_NUMBER_AND_LETTER = re.compile(r"([-+]?[0-9][0-9.,]*|.*\}) ?([a-zA-Z])")
_SHORT = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9}
_BASED = re.compile(r"([0-9A-F]+)\s*_\s*\{?\s*(?:\\text\{)?\s*([0-9]{1,2}|[a-z]+)\s*\}?\}?")
_INFINITE = re.compile(r"([-+]?)\s*(?:\\infty|\\text\{infinity\}|infinity|inf|oo)", re.IGNORECASE)
_DECIMAL = re.compile(r"[-+]?([0-9]*)\.([0-9]+)")
_WRAPPER = re.compile(r"\\text\{([^{}]*)\}")
_SPACES = re.compile(r"(?<![0-9]) | (?![0-9])")  # those that part no digits: `1 5` is not 15
_WORDS = re.compile(r"[A-Za-z' .,\-]+")
_LONG_WORD = re.compile(r"[A-Za-z]{4,}|[A-Za-z]{2,} +[A-Za-z]{2,}")
_ARTICLES = re.compile(r"\b(?:a|an|the|all)\b +")
_SAME_WORDS = {
    "no solution": "none", "no solutions": "none", "no real solution": "none", "empty set": "none",
    "no real solutions": "none", r"\emptyset": "none", r"\{\}": "none", r"\{ \}": "none",
    "all real numbers": "r", "all reals": "r", "all real values": "r", "real numbers": "r", "reals": "r", "real values": "r",
    "undefined": "does not exist", "dne": "does not exist",
}  # fmt: skip


class Leaf(NamedTuple):
    """What a text without structure can be read as; all None where it cannot."""

    text: str
    number: Fraction | None = None
    node: Node | None = None
    words: str | None = None
    is_words: bool = False
    "no product of letters"
    is_percent: bool = False
    unit: Unit | None = None
    infinity: str | None = None
    based: tuple[str, str] | None = None

    @property
    def counts(self) -> bool:
        """Whether it says of what it is a number."""
        return self.unit is not None and self.unit.says_what


@functools.lru_cache(maxsize=4096)
def leaf(text: str) -> Leaf:
    """Read a text that `cleaned` has been over."""
    if match := _INFINITE.fullmatch(text):
        return Leaf(text, infinity="-" if match[1] == "-" else "+")
    if match := _BASED.fullmatch(text):
        return Leaf(text, based=(match[1].lstrip("0") or "0", match[2]))
    words, is_words = _words(text)
    if is_words:
        return Leaf(text, words=words, is_words=True)
    found = measured(text)
    number = value_of(found)
    if number is not None:
        number = _remainder(number, found.unit)
        return Leaf(text, number, fraction_node(number), None, False, found.is_percent, found.unit)
    return Leaf(text, None, _node(found), words, False, found.is_percent, found.unit)


def _node(found: Measured) -> Node | None:
    """The expression of a quantity in its own unit."""
    try:
        node = parser.parsed(found.body)
    except (lexer.Unreadable, RecursionError):
        return None
    if found.factor != 1:
        node = ("product", (node, fraction_node(found.factor)))
    for operation in found.operations:
        power = {"square": "2", "cube": "3"}.get(operation)
        node = ("power", node, ("number", power)) if power else ("factorial", node)
    return node


def _remainder(number: Fraction, unit: Unit | None) -> Fraction:
    r"""`10 \pmod{7}` is the class of 3."""
    if unit is None or unit.changes[:1] != (r"\pmod",) or number.denominator != 1:
        return number
    modulus = "".join(unit.changes[1:])
    return (
        number % int(modulus)
        if modulus.isascii() and modulus.isdigit() and int(modulus)
        else number
    )


def same_leaf(left: Leaf, right: Leaf) -> bool | None:
    """Whether two values are the same; None where that is not plain."""
    if _SPACES.sub("", left.text) == _SPACES.sub("", right.text):
        return True
    if left.words is not None and right.words is not None and (left.is_words or right.is_words):
        return _same_words(left, right)
    if left.infinity or right.infinity:
        return _same_infinity(left, right)
    if left.based or right.based:
        return _same_based(left, right)
    return _same_quantity(_with_unit_of(left, right), _with_unit_of(right, left))


def _same_quantity(left: Leaf, right: Leaf) -> bool | None:
    """Whether two values are the same with what stands beside them."""
    if not agree(left.unit, right.unit):
        return False
    if left.is_percent != right.is_percent and (right if left.is_percent else left).counts:
        return False  # percent and apples
    if (left.is_words and right.node is not None) or (right.is_words and left.node is not None):
        return False
    if left.node is None or right.node is None:
        return None
    if comparable(left.unit, right.unit):
        left, right = _in_base(left), _in_base(right)
    found = _same_value(left, right)
    for one, other in ((left, right), (right, left)):
        found = found or _in_radians(one, other) or _abbreviates(one, other) or found
    return found


def _with_unit_of(side: Leaf, other: Leaf) -> Leaf:
    r"""`100 N` beside `100 \text{ N}`: a letter behind a number is a unit where the other side has one.

    A letter that stands apart is one beside a bare number too: `5 m` beside 5, and not `5m`.
    """
    if side.unit is not None:
        return side
    if other.unit is None and other.number is not None and side.number is None:
        return side if (text := with_unit(side.text)) == side.text else leaf(text)
    if other.unit is None or not other.unit.dimensions:
        return side
    match = _NUMBER_AND_LETTER.fullmatch(side.text)
    if match is None or match[2] not in UNITS:
        return side
    return leaf(rf"{match[1]}\text{{ {match[2]}}}")


def _same_value(left: Leaf, right: Leaf) -> bool | None:
    if left.number is not None and right.number is not None:
        return _same_number(left, right)
    return _same_node(left, right)


def _in_radians(angle: Leaf, other: Leaf) -> bool:
    """`90°` beside a multiple of pi without a unit."""
    if angle.unit is None or angle.unit.dimensions != (("degree", 1),) or other.unit is not None:
        return False
    if other.node is None or not parser.holds(other.node, ("constant", "pi")):
        return False
    radians = (
        "product",
        (_in_base(angle).node, ("quotient", ("constant", "pi"), ("number", "180"))),
    )
    return evaluate.equal(radians, other.node) is True


def _abbreviates(short: Leaf, other: Leaf) -> bool:
    """`5k` beside 5000."""
    match = _SHORT_NUMBER.fullmatch(short.text)
    if match is None or other.number is None or (number := plain(match[1])) is None:
        return False
    return number * _SHORT[match[2]] == other.number


def _same_words(left: Leaf, right: Leaf) -> bool | None:
    if left.words == right.words:
        return True
    letters = [sorted((side.words or "").replace(" ", "")) for side in (left, right)]
    anagram = letters[0] == letters[1] and "\\text" not in left.text + right.text
    return None if anagram else False


def _same_infinity(left: Leaf, right: Leaf) -> bool | None:
    if left.infinity and right.infinity:
        return left.infinity == right.infinity
    other = right if left.infinity else left
    return False if other.number is not None or other.node is not None or other.is_words else None


def _same_based(left: Leaf, right: Leaf) -> bool | None:
    """Digits with a base: the base may be left out, as the problem names it."""
    if left.based and right.based:
        return left.based == right.based
    digits, other = (left.based, right) if left.based else (right.based, left)
    if digits is not None and other.text.lstrip("0").replace(",", "") == digits[0]:
        return True
    return False if other.number is not None or other.is_words else None


def _same_number(left: Leaf, right: Leaf) -> bool:
    values = [
        side.number / 100 if side.is_percent else side.number
        for side in (left, right)
        if side.number is not None
    ]
    if equal_but_for_percent(values[0], values[1], [left.is_percent, right.is_percent]):
        return True
    return any(
        _rounds(decimal, _decimal_value(exact))
        for decimal, exact in ((left, right), (right, left))
        if not _terminates(exact.number)
    )


def _same_node(left: Leaf, right: Leaf) -> bool | None:
    if left.node is None or right.node is None:
        return None
    found = _equal_in_one_case(left.node, right.node)
    if found or left.is_percent == right.is_percent:
        if found is False and (_approximates(left, right) or _approximates(right, left)):
            return True
        return found
    one, other = (
        ("quotient", node, ("number", "100")) if side.is_percent else node
        for side, node in ((left, left.node), (right, right.node))
    )
    return evaluate.equal(one, other) or found


def _equal_in_one_case(left: Node, right: Node) -> bool | None:
    """As `evaluate.equal`, with small letters for capitals, where no side has both: `C` beside `c`."""
    names = parser.names(left), parser.names(right)
    folded = [{name.lower() for name in side} for side in names]
    if names[0] == names[1] or folded[0] != folded[1] or "i" in folded[0]:
        return evaluate.equal(left, right)
    if any(len(small) < len(side) for small, side in zip(folded, names, strict=True)):
        return False
    return evaluate.equal(lowered(left), lowered(right))


def lowered(node: Node) -> Node:
    """The tree with its variables in small letters."""
    if node[0] == "variable":
        return ("variable", node[1].lower())
    if node[0] in ("sum", "product"):
        return (node[0], tuple(map(lowered, node[1])))
    return tuple(lowered(part) if isinstance(part, tuple) else part for part in node)


def _approximates(decimal: Leaf, exact: Leaf) -> bool:
    if exact.number is not None or exact.node is None or not _DECIMAL.fullmatch(decimal.text):
        return False
    value = evaluate.constant(exact.node)
    return (
        value is not None
        and len(value.normalize(CONTEXT).as_tuple().digits) > 40
        and _rounds(decimal, value)
    )


def _rounds(decimal: Leaf, value: Decimal | None) -> bool:
    match = _DECIMAL.fullmatch(decimal.text)
    if match is None or value is None or COMPARING.abs(value) > 10**20:
        return False
    if len(match[2]) < MIN_PLACES or len((match[1] + match[2]).lstrip("0")) < MIN_DIGITS:
        return False
    unit = Decimal(1).scaleb(-min(len(match[2]), 40))
    return Decimal(decimal.text) in (
        value.quantize(unit, rounding=how, context=CONTEXT)
        for how in ("ROUND_HALF_UP", "ROUND_DOWN")
    )


def _decimal_value(side: Leaf) -> Decimal | None:
    return None if side.node is None else evaluate.constant(side.node)


def _terminates(number: Fraction | None) -> bool:
    below = 1 if number is None else number.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below == 1


def fraction_node(number: Fraction) -> Node:
    above: Node = ("number", str(abs(number.numerator)))
    node = (
        above
        if number.denominator == 1
        else ("quotient", above, ("number", str(number.denominator)))
    )
    return ("negative", node) if number < 0 else node


def _in_base(side: Leaf) -> Leaf:
    """A value in the base units of the table."""
    if side.unit is None or side.node is None:
        return side
    unit = side.unit
    number = (
        None if side.number is None or unit.num_pi else (side.number + unit.offset) * unit.scale
    )
    if number is not None:
        return side._replace(number=number, node=fraction_node(number))
    node = ("sum", (side.node, fraction_node(unit.offset))) if unit.offset else side.node
    node = ("product", (node, fraction_node(unit.scale)))
    if unit.num_pi:
        node = ("product", (node, ("power", ("constant", "pi"), ("number", str(unit.num_pi)))))
    return side._replace(number=None, node=node)


def _words(text: str) -> tuple[str | None, bool]:
    """The words of a text that is nothing else, and whether they are no product of letters."""
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
