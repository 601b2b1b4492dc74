"""Each import format as published: what is read from a row, or why it is rejected."""

import json
from typing import Any, get_args

import pytest

from distillpipe.base.records import Message, Trace, problem_id
from distillpipe.data.formats.incoming import FORMATS, Format, detect
from distillpipe.data.formats.traces import Choices, imported


def read(name: Format, row: object, **choices: Any) -> list[Any]:
    return list(imported(row, FORMATS[name], Choices(name, **choices)))


def only(name: Format, row: object, **choices: Any) -> Trace:
    (found,) = read(name, row, **choices)
    assert found.rejection is None, found.rejection
    trace: Trace = found.trace
    return trace


QUESTION = {"role": "user", "content": "1+1?"}
ANSWER = {"role": "assistant", "content": "<think>\n1 and 1.\n</think>\n\nIt is \\boxed{2}."}
THOUGHTS = (
    "<|begin_of_thought|>\n\n1 and 1.\n\n<|end_of_thought|>\n\n"
    "<|begin_of_solution|>\n\nIt is \\boxed{2}.\n\n<|end_of_solution|>"
)
DEMAND = "Write <|begin_of_thought|> {thought} <|end_of_thought|> and then the solution."
CHOICE = {
    "index": 0,
    "finish_reason": "stop",
    "message": {"role": "assistant", "content": "\n\nIt is \\boxed{2}.", "reasoning": "1 and 1."},
}
RESPONSE = {"id": "x", "model": "deepseek-reasoner", "choices": [CHOICE]}

# format, row, teacher: each row is asked "1+1?", thinks "1 and 1." and says "It is \boxed{2}."
SAME: list[tuple[Format, dict[str, Any], str | None]] = [
    ("messages", {"messages": [QUESTION, ANSWER], "num_tokens": 12, "source": "math"}, None),
    ("messages", {"prompt": [QUESTION], "completion": [ANSWER]}, None),
    (
        "messages",
        {"messages": [QUESTION, {"role": "assistant", "content": "It is \\boxed{2}.",
                                 "reasoning_content": "1 and 1."}]},
        None,
    ),
    (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "1+1?"}]},
                      {"role": "assistant", "content": "It is \\boxed{2}.", "thinking": "1 and 1."}],
         "model": "QwQ-32B"},
        "QwQ-32B",
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "1+1?"},
                           {"from": "gpt", "value": ANSWER["content"]}]},
        None,
    ),
    ("sharegpt", {"conversation": [QUESTION, ANSWER]}, None),
    (
        "openthoughts",
        {"system": DEMAND, "conversations": [{"from": "user", "value": "1+1?"},
                                             {"from": "assistant", "value": THOUGHTS}]},
        "DeepSeek-R1",
    ),
    (
        "openthoughts",
        {"problem": "1+1?", "deepseek_reasoning": "1 and 1.", "deepseek_solution": "It is \\boxed{2}.",
         "ground_truth_solution": "\\boxed{2}", "domain": "math", "source": "x", "test_cases": None},
        "DeepSeek-R1",
    ),
    (
        "openr1",
        {"problem": "1+1?", "answer": "2", "generations": [ANSWER["content"]],
         "finish_reasons": None, "messages": [QUESTION, ANSWER], "uuid": "u"},
        "DeepSeek-R1",
    ),
    (
        "s1k",
        {"question": "1+1?", "solution": "2", "deepseek_thinking_trajectory": "1 and 1.",
         "deepseek_attempt": "It is \\boxed{2}.", "gemini_thinking_trajectory": "other",
         "gemini_attempt": "other"},
        "DeepSeek-R1",
    ),
    (
        "s1k",
        {"question": "1+1?", "deepseek_thinking_trajectory": None, "deepseek_attempt": None,
         "gemini_thinking_trajectory": "1 and 1.", "gemini_attempt": "It is \\boxed{2}."},
        None,
    ),
    (
        "s1k",
        {"question": "1+1?", "thinking_trajectories": ["1 and 1."], "attempt": "It is \\boxed{2}."},
        None,
    ),
    (
        "deepseek",
        {"question": "1+1?", "reasoning_content": "\n1 and 1.\n", "content": "\n\nIt is \\boxed{2}."},
        None,
    ),
    (
        "deepseek",
        {"problem": "1+1?", "reasoning": "1 and 1.", "answer_text": "It is \\boxed{2}.", "gold": "2",
         "model": "QwQ-32B"},
        "QwQ-32B",
    ),
    (
        "deepseek",
        {"messages": [QUESTION], "reasoning_content": "1 and 1.", "response": "It is \\boxed{2}."},
        None,
    ),
    ("deepseek", {"problem": "1+1?", **RESPONSE}, "deepseek-reasoner"),
    ("deepseek", {"request": {"messages": [QUESTION]}, "response": RESPONSE}, "deepseek-reasoner"),
    (
        "deepseek",
        {"request": {"body": {"messages": [QUESTION]}}, "response": {"body": RESPONSE}},
        "deepseek-reasoner",
    ),
    ("raw", {"problem": "1+1?", "raw": ANSWER["content"]}, None),
    ("raw", {"prompt": "1+1?", "completion": "1 and 1.</think>\nIt is \\boxed{2}."}, None),
    ("raw", {"prompt": [QUESTION], "output": ANSWER["content"]}, None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "teacher"), SAME)
