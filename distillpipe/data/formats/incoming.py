r"""Read traces of other tools: one pure function per format, from a row to its completions.

    messages     {"messages": [{"role": "user", "content": "1+1?"},
                               {"role": "assistant", "content": "<think>\n1+1=2\n</think>\n\n2"}]}
    sharegpt     {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]}
    openthoughts sharegpt with <|begin_of_thought|> and <|begin_of_solution|>, or the config `metadata`
    openr1       {"problem": "1+1?", "answer": "2", "generations": ["<think>...", "..."]}
    s1k          {"question": "1+1?", "deepseek_thinking_trajectory": "...", "deepseek_attempt": "..."}
    deepseek     {"problem": "1+1?", "reasoning_content": "...", "content": "..."}, or a stored API response
    raw          {"problem": "1+1?", "raw": "<think>..."}; the opening tag may be missing
    solution     {"problem": "1+1?", "solution": "...", "answer": "2"}: a reference solution as a trace

A new format is one function and one line in `FORMATS`. The other fields of a row (reference answer, teacher,
finish reason) have the same keys in all formats; traces.py reads them.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

from distillpipe.base.rowguard import guarded
from distillpipe.data.formats.fields import (
    ANSWER_FIELDS,
    GSM8K_END,
    SOLUTION_FIELDS,
    Fields,
    Row,
    gold,
    is_text,
    present,
    problem_key,
    text_under,
)
from distillpipe.data.formats.turns import (
    REASONING_FIELDS,
    Outcome,
    ParsedRow,
    Parts,
    Rejection,
    answer_to,
    in_columns,
    in_conversation,
    message_lists,
    messages_of,
    parts_of,
)
from distillpipe.verify.extract import boxed_answer

CODE_VERSION = 2  # part of the fingerprint: raise it when a format is read in another way

Format = Literal[
    "auto", "openthoughts", "openr1", "s1k", "messages", "sharegpt", "deepseek", "raw", "solution"
]
R1 = "DeepSeek-R1"
RAW_FIELDS = ("raw", "completion", "response", "output", "generation", "text")
CONTENT_FIELDS = ("content", "response", "answer_text")
CONVERSATION_FIELDS = ("conversations", "conversation")
S1K_THOUGHTS = (
    "deepseek_thinking_trajectory", "gemini_thinking_trajectory", "thinking_trajectories",
)  # fmt: skip
THOUGHT = re.compile(r"\s*<\|begin_of_thought\|>(.*?)(?:<\|end_of_thought\|>|\Z)", re.DOTALL)
SOLUTION = re.compile(r"\s*<\|begin_of_solution\|>(.*?)(?:<\|end_of_solution\|>\s*)?\Z", re.DOTALL)
CALCULATION = re.compile(r"<<[^<>]*>>")


class Reader(NamedTuple):
    """How to recognise a format and how to read it."""

    fits: Callable[[Row], bool]
    read: Callable[[Row, Fields], Iterator[Outcome]]
    row_is_problem: bool = False
    "the remaining fields of a row belong to the problem, not to one trace"


def detect(rows: Iterable[object]) -> Format | None:
    """The format that fits most rows; of equal ones the first in `FORMATS`. None if no format fits a row."""
    objects = [row for row in rows if isinstance(row, dict)]
    num_fitting = {
        name: sum(guarded(reader.fits, row) is True for row in objects)
        for name, reader in FORMATS.items()
    }
    best = max(num_fitting, key=lambda name: num_fitting[name])
    return best if num_fitting[best] else None


# ---------------------------------------------------------------- conversations


def _is_messages(row: Row) -> bool:
    return _last(row.get("messages")).get("role") == "assistant" or (
        isinstance(row.get("prompt"), list) and isinstance(row.get("completion"), list)
    )


def _messages(row: Row, fields: Fields) -> Iterator[Outcome]:
    """Read `messages`, or `prompt` and `completion` as lists of messages."""
    if row.get("messages") is not None:
        yield in_conversation(row, fields, row["messages"], {"messages"})
        return
    lists = [row.get("prompt") or [], row.get("completion") or []]
    turns = [turn for part in lists if isinstance(part, list) for turn in part]
    yield in_conversation(row, fields, turns, {"prompt", "completion"})


def _is_sharegpt(row: Row) -> bool:
    return isinstance(row.get(_conversation_key(row)), list)


def _sharegpt(row: Row, fields: Fields) -> Iterator[Outcome]:
    key = _conversation_key(row)
    yield in_conversation(row, fields, row.get(key), {key})


def _is_openthoughts(row: Row) -> bool:
    last = _last(row.get(_conversation_key(row)))
    return "deepseek_reasoning" in row or "<|begin_of_thought|>" in str(last.get("value"))


def _openthoughts(row: Row, fields: Fields) -> Iterator[Outcome]:
    """Read conversations, without the system prompt that describes the delimiters, or `metadata` rows."""
    if "deepseek_reasoning" in row:
        outcome = in_columns(row, fields, "deepseek_reasoning", "deepseek_solution")
        yield _with(outcome, teacher=R1)
        return
    for outcome in _sharegpt(row, fields):
        if isinstance(outcome, ParsedRow):
            prompt = [turn for turn in outcome.prompt if "<|begin_of_thought|>" not in turn.content]
            completion = _between_marks(outcome.completion)
            outcome = outcome._replace(prompt=prompt or outcome.prompt, completion=completion)
        yield _with(outcome, teacher=R1)


def _between_marks(completion: Parts) -> Parts:
    """Split the text at OpenThoughts' delimiters, if it has them."""
    thought = THOUGHT.match(completion.response)
    if thought is None:
        return completion
    rest = completion.response[thought.end() :]
    solution = SOLUTION.match(rest)
    return Parts(thought[1].strip() or None, solution[1].strip() if solution else rest.strip())


