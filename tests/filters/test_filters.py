"""The row rules together: the first that drops a row names the reason."""

import pytest

from distillpipe.filters import ROW_RULES, Drop, first_drop
from distillpipe.records import TokenCounts

TOO_SHORT = TokenCounts(prompt=30, reasoning=6, response=5, total=44)

# Every row is wrong in its own way and in all that come after it.
FIRST_REASONS = [
    ({"finish_reason": "length", "reasoning": ""}, Drop("unfinished", "length")),
    ({"reasoning": ""}, Drop("missing_reasoning", None)),
    ({"reasoning": "14+6=21."}, Drop("too_few_reasoning_tokens", "6")),
]


@pytest.mark.parametrize(("changes", "drop"), FIRST_REASONS)
def test_the_first_rule_that_drops_a_row_names_the_reason(
    make_trace, make_options, changes, drop
) -> None:
    trace = make_trace(**changes, num_tokens=TOO_SHORT, verdict="wrong", answer="21")
    assert first_drop(trace, make_options(min_reasoning_tokens=7)) == drop


def test_the_verdict_is_looked_at_last(make_trace, make_options) -> None:
    trace = make_trace(num_tokens=TOO_SHORT, verdict="wrong", answer="21")
    both = make_options(min_reasoning_tokens=0, max_reasoning_tokens=5)
    assert first_drop(trace, both) == Drop("too_many_reasoning_tokens", "6")
    assert first_drop(trace, make_options()) == Drop("wrong_answer", "21")


def test_a_row_that_every_rule_keeps_is_not_dropped(make_trace, make_options) -> None:
    trace = make_trace(num_tokens=TOO_SHORT, verdict="correct", answer="20")
    strict = make_options(min_reasoning_tokens=6, max_reasoning_tokens=6)
    assert first_drop(trace, strict) is None


@pytest.mark.parametrize("name", ROW_RULES)
def test_every_rule_keeps_the_row_that_is_as_it_should_be(make_trace, make_options, name) -> None:
    assert ROW_RULES[name](make_trace(verdict="correct"), make_options()) is None


def test_all_rows_truncated_are_all_dropped_even_with_right_answers(
    make_trace, make_options
) -> None:
    traces = [make_trace(finish_reason="length", verdict="correct", sample=at) for at in range(3)]
    every_verdict = make_options(verdicts=("correct", "wrong", "unverifiable"))
    drops = [first_drop(trace, every_verdict) for trace in traces]
    assert drops == [Drop("unfinished", "length")] * 3
