r"""Splits the text of a quantity into its value, its unit, and the words around them.

read_quantity(r"15\text{ cm}^2")     body "15", a unit of area
read_quantity("3 million")           body "3", factor 1000000
read_quantity("2 h 30 min")          body "9000", a unit of time
read_quantity("5 or more")           body "5", modifiers ("or", "more"), which the other side must have too
"""

import itertools
import math
import re
from collections.abc import Iterator
from fractions import Fraction

from distillpipe.verify.math.lexer import WORDS
from distillpipe.verify.math.rationals import normalized_digits, plain_number
from distillpipe.verify.math.unit_table import CURRENCY_BEFORE, MONEY_SCALES, SCALES, UNITS
from distillpipe.verify.math.units import Quantity, Token, Unit, UnitReader, currency, find_unit

_MATH_NAMES = WORDS | {
    "mod", "lcm", "gcd", "max", "min", "det", "dim", "deg", "arg", "sgn", "lim", "sup", "inf", "oo",
}  # fmt: skip
_TRIGONOMETRIC = frozenset(
    sign + name for name in ("sin", "cos", "tan", "cot", "sec", "csc") for sign in ("", "\\")
)
# Units that may follow a digit without a space: no product of variables looks like them.
_UNITS_WITHOUT_SPACE = frozenset(
    """mm cm dm km mi ft in yd kg mg lb lbs oz ml mL hr hrs mph kph Hz kHz MHz GHz kW MW kWh Wh eV keV MeV kJ kcal
    kPa kN rad deg min sec USD EUR GBP INR CHF RMB CNY pct bn mln mio st nd rd th""".split()  # noqa: SIM905 - in rows
)
_SHORT_WORDS = frozenset(["of", "or", "if", "to", "by", "up", "US"])
_TOKEN = re.compile(
    r"(?P<opened_text>\\text\{)"
    r"|(?P<currency>(?:(?<![A-Za-z])(?:US|U\.S\.|AU?|CA?|NZ|HK|S|R|NT|MX) ?)?\\\$|[€£¥￥₹₩₽₺₫₦₱฿₴₪৳₵¢]"
    r"|\\(?:pounds|euro|yen|textsterling|textyen|cent)(?![a-zA-Z]))"
    r"|(?P<power>\^ ?(?:\{ ?[-+]? ?[0-9] ?\}|[-+]?[0-9]))"
    r"|(?P<micro>\\mu ?(?:\\text\{ ?)?(?:[mgsLlA]|Hz|Pa)(?![a-zA-Z])\}?|\\Omega|\\ell)"
    r"|(?P<sign>[%‰℃℉]|° ?(?:\\text\{ ?[CF] ?\}|[CF](?![a-zA-Z]))?)"
    r"|(?P<command>\\[a-zA-Z]+|\\.)"
    r"|(?P<number>[0-9]+(?:[.,][0-9]+)*)"
    r"|(?P<word>[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]+"
    r"|(?:[^\W\d_\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]|[\u0900-\u0d7f])+(?:['\u2019][A-Za-z]+)?)"
    r"|(?P<other>\S)",
    re.DOTALL,
)
_MAY_HAVE_UNIT = re.compile(r"\\text|[A-Za-z]{2}|\\[$a-z]|[^\x00-\x7f]|[%$]|[0-9]\s*[A-Za-z'\"]|/-")
_PLAIN = re.compile(r"[-+]?[0-9]+(?:[./,][0-9]+)?")
_BRACKETED = re.compile(
    r"(.*[0-9}]) ?\( ?((?:\\text\{[^{}]*\}|[A-Za-z%]{2})[^()0-9]*)\)", re.DOTALL
)
_FRACTION_OF_UNITS = re.compile(
    r"\\frac ?\{ ?(\\text\{[^{}]*\}) ?\}\{ ?(\\text\{[^{}]*\}(?:\^\{?[0-9]\}?)?) ?\}"
)
_BARE_SPEED = re.compile(r"[0-9}] ?(m ?/ ?s(?: ?\^ ?(?:2|\{2\}))?)$")
_SHORT_MONEY = re.compile(r"([-+]?[0-9][0-9.,]*) ?([kKmMbBtT]|mm|MM)")
_ONE_LETTER = re.compile(r"([0-9.]+) ?([hmsg])")
_SPACED_UNIT = re.compile(r"([-+]?[0-9][0-9.,]*) ([mgsLNJWV])")
_MAX_SUMMANDS = 4
_LARGEST_FACTORIAL = 300
_MINUTES = re.compile(
    r"([0-9]+)° ?([0-9]{1,2}) ?(?:'|\^\{?\\prime\}?)(?: ?([0-9]{1,2}(?:\.[0-9]+)?) ?(?:''|\"))?"
)
_FEET_OR_INCHES = re.compile(r"([-+]?[0-9]+(?:\.[0-9]+)?) ?('{1,2}|\")")
_FEET = re.compile(r"([0-9]+) ?' ?([0-9]{1,2}(?:\.[0-9]+)?) ?(?:''|\")")


