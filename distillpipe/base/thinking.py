"""The delimiters of reasoning, and the two parts of a completion that they separate."""

import re
from typing import NamedTuple


class Tags(NamedTuple):
    """The opening and the closing delimiter, without the white space around them."""

    open: str
    close: str


THINK = Tags("<think>", "</think>")
_SPACE = re.compile(r"\s*")


class Split(NamedTuple):
    """The parts of a completion; delimiters include the white space around them."""

    opening: str
    "only white space, or empty, if the prompt had opened the reasoning"
    reasoning: str
    middle: str
    "empty if the reasoning was not closed"
    response: str


def split(text: str, *, opened: bool = False, tags: Tags = THINK) -> Split:
    """Split the text of a completion (without its end token) at its delimiters.

    If the reasoning is not closed, all text is reasoning and there is no response. `opened` says that the prompt ended
    with an opening tag; if the model repeats it, it is a delimiter too. A closing tag without an opening one ends
    reasoning that the prompt opened, whatever `opened` says. Without any tag, and unless `opened`, all text is response.
    """
    opening = re.match(rf"\s*{re.escape(tags.open)}\s*", text)
    start = opening.end() if opening else _end_of_space(text, 0)
    closing = text.find(tags.close, start)
    if closing < 0:
        is_thought = opened or opening is not None
        return Split(text[:start], text[start:], "", "") if is_thought else Split("", "", "", text)
    reasoning = text[start:closing].rstrip()
    end = _end_of_space(text, closing + len(tags.close))
    return Split(text[:start], reasoning, text[start + len(reasoning) : end], text[end:])


def _end_of_space(text: str, start: int) -> int:
    space = _SPACE.match(text, start)
    return space.end() if space else start
