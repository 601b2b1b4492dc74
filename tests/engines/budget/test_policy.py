"""The budget forcing policy as tables: counts in, next step out."""

import msgspec
import pytest

from distillpipe.base.errors import UsageError
from distillpipe.base.options import Budget, Sampling, row_key
from distillpipe.engines.budget.policy import (
    RESPONSE_TOKENS,
    Accept,
    DelimiterTokens,
    Force,
    Round,
    SampleOn,
    ThoughtState,
    TokenLimits,
    Truncate,
    Wait,
    active_budget,
    next_round,
    next_step,
    token_limits,
)

NONE = Budget(
    num_waits=0, min_reasoning_tokens=0, max_reasoning_tokens=None, wait_text="Wait", end_text="",
    end_at="step",
)  # fmt: skip
DELIMITERS = DelimiterTokens(opening=2, closing=3, slack=1)
FREE = TokenLimits(completion=100, thought=None, reserved=0)
CAPPED = TokenLimits(completion=100, thought=50, reserved=20)


def budget(waits: int = 0, low: int = 0, high: int | None = None, **changes: object) -> Budget:
    given = {"num_waits": waits, "min_reasoning_tokens": low, "max_reasoning_tokens": high}
    return msgspec.structs.replace(NONE, **given, **changes)


# budget, limits, (why it stopped, reasoning tokens, waits so far, tokens left), what comes then; a wait has 3 tokens
STEPS = {
    "an end is an end": (budget(high=50), CAPPED, ("end", 30, 0, 40), Accept()),
    "the first end is replaced": (budget(1), FREE, ("end", 30, 0, 60), Wait(3)),
    "whatever the length": (budget(1), FREE, ("end", 0, 0, 90), Wait(3)),
    "the second of two is replaced, too": (budget(2), FREE, ("end", 30, 1, 60), Wait(3)),
    "the third is not": (budget(2), FREE, ("end", 30, 2, 60), Accept()),
    "an end before the minimum is replaced": (budget(low=40), FREE, ("end", 39, 0, 60), Wait(3)),
    "as often as needed": (budget(low=40), FREE, ("end", 39, 25, 60), Wait(3)),
    "an end at the minimum is not": (budget(low=40), FREE, ("end", 40, 0, 60), Accept()),
    "an end before the minimum uses a wait up": (budget(1, 40), FREE, ("end", 45, 1, 50), Accept()),
    "the maximum wins over a wait": (budget(1, 0, 50), CAPPED, ("end", 50, 0, 20), Accept()),
    "a wait needs room for a token behind it": (
        budget(1, 0, 50), CAPPED, ("end", 47, 0, 23), Accept()),
    "and has it with one token more": (budget(1, 0, 50), CAPPED, ("end", 46, 0, 24), Wait(3)),
    "before the minimum part of a wait will do": (
        budget(0, 50, 50), CAPPED, ("end", 48, 0, 22), Wait(2)),
    "an end beyond the maximum is taken back": (budget(high=50), CAPPED, ("end", 51, 0, 19), Force()),
    "all tokens are used": (budget(high=50), CAPPED, ("limit", 51, 0, 19), Force()),
    "the completion is at its limit, and there is no maximum": (
        budget(1), FREE, ("limit", 90, 0, 0), Truncate("length")),
    "no room is left, and the minimum is not reached": (
        budget(low=95), FREE, ("limit", 94, 0, 0), Truncate("length")),
    "an end without room, and the minimum is not reached": (
        budget(low=95), FREE, ("end", 94, 0, 0), Accept()),
    "encoded anew, the tokens are fewer": (budget(0, 50, 50), CAPPED, ("limit", 48, 0, 22), SampleOn()),
    "a loop ends the completion": (budget(1, 0, 50), CAPPED, ("loop", 40, 0, 30), Truncate("repetition")),
    "a loop before the minimum is led out of": (
        budget(0, 45, 50), CAPPED, ("loop", 40, 0, 30), Wait(3)),
    "a budget of nothing": (budget(high=0), TokenLimits(100, 0, 20), ("limit", 0, 0, 78), Force()),
}  # fmt: skip


@pytest.mark.parametrize(("given", "allowed", "seen", "expected"), STEPS.values(), ids=STEPS.keys())
def test_what_comes_after_a_round(given, allowed, seen, expected) -> None:
    assert next_step(given, allowed, ThoughtState(*seen), num_wait_tokens=3) == expected


