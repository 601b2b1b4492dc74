"""Read traces whose reasoning and response stand in columns of a row, under the names that data sets gave them.

Two columns, or a stored API response (`deepseek`); one column with the whole completion, or several (`raw`); a worked
solution (`solution`); the layouts of OpenR1 and s1K.
"""

import re
from collections.abc import Iterator
from typing import Any

from distillpipe.base.assistant import parts_of, read_assistant
from distillpipe.base.marks import split_marked
from distillpipe.data.formats.fields import (
    ANSWER_FIELDS,
    GSM8K_END,
    SOLUTION_FIELDS,
    Fields,
    Row,
    decoded_text,
    gold,
    is_text,
    present,
    problem_key,
    text_under,
)
from distillpipe.data.formats.turns import (
    REASONING_FIELDS,
    Outcome,
    Parts,
    Rejection,
    answer_to,
    in_columns,
    in_text,
    message_lists,
    messages_of,
)
from distillpipe.verify.extract import boxed_answer

R1 = "DeepSeek-R1"
RAW_FIELDS = (
    "raw", "completion", "response", "output", "generation", "text", "generated_solution", "r1_generation",
    "llm_response", "reannotated_assistant_content", "r1_solution", "model_response", "generated_text",
    "model_output", "assistant_response", "completion_text",
)  # fmt: skip
CONTENT_FIELDS = ("content", "response", "answer_text")
THOUGHT_NAMES = (
    *REASONING_FIELDS, "complex_cot", "model_reasoning", "cot", "chain_of_thought", "thought", "thoughts",
    "think", "thinking_trajectory", "thinking_process", "thought_process", "reasoning_process",
    "reasoning_trace", "reasoning_text", "model_thinking", "thinking_content",
)  # fmt: skip
RESPONSE_NAMES = (
    "deepseek_solution", "model_answer", "attempt", "final_response", "response", "content", "answer_text",
    "output", "completion", "generation", "model_response", "answer",
)  # fmt: skip
"Columns of reasoning and response, in lower case, the most telling first. A `solution` is a reference."
LIST_FIELDS = (
    "responses",
    "completions",
    "outputs",
    "samples",
    "traces",
    "candidates",
    "model_responses",
)
ITEM_FIELDS = (
    "response", "content", "text", "generation", "output", "completion", "solution", "answer",
)  # fmt: skip
ITEM_TEACHERS = ("response_model", "model", "model_name", "generator", "teacher")
MIN_THOUGHT = 8  # characters of a reasoning column; fewer is a switch, such as "on"
S1K_THOUGHTS = (
    "deepseek_thinking_trajectory", "gemini_thinking_trajectory", "thinking_trajectories",
)  # fmt: skip
CALCULATION = re.compile(r"<<[^<>]*>>")
_NUMBERED = re.compile(
    r"(\w*?(?:solution|generation|response|completion|trace|output)s?)_?(\d{1,3})"
)
_SUGGESTIVE = re.compile(
    r"reason|thought|think|cot\b|_cot|trajector|generation|r1_|deepseek", re.IGNORECASE
)


# ---------------------------------------------------------------- several columns of one data set


def is_openr1(row: Row, _fields: Fields) -> bool:
    return isinstance(decoded_text(row.get("generations")), list)


def openr1(row: Row, fields: Fields) -> Iterator[Outcome]:
    """Read one trace per generation. `messages` is skipped, because it repeats one of them."""
    generations = decoded_text(row.get("generations"))
    if not isinstance(generations, list) or not generations:
        yield Rejection("no_completion", "generations")
        return
    prompt_row = {key: value for key, value in row.items() if key != "messages"}
    for sample, text in enumerate(generations):
        if not isinstance(text, str | None):
            yield Rejection("not_text", f"generations[{sample}]")
            continue
        finish_reason = item(row.get("finish_reasons"), sample)
        if finish_reason is None and item(row.get("is_reasoning_complete"), sample) is False:
            finish_reason = "length"
        keys = {"generations", "finish_reasons", "messages"}
        outcome = answer_to(prompt_row, fields, in_text(text or ""), keys)
        yield with_fields(outcome, sample=sample, finish_reason=finish_reason, teacher=R1)


def is_s1k(row: Row, _fields: Fields) -> bool:
    return any(row.get(key) for key in S1K_THOUGHTS)


def s1k(row: Row, fields: Fields) -> Iterator[Outcome]:
    """Read DeepSeek's reasoning if there is some, else Gemini's, else the first trajectory of s1K."""
    for teacher in ("deepseek", "gemini"):
        thought = f"{teacher}_thinking_trajectory"
        if is_text(row.get(thought)):
            outcome = in_columns(row, fields, thought, f"{teacher}_attempt")
            yield with_fields(outcome, teacher=R1 if teacher == "deepseek" else None)
            return
    first = {**row, "thinking_trajectories": item(row.get("thinking_trajectories"), 0)}
    yield in_columns(first, fields, "thinking_trajectories", "attempt")


