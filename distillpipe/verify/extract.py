r"""Extracts the answer from a response: the last balanced outermost `\boxed{}`; joined boxes are one answer.

`\fbox{}`, `\framebox{}` and GLM's `<|begin_of_box|>7<|end_of_box|>` are boxes too. Every pattern takes linear
time, whatever the text holds, since a signal cannot interrupt a regular expression.

For models that do not box their answer, `stated_answer` reads statements such as "the final answer is", `####`,
or a final formula or bold text. It is used only on request.
"""

import itertools
import re
from typing import NamedTuple

_BEGIN, _END = "<|begin_of_box|>", "<|end_of_box|>"  # special tokens of GLM
_TOKEN = re.compile(
    r"\\++(?:f?box(?:ed)?|framebox(?:\[[^][{}\\]{0,20}\]){0,2})\s*+\{"
    r"|\\++boxed\s++(-?[0-9][0-9.,]*+)"
    r"|(?:\\\\)++(?:\\.)?|\\."  # a run of backslashes is one token
    rf"|{re.escape(_BEGIN)}|{re.escape(_END)}|[{{}}]",
    re.DOTALL,
)
_SEPARATOR = re.compile(r"[\s$\\()]*(?:(?:,|and|or|\\quad|\\text\{\s*(?:and|or)\s*\})[\s$\\()]*)+")
_STATED = re.compile(
    r"####\s*:?"
    r"|\b(?:final|correct|right|my)\s+(?:answer|result|solution|option|choice)\b[^.\n:]{0,60}?(?:\bis\b|:)"
    r"|\b(?:answer|solution)\b(?:\s+(?:to|of|for)\b[^.\n:]{0,60}?)?\s*(?:\bis\b|:)"
    r"|\banswer\b(?=\s*(?:\\[(\[]|\$))"
    r"|\b(?:réponse|respuesta|risposta|resposta)(?:\s+\w+)?\s*(?:\best\b|\bes\b|\bé\b|è|:)"
    r"|\bantwort(?:\s+\w+)?\s*(?:\bist\b|:)"
    r"|(?:答案|答え)\s*(?:是|为|為|は|\uff1a|:)?"
    r"|\b\u043e\u0442\u0432\u0435\u0442\s*(?:—|-|:)?",
    re.IGNORECASE,
)
_FORMULA = re.compile(
    r"\$\$(.+?)\$\$|\\\[((?:(?!\\\[).)+?)\\\]|\\\(((?:(?!\\\().)+?)\\\)|(?<![\\\d])\$([^$\n]+?)\$",
    re.DOTALL,
)
_SENTENCE = re.compile(r"(?:[^.\n。!]|\.(?=[\w\\$]))+")
_BOLD = re.compile(r"\*\*([^*\n:]{1,200})\*\*(?!:)")
_LATER_NUMBER = re.compile(r"\bis\b.*[0-9]")
_WORD = re.compile(r"(?<![\\a-zA-Z{])[^\W\d_]{2,}")
_UNIT = re.compile(r"\\text\{[^{}]*\}")
_LEADING_MARKS = re.compile(r"[\s*_:\uff1a]*")
_TRAILING_MARKS = re.compile(r"(?<![*_\s])[*_\s]++\Z")
_LAST_CHARACTERS = 20_000  # part of a response that is searched for statements
_LAST_WORDS = 600


def boxed_answer(response: str) -> str | None:
    r"""The content of the last closed box; None if there is none.

    Boxes separated only by commas, "and", "or" or `\quad` are one answer, joined by ", ". A number may
    follow `\boxed` without braces.
    """
    boxes = _boxes(response)
    if not boxes:
        return None
    first = len(boxes) - 1
    while first > 0 and _SEPARATOR.fullmatch(response, boxes[first - 1].end, boxes[first].start):
        first -= 1
    return ", ".join(_box_content(response, box) for box in boxes[first:])


def boxed_answers(response: str) -> list[tuple[str, str]]:
    """Every outermost box as the text since the previous box and the answer; joined boxes are one answer."""
    answers: list[tuple[str, str]] = []
    end = 0
    for box in _boxes(response):
        content = _box_content(response, box)
        if answers and _SEPARATOR.fullmatch(response, end, box.start):
            before, joined = answers[-1]
            answers[-1] = (before, f"{joined}, {content}")
        else:
            answers.append((response[end : box.start], content))
        end = box.end
    return answers