# ---------------------------------------------------------------- columns


def _is_openr1(row: Row) -> bool:
    return isinstance(row.get("generations"), list)


def _openr1(row: Row, fields: Fields) -> Iterator[Outcome]:
    """Read one trace per generation. `messages` is skipped, because it repeats one of them."""
    generations = row.get("generations")
    if not isinstance(generations, list) or not generations:
        yield Rejection("no_completion", "generations")
        return
    prompt_row = {key: value for key, value in row.items() if key != "messages"}
    for sample, text in enumerate(generations):
        if not isinstance(text, str | None):
            yield Rejection("not_text", f"generations[{sample}]")
            continue
        finish_reason = _item(row.get("finish_reasons"), sample)
        if finish_reason is None and _item(row.get("is_reasoning_complete"), sample) is False:
            finish_reason = "length"
        keys = {"generations", "finish_reasons", "messages"}
        outcome = answer_to(prompt_row, fields, parts_of(None, text or ""), keys)
        yield _with(outcome, sample=sample, finish_reason=finish_reason, teacher=R1)


def _is_s1k(row: Row) -> bool:
    return any(row.get(key) for key in S1K_THOUGHTS)


def _s1k(row: Row, fields: Fields) -> Iterator[Outcome]:
    """Read DeepSeek's reasoning if there is some, else Gemini's, else the first trajectory of s1K."""
    for teacher in ("deepseek", "gemini"):
        thought = f"{teacher}_thinking_trajectory"
        if is_text(row.get(thought)):
            outcome = in_columns(row, fields, thought, f"{teacher}_attempt")
            yield _with(outcome, teacher=R1 if teacher == "deepseek" else None)
            return
    first = {**row, "thinking_trajectories": _item(row.get("thinking_trajectories"), 0)}
    yield in_columns(first, fields, "thinking_trajectories", "attempt")


def _is_deepseek(row: Row) -> bool:
    has_reasoning = any(isinstance(row.get(key), str) for key in REASONING_FIELDS)
    has_content = any(isinstance(row.get(key), str) for key in CONTENT_FIELDS)
    return bool(_choices(row)) or (has_reasoning and has_content)


