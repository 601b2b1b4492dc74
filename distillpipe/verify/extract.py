r"""The answer of a response: the last balanced outermost `\boxed{}`; joined boxes are one answer.

`\fbox{}`, `\framebox{}` and GLM's `<|begin_of_box|>7<|end_of_box|>` are boxes too. Every pattern takes time
linear in the text, whatever it holds: one call of a pattern cannot be interrupted by a signal.

For models that do not box there is `stated_answer`: what "the final answer is", `####` or a closing bold
or formula says. It reads prose and is never asked unless the caller says so.
"""

import itertools
import re

_BEGIN, _END = "<|begin_of_box|>", "<|end_of_box|>"  # special tokens of GLM
_TOKEN = re.compile(
    r"\\++(?:f?box(?:ed)?|framebox(?:\[[^][{}\\]{0,20}\]){0,2})\s*+\{"
    r"|\\++boxed\s++(-?[0-9][0-9.,]*+)"
    r"|(?:\\\\)++(?:\\.)?|\\."  # a run of backslashes is one token
    rf"|{re.escape(_BEGIN)}|{re.escape(_END)}|[{{}}]",
    re.DOTALL,
)
_JOINT = re.compile(r"[\s$\\()]*(?:(?:,|and|or|\\quad|\\text\{\s*(?:and|or)\s*\})[\s$\\()]*)+")
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
_SAYS_MORE = re.compile(r"\bis\b.*[0-9]")
_WORD = re.compile(r"(?<![\\a-zA-Z{])[^\W\d_]{2,}")
_UNIT = re.compile(r"\\text\{[^{}]*\}")
_LEAD = re.compile(r"[\s*_:\uff1a]*")
_TAIL = re.compile(r"(?<![*_\s])[*_\s]++\Z")
_LAST_CHARACTERS = 20_000  # further back nothing is looked for that is not in a box
_LAST_WORDS = 600


def boxed_answer(response: str) -> str | None:
    r"""The content of the last box, null where there is none that is closed.

    Boxes joined only by commas, "and", "or" or `\quad` are one answer, joined by ", ". A number may
    follow `\boxed` without braces.
    """
    boxes = _boxes(response)
    if not boxes:
        return None
    first = len(boxes) - 1
    while first > 0 and _JOINT.fullmatch(response, boxes[first - 1].end, boxes[first].start):
        first -= 1
    return ", ".join(_content(response, box) for box in boxes[first:])


def boxed_answers(response: str) -> list[tuple[str, str]]:
    """Every box that lies in no other, joined ones as one: the text since the box before, and the answer."""
    found: list[tuple[str, str]] = []
    end = 0
    for box in _boxes(response):
        inside = _content(response, box)
        if found and _JOINT.fullmatch(response, end, box.start):
            before, joined = found[-1]
            found[-1] = (before, f"{joined}, {inside}")
        else:
            found.append((response[end : box.start], inside))
        end = box.end
    return found


def stated_answer(response: str) -> str | None:
    """What a response without a box gives as its answer; null where it does not say.

    The last "answer is", `Answer:` or `####` and the like counts; then a bold in the last line; then the
    last formula of the last lines, then a response without a word in it. A number in the middle of prose is no answer.
    """
    response = response[-_LAST_CHARACTERS:]
    stated = [*_STATED.finditer(response)]
    if stated and (found := _first_thing(response[stated[-1].end() :][:2000])):
        return found
    end = response.rstrip()[-_LAST_WORDS:]
    if bolds := _BOLD.findall(end.rsplit("\n", 1)[-1]):
        return str(bolds[-1]).strip("$ ")
    formulas = [_inside(found) for found in _FORMULA.finditer(end)]
    if formulas:
        return formulas[-1]
    whole = response.strip()
    return whole if len(whole) < _LAST_WORDS and not _WORD.search(_UNIT.sub("", whole)) else None


def any_answer(response: str) -> str | None:
    """The last box, else what is stated."""
    boxed = boxed_answer(response)
    return stated_answer(response) if boxed is None else boxed


def _first_thing(text: str) -> str | None:
    """The formulas of the first sentence, else its words after the last "is"."""
    text = text[_lead(text) :]
    display = _FORMULA.match(text)
    if display and "\n" in display[0]:
        return _inside(display)
    sentence = _SENTENCE.match(text)
    if sentence is None:
        return None
    formulas = list(_FORMULA.finditer(sentence[0]))
    if formulas and not _SAYS_MORE.search(sentence[0], formulas[-1].end()):
        inner = [_inside(found) for found in formulas]
        between = [
            sentence[0][one.end() : other.start()] for one, other in itertools.pairwise(formulas)
        ]
        joined = len(inner) > 1 and all(_JOINT.fullmatch(text) for text in between)
        return ", ".join(inner) if joined else inner[-1]
    words = re.split(r"\bis\b", _TAIL.sub("", sentence[0]))[-1]
    return _TAIL.sub("", words[_lead(words) :]).strip("\"' ") or None


def _inside(formula: re.Match[str]) -> str:
    return str(next(filter(None, formula.groups()))).strip()


def _lead(text: str) -> int:
    match = _LEAD.match(text)
    return match.end() if match else 0


class _Box:
    """Where a box begins and ends, and where its content does."""

    __slots__ = ("end", "inside", "start")

    def __init__(self, start: int, end: int, inside: tuple[int, int]) -> None:
        self.start = start
        self.end = end
        self.inside = inside


def _content(text: str, box: _Box) -> str:
    inside = text[box.inside[0] : box.inside[1]]
    if _BEGIN in inside or _END in inside:
        inside = inside.replace(_BEGIN, "").replace(_END, "")
    return inside.strip()


def _boxes(text: str) -> list[_Box]:
    """Every balanced box that lies in no other, in one pass."""
    opened: list[tuple[int, int] | None] = []  # start and end of an opening box, None for a brace
    closed: list[_Box] = []
    outside: tuple[tuple[int, int], int] | None = None
    "the opening token of GLM that is not closed yet, and how many braces were open before it"
    for token in _TOKEN.finditer(text):
        said = token[0]
        if token[1] is not None:
            closed.append(_Box(token.start(), token.end(), token.span(1)))
        elif said == "{":
            opened.append(None)
        elif said == _BEGIN:
            outside = token.span(), len(opened) if outside is None else outside[1]
        elif said == _END and outside is not None:
            _close(closed, outside[0], token)
            del opened[outside[1] :]
            outside = None
        elif said[-1] == "{" and said.rstrip("{")[-1:] not in ("\\", ""):
            opened.append(token.span())
        elif (
            said == "}"
            and len(opened) > (0 if outside is None else outside[1])
            and (opening := opened.pop()) is not None
        ):
            _close(closed, opening, token)
    return closed


def _close(closed: list[_Box], opening: tuple[int, int], token: re.Match[str]) -> None:
    """Add a box; those inside of it are no boxes of their own."""
    while closed and closed[-1].start > opening[0]:
        closed.pop()
    closed.append(_Box(opening[0], token.end(), (opening[1], token.start())))
