"""Reasoning that is cut: where it ends, what the row becomes, and when its answer had been reached."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.hashing import content_hash
from distillpipe.base.records import SoftLabels, TokenCounts, Trace
from distillpipe.filters.cut import Cut, conclusion, cut_row, find_cut, judged_conclusion
from distillpipe.models.endings import breaks_off

MakeTrace = Callable[..., Trace]


def reaches_answer(trace: Trace, options: FilterOptions, extra: str | None = None) -> bool:
    judged = judged_conclusion(trace, options, extra)
    return judged is not None and judged.verdict == "correct"


def count_words(trace: Trace) -> TokenCounts:
    """Words stand for tokens: 30 of the prompt, 5 of the response, none of delimiters."""
    num_words = len(trace.reasoning.split())
    return TokenCounts(prompt=30, reasoning=num_words, response=5, total=35 + num_words)


# ---------------------------------------------------------------- where the reasoning ends


@pytest.mark.parametrize(
    ("reasoning", "budget", "kept"),
    [
        ("One two.\n\nThree four.\n\nFive six.", 4, "One two.\n\nThree four."),
        ("One two.\n\nThree four.\n\nFive six.", 5, "One two.\n\nThree four."),
        ("One two.\n\nThree four.\n\nFive six.", 3, "One two."),
        ("One two.\n\nThree four.\n\nFive six.", 1, None),
        ("One two.\r\n \t\r\nThree four.\n\n", 2, "One two."),
        # the whole thought is never the cut, though this count says that it fits
        ("One two.\n\nThree four.\n", 9, "One two."),
        ("One two.", 9, None),
        ("", 9, None),
        # lines are steps only where there is no paragraph
        ("One two.\nThree four.\nFive six.", 5, "One two.\nThree four."),
        ("One two.\nThree four.\n\nFive six.", 3, None),
        # what a step begins comes after it
        ("One two.\n\nSo we have:\n\nThree four.", 5, "One two."),
        ("One two.\n\nIs it three?\n\nYes, it is.", 5, "One two."),
        ("One two.\n\nIt is. But let me check again.\n\nYes.", 9, "One two."),
        ("One two.\n\n### Step 2\n\nThree four.", 6, "One two."),
        ("One two.\n\n**Second Step**\n\nThree four.", 4, "One two."),
        ("One two.\n\n```python\na = 1\n\nb = 2\n```\n\nThree.", 7, "One two."),
        ("One.\n\n```\na = 1\n\nb = 2\n```\n\nTwo.", 9, "One.\n\n```\na = 1\n\nb = 2\n```"),
        ("One two.\n\n\\[\nx =\n\n5.\n\\]\n\nThree.", 5, "One two."),
    ],
)
def test_the_reasoning_ends_at_the_last_whole_step_that_fits(
    make_trace: MakeTrace, reasoning: str, budget: int, kept: str | None
) -> None:
    found = find_cut(make_trace(reasoning=reasoning), budget, count_words)
    assert (found and reasoning[: found.end]) == kept
    if found:
        assert found.num_tokens.reasoning == len((kept or "").split())


STEPS = st.lists(st.sampled_from(["One two.", "So:", "Is it?", "A\nb c.", "D."]), max_size=12)


@given(steps=STEPS, budget=st.integers(1, 20))
def test_a_cut_fits_and_a_later_whole_step_does_not(
    make_trace: MakeTrace, steps: list[str], budget: int
) -> None:
    trace = make_trace(reasoning="\n\n".join([*steps, "The end."]))
    found = find_cut(trace, budget, count_words)
    whole = [
        prefix
        for number in range(1, len(steps) + 1)
        if steps[number - 1] not in ("So:", "Is it?")
        and len((prefix := "\n\n".join(steps[:number])).split()) <= budget
    ]
    assert (found and trace.reasoning[: found.end]) == (whole[-1] if whole else None)


def test_a_huge_thought_is_counted_no_further_than_the_budget_can_reach(
    make_trace: MakeTrace,
) -> None:
    longest = 0

    def count(trace: Trace) -> TokenCounts:
        nonlocal longest
        longest = max(longest, len(trace.reasoning))
        return count_words(trace)

    found = find_cut(make_trace(reasoning="One two.\n\n" * 500_000), 100, count)
    assert found == Cut(498, TokenCounts(prompt=30, reasoning=100, response=5, total=135))
    assert longest <= 4_000


@pytest.mark.reference
def test_every_cut_of_a_real_thought_is_a_beginning_that_fits_and_does_not_break_off(
    real_traces: dict[str, tuple[dict[str, Any], Trace]],
) -> None:
    num_cut = 0
    for _, trace in real_traces.values():
        budget = len(trace.reasoning.split()) // 2
        if not budget or (found := find_cut(trace, budget, count_words)) is None:
            continue
        num_cut += 1
        kept = trace.reasoning[: found.end]
        assert len(kept.split()) <= budget
        assert kept == kept.rstrip()
        assert trace.reasoning[found.end].isspace()
        assert not breaks_off(kept)
    assert num_cut > 1_500


# ---------------------------------------------------------------- what becomes of the row


def test_a_cut_row_has_a_key_and_id_of_its_own_and_names_the_row_that_was_sampled(
    make_trace: MakeTrace,
) -> None:
    labels = SoftLabels(file="labels-1-00000", offset=0, length=9, k=4)
    trace = make_trace(reasoning="One two.\n\nThree.", soft_labels=labels, extra='{"a": [1]}')
    cut = Cut(8, TokenCounts(prompt=30, reasoning=2, response=5, total=40))
    row = cut_row(trace, cut)

    assert row.row_key == content_hash(trace.row_key, "cut", 8, cut.num_tokens)
    assert row.id == f"{trace.problem_id}/{row.row_key[:16]}" != trace.id
    assert json.loads(row.extra or "") == {"a": [1], "cut_from": trace.id}
    assert row.soft_labels == labels
    assert row.num_tokens == cut.num_tokens
    assert (row.reasoning, row.response) == ("One two.", trace.response)
    assert row.messages[0] == trace.messages[0]
    changed = {"id", "row_key", "messages", "num_tokens", "extra"}
    for name in set(Trace.__struct_fields__) - changed:
        assert getattr(row, name) == getattr(trace, name)
    assert cut_row(trace, cut) == row


def test_a_row_that_is_cut_again_still_names_the_row_that_was_sampled(
    make_trace: MakeTrace,
) -> None:
    trace = make_trace(reasoning="One.\n\nTwo.\n\nThree.", extra="no object")
    counted = TokenCounts(prompt=30, reasoning=2, response=5, total=40)
    once = cut_row(trace, Cut(10, counted))
    again = cut_row(once, Cut(4, counted))

    assert again.reasoning == "One."
    assert again.id not in (once.id, trace.id)
    assert json.loads(again.extra or "") == {"cut_from": trace.id, "extra": "no object"}


# ---------------------------------------------------------------- whether the answer was reached

REACHED = [
    "14+6=20.\n\nSo the answer is 20.",
    "So the answer should be 20. Let me check: 20-6=14, as it was.",
    "Therefore, the final answer is: \\boxed{20}.\n\nAlternatively, count them by hand.",
    "That gives \\boxed{20}",
    "The answer is\n\\[\n20.\n\\]",
    "I get 21. No: 14+6=20.\n\nThus answer: 20",
    "**Answer: 20**",
    "The answer is 21. Wait, 14+6 is 20, so the answer must be 20.",
    "I think that 20 is the answer. Yes.",
    "    *   Final line: Answer: 20\n\n    *   The form is 'Answer: <answer>'.",
    "答案是20。",
]
NOT_REACHED = [
    "",
    "Tom has 20 coins, says the problem. First 14.",
    "14+6=20.\n\n20+1=21.",
    "14+6=20.",
    "So Tom has 20.",
    "The answer is 21.",
    "The answer is 20. Wait, I forgot one. So the answer is 21.",
    "If the answer is 20, then 20-6 is 14.",
    "Maybe the answer is 20.",
    "Is the answer is 20?",
    "I don't think the answer is 20.",
    "The answer is not 20.",
    "The answer isn't 20.",
    "The answer is a number such as 20 or 21.",
    "I need to find the answer in \\boxed{} form; 20 coins.",
    "It is \\boxed{20} if he has found them all.",
    "\\boxed{20",
    "The answer: <answer>",
    "The answer is",
]


@pytest.mark.parametrize("reasoning", REACHED)
def test_a_thought_that_says_last_that_the_answer_is_right_has_reached_it(
    make_trace: MakeTrace, make_options: Callable[..., FilterOptions], reasoning: str
) -> None:
    assert reaches_answer(make_trace(reasoning=reasoning), make_options())


@pytest.mark.parametrize("reasoning", NOT_REACHED)
def test_a_value_that_is_not_said_to_be_the_answer_proves_nothing(
    make_trace: MakeTrace, make_options: Callable[..., FilterOptions], reasoning: str
) -> None:
    assert not reaches_answer(make_trace(reasoning=reasoning), make_options())


@pytest.mark.parametrize(
    ("verifier", "reference", "reasoning", "is_reached"),
    [
        ("choice", "C", "A is too small.\n\nSo the answer is C.", True),
        ("choice", "C", "C says 20.\n\nSo A is out.", False),
        ("choice", "C", "So the answer is not C.", False),
        ("exact", "Mia", "She is the fourth daughter. So the answer is Mia.", True),
        ("exact", "Mia", "Mia's mother has four daughters.", False),
        ("numeric", "0.5", "Half of them: the answer is 1/2.", True),
        ("math", None, "So the answer is 20.", False),
    ],
)
def test_the_verifier_of_the_row_says_whether_it_is_right(
    make_trace: MakeTrace,
    make_options: Callable[..., FilterOptions],
    verifier: str,
    reference: str | None,
    reasoning: str,
    is_reached: bool,
) -> None:
    trace = make_trace(verifier=verifier, reference_answer=reference, reasoning=reasoning)
    assert reaches_answer(trace, make_options()) is is_reached


def test_another_verifier_and_the_options_of_the_problem_count(
    make_trace: MakeTrace, make_options: Callable[..., FilterOptions]
) -> None:
    trace = make_trace(reference_answer="B", reasoning="So the answer is a cat.")
    options = '{"options": ["a dog", "a cat"]}'
    assert reaches_answer(trace, make_options(verifier="choice"), options)
    assert not reaches_answer(trace, make_options(verifier="choice"))


def test_of_a_program_all_of_the_thought_is_given_since_its_last_block_counts() -> None:
    thought = "First:\n\n```python\nprint(1)\n```\n\nThe answer is 1."
    assert conclusion(thought, "code") == thought


def test_a_response_that_is_right_does_not_stand_for_the_thought(
    make_trace: MakeTrace, make_options: Callable[..., FilterOptions]
) -> None:
    trace = make_trace(reasoning="14 and 6 coins.", response="The answer is \\boxed{20}")
    assert not reaches_answer(trace, make_options(answer_form="any"))
    assert not reaches_answer(msgspec.structs.replace(trace, verdict="correct"), make_options())