def _deepseek(row: Row, fields: Fields) -> Iterator[Outcome]:
    """Read two columns with the names of the API, or a whole API response with its choices."""
    if not _choices(row):
        reasoning = present(row, None, REASONING_FIELDS) or REASONING_FIELDS[0]
        content = present(row, None, CONTENT_FIELDS) or CONTENT_FIELDS[0]
        yield in_columns(row, fields, reasoning, content)
        return
    for number, choice in enumerate(_choices(row)):
        message = choice.get("message") if isinstance(choice, dict) else None
        answered = messages_of([message])
        if isinstance(answered, Rejection):
            yield answered
            continue
        parts = parts_of(answered[0].reasoning_content, answered[0].content)
        outcome = answer_to(row, fields, parts, {"choices", "response", "request"})
        index, finish_reason = choice.get("index", number), choice.get("finish_reason")
        model = _api_response(row).get("model")
        teacher = model if is_text(model) else None
        yield _with(outcome, sample=index, finish_reason=finish_reason, teacher=teacher)


def _is_raw(row: Row) -> bool:
    has_prompt = problem_key(row, Fields()) is not None or bool(message_lists(row))
    return has_prompt and text_under(row, RAW_FIELDS) is not None


def _raw(row: Row, fields: Fields) -> Iterator[Outcome]:
    """Read a whole completion from one column. The key that the user named for the problem is skipped."""
    usual = tuple(name for name in RAW_FIELDS if name != fields.problem)
    key = text_under(row, usual)
    text = row[key] if key else ""
    yield answer_to(row, fields, parts_of(None, text), {key} if key else set())


def _is_solution(row: Row) -> bool:
    return problem_key(row, Fields()) is not None and _solution_key(row, Fields()) is not None


def _solution(row: Row, fields: Fields) -> Iterator[Outcome]:
    r"""Read a worked solution, without GSM8K's calculator annotations and `####` line.

    If the solution has no `\boxed{}`, the reference answer is added in one.
    """
    key = _solution_key(row, fields)
    if key is None:
        yield Rejection("no_completion", ", ".join(row))
        return
    text = GSM8K_END.sub("", row[key]).rstrip()
    text = CALCULATION.sub("", text) if len(text) < len(row[key].rstrip()) else text
    reference = gold(row, fields).text
    if reference is not None and boxed_answer(text) is None:
        text = f"{text}\n\n\\boxed{{{reference}}}"
    yield answer_to(row, fields, Parts(None, text), {key})


FORMATS: dict[Format, Reader] = {
    "openthoughts": Reader(_is_openthoughts, _openthoughts),
    "openr1": Reader(_is_openr1, _openr1, row_is_problem=True),
    "s1k": Reader(_is_s1k, _s1k, row_is_problem=True),
    "messages": Reader(_is_messages, _messages),
    "sharegpt": Reader(_is_sharegpt, _sharegpt),
    "deepseek": Reader(_is_deepseek, _deepseek),
    "raw": Reader(_is_raw, _raw),
    "solution": Reader(_is_solution, _solution, row_is_problem=True),
}


def _with(outcome: Outcome, **changes: Any) -> Outcome:
    return outcome if isinstance(outcome, Rejection) else outcome._replace(**changes)


def _conversation_key(row: Row) -> str:
    return present(row, None, CONVERSATION_FIELDS) or CONVERSATION_FIELDS[0]


def _solution_key(row: Row, fields: Fields) -> str | None:
    """The key of a worked solution: a usual one, or that of an answer that ends in `#### 20`."""
    answer = present(row, fields.answer, ANSWER_FIELDS)
    is_solution = answer is not None and GSM8K_END.search(str(row[answer]))
    return text_under(row, SOLUTION_FIELDS) or (answer if is_solution else None)


def _api_response(row: Row) -> Row:
    """The API response in a row: the row itself, its `response`, or the `body` of that."""
    response = row.get("response")
    body = response.get("body", response) if isinstance(response, dict) else row
    return body if isinstance(body, dict) else {}


def _choices(row: Row) -> list[Any]:
    choices = _api_response(row).get("choices")
    return choices if isinstance(choices, list) else []


def _last(turns: object) -> Row:
    turn = _item(turns, -1)
    return turn if isinstance(turn, dict) else {}


def _item(values: object, number: int) -> Any:
    """An item of a list, None if this is not a list or it has no such item."""
    if not isinstance(values, list) or not -len(values) <= number < len(values):
        return None
    return values[number]