def with_unit(text: str) -> str:
    r"""Write `5 m` as `5 \text{ m}`: a single letter after a space that is a unit, not a variable."""
    match = _SPACED_UNIT.fullmatch(text)
    return text if match is None else rf"{match[1]} \text{{ {match[2]}}}"


def read_quantity(text: str) -> Quantity:
    """Split a normalized text into its value, its unit and the words that change it."""
    if not _MAY_HAVE_UNIT.search(text) or _PLAIN.fullmatch(text):
        return Quantity(text)
    return _compound_quantity(text) or _single_quantity(text)


def number_of(quantity: Quantity) -> Fraction | None:
    """The number of a quantity in its own unit; None if its body is not a plain number."""
    number = plain_number(quantity.body)
    if number is None:
        return None
    number *= quantity.factor
    for operation in quantity.operations:
        if operation == "factorial":
            if number.denominator != 1 or not 0 <= number <= _LARGEST_FACTORIAL:
                return None
            number = Fraction(math.factorial(int(number)))
        else:
            number **= 2 if operation == "square" else 3
    return number


def _compound_quantity(text: str) -> Quantity | None:
    """A quantity in several units, `3 ft 4 in`, converted to the last of them; None for other texts."""
    if match := _MINUTES.fullmatch(text):
        degrees, minutes, seconds = (Fraction(part or 0) for part in match.groups())
        return _quantity_in(degrees + minutes / 60 + seconds / 3600, Unit((("degree", 1),)))
    if match := _FEET.fullmatch(text):
        inch = UNITS["in"]
        inches = Fraction(match[1]) * 12 + Fraction(match[2])
        return _quantity_in(inches, Unit(inch.dimensions, inch.scale))
    if match := _FEET_OR_INCHES.fullmatch(text):
        entry = UNITS["ft" if match[2] == "'" else "in"]
        return _quantity_in(Fraction(match[1]), Unit(entry.dimensions, entry.scale))
    number_starts = [
        token.start
        for token in _tokens(text)
        if token.kind == "number" and not token.depth and not token.in_text
    ]
    if not 1 < len(number_starts) <= _MAX_SUMMANDS:
        return None
    pieces = [
        text[begin:end] for begin, end in itertools.pairwise([0, *number_starts[1:], len(text)])
    ]
    letters = [_ONE_LETTER.fullmatch(piece.strip(" ,")) for piece in pieces]
    if any(letters):
        pieces = _with_units(pieces, letters)
    stripped = [_without_conjunction(piece) for piece in pieces]
    is_joined = any(
        len(short) < len(piece.rstrip()) for short, piece in zip(stripped, pieces, strict=True)
    )
    return _total_of([_single_quantity(piece) for piece in stripped], is_joined=is_joined)


def _without_conjunction(piece: str) -> str:
    r"""Remove the `and` or the comma that joins a part to the next one: `2 \text{ hours and }`."""
    while True:
        piece = piece.rstrip(" ,;&")
        in_text = piece.endswith("}")
        inner = piece.removesuffix("}").rstrip(" ,") if in_text else piece
        before = inner.removesuffix("and")
        if before == inner or before[-1:].isalpha():
            return inner + "}" if in_text and inner != piece[:-1] else piece
        piece = before.removesuffix(r"\text{ ").removesuffix(r"\text{")
        if in_text and piece == before:
            piece = before.rstrip(" ,") + "}"


