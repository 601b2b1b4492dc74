"""The layouts of published trace sets: `import` tells each by itself and reads problem, thought, answer, reference.

The names of columns are those of the data sets, as their cards on the hub list them; the content is ours. A row that
should be rejected stands with its reason.
"""

import json
from typing import Any

import pytest

from distillpipe.data.formats.fields import with_paths
from distillpipe.data.formats.incoming import FORMATS, detect, reader_for
from distillpipe.data.formats.traces import Choices, Imported, imported

P, R, A, LONG = (
    "What is 14+6?",
    "14+6=20. So it is 20.",
    "The answer is \\boxed{20}.",
    "It is $20$, see page 3.",
)
T = f"<think>\n{R}\n</think>\n\n{A}"
USER, SAID = {"role": "user", "content": P}, {"role": "assistant", "content": T}
MARKED = f"<|begin_of_thought|>\n\n{R}\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n{A}\n\n<|end_of_solution|>"
INFO = {"source": "openR1", "reference_answer": "20", "test_case": None}

SETS: dict[str, tuple[dict[str, Any], str | None, str | None]] = {
    # name: (row, reference answer, teacher)
    "OpenThoughts-114k": ({"system": "Use <|begin_of_thought|>.", "conversations": [
        {"from": "user", "value": f"Return your final response within \\boxed{{}}. {P}"},
        {"from": "assistant", "value": MARKED}]}, None, "DeepSeek-R1"),
    "OpenThoughts-114k metadata": ({"problem": P, "deepseek_reasoning": R, "deepseek_solution": A,
        "ground_truth_solution": "So $\\boxed{20}$.", "domain": "math", "source": "numina", "test_cases": None,
        "starter_code": None}, "20", "DeepSeek-R1"),
    "OpenThoughts2-1M": ({"conversations": [{"from": "user", "value": P}, {"from": "assistant", "value": T}],
        "question": P, "source": "x", "id": 1}, None, None),
    "OpenThoughts3-1.2M": ({"difficulty": 8, "source": "ai2", "domain": "math", "conversations": [
        {"from": "human", "value": P}, {"from": "gpt", "value": T}]}, None, None),
    "Bespoke-Stratos-17k": ({"system": "Use <|begin_of_thought|>.", "conversations": [
        {"from": "user", "value": P}, {"from": "assistant", "value": MARKED}]}, None, "DeepSeek-R1"),
    "Bespoke-Stratos raw": ({"problem": P, "solution": LONG, "reasoning": R, "deepseek_solution": A,
        "source": "n", "correct": True}, None, None),
    "OpenR1-Math-220k": ({"problem": P, "solution": LONG, "answer": "20", "generations": [T], "uuid": "u",
        "finish_reasons": None, "correctness_math_verify": [True], "messages": [USER, SAID]}, "20", "DeepSeek-R1"),
    "s1K": ({"question": P, "solution": "20", "thinking_trajectories": [R], "attempt": A, "cot_type": "math"},
        "20", None),
    "s1K-1.1": ({"question": P, "solution": "20", "deepseek_thinking_trajectory": R, "deepseek_attempt": A,
        "gemini_thinking_trajectory": "x", "gemini_attempt": "y"}, "20", "DeepSeek-R1"),
    "Mixture-of-Thoughts": ({"messages": [USER, SAID], "num_tokens": 9, "source": "open-r1"}, None, None),
    "AM-DeepSeek-R1-Distilled-1.4M": ({"messages": [{**USER, "info": INFO}, {"role": "assistant",
        "content": f"<think>{R}</think>\n<answer>{A}</answer>",
        "info": {"think_content": R, "answer_content": A}}]}, "20", None),
    "AM-Thinking-v1-Distilled": ({"system": None, "conversations": [
        {"from": "human", "value": P, "info": None},
        {"from": "assistant", "value": f"<think>{R}</think><answer>{A}</answer>",
         "info": {"think_content": R, "answer_content": A, "reference_answer": "20"}}]}, "20", None),
    "R1-Distill-SFT v1": ({"id": "1", "problem": P, "solution": LONG, "source": "n", "verified": True,
        "reannotated_assistant_content": T, "reannotated_messages": [USER, SAID], "quality_metrics": None}, None, None),
    "R1-Distill-SFT v0": ({"id": "1", "problem": P, "solution": LONG, "reannotated_assistant_content": T}, None, None),
    "OpenCodeReasoning": ({"id": "1", "input": P, "output": T, "source": "codeforces", "license": "cc",
        "dataset": "taco", "split": "train", "difficulty": "1", "solution": "print(20)"}, None, None),
    "OpenCodeReasoning-2": ({"id": "1", "question_id": "q", "question": P, "r1_generation": T,
        "solution": "print(20)", "qwq_critique": "Looks right.", "judgement": "right"}, None, None),
    "dolphin-r1": ({"messages": [{"role": "system", "content": "Be brief."}, USER], "reasoning": R,
        "answer": A, "model": "DeepSeek-R1"}, None, "DeepSeek-R1"),
    "medical-o1-reasoning-SFT": ({"Question": P, "Complex_CoT": R, "Response": A}, None, None),
    "GeneralThought-430K": ({"question_id": 1, "question": P, "reference_answer": "20", "prev_messages": None,
        "model_name": "DeepSeek/R1", "model_answer": A, "model_reasoning": R, "verifier_score": 1.0}, "20", "DeepSeek/R1"),
    "natural_reasoning": ({"question": P, "reference_answer": "20", "responses": [
        {"response_model": "Llama3.3-70B", "response": T}]}, "20", "Llama3.3-70B"),
    "DeepMath-103K": ({"question": P, "final_answer": "20", "difficulty": 4.5, "topic": "algebra",
        "r1_solution_1": f"{R}\n</think>\n\n{A}", "r1_solution_2": f"{R}\n</think>\n\n{A}",
        "r1_solution_3": f"{R}\n</think>\n\n{A}"}, "20", None),
    "SYNTHETIC-1": ({"response_id": "r", "problem_id": "p", "task_type": "verifiable_math", "prompt": P,
        "llm_response": T, "verification_info": "{'ground_truth': '20'}", "gold_standard_solution": LONG,
        "score": 1.0}, "20", None),
    "SYNTHETIC-1-SFT": ({"response_id": "r", "task_type": "math", "score": 1.0, "messages": [USER, SAID],
        "verification_info": '{"ground_truth": "20"}'}, "20", None),
    "OpenMathReasoning": ({"expected_answer": "20", "problem_type": "has_answer_extracted", "problem": P,
        "generation_model": "DeepSeek-R1", "generated_solution": T, "inference_mode": "cot",
        "pass_rate_72b_tir": "0.9"}, "20", "DeepSeek-R1"),
    "Llama-Nemotron post-training": ({"input": [USER], "output": T, "category": "math", "license": "cc",
        "reasoning": "on", "generator": "DeepSeek-R1", "used_in_training": "Nano", "version": "v1",
        "system_prompt": "detailed thinking on"}, None, "DeepSeek-R1"),
    "Llama-Nemotron, JSON text": ({"input": json.dumps([USER]), "output": T, "reasoning": "on",
        "generator": "DeepSeek-R1"}, None, "DeepSeek-R1"),
    "Nemotron post-training v1": ({"uuid": "u", "license": "cc", "generator": "DeepSeek-R1-0528",
        "category": "math", "reasoning": "on", "messages": [USER, SAID],
        "metadata": '{"expected_answer": "20", "difficulty": "low"}'}, "20", "DeepSeek-R1-0528"),
    "Nemotron post-training v2": ({"uuid": "u", "category": "math", "reasoning": "on", "messages": [
        {**USER, "tool_calls": []}, {"role": "assistant", "content": A, "reasoning_content": R, "tool_calls": []}],
        "metadata": '{"expected_answer": "20"}'}, "20", None),
    "messages as JSON text": ({"messages": json.dumps([USER, SAID])}, None, None),
    "gpt-oss sets": ({"messages": [USER, {"role": "assistant", "content": A, "thinking": R}]}, None, None),
    "Mistral parts": ({"messages": [USER, {"role": "assistant", "content": [
        {"type": "thinking", "thinking": [{"type": "text", "text": R}]}, {"type": "text", "text": A}]}]}, None, None),
    "Anthropic parts": ({"messages": [{"role": "user", "content": [{"type": "text", "text": P}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": R, "signature": "s"},
                                          {"type": "text", "text": A}]}]}, None, None),
    "Chinese R1 distill": ({"input": P, "reasoning_content": R, "content": A, "repo_name": "x", "score": 10},
        None, None),
    "Alpaca": ({"instruction": P, "input": "", "output": T}, None, None),
    "distilabel": ({"instruction": P, "generation": T, "model_name": "R1", "distilabel_metadata": {}}, None, "R1"),
    "curator": ({"prompt": P, "reasoning": R, "response": A}, None, None),
    "glaive reasoning": ({"prompt": P, "response": T}, None, None),
    "AceReason SFT": ({"category": "math", "source": "x", "input": P, "output": T}, None, None),
    "KodCode R1": ({"question": P, "solution": "def f():\n    return 20", "r1_solution": T, "style": "x"}, None, None),
    "reasoning and answer": ({"question": P, "reasoning": R, "answer": A}, None, None),
    "stored response": ({"custom_id": "1", "problem": P, "response": {"body": {"model": "R1", "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"content": A, "reasoning_content": R}}]}}}, None, "R1"),
    "capital columns": ({"Instruction": P, "Reasoning": R, "Answer": A}, None, None),
    "thinking and output": ({"instruction": P, "thinking": R, "output": A}, None, None),
    "a turn that thinks": ({"messages": [USER, {"role": "reasoning", "content": R},
        {"role": "assistant", "content": A}]}, None, None),
    "generations as JSON text": ({"problem": P, "generations": json.dumps([T]), "answer": "20"}, "20", "DeepSeek-R1"),
    "harmony text": ({"problem": P, "completion": f"analysis{R}assistantfinal{A}"}, None, None),
    "a column that nobody knows": ({"question": P, "solution": LONG, "my_model_said": T}, None, None),
}  # fmt: skip
SOLUTIONS: dict[str, tuple[dict[str, Any], str | None]] = {
    "GSM8K": ({"question": P, "answer": "14 + 6 = <<14+6=20>>20\n#### 20"}, "20"),
    "LIMO": ({"question": P, "solution": "14+6. **Final Answer** \\boxed{20}", "answer": "20"}, "20"),
    "MegaScience": ({"question": P, "answer": "14+6 is \\boxed{20}.", "subject": "math",
                     "reference_answer": "20", "source": "x"}, "20"),
    "NuminaMath": ({"problem": P, "solution": "Trivial.", "answer": "proof", "question_type": "proof"}, None),
    "NuminaMath, not found": ({"problem": P, "solution": "See above.", "answer": "notfound"}, None),
}  # fmt: skip


def read(row: dict[str, Any], **choices: Any) -> list[Imported]:
    """What `import` makes of a row whose format it has to tell."""
    given = Choices(**choices)
    resolved = with_paths(row, given.fields.named)
    name = detect([resolved], given.fields)
    assert name is not None, list(row)
    return list(imported(row, reader_for(resolved, name, given.fields), given))


@pytest.mark.parametrize("name", SETS)
def test_thought_answer_reference_and_teacher_are_found(name: str) -> None:
    row, reference, teacher = SETS[name]
    found = read(row)
    assert [one.rejection for one in found] == [None] * (3 if name.startswith("DeepMath") else 1)
    for trace in (one.trace for one in found):
        assert (trace.problem, trace.reasoning, trace.response) == (P, R, A)
        assert (trace.reference_answer, trace.teacher) == (reference, teacher)


@pytest.mark.parametrize("name", SOLUTIONS)
def test_worked_solutions_have_no_reasoning(name: str) -> None:
    row, reference = SOLUTIONS[name]
    [found] = read(row)
    assert found.rejection is None
    assert (found.trace.problem, found.trace.reasoning) == (P, "")
    assert found.trace.reference_answer == reference
    assert ("boxed" in found.trace.response) == (reference is not None)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "-", "r1_generation": T}, "placeholder_problem"),
        ({"problem": "N/A", "generations": [T]}, "placeholder_problem"),
        ({"messages": [{"role": "user", "content": "nan"}, SAID]}, "placeholder_problem"),
        ({"messages": [USER, {**SAID, "tool_calls": [{"function": {}}]}]}, "tool_calls"),
        ({"messages": [USER, {"role": "tool", "content": "20"}, SAID]}, "other_roles"),
        ({"messages": [USER, {"role": "assistant", "content": [{"type": "tool_use", "name": "x"}]}]}, "tool_calls"),
        ({"problem": P, "raw": f"<think>a <think> b</think>{A}"}, "mark_inside_completion"),
        ({"problem": P, "raw": f"<think>a</think>b</think>{A}"}, "mark_inside_completion"),
        ({"question": P, "prev_messages": [USER, SAID], "model_reasoning": R, "model_answer": A}, "several_turns"),
    ],
)  # fmt: skip
def test_what_is_no_single_trace_is_rejected(row: dict[str, Any], reason: str) -> None:
    [found] = read(row)
    assert found.rejection is not None
    assert found.rejection.reason == reason