def test_problem_reasoning_response_and_teacher_are_found(
    name: Format, row: dict[str, Any], teacher: str | None
) -> None:
    trace = only(name, row)

    assert trace.messages == [
        Message(role="user", content="1+1?"),
        Message(role="assistant", content="It is \\boxed{2}.", reasoning_content="1 and 1."),
    ]
    assert (trace.problem, trace.teacher, trace.finish_reason) == ("1+1?", teacher, "stop")
    assert (trace.verdict, trace.answer, trace.num_tokens, trace.seed) == (None, None, None, None)


@pytest.mark.parametrize(("name", "row", "_teacher"), SAME)
def test_auto_tells_the_format_of_a_row(
    name: Format, row: dict[str, Any], _teacher: object
) -> None:
    assert detect([row]) == name


def test_every_format_can_be_given_and_is_told_by_auto() -> None:
    assert set(FORMATS) == set(get_args(Format)) - {"auto"}
    assert {name for name, _, _ in SAME} | {"solution", "lines"} == set(FORMATS)


@pytest.mark.parametrize(
    "rows", [[], ["text"], [{}], [{"problem": "1+1?", "answer": "2"}], [{"a": 1}]]
)
def test_auto_tells_nothing_of_rows_that_no_format_fits(rows: list[object]) -> None:
    assert detect(rows) is None


def test_auto_takes_what_fits_most_rows() -> None:
    raw = {"problem": "1+1?", "raw": "2"}
    assert detect([{"problem": "1+1?"}, raw, {"messages": [QUESTION, ANSWER]}, raw]) == "raw"


# ---------------------------------------------------------------- samples and finish reasons


def test_openr1_has_a_trace_per_generation_but_none_for_an_empty_one() -> None:
    row = {
        "problem": "1+1?", "answer": "2", "generations": ["<think>a</think>2", "<think>b", "", None],
        "finish_reasons": ["stop", "length", None, None], "correctness_math_verify": [True, False],
    }  # fmt: skip
    found = read("openr1", row)

    assert [(one.trace.sample, one.trace.finish_reason) for one in found[:2]] == [
        (0, "stop"),
        (1, "length"),
    ]
    assert [one.rejection.reason for one in found[2:]] == ["no_completion", "no_completion"]
    assert len({one.trace.id for one in found}) == 4
    assert json.loads(found[0].problem.extra) == {"correctness_math_verify": [True, False]}
    assert found[0].trace.extra is None


def test_a_generation_that_openr1_calls_incomplete_was_cut_off() -> None:
    row = {
        "problem": "1+1?",
        "generations": ["<think>a</think>2"],
        "is_reasoning_complete": [False],
    }

    assert only("openr1", row).finish_reason == "length"


def test_each_choice_of_a_response_is_a_sample() -> None:
    choices = [{**CHOICE, "index": 1}, {**CHOICE, "index": 0, "finish_reason": "length"}]
    found = read("deepseek", {"problem": "1+1?", "choices": choices})

    assert [(one.trace.sample, one.trace.finish_reason) for one in found] == [
        (1, "stop"),
        (0, "length"),
    ]


@pytest.mark.parametrize(
    ("raw", "recorded", "finish_reason", "reasoning", "response"),
    [
        ("<think>a</think>2", None, "stop", "a", "2"),
        ("<think>a</think>2", "stop", "stop", "a", "2"),
        ("<think>a</think>2", "EOS", "stop", "a", "2"),
        ("<think>a</think>2", "end_turn", "stop", "a", "2"),
        ("<think>a</think>2", "length", "length", "a", "2"),
        ("<think>a</think>2", "max_tokens", "length", "a", "2"),
        ("<think>a</think>2", "content_filter", "length", "a", "2"),
        ("<think>a</think>2", "repetition", "repetition", "a", "2"),
        ("<think>a</think>2", "who knows", "stop", "a", "2"),
        ("<think>a", None, "length", "a", ""),
        ("<think>a", "stop", "stop", "a", ""),
        ("<think>a</think>\n", None, "length", "a", ""),
        ("a</think>2", None, "stop", "a", "2"),
        ("2", None, "stop", None, "2"),
    ],
)
def test_the_finish_reason_is_recorded_or_derived_from_the_text(
    raw: str, recorded: str | None, finish_reason: str, reasoning: str | None, response: str
) -> None:
    trace = only("raw", {"problem": "1+1?", "raw": raw, "finish_reason": recorded})

    assert (trace.finish_reason, trace.messages[-1].reasoning_content) == (finish_reason, reasoning)
    assert trace.response == response