# ---------------------------------------------------------------- two columns


def is_deepseek(row: Row, fields: Fields) -> bool:
    return bool(_choices(row)) or _pair(row, fields) is not None


def deepseek(row: Row, fields: Fields) -> Iterator[Outcome]:
    """Read reasoning and response from two columns, or a whole API response with its choices."""
    if not _choices(row) or fields.reasoning is not None:
        pair = _pair(row, fields)
        reasoning = fields.reasoning or present(row, None, REASONING_FIELDS) or REASONING_FIELDS[0]
        content = fields.response or present(row, None, CONTENT_FIELDS) or CONTENT_FIELDS[0]
        yield in_columns(row, fields, *(pair or (reasoning, content)))
        return
    for number, choice in enumerate(_choices(row)):
        message = choice.get("message") if isinstance(choice, dict) else None
        if isinstance(message, dict):
            message = {"role": "assistant", **message}
        answered = messages_of([message])
        if isinstance(answered, Rejection):
            yield answered
            continue
        parts = Parts.of(
            parts_of((answered[0].reasoning_content or "").strip(), answered[0].content)
        )
        outcome = answer_to(row, fields, parts, {"choices", "response", "request"})
        index, finish_reason = choice.get("index", number), choice.get("finish_reason")
        model = _api_response(row).get("model")
        teacher = model if is_text(model) else None
        yield with_fields(outcome, sample=index, finish_reason=finish_reason, teacher=teacher)


def _pair(row: Row, fields: Fields) -> tuple[str, str] | None:
    """The columns of reasoning and response, None if the row has none."""
    if fields.reasoning is not None:
        if not isinstance(row.get(fields.reasoning), str):
            return None
        usual = (*CONTENT_FIELDS, *RAW_FIELDS, "answer", "solution")
        names = (fields.response,) if fields.response else usual
        content = next((name for name in names if isinstance(row.get(name), str)), None)
        return (fields.reasoning, content or (fields.response or CONTENT_FIELDS[0]))
    reasoning = next((name for name in REASONING_FIELDS if _is_thought(row.get(name))), None)
    if fields.response is not None:
        return None if reasoning is None else (reasoning, fields.response)
    has_reasoning = any(isinstance(row.get(name), str) for name in REASONING_FIELDS)
    content = next((name for name in CONTENT_FIELDS if isinstance(row.get(name), str)), None)
    if has_reasoning and content is not None:
        usual_reasoning = present(row, None, REASONING_FIELDS) or REASONING_FIELDS[0]
        is_switch = reasoning is None and is_text(row[usual_reasoning])
        return (
            None if is_switch and is_text(row[content]) else (reasoning or usual_reasoning, content)
        )
    keys = {name.lower(): name for name in reversed(row)}
    thoughts = [keys[name] for name in THOUGHT_NAMES if _is_thought(row.get(keys.get(name, "")))]
    responses = [keys[name] for name in RESPONSE_NAMES if is_text(row.get(keys.get(name, "")))]
    return (thoughts[0], responses[0]) if thoughts and responses else None


def _is_thought(value: Any) -> bool:
    return is_text(value) and len(value.strip()) >= MIN_THOUGHT


# ---------------------------------------------------------------- whole completions


def is_raw(row: Row, fields: Fields) -> bool:
    has_prompt = problem_key(row, fields) is not None or bool(message_lists(row))
    return has_prompt and (_listed(row, fields) is not None or bool(_raw_keys(row, fields)))


def raw(row: Row, fields: Fields) -> Iterator[Outcome]:
    """Read a whole completion from one column, or several: a list, or columns with numbers.

    The key that the user named for the problem is skipped.
    """
    if (listed := _listed(row, fields)) is not None:
        for sample, value in enumerate(decoded_text(row[listed])):
            outcome = _listed_item(row, fields, value, listed)
            outcome = with_fields(outcome, sample=sample)
            yield outcome
        return
    keys = _raw_keys(row, fields)
    for sample, key in enumerate(keys):
        text = row[key] if isinstance(row[key], str) else None
        if text is None:
            yield Rejection("not_text", key)
            continue
        outcome = answer_to(row, fields, in_text(text), set(keys))
        yield with_fields(outcome, sample=sample) if len(keys) > 1 else outcome
    if not keys:
        yield answer_to(row, fields, Parts(None, ""), set())