def _with_units(pieces: list[str], letters: list[re.Match[str] | None]) -> list[str]:
    """Write the letters of `2 h`, `30 m`, `5 s` as units; elsewhere they may be variables."""
    letters_in_use = {match[2] for match in letters if match}
    is_time = bool(letters_in_use & {"h", "s"}) or any(word in piece for piece in pieces for word in ("hour", "min", "sec", "hr"))  # fmt: skip
    minute = "min" if is_time else "m"
    return [
        f"{match[1]} \\text{{{minute if match[2] == 'm' else match[2]}}}" if match else piece
        for match, piece in zip(letters, pieces, strict=True)
    ]


def _total_of(parts: list[Quantity], *, is_joined: bool) -> Quantity | None:
    """The sum of the parts; None unless each is a number in a smaller unit, and less than one unit before it.

    `2 h 30 min` is a sum, `2 h 90 min` is not.
    """
    units = [part.unit or Unit() for part in parts]
    sizes = [unit.scale * part.factor for unit, part in zip(units, parts, strict=True)]
    total = largest = Fraction(0)
    for part, unit, size in zip(parts, units, sizes, strict=True):
        number = plain_number(part.body)
        if number is None or number < 0 or part.is_percent or part.operations or unit.modifiers:
            return None
        if unit.dimensions != units[0].dimensions or unit.num_pi or unit.offset:
            return None
        if total and number * size >= largest:
            return None
        total, largest = total + number * size, size
    if not units[0].dimensions and (is_joined or parts[0].factor == 1):
        return None
    if any(unit.nouns for unit in units[:-1]):
        return None
    last = units[-1]
    currency = frozenset.union(*(unit.currency for unit in units))
    return _quantity_in(total / last.scale, last._replace(currency=currency))


def _quantity_in(number: Fraction, unit: Unit) -> Quantity:
    return Quantity(
        f"{number.numerator}/{number.denominator}", unit=unit if unit != Unit() else None
    )


def _single_quantity(text: str) -> Quantity:
    """Read a text with one value: words and currencies, then the value, then its unit and other words."""
    text = text.strip().removesuffix("/-")
    if "(" in text and (match := _BRACKETED.fullmatch(text)):
        text = f"{match[1]} {match[2]}"
    if r"\frac" in text and r"\text" in text:
        text = _FRACTION_OF_UNITS.sub(r"\1/\2", text)
    tokens = list(_tokens(text))
    reader = UnitReader()
    start = _value_start(tokens, reader)
    if start is None:
        return Quantity(text)
    end = _value_end(tokens, start, text, is_money="money" in reader.dimensions)
    reader.read_after(tokens[end:])
    end_char = tokens[end].start if end < len(tokens) else len(text)
    body = text[tokens[start].start : end_char].strip()
    if not body:
        return Quantity(text)
    body = normalized_digits(body) if reader.dimensions else body
    if "money" in reader.dimensions and (short := _SHORT_MONEY.fullmatch(body)):
        body = short[1]
        reader.factor *= MONEY_SCALES[short[2]]
    if reader.is_negative:
        body = body[1:].lstrip() if body[0] == "-" else "-" + body
    return reader.result(body)


def _tokens(text: str) -> Iterator[Token]:
    r"""The signs and words of a text; `\text{}` is removed around its words."""
    opened: list[bool] = []  # for each open bracket, whether it belongs to a `\text`
    start = end = num_texts = 0
    for match in _TOKEN.finditer(text):
        kind, value = match.lastgroup or "", match[0]
        if kind == "opened_text":
            start = start if num_texts else match.start()
            num_texts += 1
            opened.append(True)
            end = -1  # the first token of a group counts as spaced
            continue
        if value in ("}", ")", "]") and opened:
            is_text = opened.pop()
            num_texts -= is_text
            if is_text:
                end = -1
                continue
        is_spaced = match.start() != end
        yield Token(kind, value, start if num_texts else match.start(), len(opened) - num_texts, bool(num_texts), is_spaced)  # fmt: skip
        end = match.end()
        if value in ("{", "(", "["):
            opened.append(False)