# ---------------------------------------------------------------- solutions


@pytest.mark.parametrize(
    ("row", "response", "reference"),
    [
        (
            {"question": "1+1?", "answer": "1 + 1 = <<1+1=2>>2\nSo 2.\n#### 2"},
            "1 + 1 = 2\nSo 2.\n\n\\boxed{2}",
            "2",
        ),
        (
            {"question": "1+1?", "answer": "1 + 1 = $<<999+1=1000>>1,000\n#### 1,000"},
            "1 + 1 = $1,000\n\n\\boxed{1,000}",
            "1,000",
        ),
        ({"problem": "1+1?", "solution": "So $\\boxed{2}$."}, "So $\\boxed{2}$.", "2"),
        ({"problem": "1+1?", "solution": "So 2.", "answer": "2"}, "So 2.\n\n\\boxed{2}", "2"),
        (
            {"problem": "1+1?", "solution": "So $1 << 2$.", "answer": 2},
            "So $1 << 2$.\n\n\\boxed{2}",
            "2",
        ),
        ({"problem": "1+1?", "solution": "So two."}, "So two.", None),
    ],
)
def test_a_solution_is_a_trace_without_reasoning_with_a_boxed_answer(
    row: dict[str, Any], response: str, reference: str | None
) -> None:
    trace = only("solution", row)

    assert detect([row]) == "solution"
    assert (trace.response, trace.messages[-1].reasoning_content) == (response, None)
    assert (trace.reference_answer, trace.teacher, trace.finish_reason) == (reference, None, "stop")


# ---------------------------------------------------------------- what does not fit


TURNS = [QUESTION, ANSWER, QUESTION, ANSWER]


@pytest.mark.parametrize(
    ("name", "row", "reason", "measured"),
    [
        ("raw", "text", "not_an_object", "str"),
        ("raw", [1], "not_an_object", "list"),
        ("raw", None, "not_an_object", "NoneType"),
        ("raw", {"raw": "2"}, "no_problem", "raw"),
        ("raw", {"problem": " ", "raw": "2"}, "no_problem", "problem, raw"),
        ("raw", {"problem": "1+1?", "raw": " \n"}, "no_completion", "problem"),
        ("raw", {"problem": "1+1?", "raw": None}, "no_completion", "problem"),
        ("raw", {"problem": "1+1?", "raw": "<think></think>"}, "no_completion", "problem, raw"),
        (
            "raw",
            {"problem": "1+1?", "raw": "2", "answer": [2]},
            "reference_answer_not_text",
            "answer",
        ),
        ("messages", {"messages": []}, "not_a_conversation", "list"),
        ("messages", {"messages": "text"}, "not_a_conversation", "str"),
        ("messages", {"messages": ["text"]}, "not_a_conversation", "str"),
        ("messages", {"messages": TURNS}, "several_turns", "4"),
        ("messages", {"messages": [QUESTION, QUESTION, ANSWER]}, "several_turns", "3"),
        ("messages", {"messages": [ANSWER, QUESTION]}, "not_a_conversation", "assistant user"),
        ("messages", {"messages": [ANSWER]}, "no_problem", "assistant"),
        ("messages", {"messages": [QUESTION]}, "no_completion", "user"),
        (
            "messages",
            {"messages": [QUESTION, {"role": "tool", "content": "2"}]},
            "other_roles",
            "tool",
        ),
        ("messages", {"messages": [QUESTION, {"content": "2"}]}, "other_roles", "None"),
        (
            "messages",
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWER]},
            "not_text",
            "user",
        ),
        (
            "messages",
            {"messages": [QUESTION, {"role": "assistant", "content": None, "tool_calls": [1]}]},
            "tool_calls",
            "assistant",
        ),
        ("sharegpt", {"conversations": None}, "not_a_conversation", "NoneType"),
        ("openr1", {"problem": "1+1?", "generations": []}, "no_completion", "generations"),
        ("openr1", {"problem": "1+1?", "generations": [3]}, "not_text", "generations[0]"),
        ("s1k", {"question": "1+1?"}, "no_completion", "attempt, question, thinking_trajectories"),
        ("deepseek", {"problem": "1+1?", "content": 2}, "not_text", "reasoning_content content"),
        ("deepseek", RESPONSE, "no_problem", "id, model, choices"),
        (
            "deepseek",
            {"problem": "1+1?", "choices": [{"index": 0}]},
            "not_a_conversation",
            "NoneType",
        ),
        ("deepseek", {"messages": TURNS[:3], **RESPONSE}, "several_turns", "4"),
        ("solution", {"problem": "1+1?", "answer": "2"}, "no_completion", "problem, answer"),
    ],
)
def test_a_row_that_does_not_fit_is_rejected_with_what_was_looked_at(
    name: Format, row: object, reason: str, measured: str
) -> None:
    (found,) = read(name, row)

    assert found.rejection == (reason, measured)
    assert found.problem is None
    assert found.trace.response == ""
    assert json.loads(found.trace.extra) == (row if isinstance(row, dict) else {"row": row})


