"""Each rule that looks at one row: the reason, the measured value, and both sides of the limit."""

import pytest

from distillpipe.base.errors import UsageError
from distillpipe.base.records import TokenCounts
from distillpipe.filters.rules import (
    Drop,
    missing_reasoning,
    too_few_reasoning_tokens,
    too_many_reasoning_tokens,
    unfinished,
    unwanted_verdict,
)


@pytest.mark.parametrize(
    ("finish_reason", "drop"),
    [
        ("stop", None),
        ("length", Drop("unfinished", "length")),
        ("repetition", Drop("unfinished", "repetition")),
    ],
)
def test_a_completion_that_was_cut_off_is_unfinished(
    make_trace, make_options, finish_reason, drop
) -> None:
    assert unfinished(make_trace(finish_reason=finish_reason), make_options()) == drop


@pytest.mark.parametrize("reasoning", [None, "", " \n\t"])
def test_reasoning_that_is_absent_or_blank_is_missing(make_trace, make_options, reasoning) -> None:
    options = make_options(min_reasoning_tokens=1)
    drop = missing_reasoning(make_trace(reasoning=reasoning), options)
    assert drop == Drop("missing_reasoning", None)


@pytest.mark.parametrize("reasoning", [None, "", " \n\t"])
def test_reasoning_is_not_missing_where_none_is_asked_for(
    make_trace, make_options, reasoning
) -> None:
    options = make_options(min_reasoning_tokens=0)
    assert missing_reasoning(make_trace(reasoning=reasoning), options) is None


def test_any_reasoning_is_enough_to_be_there(make_trace, make_options) -> None:
    options = make_options(min_reasoning_tokens=1)
    assert missing_reasoning(make_trace(reasoning="."), options) is None


def tokens(reasoning: int) -> TokenCounts:
    return TokenCounts(prompt=500, reasoning=reasoning, response=500, total=1000 + reasoning)


@pytest.mark.parametrize(
    ("reasoning", "minimum", "drop"),
    [
        (0, 0, None),
        (0, 1, Drop("too_few_reasoning_tokens", "0")),
        (99, 100, Drop("too_few_reasoning_tokens", "99")),
        (100, 100, None),
        (101, 100, None),
    ],
)
def test_reasoning_below_the_minimum_is_dropped(
    make_trace, make_options, reasoning, minimum, drop
) -> None:
    trace = make_trace(num_tokens=tokens(reasoning))
    assert too_few_reasoning_tokens(trace, make_options(min_reasoning_tokens=minimum)) == drop


@pytest.mark.parametrize(
    ("reasoning", "maximum", "drop"),
    [
        (10**6, None, None),
        (99, 100, None),
        (100, 100, None),
        (101, 100, Drop("too_many_reasoning_tokens", "101")),
        (1, 0, Drop("too_many_reasoning_tokens", "1")),
        (0, 0, None),
    ],
)
def test_reasoning_above_the_maximum_is_dropped(
    make_trace, make_options, reasoning, maximum, drop
) -> None:
    trace = make_trace(num_tokens=tokens(reasoning))
    assert too_many_reasoning_tokens(trace, make_options(max_reasoning_tokens=maximum)) == drop


@pytest.mark.parametrize(
    ("rule", "changes", "flag"),
    [
        (too_few_reasoning_tokens, {"min_reasoning_tokens": 0}, None),
        (too_few_reasoning_tokens, {"min_reasoning_tokens": 1}, None),
        (too_few_reasoning_tokens, {"min_reasoning_tokens": 2}, "--min-reasoning-tokens"),
        (too_many_reasoning_tokens, {"max_reasoning_tokens": None}, None),
        (too_many_reasoning_tokens, {"max_reasoning_tokens": 10**6}, "--max-reasoning-tokens"),
    ],
)
def test_a_row_without_counts_is_kept_unless_a_limit_needs_them(
    make_trace, make_options, rule, changes, flag
) -> None:
    trace, options = make_trace(num_tokens=None), make_options(**changes)
    if flag is None:
        assert rule(trace, options) is None
        return
    with pytest.raises(UsageError) as raised:
        rule(trace, options)
    assert str(raised.value) == (
        f"row {trace.id} has no token counts, which {flag} needs: "
        "import it again with `distill import --tokenizer MODEL`"
    )


@pytest.mark.parametrize(
    ("verdict", "wanted", "reason"),
    [
        ("correct", ("correct",), None),
        ("wrong", ("correct",), "wrong_answer"),
        ("unverifiable", ("correct",), "unverifiable_answer"),
        (None, ("correct",), "unverifiable_answer"),
        ("wrong", ("wrong",), None),
        ("correct", ("wrong",), "correct_answer"),
        ("unverifiable", ("correct", "unverifiable"), None),
        ("wrong", ("correct", "unverifiable"), "wrong_answer"),
        ("correct", (), "correct_answer"),
    ],
)
def test_a_verdict_that_is_not_wanted_is_the_reason(
    make_trace, make_options, verdict, wanted, reason
) -> None:
    trace = make_trace(verdict=verdict, answer="21")
    drop = unwanted_verdict(trace, make_options(verdicts=wanted))
    assert drop == (None if reason is None else Drop(reason, "21"))


def test_a_wrong_answer_is_measured_null_where_there_is_none(make_trace, make_options) -> None:
    trace = make_trace(verdict="wrong", answer=None)
    assert unwanted_verdict(trace, make_options()) == Drop("wrong_answer", None)
