r"""Parses answers with structure: lists, sets, tuples, intervals, unions, matrices, equations, inequalities.

    read_structure("x=1 or x=2")          a list of two relations; a list without brackets is unordered
    read_structure(r"\{1\pm\sqrt5,-2\}")  a set of three
    read_structure("[0,1)")               a group with brackets "[)", which is an interval

A text without structure is a `Value`. Results are cached, since one reference is compared with many answers.
"""

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple, Union

from distillpipe.verify.math.latex import CLOSING, OPENING, closing_bracket, split_outside_brackets
from distillpipe.verify.math.value import Value, read_value

MAX_DEPTH = 12
MAX_PARTS = 200
_MAX_BOUND_CHARS = 300
_MAX_TIME_CHARS = 40
_SEPARATORS = frozenset([",", ";", r"\lor", r"\land"])
EQUALITIES = frozenset(["=", r"\approx"])
RELATIONS = frozenset(["=", "<", ">", r"\le", r"\ge", r"\neq", r"\in", r"\approx", r"\equiv"])
_OR, _AND = r"\lor ", r"\land "
_CONJUNCTIONS = re.compile(r"\\text\{([^{}]*)\}|(?<![A-Za-z\\])(and|or)(?![A-Za-z])")
_CONJUNCTION_WORD = re.compile(r"(?<![A-Za-z])(?:and|or)(?![A-Za-z])")
_CONJUNCTION_SIGNS = {"and": _AND, "or": _OR}
_CONJUNCTION_AT_END = re.compile(r"\s*,?\s*(?<![A-Za-z])(and|or)\s*$")
_CONJUNCTION_AT_START = re.compile(r"\s*,?\s*(and|or)(?![A-Za-z])")
_WHOLE_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_DIGIT_GROUPS = re.compile(r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?%?(?![0-9])")
_MATRIX = re.compile(
    r"\\begin\{([pbvBV]?matrix|smallmatrix|array)\}(?:\{[clr| ]*\})?(.*)\\end\{\1\}", re.DOTALL
)
_TIME = re.compile(
    r"([0-9]{1,2})(?::([0-9]{2})(?::([0-9]{2}))?)?\s*(?:\\text\{)?\s*(?:o'clock)?\s*"
    r"(?:([apAP])\.?\s?[mM]\.?|in the (morning|afternoon|evening)|(noon|midnight))\s*\}?"
)
_STARTS_WITH_GROUPS = re.compile(
    r"[^,;=()\[\]{}0-9]{1,16}[0-9]{1,7}(?:\.[0-9]{3})*,[0-9]{2,3}(?![0-9])|(?:\\\$|[€£¥₹])"
)
_NUMBER_SOMEWHERE = re.compile("[0-9x-z]")
_BOUND_BEFORE = re.compile(
    r"(?:\\text\{\s*)?(?:(at least|no less than|not less than|no fewer than|a minimum of|minimum of|至少|不少于|不小于|не менее)"
    r"|(more than|greater than|larger than|over|above|exceeding|超过|大于|多于|более)"
    r"|(at most|no more than|not more than|no greater than|up to|a maximum of|maximum of|至多|最多|不超过|不大于|не более)"
    r"|(less than|fewer than|smaller than|under|below|少于|小于|不到|менее))(?![A-Za-z])\s*\}?\s*(.*)",
    re.IGNORECASE,
)
_BOUND_AFTER = re.compile(
    r"(.*?)\s*(?:\\text\{\s*)?(?:((?:or|and) (?:more|greater|above|over|higher|larger|longer|up)|以上|或更多|или более)"
    r"|((?:or|and) (?:less|fewer|below|under|lower|smaller|shorter)|以下|或更少|или менее))(?![A-Za-z])\s*(\}?.*)",
    re.IGNORECASE,
)
_WITHOUT = re.compile(
    r"(?:\\text\{\s*)?all real (?:numbers|values)(?: (?:of )?[a-z])?,? (?:except|other than)(?: for)?\s*\}?\s*(?:[a-z] ?= ?)?(.+)"
)
_MINUS_SET = re.compile(r"R ?(?:-|/|\\setminus) ?(?=\\\{)")
_BUILDER = re.compile(r"([a-zA-Z])\s*(?:\\in\s*R)?\s*[|:]\s*(.+)", re.DOTALL)
_CASES = re.compile(
    r"\\begin\{(?:cases|aligned|array)\}(?:\{[clr| ]*\})?(.*)\\end\{(?:cases|aligned|array)\}",
    re.DOTALL,
)
_TO = re.compile(r"([0-9]+) ?(?:\\text\{ ?to ?\}|to) ?([0-9]+)")
_PLUS_MINUS = re.compile(r"\\pm(?![a-zA-Z])")
# Parts that the answer leaves to the reader: dots, and the signs of `\mp`.
ELLIPSIS = re.compile(r"\\(?:[lcvd]?dots|mp)(?![a-zA-Z])|\.\.\.")


class Structure(NamedTuple):
    """A list, set, group, union, difference, matrix (of rows), relation, ratio or time of day, by `kind`."""

    kind: str
    parts: tuple[Union["Structure", Value], ...]
    detail: tuple[str, ...] = ()
    'the brackets of a group, the signs of a relation, "or" or "tight" of a list, seconds and am/pm of a time'
    texts: tuple[str, ...] = ()
    "the parts as they were written"


Parsed = Structure | Value


@functools.lru_cache(maxsize=4096)
def read_structure(text: str) -> Parsed:
    """The structure of a normalized text; a `Value` with the text alone if its brackets do not balance."""
    try:
        return _read_structure(text, 0)
    except (ValueError, RecursionError):
        return Value(text)


def _read_structure(text: str, depth: int) -> Parsed:
    if ELLIPSIS.search(text):
        return Value(text)
    if depth > MAX_DEPTH:
        return read_value(text)
    if (structure := _from_words(text, depth)) is not None:
        return structure
    if (match := _MATRIX.fullmatch(text)) and r"\begin" not in match[2]:
        return _matrix(match[2], depth) if match[1][0] != "v" else Value(text)
    if r"\begin" in text:
        return Value(text)
    whole = _WHOLE_TEXT.fullmatch(text)
    if whole is not None and _CONJUNCTION_WORD.search(whole[1]):
        text = whole[1]
    if "and" in text or "or" in text:
        text = _CONJUNCTIONS.sub(_conjunction_signs, text)
    # From the sign that binds least to the one that binds most.
    for split in (_list, _relation, _union, _difference, _bracketed, _plus_minus, _ratio):
        if (parsed := split(text, depth)) is not None:
            return parsed
    return read_value(text.strip())


def _from_words(text: str, depth: int) -> Structure | None:
    r"""A structure written in words (`at least 5`, `7 PM`) or as a `\begin{cases}` system; None otherwise."""
    if (match := _CASES.fullmatch(text)) and (system := _equations_of(match[1])):
        return _flattened("list", system, depth)
    return _time(text) or _bound(text, depth) or _all_except(text, depth)


def _conjunction_signs(match: re.Match[str]) -> str:
    r"""Write `and` and `or` as signs, also at the start and end of a `\text{}`, but not inside its words."""
    if match[2]:
        return _CONJUNCTION_SIGNS[match[2]]
    before = after = ""
    words = match[1]
    if conjunction := _CONJUNCTION_AT_START.match(words):
        before, words = _CONJUNCTION_SIGNS[conjunction[1]], words[conjunction.end() :]
    if conjunction := _CONJUNCTION_AT_END.search(words):
        after, words = _CONJUNCTION_SIGNS[conjunction[1]], words[: conjunction.start()]
    inner = rf"\text{{{words}}}" if words.strip() else ""
    return before + inner + after if before or after else match[0]


def _list(text: str, depth: int) -> Parsed | None:
    """Values separated by commas, `and`, `or`; detail `or` if an `or` separates them, `tight` without spaces."""
    if text[:1] in "-+0123456789" or _STARTS_WITH_GROUPS.match(text):
        # 1,234 or 1,234/2 or 2 hours and 30 minutes
        whole = read_value(text.replace(_AND, ",").replace(_OR, ","))
        if whole.number is not None and not (whole.unit and whole.unit.modifiers):
            return whole
    parts, signs = split_outside_brackets(text, _SEPARATORS)
    if len(parts) == 1:
        return None
    if ";" in signs and "," in signs:
        parts, signs = split_outside_brackets(text, frozenset(";"))  # commas are inside the values
    elif ", " in text and all(_DIGIT_GROUPS.match(part) for part in re.split(r",\s+", text)):
        parts = re.split(r",\s+", text)
    detail = ("or",) if _OR.strip() in signs else () if " " in text else ("tight",)
    return _flattened("list", parts, depth)._replace(detail=detail)


def _in_order(kind: str, texts: Sequence[str], depth: int, detail: Sequence[str] = ()) -> Structure:
    """A structure of the parsed texts, in order."""
    parts = tuple(_read_structure(text, depth + 1) for text in texts)
    return Structure(kind, parts, tuple(detail), tuple(texts))


def _flattened(kind: str, texts: list[str], depth: int) -> Structure:
    """A structure of the parsed texts; inner lists are flattened. Raises ValueError for none or too many."""
    if len(texts) > MAX_PARTS:
        raise ValueError("too many parts")
    parts: list[Parsed] = []
    part_texts: list[str] = []
    for text in filter(None, texts):
        part = _read_structure(text, depth + 1)
        inner = list(part.parts) if isinstance(part, Structure) and part.kind == "list" else [part]
        parts += inner
        part_texts += [text] * len(inner)
    if not parts:
        raise ValueError("no parts")
    return Structure(kind, tuple(parts), (), tuple(part_texts))


def _relation(text: str, depth: int) -> Structure | None:
    sides, signs = split_outside_brackets(text, RELATIONS)
    if not signs or not all(sides):
        return None
    signs = ["=" if sign == r"\equiv" else sign for sign in signs]
    return _in_order("relation", sides, depth, signs)


def _union(text: str, depth: int) -> Structure | None:
    parts, signs = split_outside_brackets(text, frozenset([r"\cup"]))
    return _flattened("union", parts, depth) if signs else None


def _are_relations(parts: tuple[Parsed, ...]) -> bool:
    return all(isinstance(part, Structure) and part.kind == "relation" for part in parts)


def _difference(text: str, depth: int) -> Structure | None:
    r"""A difference of two sets: `R \setminus \{2\}`."""
    parts, signs = split_outside_brackets(
        _MINUS_SET.sub(r"R \\setminus ", text, count=1), frozenset([r"\setminus"])
    )
    if len(signs) != 1 or not all(parts):
        return None
    return _in_order("difference", parts, depth)


def _all_except(text: str, depth: int) -> Structure | None:
    """The real numbers without some points: `all real numbers except 2`."""
    match = _WITHOUT.fullmatch(text) if "all real" in text else None
    if match is None:
        return None
    excepted = _read_structure(rf"\{{{match[1].removesuffix('}')}\}}", depth + 1)
    return Structure("difference", (read_value("R"), excepted), (), ("R", match[1]))


def _bound(text: str, depth: int) -> Structure | None:
    r"""An interval with one bound: `at least 5` and `5 or more` are `[5,\infty)`."""
    if len(text) > _MAX_BOUND_CHARS or not _NUMBER_SOMEWHERE.search(text):
        return None
    before, after = _BOUND_BEFORE.fullmatch(text), _BOUND_AFTER.fullmatch(text)
    # `group` is that of _BOUND_BEFORE: 1 at least, 2 more than, 3 at most, 4 less than.
    if before:
        bound, group = before[5], next(number for number in range(1, 5) if before[number])
    elif after and after[1].strip():
        bound, group = f"{after[1]} {after[4]}", 1 if after[2] else 3
    else:
        return None
    bound = _close_braces(bound).strip()
    if not bound:
        return None
    value = _read_structure(bound, depth + 1)
    parts = (value, read_value(r"\infty")) if group < 3 else (read_value(r"-\infty"), value)
    brackets = {1: ("[", ")"), 2: ("(", ")"), 3: ("(", "]"), 4: ("(", ")")}[group]
    return Structure("group", parts, brackets)


def _close_braces(text: str) -> str:
    r"""Balance the braces of a text, after words were removed from a `\text{}`."""
    excess = text.count("{") - text.count("}")
    if excess < 0:
        head, _, tail = text.rpartition("}")
        return head + tail
    return text + "}" * excess


def _time(text: str) -> Structure | None:
    """A time of day, `7 PM`, `8:30 a.m.`: seconds since the last noon or midnight, and am or pm."""
    match = _TIME.fullmatch(text) if len(text) <= _MAX_TIME_CHARS else None
    if match is None or int(match[1]) > 12 or int(match[2] or 0) > 59:
        return None
    is_pm = (
        (match[4] or "").lower() == "p"
        or match[5] in ("afternoon", "evening")
        or match[6] == "noon"
    )
    seconds = int(match[1]) % 12 * 3600 + int(match[2] or 0) * 60 + int(match[3] or 0)
    return Structure("time", (), (str(seconds), "pm" if is_pm else "am"))


def _equations_of(body: str) -> list[str]:
    """The equations of a system; empty if a row is not an equation or has a condition."""
    rows = [row.replace("&", " ").strip(" ,.") for row in re.split(r"\\\\", body) if row.strip()]
    are_equations = all("=" in row and r"\text" not in row for row in rows)
    has_conditions = re.search(r"&(?!\s*=)", body)
    return rows if are_equations and not has_conditions else []


def _bracketed(text: str, depth: int) -> Parsed | None:
    """A set in braces, a tuple, a vector or an interval; the inner text of round brackets around one value."""
    begin = "\\{" if text.startswith("\\{") else text[:1]
    if begin not in OPENING or closing_bracket(text, 0) != len(text) - 1:
        return None
    end = "\\}" if text.endswith("\\}") else text[-1:]
    if end not in CLOSING:
        return None
    inner = text[len(begin) : len(text) - len(end)].strip()
    if begin == "\\{":
        if (match := _BUILDER.fullmatch(inner)) and match[1] in match[2]:
            return _read_structure(match[2], depth + 1)
        if not inner or "|" in inner or ":" in inner:
            return None
        inner = _CONJUNCTIONS.sub(_conjunction_signs, inner)
        elements = _flattened("set", split_outside_brackets(inner, _SEPARATORS)[0], depth)
        return elements._replace(kind="list") if _are_relations(elements.parts) else elements
    parts, signs = split_outside_brackets(inner, frozenset(",;"))
    if ";" in signs and "," in signs:
        parts, signs = split_outside_brackets(inner, frozenset(";"))
    if not signs:
        return _read_structure(inner, depth + 1) if begin == "(" and end == ")" and inner else None
    group = _in_order("group", [part for part in parts if part], depth, (begin, end))
    return group._replace(kind="list", detail=()) if _are_relations(group.parts) else group


def _plus_minus(text: str, depth: int) -> Structure | None:
    r"""The two values of `1\pm\sqrt5`."""
    if len(_PLUS_MINUS.findall(text)) != 1:
        return None
    return _flattened("list", [_PLUS_MINUS.sub(sign, text) for sign in "+-"], depth)


def _ratio(text: str, depth: int) -> Structure | None:
    """A ratio, `2:3` or `2 to 3`, which may also be a time without am or pm."""
    if match := _TO.fullmatch(text):
        text = f"{match[1]}:{match[2]}"
    parts, signs = split_outside_brackets(text, frozenset(":"))
    if not signs or not all(parts):
        return None
    return _in_order("ratio", parts, depth)


def _matrix(body: str, depth: int) -> Structure:
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", body) if row.strip()]
    texts = [[cell.strip() for cell in row.split("&")] for row in rows]
    if sum(map(len, texts)) > MAX_PARTS:
        raise ValueError("too many parts")
    rows_of_cells = (tuple(_read_structure(cell, depth + 1) for cell in row) for row in texts)
    return Structure("matrix", tuple(Structure("row", cells) for cells in rows_of_cells))