def stated_answer(response: str) -> str | None:
    """The answer of a response without a box; None if it states none. In this order:

    1. what follows the last "answer is", `Answer:`, `####` or similar;
    2. the last bold text in the last line;
    3. the last formula in the last `_LAST_WORDS` characters;
    4. the whole response, if it is short and has no words.

    A number in the middle of prose is not an answer.
    """
    response = response[-_LAST_CHARACTERS:]
    statements = [*_STATED.finditer(response)]
    if statements and (answer := _first_answer(response[statements[-1].end() :][:2000])):
        return answer
    end = response.rstrip()[-_LAST_WORDS:]
    if bolds := _BOLD.findall(end.rsplit("\n", 1)[-1]):
        return str(bolds[-1]).strip("$ ")
    if formulas := list(_FORMULA.finditer(end)):
        return _formula_content(formulas[-1])
    whole = response.strip()
    return whole if len(whole) < _LAST_WORDS and not _WORD.search(_UNIT.sub("", whole)) else None


def any_answer(response: str) -> str | None:
    """The content of the last box, else the stated answer."""
    boxed = boxed_answer(response)
    return stated_answer(response) if boxed is None else boxed


def _first_answer(text: str) -> str | None:
    """The answer at the start of a text: the formulas of the first sentence, else its words after the last "is"."""
    text = text[_leading_marks_end(text) :]
    display = _FORMULA.match(text)
    if display and "\n" in display[0]:
        return _formula_content(display)
    sentence = _SENTENCE.match(text)
    if sentence is None:
        return None
    formulas = list(_FORMULA.finditer(sentence[0]))
    if formulas and not _LATER_NUMBER.search(sentence[0], formulas[-1].end()):
        contents = [_formula_content(formula) for formula in formulas]
        gaps = [
            sentence[0][formula.end() : following.start()]
            for formula, following in itertools.pairwise(formulas)
        ]
        are_joined = len(contents) > 1 and all(map(_SEPARATOR.fullmatch, gaps))
        return ", ".join(contents) if are_joined else contents[-1]
    words = re.split(r"\bis\b", _TRAILING_MARKS.sub("", sentence[0]))[-1]
    return _TRAILING_MARKS.sub("", words[_leading_marks_end(words) :]).strip("\"' ") or None


def _formula_content(formula: re.Match[str]) -> str:
    return str(next(filter(None, formula.groups()))).strip()


def _leading_marks_end(text: str) -> int:
    match = _LEADING_MARKS.match(text)
    return match.end() if match else 0


class _Box(NamedTuple):
    """Positions in the text."""

    start: int
    end: int
    content: tuple[int, int]


def _box_content(text: str, box: _Box) -> str:
    content = text[box.content[0] : box.content[1]]
    if _BEGIN in content or _END in content:
        content = content.replace(_BEGIN, "").replace(_END, "")
    return content.strip()


def _boxes(text: str) -> list[_Box]:
    """Every balanced outermost box, in one pass."""
    opened: list[tuple[int, int] | None] = []  # start and end of an opening box, None for a brace
    closed: list[_Box] = []
    glm_opening: tuple[tuple[int, int], int] | None = None
    "the opening token of GLM that is not closed yet, and how many braces were open before it"
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if token[1] is not None:
            closed.append(_Box(token.start(), token.end(), token.span(1)))
        elif sign == "{":
            opened.append(None)
        elif sign == _BEGIN:
            glm_opening = token.span(), len(opened) if glm_opening is None else glm_opening[1]
        elif sign == _END and glm_opening is not None:
            _close(closed, glm_opening[0], token)
            del opened[glm_opening[1] :]
            glm_opening = None
        elif sign[-1] == "{" and sign.rstrip("{")[-1:] not in ("\\", ""):
            opened.append(token.span())
        elif (
            sign == "}"
            and len(opened) > (0 if glm_opening is None else glm_opening[1])
            and (opening := opened.pop()) is not None
        ):
            _close(closed, opening, token)
    return closed


def _close(closed: list[_Box], opening: tuple[int, int], token: re.Match[str]) -> None:
    """Add a box, and remove the boxes inside of it."""
    while closed and closed[-1].start > opening[0]:
        closed.pop()
    closed.append(_Box(opening[0], token.end(), (opening[1], token.start())))
