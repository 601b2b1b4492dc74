r"""A value and what stands beside it, taken apart.

measured(r"15\text{ cm}^2")     body "15", a unit of area
measured("3 million")           body "3", factor 1000000
measured("2 h 30 min")          body "9000", a unit of time
measured("5 or more")           body "5", and what the other side must have too: ("or", "more")
"""

import itertools
import math
import re
from collections.abc import Iterator
from fractions import Fraction

from distillpipe.verify.math.lexer import WORDS
from distillpipe.verify.math.rationals import plain, regrouped
from distillpipe.verify.math.unit_table import CURRENCY_BEFORE, MONEY_SCALES, SCALES, UNITS
from distillpipe.verify.math.units import Measured, Reader, Token, Unit, unit_named

_MATH = WORDS | {
    "mod", "lcm", "gcd", "max", "min", "det", "dim", "deg", "arg", "sgn", "lim", "sup", "inf", "oo",
}  # fmt: skip
_OF_ANGLES = frozenset(
    sign + name for name in ("sin", "cos", "tan", "cot", "sec", "csc") for sign in ("", "\\")
)
# Units of two letters and more that may stand right behind a digit: no product of letters looks like them.
_ATTACHED = frozenset(
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
_WORTH_READING = re.compile(r"\\text|[A-Za-z]{2}|\\[$a-z]|[^\x00-\x7f]|[%$]|[0-9]\s*[A-Za-z'\"]|/-")
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
    r"""`5 m` as `5 \text{ m}`, where nothing speaks of variables: a letter that stands apart and is a unit."""
    match = _SPACED_UNIT.fullmatch(text)
    return text if match is None else rf"{match[1]} \text{{ {match[2]}}}"


def measured(text: str) -> Measured:
    """The value without what stands beside it, and that; the text is one that `cleaned` made."""
    if not _WORTH_READING.search(text) or _PLAIN.fullmatch(text):
        return Measured(text)
    return _sum(text) or _single(text)


def value_of(found: Measured) -> Fraction | None:
    """The number of a quantity in its own unit; None where its body is no plain number."""
    number = plain(found.body)
    if number is None:
        return None
    number *= found.factor
    for operation in found.operations:
        if operation == "factorial":
            if number.denominator != 1 or not 0 <= number <= _LARGEST_FACTORIAL:
                return None
            number = Fraction(math.factorial(int(number)))
        else:
            number **= 2 if operation == "square" else 3
    return number


def _sum(text: str) -> Measured | None:
    """A quantity in several units, `3 ft 4 in`, as one in the last of them; None for what is none."""
    if match := _MINUTES.fullmatch(text):
        whole, minutes, seconds = (Fraction(part or 0) for part in match.groups())
        return _total(whole + minutes / 60 + seconds / 3600, Unit((("degree", 1),)))
    if match := _FEET.fullmatch(text):
        inch = UNITS["in"]
        inches = Fraction(match[1]) * 12 + Fraction(match[2])
        return _total(inches, Unit(inch.dimensions, inch.scale))
    if match := _FEET_OR_INCHES.fullmatch(text):
        known = UNITS["ft" if match[2] == "'" else "in"]
        return _total(Fraction(match[1]), Unit(known.dimensions, known.scale))
    cuts = [
        token.start
        for token in _tokens(text)
        if token.kind == "number" and not token.depth and not token.in_text
    ]
    if not 1 < len(cuts) <= _MAX_SUMMANDS:
        return None
    pieces = [text[begin:end] for begin, end in itertools.pairwise([0, *cuts[1:], len(text)])]
    letters = [_ONE_LETTER.fullmatch(piece.strip(" ,")) for piece in pieces]
    if any(letters):
        pieces = _with_units(pieces, letters)
    stripped = [_without_joint(piece) for piece in pieces]
    is_joined = any(
        len(one) < len(piece.rstrip()) for one, piece in zip(stripped, pieces, strict=True)
    )
    return _added([_single(piece) for piece in stripped], is_joined=is_joined)


def _without_joint(piece: str) -> str:
    r"""`2 \text{ hours and }` without what joins it to the next part."""
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
    """`2 h`, `30 m`, `5 s` with their letters as units, which they are in a sum only."""
    names = {match[2] for match in letters if match}
    is_time = bool(names & {"h", "s"}) or any(word in piece for piece in pieces for word in ("hour", "min", "sec", "hr"))  # fmt: skip
    minute = "min" if is_time else "m"
    return [
        f"{match[1]} \\text{{{minute if match[2] == 'm' else match[2]}}}" if match else piece
        for match, piece in zip(letters, pieces, strict=True)
    ]


def _added(parts: list[Measured], *, is_joined: bool) -> Measured | None:
    """The sum, where every part is a number of a smaller unit than the one before and less than one of it."""
    units = [part.unit or Unit() for part in parts]
    sizes = [unit.scale * part.factor for unit, part in zip(units, parts, strict=True)]
    total = largest = Fraction(0)
    for part, unit, size in zip(parts, units, sizes, strict=True):
        number = plain(part.body)
        if number is None or number < 0 or part.is_percent or part.operations or unit.changes:
            return None
        if unit.dimensions != units[0].dimensions or unit.num_pi or unit.offset:
            return None
        if total and number * size >= largest:
            return None
        total, largest = total + number * size, size
    if not units[0].dimensions and (is_joined or parts[0].factor == 1):
        return None
    if any(unit.names for unit in units[:-1]):
        return None
    last = units[-1]
    currency = frozenset.union(*(unit.currency for unit in units))
    return _total(total / last.scale, last._replace(currency=currency))


def _total(number: Fraction, unit: Unit) -> Measured:
    return Measured(
        f"{number.numerator}/{number.denominator}", unit=unit if unit != Unit() else None
    )


def _single(text: str) -> Measured:
    """One value: words and currencies before it, then the value, then what stands behind it."""
    text = text.strip().removesuffix("/-")
    if "(" in text and (match := _BRACKETED.fullmatch(text)):
        text = f"{match[1]} {match[2]}"
    if r"\frac" in text and r"\text" in text:
        text = _FRACTION_OF_UNITS.sub(r"\1/\2", text)
    tokens = list(_tokens(text))
    reader = Reader()
    first = _before(tokens, reader)
    if first is None:
        return Measured(text)
    after = _behind(tokens, first, text, is_money="money" in reader.dimensions)
    reader.behind(tokens[after:])
    end = tokens[after].start if after < len(tokens) else len(text)
    body = text[tokens[first].start : end].strip()
    if not body:
        return Measured(text)
    body = regrouped(body) if reader.dimensions else body
    if "money" in reader.dimensions and (short := _SHORT_MONEY.fullmatch(body)):
        body = short[1]
        reader.factor *= MONEY_SCALES[short[2]]
    if reader.is_negative:
        body = body[1:].lstrip() if body[0] == "-" else "-" + body
    return reader.result(body)


def _tokens(text: str) -> Iterator[Token]:
    r"""The signs and words of a text, those in `\text{}` without their wrapper."""
    opened: list[bool] = []  # whether each open bracket is that of a `\text`
    start = end = num_texts = 0
    for match in _TOKEN.finditer(text):
        kind, value = match.lastgroup or "", match[0]
        if kind == "opened_text":
            start = start if num_texts else match.start()
            num_texts += 1
            opened.append(True)
            end = -1  # what begins a group stands apart from what is before it
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


def _before(tokens: list[Token], reader: Reader) -> int | None:
    """The token with which the value begins; None where that cannot be told."""
    position = 0
    last_number = max((at for at, token in enumerate(tokens) if token.kind == "number"), default=-1)
    while position < last_number:
        token, following = tokens[position], tokens[position + 1]
        if token.value in ("-", "+") and (
            following.kind == "currency" or following.value in CURRENCY_BEFORE
        ):
            reader.is_negative = token.value == "-"
        elif token.kind == "currency":
            reader.currency_before(token)
        elif token.kind == "word":
            if not (token.in_text or _stands_before(tokens, position)):
                break
            if not reader.word_before(token):
                break
        elif token.value != r"\approx" and not (position and token.value in (".", ":", ",") and tokens[position - 1].kind == "word"):  # fmt: skip
            break
        position += 1
    if position and (tokens[position].kind == "power" or tokens[position].start == tokens[0].start):
        return None  # a power of a word, or a value in the very text group: no reading of ours
    return position if tokens else None


def _stands_before(tokens: list[Token], position: int) -> bool:
    """Whether a bare word belongs to a number that follows, a currency or a word that stands apart."""
    name, following = tokens[position].value, tokens[position + 1]
    if name.lower() in _MATH:
        return False
    if name in CURRENCY_BEFORE and len(name) > 1:
        return following.kind in ("number", "word", "currency") or following.value in (".", "-")
    is_long = len(name) > 2 or not name.isascii()
    return is_long and (following.is_spaced or not name.isascii() or following.value == ":")


def _behind(tokens: list[Token], first: int, text: str, *, is_money: bool) -> int:
    """The token with which begins what stands behind the value; their number for nothing."""
    if match := _BARE_SPEED.search(text):
        return next(at for at, token in enumerate(tokens) if token.start == match.start(1))
    has_digit = is_angle = False
    for position in range(first, len(tokens)):
        token = tokens[position]
        if position > first and not token.depth:
            money = is_money and position == len(tokens) - 1 and token.value in MONEY_SCALES
            is_argument = is_angle and token.value == "°"
            if (
                not money
                and not is_argument
                and _begins_unit(tokens, position, has_digit=has_digit)
            ):
                is_rate = position - 1 > first and tokens[position - 1].value == "/"
                return position - is_rate  # `18/\text{day}`: the slash belongs to the unit
        has_digit = has_digit or token.kind == "number"
        is_angle = is_angle or token.value in _OF_ANGLES
    return len(tokens)


def _begins_unit(tokens: list[Token], position: int, *, has_digit: bool) -> bool:
    """Whether a word or sign behind a value is the first that does not belong to it."""
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
    return token.kind == "word" and has_digit and _is_word_behind(tokens, position)


def _is_word_behind(tokens: list[Token], position: int) -> bool:
    """Whether a bare word behind a number is no product of letters and no function."""
    token, before = tokens[position], tokens[position - 1]
    following = tokens[position + 1] if position + 1 < len(tokens) else None
    name = token.value
    if not name.isascii():
        return not any("\u0370" <= char <= "\u03ff" for char in name)
    if len(name) == 1:
        return False
    if name.lower() in _MATH and not (
        name in UNITS and (following is None or (name == "min" and following.value != "("))
    ):
        return False
    if not token.is_spaced:
        is_unit = name in _ATTACHED or (len(name) > 3 and unit_named(name) is not None)
        if before.value == "/":
            return is_unit or (len(name) > 2 and unit_named(name) is not None)  # 18/hr, 18/day
        is_behind_number = before.kind == "number" or before.value in ("}", ")")
        return is_behind_number and (is_unit or name.lower() in SCALES)
    return len(name) > 2 or name in _SHORT_WORDS or unit_named(name) is not None or name in SCALES
