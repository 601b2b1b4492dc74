r"""Read traces of other tools: one pure function per format, from a row to its completions.

    messages     {"messages": [{"role": "user", "content": "1+1?"},
                               {"role": "assistant", "content": "<think>\n1+1=2\n</think>\n\n2"}]}
    sharegpt     {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]}
    openthoughts sharegpt with <|begin_of_thought|> and <|begin_of_solution|>, or the config `metadata`
    openr1       {"problem": "1+1?", "answer": "2", "generations": ["<think>...", "..."]}
    s1k          {"question": "1+1?", "deepseek_thinking_trajectory": "...", "deepseek_attempt": "..."}
    deepseek     {"problem": "1+1?", "reasoning_content": "...", "content": "..."}, or a stored API response
    raw          {"problem": "1+1?", "raw": "<think>..."}; the opening tag may be missing; also under the names of
                 published sets: `generated_solution`, `r1_generation`, a list of `responses`, `r1_solution_1` to `_3`
    solution     {"problem": "1+1?", "solution": "...", "answer": "2"}: a reference solution as a trace
    lines        1+1?: one question a line, for `generate`

A new format is one function and one line in `FORMATS`. The other fields of a row (reference answer, teacher,
finish reason) have the same keys in all formats; traces.py reads them.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from distillpipe.base.rowguard import guarded
from distillpipe.data.formats import columns
from distillpipe.data.formats.columns import R1, item, with_fields
from distillpipe.data.formats.fields import Fields, Row, decoded_text, present
from distillpipe.data.formats.turns import Outcome, ParsedRow, Parts, in_columns, in_conversation

CODE_VERSION = 3  # part of the fingerprint: raise it when a format is read in another way

Format = Literal[
    "auto",
    "openthoughts",
    "openr1",
    "s1k",
    "messages",
    "sharegpt",
    "deepseek",
    "raw",
    "solution",
    "lines",
]
CONVERSATION_FIELDS = ("conversations", "conversation", "dialogue", "dialog", "chat")
MESSAGE_FIELDS = ("messages", "reannotated_messages")
THOUGHT = re.compile(r"\s*<\|begin_of_thought\|>(.*?)(?:<\|end_of_thought\|>|\Z)", re.DOTALL)
SOLUTION = re.compile(r"\s*<\|begin_of_solution\|>(.*?)(?:<\|end_of_solution\|>\s*)?\Z", re.DOTALL)


class Reader(NamedTuple):
    """How to recognise a format and how to read it."""

    fits: Callable[[Row, Fields], bool]
    read: Callable[[Row, Fields], Iterator[Outcome]]
    row_is_problem: bool = False
    "the remaining fields of a row belong to the problem, not to one trace"


USUAL = Fields(is_trace=True)


def detect(rows: Iterable[object], fields: Fields = USUAL) -> Format | None:
    """The format that fits most rows; of equal ones the first in `FORMATS`. None if no format fits a row.

    Columns that the user named for reasoning or response are where the trace stands.
    """
    objects = [row for row in rows if isinstance(row, dict)]
    wanted: tuple[Format, ...] = tuple(FORMATS)
    if fields.reasoning is not None or fields.response is not None:
        wanted = ("deepseek", "raw")
    num_fitting = {name: sum(fits(name, row, fields) for row in objects) for name in wanted}
    best = max(num_fitting, key=lambda name: num_fitting[name])
    return best if num_fitting[best] else None


def fits(name: Format, row: Row, fields: Fields) -> bool:
    return guarded(FORMATS[name].fits, row, fields) is True


def reader_for(row: object, name: Format, fields: Fields) -> Reader:
    """The format that was told from the first rows, or for a row that it does not fit another one that does.

    A worked solution is no stand-in for a trace: it is read in a file of solutions only.
    """
    if isinstance(row, dict) and not fits(name, row, fields):
        for other in FORMATS:
            if other != "solution" and fits(other, row, fields):
                return FORMATS[other]
    return FORMATS[name]


# ---------------------------------------------------------------- conversations


def _is_messages(row: Row, _fields: Fields) -> bool:
    turns = decoded_text(row.get(_key(row, MESSAGE_FIELDS)))
    return _last(turns).get("role") == "assistant" or (
        isinstance(row.get("prompt"), list) and isinstance(row.get("completion"), list)
    )


def _messages(row: Row, fields: Fields) -> Iterator[Outcome]:
    """Read `messages`, or `prompt` and `completion` as lists of messages."""
    key = _key(row, MESSAGE_FIELDS)
    if row.get(key) is not None:
        yield in_conversation(row, fields, row[key], {key})
        return
    lists = [row.get("prompt") or [], row.get("completion") or []]
    turns = [turn for part in lists if isinstance(part, list) for turn in part]
    yield in_conversation(row, fields, turns, {"prompt", "completion"})


def _is_sharegpt(row: Row, _fields: Fields) -> bool:
    turns = decoded_text(row.get(_key(row, CONVERSATION_FIELDS)))
    return isinstance(turns, list) and _role(turns) not in ("user", "human", "system")


def _sharegpt(row: Row, fields: Fields) -> Iterator[Outcome]:
    key = _key(row, CONVERSATION_FIELDS)
    yield in_conversation(row, fields, row.get(key), {key})


def _is_openthoughts(row: Row, _fields: Fields) -> bool:
    last = _last(decoded_text(row.get(_key(row, CONVERSATION_FIELDS))))
    return "deepseek_reasoning" in row or "<|begin_of_thought|>" in str(last.get("value"))


def _openthoughts(row: Row, fields: Fields) -> Iterator[Outcome]:
    """Read conversations, without the system prompt that describes the delimiters, or `metadata` rows."""
    if "deepseek_reasoning" in row:
        outcome = in_columns(row, fields, "deepseek_reasoning", "deepseek_solution")
        yield with_fields(outcome, teacher=R1)
        return
    for outcome in _sharegpt(row, fields):
        if isinstance(outcome, ParsedRow):
            prompt = [turn for turn in outcome.prompt if "<|begin_of_thought|>" not in turn.content]
            completion = _between_marks(outcome.completion)
            thought = (completion.reasoning or "").strip()
            completion = completion._replace(reasoning=thought or None)
            outcome = outcome._replace(prompt=prompt or outcome.prompt, completion=completion)
        yield with_fields(outcome, teacher=R1)


def _between_marks(completion: Parts) -> Parts:
    """Split the text at OpenThoughts' delimiters, if they are still in it."""
    thought = THOUGHT.match(completion.response)
    if thought is None:
        return completion
    rest = completion.response[thought.end() :]
    solution = SOLUTION.match(rest)
    return Parts(thought[1].strip() or None, solution[1].strip() if solution else rest.strip())


