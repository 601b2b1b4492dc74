r"""The answer of a response: the last balanced outermost `\\boxed{}`; joined boxes are one answer."""

import re

_BOX = re.compile(r"\\f?box(?:ed)?\s*\{")
_JOINT = re.compile(r"[\s$\\()]*(?:(?:,|and|or|\\quad|\\text\{\s*(?:and|or)\s*\})[\s$\\()]*)+")


def boxed_answer(response: str) -> str | None:
    r"""The content of the last box, null where there is none that is closed.

    Boxes joined only by commas, "and", "or" or `\\quad` are one answer, joined by ", ".
    """
    boxes = list(_boxes(response))
    if not boxes:
        return None
    first = len(boxes) - 1
    while first > 0 and _JOINT.fullmatch(response, boxes[first - 1][1], boxes[first][0]):
        first -= 1
    return ", ".join(content.strip() for _, _, content in boxes[first:])


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """Start, end and content of every outermost balanced box."""
    found: list[tuple[int, int, str]] = []
    position = 0
    while opening := _BOX.search(text, position):
        end = _closing_brace(text, opening.end())
        if end is None:
            position = opening.end()
            continue
        found.append((opening.start(), end + 1, text[opening.end() : end]))
        position = end + 1
    return found


def _closing_brace(text: str, start: int) -> int | None:
    depth = 1
    for brace in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):
        if brace[0] == "{":
            depth += 1
        elif brace[0] == "}":
            depth -= 1
            if depth == 0:
                return start + brace.start()
    return None