def _raw_keys(row: Row, fields: Fields) -> list[str]:
    """The columns with whole completions: the one that is named, a usual one, numbered ones, or one with marks."""
    if fields.response is not None:
        return [fields.response] if row.get(fields.response) is not None else []
    usual = tuple(name for name in RAW_FIELDS if name not in fields.named)
    problem = problem_key(row, fields)
    names = [name for name in usual if is_text(row.get(name)) and name != problem]
    with_marks = [
        name for name in row
        if name not in (problem, *fields.named) and is_text(row[name]) and _has_thought(row[name])
    ]  # fmt: skip
    # a usual name without a thought is not the trace where another column holds one
    if names and (not with_marks or names[0] in with_marks):
        return names[:1]
    numbered = [name for name in row if is_text(row[name]) and _NUMBERED.fullmatch(name)]
    if numbered and (not with_marks or set(with_marks) <= set(numbered)):
        return sorted(numbered, key=lambda name: int(_NUMBERED.fullmatch(name)[2]))  # type: ignore[index]
    if with_marks:
        return with_marks[:1]
    answer, reference = row.get("answer"), row.get("reference_answer")
    if is_text(answer) and is_text(reference) and answer != reference and fields.answer != "answer":
        return ["answer"]  # a worked answer beside its reference
    return []


def _has_thought(text: str) -> bool:
    marked = split_marked(text)
    return bool(marked.marks and marked.reasoning.strip())


def _listed(row: Row, fields: Fields) -> str | None:
    """The column with a list of completions, None if there is none."""
    names = LIST_FIELDS if fields.response is None else (fields.response,)
    for name in names:
        values = decoded_text(row.get(name))
        if (
            isinstance(values, list)
            and values
            and all(isinstance(one, str | dict) for one in values)
        ):
            return name
    return None


def _listed_item(row: Row, fields: Fields, value: Any, key: str) -> Outcome:
    """The completion in an item of a list: a text, or an object with a text and perhaps its model."""
    if isinstance(value, str):
        return answer_to(row, fields, in_text(value), {key})
    name = text_under(value, ITEM_FIELDS)
    message = {**value, "content": value[name] if name else value.get("content")}
    outcome = answer_to(row, fields, Parts.of(read_assistant(message)), {key})
    teacher = text_under(value, ITEM_TEACHERS)
    finish_reason = value.get("finish_reason")
    return with_fields(
        outcome, teacher=value[teacher] if teacher else None, finish_reason=finish_reason
    )


# ---------------------------------------------------------------- worked solutions


def is_solution(row: Row, fields: Fields) -> bool:
    """Whether a worked solution is all that a row has: a reference solution is no stand-in for a trace."""
    if problem_key(row, fields) is None or _solution_key(row, fields) is None:
        return False
    is_trace = is_deepseek(row, fields) or bool(_raw_keys(row, fields))
    return not is_trace and not thought_columns(row, fields)


def thought_columns(row: Row, fields: Fields) -> list[str]:
    """Columns that look like reasoning or a trace by their names or marks."""
    known = {*fields.problem_names, *fields.answer_names, *SOLUTION_FIELDS, "messages"}
    return [
        name for name, value in row.items()
        if name not in known and is_text(value) and len(value) >= MIN_THOUGHT
        and (_has_thought(value) or (_SUGGESTIVE.search(name) and len(value) > 100))
    ]  # fmt: skip


def solution(row: Row, fields: Fields) -> Iterator[Outcome]:
    r"""Read a worked solution, without GSM8K's calculator annotations and `####` line.

    If the solution has no `\boxed{}`, the reference answer is added in one.
    """
    key = _solution_key(row, fields)
    if key is None:
        yield Rejection("no_completion", ", ".join(row))
        return
    text = GSM8K_END.sub("", row[key]).rstrip()
    text = CALCULATION.sub("", text) if len(text) < len(row[key].rstrip()) else text
    parts = in_text(text) if _has_thought(text) else Parts(None, text)
    reference = gold(row, fields).text
    if reference is not None and boxed_answer(parts.response) is None:
        parts = parts._replace(response=f"{parts.response}\n\n\\boxed{{{reference}}}")
    yield answer_to(row, fields, parts, {key})


def _solution_key(row: Row, fields: Fields) -> str | None:
    """The key of a worked solution: a usual one, or that of an answer that ends in `#### 20`."""
    answer = present(row, fields.answer, ANSWER_FIELDS)
    is_solution = answer is not None and GSM8K_END.search(str(row[answer]))
    return text_under(row, SOLUTION_FIELDS) or (answer if is_solution else None)


# ---------------------------------------------------------------- parts of rows


def with_fields(outcome: Outcome, **changes: Any) -> Outcome:
    return outcome if isinstance(outcome, Rejection) else outcome._replace(**changes)


def item(values: object, number: int) -> Any:
    """An item of a list, None if this is not a list or it has no such item."""
    if not isinstance(values, list) or not -len(values) <= number < len(values):
        return None
    return values[number]


def _api_response(row: Row) -> Row:
    """The API response in a row: the row itself, its `response`, or the `body` of that."""
    response = row.get("response")
    body = response.get("body", response) if isinstance(response, dict) else row
    return body if isinstance(body, dict) else {}


def _choices(row: Row) -> list[Any]:
    choices = _api_response(row).get("choices")
    return choices if isinstance(choices, list) else []
