r"""Answers with structure: lists, sets, tuples, intervals, unions, matrices, equations, inequalities.

    read("x=1 or x=2")        a list of two relations; the order of a bare list does not matter
    read(r"\{1\pm\sqrt5,-2\}")  a set of three
    read("[0,1)")             a group with brackets "[)", which is an interval

What has no structure is a leaf. Reading is cached, since one reference meets many answers.
"""

import functools
import re
from typing import NamedTuple, Union

from distillpipe.verify.latex import CLOSING, OPENING, closing, pieces
from distillpipe.verify.leaf import Leaf, leaf

MAX_DEPTH = 12
MAX_PARTS = 200
RELATIONS = frozenset(["=", "<", ">", r"\le", r"\ge", r"\neq", r"\in", r"\approx"])
_JOINTS = re.compile(
    r"\\text\{\s*,?\s*(?:and|or)\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|\\(?:land|lor|wedge|vee)(?![a-zA-Z])"
)
_WHOLE_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_DIGIT_GROUPS = re.compile(r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?%?(?![0-9])")
_MATRIX = re.compile(
    r"\\begin\{([pbvBV]?matrix|smallmatrix|array)\}(?:\{[clr| ]*\})?(.*)\\end\{\1\}", re.DOTALL
)
_TIME = re.compile(
    r"([0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?)\s*(?:\\text\{)?\s*([apAP])\.?\s?[mM]\.?\s*\}?"
)
_UNREADABLE = re.compile(r"\\(?:[lcvd]?dots|mp)(?![a-zA-Z])|\.\.\.")


class Shape(NamedTuple):
    """A list, set, group, union, matrix (of rows), relation or ratio of parts."""

    kind: str
    parts: tuple[Union["Shape", Leaf], ...]
    detail: tuple[str, ...] = ()
    "the brackets of a group, the signs of a relation"
    texts: tuple[str, ...] = ()
    "the parts as they were written"


@functools.lru_cache(maxsize=4096)
def read(text: str) -> Shape | Leaf:
    """The structure of a text that `cleaned` made; a leaf that says nothing where brackets are amiss."""
    try:
        return _read(text, 0)
    except (ValueError, RecursionError):
        return Leaf(text)


def _read(text: str, depth: int) -> Shape | Leaf:
    if _UNREADABLE.search(text):
        return Leaf(text)
    if depth > MAX_DEPTH:
        return leaf(text)
    if (match := _MATRIX.fullmatch(text)) and r"\begin" not in match[2]:
        return _matrix(match[2], depth) if match[1][0] != "v" else Leaf(text)
    if r"\begin" in text:
        return Leaf(text)
    whole = _WHOLE_TEXT.fullmatch(text)
    if whole is None or _JOINTS.search(whole[1]):
        text = _JOINTS.sub(",", whole[1] if whole else text)
    for split in (_listed, _related, _united, _bracketed, _expanded, _in_proportion):
        if (found := split(text, depth)) is not None:
            return found
    return leaf(text.strip())


def _listed(text: str, depth: int) -> Shape | Leaf | None:
    if text[:1] in "-+0123456789" and leaf(text).number is not None:
        return leaf(text)  # 1,234 or 1,234/2
    parts, _ = pieces(text, frozenset(",;"))
    if len(parts) == 1:
        return None
    if ", " in text and all(_DIGIT_GROUPS.match(part) for part in re.split(r",\s+", text)):
        parts = re.split(r",\s+", text)
    return _flat("list", parts, depth)


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
    return Shape("relation", parts, tuple(signs), tuple(sides))


def _united(text: str, depth: int) -> Shape | None:
    parts, signs = pieces(text, frozenset([r"\cup"]))
    return _flat("union", parts, depth) if signs else None


def _bracketed(text: str, depth: int) -> Shape | Leaf | None:
    begin = "\\{" if text.startswith("\\{") else text[:1]
    if begin not in OPENING or closing(text, 0) != len(text) - 1:
        return None
    end = "\\}" if text.endswith("\\}") else text[-1:]
    if end not in CLOSING:
        return None
    inner = text[len(begin) : len(text) - len(end)].strip()
    if begin == "\\{":
        if not inner or "|" in inner or ":" in inner:
            return None
        return _flat("set", pieces(inner, frozenset(",;"))[0], depth)
    parts, signs = pieces(inner, frozenset(",;"))
    if not signs:
        return _read(inner, depth + 1) if begin == "(" and end == ")" and inner else None
    parts = [part for part in parts if part]
    return Shape(
        "group", tuple(_read(part, depth + 1) for part in parts), (begin, end), tuple(parts)
    )


def _expanded(text: str, depth: int) -> Shape | None:
    r"""`1\pm\sqrt5` is two values."""
    if text.count(r"\pm") != 1:
        return None
    return _flat("list", [text.replace(r"\pm", sign) for sign in "+-"], depth)


def _in_proportion(text: str, depth: int) -> Shape | None:
    """`2:3`; `8:30 a.m.` has its half of the day as detail."""
    half: tuple[str, ...] = ()
    if match := _TIME.fullmatch(text):
        text, half = match[1], (match[2].lower(),)
    parts, signs = pieces(text, frozenset(":"))
    if not signs or not all(parts):
        return None
    return Shape("ratio", tuple(_read(part, depth + 1) for part in parts), half, tuple(parts))


def _matrix(body: str, depth: int) -> Shape:
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", body) if row.strip()]
    texts = [[cell.strip() for cell in row.split("&")] for row in rows]
    if sum(map(len, texts)) > MAX_PARTS:
        raise ValueError("too many parts")
    return Shape(
        "matrix",
        tuple(Shape("row", tuple(_read(cell, depth + 1) for cell in row)) for row in texts),
    )
