"""Answers that contradict each other, and answers that only the thought gives."""

import pytest

from distillpipe.filters.rules import Drop, answer_only_in_reasoning, contradicting_answers
from distillpipe.verify.extract import boxed_answers


@pytest.mark.parametrize(
    ("response", "measured"),
    [
        ("It is \\boxed{39}. No, \\boxed{20}.", "39; 20"),
        ("\\boxed{20}, wait: \\boxed{39}\n\n**Final Answer**\n\\boxed{20}", "39; 20"),
        ("So \\boxed{A}.\n\nFinal: \\boxed{C}", "A; C"),
        ("\\boxed{\\frac{1}{2}}, so the answer is \\boxed{0.25}", "\\frac{1}{2}; 0.25"),
        ("\\boxed{1, 2} but then \\boxed{1, 3}", "1, 2; 1, 3"),
        ("$x = \\boxed{1}$, no: $x = \\boxed{2}$", "1; 2"),
    ],
)
def test_boxes_that_differ_contradict_each_other(
    make_trace, make_options, response, measured
) -> None:
    drop = contradicting_answers(make_trace(response=response), make_options())
    assert drop == Drop("contradicting_answers", measured)


@pytest.mark.parametrize(
    "response",
    [
        "\\boxed{20}",
        "It is \\boxed{20}. So the answer is \\boxed{20}.",
        "It is \\boxed{\\frac{1}{2}}, that is \\boxed{0.5}.",
        "\\boxed{x+1} is the same as \\boxed{1+x}",
        "\\boxed{1}, \\boxed{2} and \\boxed{3}",
        "It is \\boxed{3}, \\boxed{5}. Again: \\boxed{5}, \\boxed{3}.",
        "$x = \\boxed{1}$ and so $y = \\boxed{2}$",
        "(a) \\boxed{3}\n(b) \\boxed{5}",
        "Part 1: \\boxed{3}\nPart 2: \\boxed{5}",
        "\\boxed{The box the clerk opened}, so \\boxed{the box that the clerk opened}",
        "\\boxed{" + "1" * 300 + "} or rather \\boxed{2}",
        "\\boxed{2} and \\boxed{",
        "",
    ],
)
def test_one_answer_said_often_several_parts_and_words_do_not(
    make_trace, make_options, response
) -> None:
    assert contradicting_answers(make_trace(response=response), make_options()) is None


@pytest.mark.reference
def test_the_real_traces_that_contradict_themselves_are_these(real_traces, make_options) -> None:
    found = {
        n: contradicting_answers(trace, make_options()) for n, (_, trace) in real_traces.items()
    }
    assert {number: drop.measured for number, drop in found.items() if drop} == {
        "riddles_qwq-0050": "7; 0",
        "riddles_qwq-0055": "10; 17",
        "riddles_qwq-0056": "14; 17",
        "riddles_qwq-0058": "A; Knight",
        "riddles_qwq-0081": "20; 39",
        "rl3b_think_greedy-0239": "0.5; 1.0",
        "rl3b_think_greedy-0300": "1950; 425",
    }


def test_an_answer_that_only_the_thought_gives_is_dropped(make_trace, make_options) -> None:
    trace = make_trace(reasoning="So \\boxed{20}.", response="I added the two numbers of coins.")
    drop = answer_only_in_reasoning(trace, make_options())
    assert drop == Drop("answer_only_in_reasoning", "20")


@pytest.mark.parametrize(
    ("reasoning", "response"),
    [
        ("So \\boxed{20}.", "\\boxed{20}"),
        ("So \\boxed{20}.", "Tom has 20 coins now, that much is clear."),
        ("So \\boxed{B}.", "The answer is (B)"),
        ("So \\boxed{20}.", "The final answer is twenty."),
        ("So \\boxed{20", "I added the two numbers."),
        ("So it is 20.", "I added the two numbers."),
        ("I should put it in \\boxed{}.", "I added the two numbers."),
        (None, "I added the two numbers."),
    ],
)
def test_an_answer_that_the_response_gives_in_any_way_is_enough(
    make_trace, make_options, reasoning, response
) -> None:
    trace = make_trace(reasoning=reasoning, response=response)
    assert answer_only_in_reasoning(trace, make_options()) is None


def test_boxes_come_with_the_text_before_them_and_joined_ones_as_one() -> None:
    text = "It is \\boxed{1}, \\boxed{2}. No: \\boxed{\\frac{1}{2}} or not."
    assert boxed_answers(text) == [("It is ", "1, 2"), (". No: ", "\\frac{1}{2}")]
    assert boxed_answers("no box \\boxed{") == []