def _key(row: Row, names: tuple[str, ...]) -> str:
    return present(row, None, names) or names[0]


def _last(turns: object) -> Row:
    turn = item(turns, -1)
    return turn if isinstance(turn, dict) else {}


def _role(turns: object) -> str:
    """The role of the last turn, in lower case."""
    last = _last(turns)
    return str(last.get("role") or last.get("from") or "").lower()


def _is_line(row: Row, _fields: Fields) -> bool:
    """Lines of text are never told from rows: the option names them."""
    return False


def _line(row: Row, _fields: Fields) -> Iterator[Outcome]:
    """A question without a completion: `import` writes it as a problem."""
    yield from ()


FORMATS: dict[Format, Reader] = {
    "openthoughts": Reader(_is_openthoughts, _openthoughts),
    "openr1": Reader(columns.is_openr1, columns.openr1, row_is_problem=True),
    "s1k": Reader(columns.is_s1k, columns.s1k, row_is_problem=True),
    "messages": Reader(_is_messages, _messages),
    "sharegpt": Reader(_is_sharegpt, _sharegpt),
    "deepseek": Reader(columns.is_deepseek, columns.deepseek),
    "raw": Reader(columns.is_raw, columns.raw),
    "solution": Reader(columns.is_solution, columns.solution, row_is_problem=True),
    "lines": Reader(_is_line, _line),
}