@pytest.mark.parametrize(
    ("row", "choices"),
    [
        ({"q": P, "why": R, "so": A, "gold": {"value": "20"}},
         {"problem_field": "q", "reasoning_field": "why", "response_field": "so", "answer_field": "gold.value"}),
        ({"a": {"q": P}, "b": json.dumps([{"text": T}]), "meta": '{"answer": "20"}'},
         {"problem_field": "a.q", "response_field": "b.0.text", "answer_field": "meta.answer"}),
        ({"q": P, "output": "x", "out": T, "answer": 20},
         {"problem_field": "q", "response_field": "out"}),
        ({"q.x": P, "reasoning": R, "so": A, "answer": "20"},
         {"problem_field": "q.x", "response_field": "so"}),
        ({"messages": [{**USER, "info": {"reference_answer": "20"}}, SAID]},
         {"answer_field": "messages.0.info.reference_answer"}),
        ({"q": P, "all": [T], "answer": "20"}, {"problem_field": "q", "response_field": "all"}),
    ],
)  # fmt: skip
def test_columns_that_are_named_are_read(row: dict[str, Any], choices: dict[str, str]) -> None:
    [found] = read(row, **choices)
    assert found.rejection is None
    trace = found.trace
    assert (trace.problem, trace.reasoning, trace.response) == (P, R, A)
    assert trace.reference_answer == "20"


def test_text_before_the_tag_stands_in_extra() -> None:
    [found] = read({"messages": [USER, {"role": "assistant", "content": f"Sure!\n{T}"}]})
    assert (found.trace.reasoning, found.trace.response) == (R, A)
    assert json.loads(found.trace.extra or "") == {"text_before_reasoning": "Sure!"}


def test_what_a_turn_says_besides_goes_to_extra() -> None:
    row = SETS["AM-DeepSeek-R1-Distilled-1.4M"][0]
    [found] = read(row)
    assert json.loads(found.trace.extra or "") == {
        "info": [{"source": "openR1", "reference_answer": "20"}]
    }


def test_a_row_of_another_layout_is_read_by_that() -> None:
    fields = Choices().fields
    other = SETS["Bespoke-Stratos raw"][0]
    assert reader_for(other, "messages", fields) == FORMATS["deepseek"]
    assert reader_for(SOLUTIONS["LIMO"][0], "messages", fields) == FORMATS["messages"]
