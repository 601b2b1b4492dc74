"""Texts that break off: the reason, both sides, and cut versions of real traces at random places."""

import json
import random
from collections.abc import Iterator

import pytest

from distillpipe.base.records import Trace
from distillpipe.filters.rules import (
    Drop,
    missing_response,
    unfinished_reasoning,
    unfinished_response,
)
from distillpipe.models.endings import breaks_off

RULES = (missing_response, unfinished_reasoning, unfinished_response)

# Ends of real traces that are finished, and of public solutions.
FINISHED = [
    "So the answer should be 670.", "Is it 12?", "Yes!", "答案是五。", "the sum is\n\\[\n8 = 27.\n\\]",
    "**Final Answer**\n\\boxed{-50}", "So B.\n\nAnswer: B", "Yep, that seems right. \n\nAnswer: 52",
    'So final response: "The answer is (H)"', "Total: 615 + 272 = 887", "    Okay, ready to write.cw",
    "7.  **Generate Output.**", "The answer is (B)", "**Answer: Ben**", "Answer: Polish złoty (PLN)",
    "Final decision: `{\"k\": 1, \"v\": 1}`", "Dan", "****", "8.30 \xd7 10^15", "RED, BLUE, GREEN, PURPLE, PINK",
    "anchor anchor anchor anchor", "14+6=20", "20", "48/2 = <<48/2=24>>24 clips in May.\n#### 72", "✅ 5",
    "so we get $\\boxed{480}$ ~Bluesoul", "we get $x=\\boxed{080}$. -westwoodmonster", "---", "| a | b |\n|---|---|\n| 1 | 2 |",
    "It costs $5.", "\\begin{align*}\na &= 1\n\\end{align*}", "```python\nprint(1)\n```", "", " \n",
]  # fmt: skip

# Ends of real traces that are cut.
CUT = [
    "Step4: B returns to start. Now far has", "Thus, the correct", "well under the 17-minute",
    "so the answer is:\n\n\\boxed{17} via", "I think that the other one nev", "5^4 = 100 \\]\n\\[ 6^4 =",
    "   - \\(29 = 15 + 6 + 8\\) (but", "3 probability).  \n   - **Switching**:", "2. **Test** the case,",
    "Let \\( x = 3 + \\frac{1}{2}", "we have \\[ x = \\frac{1}{2}", "\\begin{aligned}\nx &= 1 \\\\", "- ", "\n3.",
    "the value of $x + \\frac{1}{2", "and the next thing we see is that\n\n*", "He says that \u201c", "a, b;", "because 3 is",
]  # fmt: skip


@pytest.mark.parametrize("text", FINISHED)
def test_a_closed_sentence_formula_or_answer_is_an_end(text) -> None:
    assert not breaks_off(text)


@pytest.mark.parametrize("text", CUT)
def test_the_middle_of_a_sentence_or_a_formula_is_none(text) -> None:
    assert breaks_off(f"Let us count once more.\n{text}")


@pytest.mark.parametrize("response", ["", " \n", "<answer>", "<answer> </answer>\n"])
def test_an_answer_that_never_came_is_missing(make_trace, make_options, response) -> None:
    trace = make_trace(response=response, finish_reason="stop")
    assert missing_response(trace, make_options()) == Drop("missing_response", None)


@pytest.mark.parametrize("response", ["20", "\\boxed{20}", "<answer> 20"])
def test_any_answer_is_a_response(make_trace, make_options, response) -> None:
    assert missing_response(make_trace(response=response), make_options()) is None


def test_a_thought_that_stops_in_a_sentence_is_unfinished_though_closed(
    make_trace, make_options
) -> None:
    trace = make_trace(reasoning="Tom has 14. He finds 6, so the", response="So \\boxed{20}.")
    drop = unfinished_reasoning(trace, make_options())
    assert drop == Drop("unfinished_reasoning", "Tom has 14. He finds 6, so the")
    assert unfinished_response(trace, make_options()) is None
    assert unfinished_reasoning(make_trace(reasoning=None), make_options()) is None


