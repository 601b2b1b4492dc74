r"""The answer of a response: the last balanced outermost `\boxed{}`; joined boxes are one answer."""

import re

_TOKEN = re.compile(r"\\+f?box(?:ed)?\s*\{|\\.|[{}]", re.DOTALL)
_JOINT = re.compile(r"[\s$\\()]*(?:(?:,|and|or|\\quad|\\text\{\s*(?:and|or)\s*\})[\s$\\()]*)+")


def boxed_answer(response: str) -> str | None:
    r"""The content of the last box, null where there is none that is closed.

    Boxes joined only by commas, "and", "or" or `\quad` are one answer, joined by ", ".
    """
    boxes = _boxes(response)
    if not boxes:
        return None
    first = len(boxes) - 1
    while first > 0 and _JOINT.fullmatch(response, boxes[first - 1][1], boxes[first][0]):
        first -= 1
    return ", ".join(content.strip() for _, _, content in boxes[first:])


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """Start, end and content of every balanced box that lies in no other, in one pass."""
    opened: list[re.Match[str]] = []
    closed: list[tuple[int, int, str]] = []
    for token in _TOKEN.finditer(text):
        if token[0].endswith("{") and not token[0].startswith("\\{"):
            opened.append(token)
        elif token[0] == "}" and opened:
            opening = opened.pop()
            if len(opening[0]) > 1:
                while closed and closed[-1][0] > opening.start():
                    closed.pop()
                closed.append((opening.start(), token.end(), text[opening.end() : token.start()]))
    return closed