ROUNDS = {
    "to the end of the completion": (budget(1), FREE, ("limit", 30, 0, 68), Round(68, True)),
    "no end is replaced any more": (budget(1), FREE, ("limit", 30, 1, 68), Round(68, False)),
    "to the maximum, and the end that may follow": (
        budget(high=50), CAPPED, ("limit", 30, 0, 48), Round(21, False)),
    "an end before the minimum would be replaced": (
        budget(0, 40, 50), CAPPED, ("limit", 39, 0, 39), Round(12, True)),
    "what is kept for the response is not touched": (
        budget(high=50), CAPPED, ("limit", 30, 0, 5), Round(5, False)),
    "at the maximum": (budget(high=50), CAPPED, ("limit", 50, 0, 28), Round(0, False)),
    "a budget of nothing": (budget(high=0), TokenLimits(100, 0, 20), ("limit", 0, 0, 78), Round(0, False)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "allowed", "seen", "expected"), ROUNDS.values(), ids=ROUNDS.keys()
)
def test_how_many_tokens_may_follow(given, allowed, seen, expected) -> None:
    assert next_round(given, allowed, ThoughtState(*seen), slack=1) == expected


# budget, --max-tokens, what the context leaves
LIMITS = {
    "there is room for all": (budget(high=500), 2000, 3000, TokenLimits(2000, 500, 3 + RESPONSE_TOKENS)),
    "what the options leave for the response is kept": (
        budget(high=500), 600, 3000, TokenLimits(600, 500, 3 + 94)),
    "a short context takes from the thought": (
        budget(high=500), 2000, 700, TokenLimits(700, 700 - 6 - RESPONSE_TOKENS, 3 + RESPONSE_TOKENS)),
    "down to the minimum": (budget(0, 438, 500), 2000, 700, TokenLimits(700, 438, 3 + RESPONSE_TOKENS)),
    "and no further": (budget(0, 439, 500), 2000, 700, None),
    "not a token for the thought": (budget(high=500), 2000, 6 + RESPONSE_TOKENS - 1, None),
    "no maximum": (budget(1), 2000, 700, TokenLimits(700, None, 0)),
    "no maximum, and the minimum has no room": (budget(low=694), 2000, 700, None),
    "no maximum, and the minimum has just room": (budget(low=693), 2000, 700, TokenLimits(700, None, 0)),
    "nothing for the thought": (budget(high=0), 2000, 3000, TokenLimits(2000, 0, 3 + RESPONSE_TOKENS)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "max_tokens", "context", "expected"), LIMITS.values(), ids=LIMITS.keys()
)
def test_how_many_tokens_a_completion_has(given, max_tokens, context, expected) -> None:
    assert token_limits(given, max_tokens, context, DELIMITERS) == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            budget(high=994),
            r"--max-reasoning-tokens 994 leaves no room .* 1,001 or more, not 1,000",
        ),
        (budget(low=994), r"--min-reasoning-tokens 994 leaves no room .* 1,001 or more, not 1,000"),
    ],
)
def test_a_budget_that_leaves_no_room_for_a_response_is_refused(given, said) -> None:
    with pytest.raises(UsageError, match=said):
        token_limits(given, 1000, 3000, DELIMITERS)
    assert token_limits(given, 1001, 3000, DELIMITERS) is not None


def test_a_minimum_above_the_maximum_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--min-reasoning-tokens 51 is more than .* 50"):
        active_budget(budget(low=51, high=50))
    assert active_budget(budget(low=50, high=50)) == budget(low=50, high=50)


@pytest.mark.parametrize("given", [budget(1, wait_text=" \n"), budget(low=1, wait_text="")])
def test_a_wait_without_a_text_is_refused(given) -> None:
    with pytest.raises(UsageError, match="--wait-text is empty"):
        active_budget(given)


def test_a_budget_that_asks_for_nothing_is_none() -> None:
    assert active_budget(budget(wait_text="", end_text="Final Answer:")) is None


def test_a_budget_is_part_of_a_row_s_key_only_where_there_is_one() -> None:
    sampling = Sampling(temperature=0.6, top_p=0.95, max_tokens=64)

    def key(of: Budget | None) -> str:
        return row_key([1, 2, 3], sampling, "local:0123", seed=5, sample=0, budget=of)

    assert key(None) == "119450adfede8672514155fc39a24495"  # as it was before there were budgets
    assert len({key(None), key(budget(1)), key(budget(2)), key(budget(1, end_text="So"))}) == 4