@pytest.mark.parametrize(
    ("response", "drop"),
    [
        ("The answer is \\boxed{\\frac{1}{2}", "The answer is \\boxed{\\frac{1}{2}"),
        ("Either \\boxed{A} or \\boxed{", "Either \\boxed{A} or \\boxed{"),
        ("```python\nprint(1)\n", "```python print(1)"),
        ("First we\nadd the two numb", "First we add the two numb"),
        ("It is \\boxed{20}.", None),
        ("```python\nprint(1)\n```", None),
        ("~~~\n1\n~~~\nThat is all.", None),
    ],
)
def test_a_response_has_to_close_what_it_opens(make_trace, make_options, response, drop) -> None:
    expected = None if drop is None else Drop("unfinished_response", drop)
    assert unfinished_response(make_trace(response=response), make_options()) == expected


def test_code_without_a_fence_ends_as_it_likes(make_trace, make_options) -> None:
    code = "def double(value):\n    return value + value"
    assert unfinished_response(make_trace(response=code, verifier="code"), make_options()) is None


@pytest.mark.reference
def test_public_solutions_are_finished(reference_rows) -> None:
    solutions = [row["solution"] for row in reference_rows("math/math500.jsonl")]
    answers = [row["answer"] for row in reference_rows("math/gsm8k_test.jsonl")]
    assert len(solutions + answers) == 1819
    assert [text[-40:] for text in solutions + answers if breaks_off(text)] == []


@pytest.mark.reference
def test_solutions_that_people_signed_are_finished(reference_data) -> None:
    path = reference_data("data/math/aime24_deepscaler.json")
    assert [row["id"] for row in json.loads(path.read_bytes()) if breaks_off(row["solution"])] == []


@pytest.fixture(scope="module")
def finished(real_traces) -> dict[str, Trace]:
    """What ended by itself, says its source."""
    return {
        number: trace for number, (_, trace) in real_traces.items() if trace.finish_reason == "stop"
    }


@pytest.mark.reference
def test_the_real_traces_that_end_in_mid_sentence_are_these(finished, make_options) -> None:
    dropped = {
        number
        for number, trace in finished.items()
        if any(rule(trace, make_options()) for rule in RULES)
    }
    cut = {
        "instruct3b_greedy-0004", "instruct3b_greedy-0008", "instruct3b_greedy-0058", "riddles_qwq-0053",
        "riddles_qwq-0054", "riddles_qwq-0055", "riddles_qwq-0056", "riddles_qwq-0057", "riddles_qwq-0058",
        "riddles_qwq-0111", "riddles_qwq-0134", "riddles_qwq-0147",
    }  # fmt: skip
    unanswered_table, unbalanced_box = "instruct3b_greedy-0040", "riddles_qwq-0110"
    false_alarm = "rl3b_think_greedy-0493"
    assert dropped == cut | {unanswered_table, unbalanced_box, false_alarm}
    assert len(finished) == 1877


def cuts(text: str, seed: str) -> Iterator[str]:
    draw = random.Random(seed)
    if len(text) >= 300:
        yield from (text[: draw.randrange(100, len(text) - 10)] for _ in range(3))


@pytest.mark.reference
def test_nine_in_ten_random_cuts_are_seen_and_every_cut_without_a_response(
    finished, make_trace, make_options
) -> None:
    options = make_options()
    seen = {"reasoning": [0, 0], "response": [0, 0]}
    for number, trace in finished.items():
        for part in cuts(trace.reasoning, number):
            closed = make_trace(reasoning=part, response=trace.response)
            seen["reasoning"][0] += unfinished_reasoning(closed, options) is not None
            seen["reasoning"][1] += 1
            assert missing_response(make_trace(reasoning=part, response=""), options) is not None
        for part in cuts(trace.response, number):
            cut = make_trace(reasoning=trace.reasoning, response=part)
            seen["response"][0] += unfinished_response(cut, options) is not None
            seen["response"][1] += 1
    assert {name: f"{found / total:.2f} of {total}" for name, (found, total) in seen.items()} == {
        "reasoning": "0.92 of 4812",
        "response": "0.93 of 2331",
    }