def test_fields_that_are_named_are_looked_for_alone() -> None:
    row = {"problem": "no", "task": "1+1?", "raw": "2", "key": "2", "answer": "3"}
    trace = only("raw", row, problem_field="task", answer_field="key", verifier="exact")

    assert (trace.problem, trace.reference_answer, trace.verifier) == ("1+1?", "2", "exact")
    assert trace.problem_id == problem_id("1+1?", "2", "exact")
    (nameless,) = read("raw", {"problem": "1+1?", "raw": "2"}, problem_field="task")
    assert nameless.rejection == ("no_problem", "problem, raw")
    (keyless,) = read("raw", {"problem": "1+1?", "raw": "2", "answer": "2"}, answer_field="key")
    assert keyless.rejection == ("no_reference_answer", "problem, raw, answer")
    (turns,) = read("messages", {"messages": [QUESTION, ANSWER]}, problem_field="task")
    assert turns.rejection == ("no_problem", "messages")


# ---------------------------------------------------------------- what else a row says


def test_other_fields_go_to_extra_of_the_trace_or_of_the_problem() -> None:
    row = {
        "problem": "1+1?", "raw": "2", "gold": "2", "verifier": "exact", "domain": "algebra",
        "model": "QwQ", "finish_reason": "stop", "sample_index": 3, "options": ["1", "2"], "path": "p",
        "empty": None,
    }  # fmt: skip
    (found,) = read("raw", row)

    assert json.loads(found.problem.extra) == {"options": ["1", "2"]}
    assert json.loads(found.trace.extra) == {"path": "p"}
    assert (found.trace.sample, found.trace.domain, found.trace.verifier) == (3, "algebra", "exact")
    assert found.problem.problem_id == found.trace.problem_id == problem_id("1+1?", "2", "exact")


def test_a_finish_reason_or_verifier_that_nobody_knows_stays_in_extra() -> None:
    row = {"problem": "1+1?", "raw": "2", "finish_reason": "who knows", "verifier": "rule"}
    trace = only("raw", row)

    assert json.loads(trace.extra or "") == {"finish_reason": "who knows", "verifier": "rule"}
    assert trace.verifier == "math"


def test_the_problem_is_the_raw_text_and_messages_are_as_sent() -> None:
    asked = [
        {"role": "system", "content": "Think."},
        {"role": "user", "content": "Solve: 1+1?"},
    ]
    trace = only("messages", {"problem": "1+1?", "messages": [*asked, ANSWER]})

    assert trace.problem == "1+1?"
    assert [(message.role, message.content) for message in trace.messages[:2]] == [
        ("system", "Think."),
        ("user", "Solve: 1+1?"),
    ]


def test_a_system_prompt_beside_the_conversation_is_sent_first() -> None:
    turns = [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]
    trace = only("sharegpt", {"system": "Think.", "conversations": turns})

    assert [message.role for message in trace.messages] == ["system", "user", "assistant"]
    assert trace.extra is None


def test_the_system_prompt_of_openthoughts_goes_with_its_delimiters() -> None:
    cut = THOUGHTS.partition("<|end_of_thought|>")[0]
    turns = [{"from": "user", "value": "1+1?"}, {"from": "assistant", "value": cut}]
    trace = only("openthoughts", {"system": DEMAND, "conversations": turns})

    assert [message.role for message in trace.messages] == ["user", "assistant"]
    assert (trace.reasoning, trace.response, trace.finish_reason) == ("1 and 1.", "", "length")


def test_an_api_that_repeats_the_thought_in_the_content_is_read_once() -> None:
    row = {"problem": "1+1?", "reasoning_content": "1 and 1.", "content": ANSWER["content"]}
    assert only("deepseek", row).response == "It is \\boxed{2}."


@pytest.mark.parametrize(
    "change",
    [{"raw": "3"}, {"model": "QwQ"}, {"sample": 1}, {"finish_reason": "length"}, {"gold": "3"}],
)
def test_the_id_of_a_trace_is_its_content(change: dict[str, Any]) -> None:
    row = {"problem": "1+1?", "raw": "2", "gold": "2"}

    assert only("raw", row).id == only("raw", {**row, "path": "p"}).id
    assert only("raw", row).id != only("raw", {**row, **change}).id