def _value_start(tokens: list[Token], reader: UnitReader) -> int | None:
    """The index of the token that begins the value; None if this cannot be decided."""
    position = 0
    last_number = max((at for at, token in enumerate(tokens) if token.kind == "number"), default=-1)
    while position < last_number:
        token, following = tokens[position], tokens[position + 1]
        if token.value in ("-", "+") and (
            following.kind == "currency" or following.value in CURRENCY_BEFORE
        ):
            reader.is_negative = token.value == "-"
        elif token.kind == "currency":
            reader.add_unit(currency(token.value))
        elif token.kind == "word":
            if not (token.in_text or _is_word_before(tokens, position)):
                break
            if not reader.read_word_before(token):
                break
        elif token.value != r"\approx" and not (position and token.value in (".", ":", ",") and tokens[position - 1].kind == "word"):  # fmt: skip
            break
        position += 1
    if position and (tokens[position].kind == "power" or tokens[position].start == tokens[0].start):
        return None  # a power of a word, or a value in the same \text group
    return position if tokens else None


def _is_word_before(tokens: list[Token], position: int) -> bool:
    r"""Whether a word outside `\text{}` belongs to the number after it: a currency, or a word with a space."""
    name, following = tokens[position].value, tokens[position + 1]
    if name.lower() in _MATH_NAMES:
        return False
    if name in CURRENCY_BEFORE and len(name) > 1:
        return following.kind in ("number", "word", "currency") or following.value in (".", "-")
    is_long = len(name) > 2 or not name.isascii()
    return is_long and (following.is_spaced or not name.isascii() or following.value == ":")


def _value_end(tokens: list[Token], start: int, text: str, *, is_money: bool) -> int:
    """The index of the first token after the value; the number of tokens if nothing follows."""
    if match := _BARE_SPEED.search(text):
        return next(at for at, token in enumerate(tokens) if token.start == match.start(1))
    has_digit = is_angle = False
    for position in range(start, len(tokens)):
        token = tokens[position]
        if position > start and not token.depth:
            is_scale = is_money and position == len(tokens) - 1 and token.value in MONEY_SCALES
            is_argument = is_angle and token.value == "°"
            if (
                not is_scale
                and not is_argument
                and _begins_unit(tokens, position, has_digit=has_digit)
            ):
                is_rate = position - 1 > start and tokens[position - 1].value == "/"
                return position - is_rate  # `18/\text{day}`: the slash belongs to the unit
        has_digit = has_digit or token.kind == "number"
        is_angle = is_angle or token.value in _TRIGONOMETRIC
    return len(tokens)


def _begins_unit(tokens: list[Token], position: int, *, has_digit: bool) -> bool:
    """Whether a word or a sign after the value begins its unit."""
    token, before = tokens[position], tokens[position - 1]
    is_last = position == len(tokens) - 1
    if before.value in ("_", "^"):
        return False
    if token.in_text:
        return True
    if token.value == r"\pmod":
        return True
    if token.kind in ("currency", "sign"):
        return (
            is_last
            or tokens[position + 1].kind == "word"
            or tokens[position + 1].value in ("/", "(")
        )
    if token.kind == "micro":
        return has_digit and (is_last or len(token.value) > len(r"\Omega"))
    return token.kind == "word" and has_digit and _is_word_after(tokens, position)


def _is_word_after(tokens: list[Token], position: int) -> bool:
    r"""Whether a word outside `\text{}` after a number is a unit or a noun, not variables or a function."""
    token, before = tokens[position], tokens[position - 1]
    following = tokens[position + 1] if position + 1 < len(tokens) else None
    name = token.value
    if not name.isascii():
        return not any("\u0370" <= char <= "\u03ff" for char in name)
    if len(name) == 1:
        return False
    if name.lower() in _MATH_NAMES and not (
        name in UNITS and (following is None or (name == "min" and following.value != "("))
    ):
        return False
    if not token.is_spaced:
        is_unit = name in _UNITS_WITHOUT_SPACE or (len(name) > 3 and find_unit(name) is not None)
        if before.value == "/":
            return is_unit or (len(name) > 2 and find_unit(name) is not None)  # 18/hr, 18/day
        is_after_number = before.kind == "number" or before.value in ("}", ")")
        return is_after_number and (is_unit or name.lower() in SCALES)
    return len(name) > 2 or name in _SHORT_WORDS or find_unit(name) is not None or name in SCALES
