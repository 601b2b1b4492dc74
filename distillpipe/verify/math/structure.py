r"""Answers with structure: lists, sets, tuples, intervals, unions, matrices, equations, inequalities.

    read("x=1 or x=2")        a list of two relations; the order of a bare list does not matter
    read(r"\{1\pm\sqrt5,-2\}")  a set of three
    read("[0,1)")             a group with brackets "[)", which is an interval

What has no structure is a leaf. Reading is cached, since one reference meets many answers.
"""

import functools
import re
from typing import NamedTuple, Union

from distillpipe.verify.math.latex import CLOSING, OPENING, closing, pieces
from distillpipe.verify.math.value import Leaf, leaf

MAX_DEPTH = 12
MAX_PARTS = 200
_LONGEST_BOUND = 300
_LONGEST_TIME = 40
_SEPARATORS = frozenset([",", ";", r"\lor", r"\land"])
RELATIONS = frozenset(["=", "<", ">", r"\le", r"\ge", r"\neq", r"\in", r"\approx", r"\equiv"])
_OR, _AND = r"\lor ", r"\land "
_JOINTS = re.compile(r"\\text\{([^{}]*)\}|(?<![A-Za-z\\])(and|or)(?![A-Za-z])")
_BARE_JOINT = re.compile(r"(?<![A-Za-z])(?:and|or)(?![A-Za-z])")
_SIGN_OF = {"and": _AND, "or": _OR}
_JOINT_AT_END = re.compile(r"\s*,?\s*(?<![A-Za-z])(and|or)\s*$")
_JOINT_AT_BEGINNING = re.compile(r"\s*,?\s*(and|or)(?![A-Za-z])")
_WHOLE_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_DIGIT_GROUPS = re.compile(r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?%?(?![0-9])")
_MATRIX = re.compile(
    r"\\begin\{([pbvBV]?matrix|smallmatrix|array)\}(?:\{[clr| ]*\})?(.*)\\end\{\1\}", re.DOTALL
)
_TIME = re.compile(
    r"([0-9]{1,2})(?::([0-9]{2})(?::([0-9]{2}))?)?\s*(?:\\text\{)?\s*(?:o'clock)?\s*"
    r"(?:([apAP])\.?\s?[mM]\.?|in the (morning|afternoon|evening)|(noon|midnight))\s*\}?"
)
_BEGINS_GROUPED = re.compile(
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
_BOUND_BEHIND = re.compile(
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
# What goes on as before, or as the reader may guess.
LEFT_OUT = re.compile(r"\\(?:[lcvd]?dots|mp)(?![a-zA-Z])|\.\.\.")


class Shape(NamedTuple):
    """A list, set, group, union, matrix (of rows), relation or ratio of parts."""

    kind: str
    parts: tuple[Union["Shape", Leaf], ...]
    detail: tuple[str, ...] = ()
    "the brackets of a group, the signs of a relation"
    texts: tuple[str, ...] = ()
    "the parts as they were written"


Read = Shape | Leaf


@functools.lru_cache(maxsize=4096)
def read(text: str) -> Shape | Leaf:
    """The structure of a text that `cleaned` made; a leaf that says nothing where brackets are amiss."""
    try:
        return _read(text, 0)
    except (ValueError, RecursionError):
        return Leaf(text)


def _read(text: str, depth: int) -> Shape | Leaf:
    if LEFT_OUT.search(text):
        return Leaf(text)
    if depth > MAX_DEPTH:
        return leaf(text)
    if (found := _in_words(text, depth)) is not None:
        return found
    if (match := _MATRIX.fullmatch(text)) and r"\begin" not in match[2]:
        return _matrix(match[2], depth) if match[1][0] != "v" else Leaf(text)
    if r"\begin" in text:
        return Leaf(text)
    whole = _WHOLE_TEXT.fullmatch(text)
    if whole is not None and _BARE_JOINT.search(whole[1]):
        text = whole[1]
    if "and" in text or "or" in text:
        text = _JOINTS.sub(_joint, text)
    for split in (_listed, _related, _united, _difference, _bracketed, _expanded, _in_proportion):
        if (special := split(text, depth)) is not None:
            return special
    return leaf(text.strip())


def _in_words(text: str, depth: int) -> Shape | None:
    """What words or an environment say of a structure."""
    if (match := _CASES.fullmatch(text)) and (system := _system(match[1])):
        return _flat("list", system, depth)
    return _time(text) or _bounded(text, depth) or _excepted(text, depth)


def _joint(match: re.Match[str]) -> str:
    r"""`and` and `or` as signs, also at the ends of a `\text{}`; what stands amid its words stays."""
    if match[2]:
        return _SIGN_OF[match[2]]
    before = after = ""
    words = match[1]
    if found := _JOINT_AT_BEGINNING.match(words):
        before, words = _SIGN_OF[found[1]], words[found.end() :]
    if found := _JOINT_AT_END.search(words):
        after, words = _SIGN_OF[found[1]], words[: found.start()]
    inner = rf"\text{{{words}}}" if words.strip() else ""
    return before + inner + after if before or after else match[0]


def _listed(text: str, depth: int) -> Shape | Leaf | None:
    """Values between commas, `and`, `or`; with `or` as detail where it joins them, `tight` where no space does."""
    if _begins_number(text):
        whole = leaf(_with_commas(text))  # 1,234 or 1,234/2 or 2 hours and 30 minutes
        if whole.number is not None and not (whole.unit and whole.unit.changes):
            return whole
    parts, signs = pieces(text, _SEPARATORS)
    if len(parts) == 1:
        return None
    if ";" in signs and "," in signs:
        parts, signs = pieces(text, frozenset(";"))  # what has commas in it is a value of its own
    elif ", " in text and all(_DIGIT_GROUPS.match(part) for part in re.split(r",\s+", text)):
        parts = re.split(r",\s+", text)
    detail = ("or",) if _OR.strip() in signs else () if " " in text else ("tight",)
    return _flat("list", parts, depth)._replace(detail=detail)


def _begins_number(text: str) -> bool:
    return text[:1] in "-+0123456789" or bool(_BEGINS_GROUPED.match(text))


def _with_commas(text: str) -> str:
    return text.replace(_AND, ",").replace(_OR, ",") if "\\l" in text else text


def _flat(kind: str, texts: list[str], depth: int) -> Shape:
    """Lists in a list are one list."""
    if len(texts) > MAX_PARTS:
        raise ValueError("too many parts")
    parts: list[Shape | Leaf] = []
    kept: list[str] = []
    for text in filter(None, texts):
        part = _read(text, depth + 1)
        inner = list(part.parts) if isinstance(part, Shape) and part.kind == "list" else [part]
        parts += inner
        kept += [text] * len(inner)
    if not parts:
        raise ValueError("no parts")
    return Shape(kind, tuple(parts), (), tuple(kept))


def _related(text: str, depth: int) -> Shape | None:
    sides, signs = pieces(text, RELATIONS)
    if not signs or not all(sides):
        return None
    parts = tuple(_read(side, depth + 1) for side in sides)
    signs = ["=" if sign == r"\equiv" else sign for sign in signs]
    return Shape("relation", parts, tuple(signs), tuple(sides))


def _united(text: str, depth: int) -> Shape | None:
    parts, signs = pieces(text, frozenset([r"\cup"]))
    return _flat("union", parts, depth) if signs else None


def _are_relations(parts: tuple[Shape | Leaf, ...]) -> bool:
    return all(isinstance(part, Shape) and part.kind == "relation" for part in parts)


def _difference(text: str, depth: int) -> Shape | None:
    r"""`R \setminus \{2\}`."""
    parts, signs = pieces(
        _MINUS_SET.sub(r"R \\setminus ", text, count=1), frozenset([r"\setminus"])
    )
    if len(signs) != 1 or not all(parts):
        return None
    return Shape("difference", tuple(_read(part, depth + 1) for part in parts), (), tuple(parts))


def _excepted(text: str, depth: int) -> Shape | None:
    """`all real numbers except 2`."""
    match = _WITHOUT.fullmatch(text) if "all real" in text else None
    if match is None:
        return None
    reals, excepted = leaf("R"), _read(rf"\{{{match[1].removesuffix('}')}\}}", depth + 1)
    return Shape("difference", (reals, excepted), (), ("R", match[1]))


def _bounded(text: str, depth: int) -> Shape | None:
    r"""`at least 5` is `[5,\infty)`, and so is `5 or more`."""
    if len(text) > _LONGEST_BOUND or not _NUMBER_SOMEWHERE.search(text):
        return None
    before, behind = _BOUND_BEFORE.fullmatch(text), _BOUND_BEHIND.fullmatch(text)
    if before:
        bound, kind = before[5], next(at for at in range(1, 5) if before[at])
    elif behind and behind[1].strip():
        bound, kind = f"{behind[1]} {behind[4]}", 1 if behind[2] else 3
    else:
        return None
    bound = _balanced(bound)
    if not bound.strip():
        return None
    value = _read(bound.strip(), depth + 1)
    least, most = leaf(r"-\infty"), leaf(r"\infty")
    parts = (value, most) if kind < 3 else (least, value)
    detail = {1: ("[", ")"), 2: ("(", ")"), 3: ("(", "]"), 4: ("(", ")")}[kind]
    return Shape("group", parts, detail)


def _balanced(text: str) -> str:
    r"""A text with all its braces closed, after words were taken out of a `\text{}`."""
    excess = text.count("{") - text.count("}")
    if excess < 0:
        head, _, tail = text.rpartition("}")
        return head + tail
    return text + "}" * excess


def _time(text: str) -> Shape | None:
    """`7 PM`, `8:30 a.m.`: minutes since the last noon or midnight, and the half of the day."""
    match = _TIME.fullmatch(text) if len(text) <= _LONGEST_TIME else None
    if match is None or int(match[1]) > 12 or int(match[2] or 0) > 59:
        return None
    is_late = (
        (match[4] or "").lower() == "p"
        or match[5] in ("afternoon", "evening")
        or match[6] == "noon"
    )
    seconds = int(match[1]) % 12 * 3600 + int(match[2] or 0) * 60 + int(match[3] or 0)
    return Shape("time", (), (str(seconds), "pm" if is_late else "am"))


def _system(body: str) -> list[str]:
    """The equations of a system; none where a row is no equation or has a condition beside it."""
    rows = [row.replace("&", " ").strip(" ,.") for row in re.split(r"\\\\", body) if row.strip()]
    plain = all("=" in row and r"\text" not in row for row in rows)
    conditions = re.search(r"&(?!\s*=)", body)
    return rows if plain and not conditions else []


def _bracketed(text: str, depth: int) -> Shape | Leaf | None:
    begin = "\\{" if text.startswith("\\{") else text[:1]
    if begin not in OPENING or closing(text, 0) != len(text) - 1:
        return None
    end = "\\}" if text.endswith("\\}") else text[-1:]
    if end not in CLOSING:
        return None
    inner = text[len(begin) : len(text) - len(end)].strip()
    if begin == "\\{":
        if (match := _BUILDER.fullmatch(inner)) and match[1] in match[2]:
            return _read(match[2], depth + 1)
        if not inner or "|" in inner or ":" in inner:
            return None
        values = _flat("set", pieces(_JOINTS.sub(_joint, inner), _SEPARATORS)[0], depth)
        return values._replace(kind="list") if _are_relations(values.parts) else values
    parts, signs = pieces(inner, frozenset(",;"))
    if ";" in signs and "," in signs:
        parts, signs = pieces(inner, frozenset(";"))
    if not signs:
        return _read(inner, depth + 1) if begin == "(" and end == ")" and inner else None
    parts = [part for part in parts if part]
    found = tuple(_read(part, depth + 1) for part in parts)
    if _are_relations(found):
        return Shape("list", found, (), tuple(parts))
    return Shape("group", found, (begin, end), tuple(parts))


def _expanded(text: str, depth: int) -> Shape | None:
    r"""`1\pm\sqrt5` is two values."""
    if len(_PLUS_MINUS.findall(text)) != 1:
        return None
    return _flat("list", [_PLUS_MINUS.sub(sign, text) for sign in "+-"], depth)


def _in_proportion(text: str, depth: int) -> Shape | None:
    """`2:3`, or a time without its half of the day."""
    if match := _TO.fullmatch(text):
        text = f"{match[1]}:{match[2]}"
    parts, signs = pieces(text, frozenset(":"))
    if not signs or not all(parts):
        return None
    return Shape("ratio", tuple(_read(part, depth + 1) for part in parts), (), tuple(parts))


def _matrix(body: str, depth: int) -> Shape:
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", body) if row.strip()]
    texts = [[cell.strip() for cell in row.split("&")] for row in rows]
    if sum(map(len, texts)) > MAX_PARTS:
        raise ValueError("too many parts")
    return Shape(
        "matrix",
        tuple(Shape("row", tuple(_read(cell, depth + 1) for cell in row)) for row in texts),
    )
