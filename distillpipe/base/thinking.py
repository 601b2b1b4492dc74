"""The delimiters of reasoning and answer, and the parts of a completion that they separate."""

import re
from typing import NamedTuple


class Tags(NamedTuple):
    """The opening and the closing delimiter, without the white space around them."""

    open: str
    close: str


class AnswerMarks(NamedTuple):
    """What stands around an answer besides the tags of the thought, without white space; mostly nothing.

    gpt-oss writes all three channels: `<|channel|>analysis<|message|>R<|end|>`, then
    `<|start|>assistant<|channel|>final<|message|>C`, or `<|channel|>final<|message|>C` alone.
    """

    after_thought: str = ""
    "behind the closing tag of a thought, before the answer"
    alone: str = ""
    "before an answer without a thought"
    end: str = ""
    "behind the answer, before the end token"


THINK = Tags("<think>", "</think>")
NO_MARKS = AnswerMarks()
_SPACE = re.compile(r"\s*")


class Split(NamedTuple):
    """The parts of a completion; delimiters include the white space around them."""

    opening: str
    "only white space, or empty, if the prompt had opened the reasoning"
    reasoning: str
    middle: str
    "empty if the reasoning was not closed"
    response: str
    ending: str = ""
    "the mark that closes the answer, where the family has one"


def split(
    text: str, *, opened: bool = False, tags: Tags = THINK, answer: AnswerMarks = NO_MARKS
) -> Split:
    """Split the text of a completion (without its end token) at its delimiters.

    If the reasoning is not closed, all text is reasoning and there is no response. `opened` says that the prompt ended
    with an opening tag; if the model repeats it, it is a delimiter too. A closing tag without an opening one ends
    reasoning that the prompt opened, whatever `opened` says. Without any tag, and unless `opened`, all text is response.
    """
    opening = re.match(rf"\s*{re.escape(tags.open)}\s*", text)
    if opening is None and answer.alone:
        header = re.match(rf"\s*{re.escape(answer.alone)}\s*", text)
        if header is not None:
            return Split("", "", header[0], *_response(text[header.end() :], answer))
    start = opening.end() if opening else _end_of_space(text, 0)
    closing, end = _closing(text, start, tags, answer)
    if closing < 0:
        is_thought = opened or opening is not None
        if is_thought:
            return Split(text[:start], text[start:], "", "")
        return Split("", "", "", *_response(text, answer))
    reasoning = text[start:closing].rstrip()
    middle = text[start + len(reasoning) : end]
    return Split(text[:start], reasoning, middle, *_response(text[end:], answer))


def _closing(text: str, start: int, tags: Tags, answer: AnswerMarks) -> tuple[int, int]:
    """Where the closing tag begins, -1 if there is none, and where the answer begins.

    The tag may close other things too (`<|end|>` does), so one that the answer's mark follows comes first.
    """
    if answer.after_thought:
        close, mark = re.escape(tags.close), re.escape(answer.after_thought)
        both = re.compile(rf"{close}\s*{mark}\s*").search(text, start)
        if both is not None:
            return both.span()
    closing = text.find(tags.close, start)
    return closing, _end_of_space(text, max(closing, 0) + len(tags.close))


def _response(text: str, answer: AnswerMarks) -> tuple[str, str]:
    """The response, and the mark that closes it with the white space beside it."""
    if answer.end and text.rstrip().endswith(answer.end):
        response = text.rstrip().removesuffix(answer.end).rstrip()
        return response, text[len(response) :]
    return text, ""


def _end_of_space(text: str, start: int) -> int:
    space = _SPACE.match(text, start)
    return space.end() if space else start
