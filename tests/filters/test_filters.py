"""The row rules together: the first that drops a row names the reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.base.records import TokenCounts
from distillpipe.filters import ROW_RULES, drops_by_text
from distillpipe.filters.rules import Drop

TOO_SHORT = TokenCounts(prompt=30, reasoning=6, response=5, total=44)

# Every row is wrong in its own way and in all that come after it.
FIRST_REASONS = [
    ({"finish_reason": "length", "reasoning": ""}, Drop("unfinished", "length")),
    ({"reasoning": ""}, Drop("missing_reasoning", None)),
    ({"reasoning": "14+6=21."}, Drop("too_few_reasoning_tokens", "6")),
]

CUT = "He finds 6 more, so the"
BAD = (
    "I cannot help with that.</think> 所以二十。 \\boxed{21}, no \\boxed{22}. ```" + "has, " * 2000
)

# Every trace is wrong in the way of its rule; those that come before it keep it.
ONE_OF_EACH = {
    "unfinished": {"finish_reason": "length"},
    "missing_reasoning": {"reasoning": ""},
    "too_few_reasoning_tokens": {"num_tokens": TOO_SHORT},
    "too_many_reasoning_tokens": {
        "num_tokens": TokenCounts(prompt=1, reasoning=99, response=1, total=103)
    },
    "missing_response": {"response": " "},
    "refusal": {"response": BAD},
    "unfinished_response": {"response": CUT},
    "unfinished_reasoning": {"reasoning": CUT},
    "answer_only_in_reasoning": {"reasoning": "\\boxed{20}.", "response": "I added them."},
    "contradicting_answers": {"response": "\\boxed{21}, no: \\boxed{22}."},
    "template_text": {"response": "\\boxed{20}</think>"},
    "mixed_scripts": {"reasoning": "He has fourteen and finds six more, 所以二十."},
    "repetitive": {"reasoning": "has, " * 2000 + "20."},
}


@pytest.mark.parametrize(("changes", "drop"), FIRST_REASONS)
def test_the_first_rule_that_drops_a_row_names_the_reason(
    make_trace, make_options, changes, drop
) -> None:
    trace = make_trace(**changes, num_tokens=TOO_SHORT, verdict="wrong", answer="21")
    assert next(drops_by_text(trace, make_options(min_reasoning_tokens=7))) == drop


def test_a_row_that_every_rule_keeps_is_not_dropped(make_trace, make_options) -> None:
    trace = make_trace(num_tokens=TOO_SHORT, verdict="correct", answer="20")
    strict = make_options(min_reasoning_tokens=6, max_reasoning_tokens=6)
    assert list(drops_by_text(trace, strict)) == []


@pytest.mark.parametrize("name", ROW_RULES)
def test_every_rule_keeps_the_row_that_is_as_it_should_be(make_trace, make_options, name) -> None:
    assert ROW_RULES[name](make_trace(verdict="correct"), make_options()) is None


def test_all_rows_truncated_are_all_dropped_even_with_right_answers(
    make_trace, make_options
) -> None:
    traces = [make_trace(finish_reason="length", verdict="correct", sample=at) for at in range(3)]
    every_verdict = make_options(verdicts=("correct", "wrong", "unverifiable"))
    drops = [next(drops_by_text(trace, every_verdict)) for trace in traces]
    assert drops == [Drop("unfinished", "length")] * 3


STRICT = {
    "min_reasoning_tokens": 7,
    "max_reasoning_tokens": 50,
    "max_repetition": 0.3,
    "max_foreign_letters": 1,
}
ENOUGH = TokenCounts(prompt=30, reasoning=7, response=5, total=45)


def test_there_is_a_case_for_every_rule_in_its_order() -> None:
    assert [*ONE_OF_EACH, "unwanted_verdict"] == list(ROW_RULES)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_each_rule_drops_what_the_rules_before_it_keep_and_can_be_ignored(
    make_trace, make_options, name
) -> None:
    trace = make_trace(**{"num_tokens": ENOUGH, "verdict": "correct", **ONE_OF_EACH[name]})
    assert next(drops_by_text(trace, make_options(**STRICT))).reason == name
    others = drops_by_text(trace, make_options(**STRICT, ignored_rules=(name,)))
    assert name not in [drop.reason for drop in others]


def test_drops_are_those_of_every_rule_in_their_order(make_trace, make_options) -> None:
    trace = make_trace(
        reasoning=CUT, response=BAD, num_tokens=TOO_SHORT, verdict="wrong", finish_reason="length"
    )
    assert [drop.reason for drop in drops_by_text(trace, make_options(**STRICT))] == [
        "unfinished", "too_few_reasoning_tokens", "refusal", "unfinished_response",
        "unfinished_reasoning", "contradicting_answers", "template_text", "mixed_scripts", "repetitive",
    ]  # fmt: skip
    assert list(drops_by_text(make_trace(verdict="wrong"), make_options())) == []


def test_a_rule_that_does_not_exist_cannot_be_ignored(distill, tmp_path) -> None:
    done = distill("filter", "traces", "--out", tmp_path / "out", "--ignore-rule", "repetition")
    assert done.code == 2
    assert "'repetition': choose from unfinished, missing_reasoning," in " ".join(done.err.split())


@pytest.mark.reference
def test_of_the_real_right_traces_two_are_dropped_for_their_form(real_traces, make_options) -> None:
    options = make_options(max_repetition=0.3, max_foreign_letters=1)
    right = {
        number: trace
        for number, (row, trace) in real_traces.items()
        if trace.finish_reason == "stop"
        and True in (row.get("x_math_verify"), row.get("author_correct"), row.get("x_correct"))
    }
    dropped = {
        number: drops
        for number, trace in right.items()
        if (drops := [drop.reason for drop in drops_by_text(trace, options)])
    }
    assert len(right) == 879
    assert dropped == {
        "rl3b_think_greedy-0239": ["contradicting_answers"],  # it boxes 1, 0.5 and 1.0
        "rl3b_think_greedy-0493": ["unfinished_reasoning"],  # a list that ends in "18 years"
    }


PIECES = [
    *"a7 .,\n$*`{}()[]<|>:的我",
    "\\",
    "\\boxed{",
    "\\(",
    "```",
    "has, " * 9,
    "\ud800",
    "\x00",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)


@given(reasoning=TEXTS, response=TEXTS)
def test_every_rule_has_an_answer_for_every_text(
    make_trace, make_options, reasoning, response
) -> None:
    trace = make_trace(reasoning=reasoning, response=response, verdict="correct")
    for drop in drops_by_text(trace, make_options(**{**STRICT, "min_reasoning_tokens": 1})):
        assert drop.reason in ROW_RULES
        assert drop.measured is None or len(drop.measured) < 1000
