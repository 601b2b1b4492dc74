"""The delimiters of reasoning, and the two parts of a completion that they separate."""

import re
from typing import NamedTuple


class Tags(NamedTuple):
    """What opens and closes a thought, without the white space beside it."""

    open: str
    close: str


THINK = Tags("<think>", "</think>")
_SPACE = re.compile(r"\s*")


class Split(NamedTuple):
    """The parts of a completion, delimiters with the white space beside them."""

    opening: str
    "white space alone, or nothing, where the prompt had opened the thought"
    reasoning: str
    middle: str
    "empty where the thought was never closed"
    response: str


def split(text: str, *, opened: bool = False, tags: Tags = THINK) -> Split:
    """Split a completion's text (end token removed) at its delimiters.

    A thought that is not closed is all reasoning and has no response. `opened` says that the prompt
    ended inside a thought; an opening tag that the model repeats is a delimiter still. A closing tag
    without an opening one ends a thought that the prompt had opened, whatever `opened` says. No tag
    at all, in a thought that was not opened, is all response.
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
