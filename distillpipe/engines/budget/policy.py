r"""Budget forcing (s1, Muennighoff et al. 2025, section 3): how long a thought is, decided between two rounds.

A round of sampling stops where the thought ends, where its tokens are used up, or in a loop. `next_step`
says what comes then; it knows counts alone, no tokens and no text (`thoughts` has those, `engines.budgeted`
goes on with the engine). Two triggers keep a thought going: the first `num_waits` ends are replaced by the
wait text whatever the length, and an end before `min_reasoning_tokens` as often as needed. The maximum wins
over both. For a response room is kept:

    <think>\n  14+6=20.\n Wait  ...  \n</think>\n\n  end text \boxed{20}<|im_end|>
              |-- `Limits.thought` at most --|      |-- what is left of `Limits.completion` --|
"""

from typing import Literal, NamedTuple

import msgspec

from distillpipe.base.errors import UsageError
from distillpipe.base.options import Budget, SamplingOptions

RESPONSE_TOKENS = 256  # kept for a response where prompt and thought would fill the context


class Limits(NamedTuple):
    """How many tokens one completion has."""

    completion: int
    "in all: --max-tokens, or what the context leaves"
    thought: int | None
    "of reasoning; null where it may go on to the end of the completion"
    kept: int
    "of the completion, for what follows the thought"


class Delimiters(NamedTuple):
    """How many tokens stand around a thought."""

    opening: int
    closing: int
    "with the text that begins the response"
    slack: int
    "that a model needs at most to write the end of its thought by itself"


class Seen(NamedTuple):
    """How far a completion is when sampling has stopped in its thought, or after it."""

    stopped: Literal["end", "limit", "loop"]
    "the thought has ended, by its delimiter or the end token; or its tokens are used up; or it repeats itself"
    num_reasoning: int
    num_waits: int
    num_left: int
    "tokens of the completion behind the thought, without those kept for the response"


class Accept(NamedTuple):
    """The thought ends where the model ended it."""


class Wait(NamedTuple):
    """The end is taken back, and the thought goes on after the wait text."""

    num_tokens: int
    "of the wait text: fewer than it has where only they fit"


class GoOn(NamedTuple):
    """The thought goes on as it is."""


class Force(NamedTuple):
    """The thought is ended for the model."""


class Stop(NamedTuple):
    """The completion ends in its thought."""

    reason: Literal["length", "repetition"]


Step = Accept | Wait | GoOn | Force | Stop


class Round(NamedTuple):
    """What the engine is asked for next."""

    num_tokens: int
    stops_at_end: bool
    "an end of the thought stops it, since it may be replaced"


def check(budget: Budget) -> Budget | None:
    """The budget, null where it asks for nothing; a UsageError for options that contradict each other."""
    low, high = budget.min_reasoning_tokens, budget.max_reasoning_tokens
    if high is not None and low > high:
        raise UsageError(
            f"--min-reasoning-tokens {low:,} is more than --max-reasoning-tokens {high:,}"
        )
    if (budget.num_waits or low) and not budget.wait_text.strip():
        raise UsageError("--wait-text is empty: it is what a thought goes on with, say 'Wait'")
    return budget if budget.num_waits or low or high is not None else None


def checked(options: SamplingOptions) -> SamplingOptions:
    """The options, with None for a budget that asks for nothing; raises as `check`."""
    budget = None if options.budget is None else check(options.budget)
    return msgspec.structs.replace(options, budget=budget)


def limits(budget: Budget, max_tokens: int, context: int, around: Delimiters) -> Limits | None:
    """The limits of a completion for which `context` tokens are left; null where it has no room.

    Raises UsageError where not even `max_tokens` has room for the budget.
    """
    high, low = budget.max_reasoning_tokens, budget.min_reasoning_tokens
    tokens_around = sum(around)
    wanted = low if high is None else high
    least = tokens_around + wanted + 1
    if least > max_tokens and (wanted or high is not None):
        option = "--min-reasoning-tokens" if high is None else "--max-reasoning-tokens"
        raise UsageError(
            f"{option} {wanted:,} leaves no room for a response: with the delimiters it takes "
            f"a --max-tokens of {least:,} or more, not {max_tokens:,}"
        )
    completion = min(max_tokens, context)
    if high is None:
        return Limits(completion, None, 0) if not low or completion >= least else None
    response = min(RESPONSE_TOKENS, max_tokens - high - tokens_around)
    thought = min(high, completion - tokens_around - response)
    return Limits(completion, thought, around.closing + response) if thought >= low else None


def next_step(budget: Budget, allowed: Limits, seen: Seen, num_wait_tokens: int) -> Step:
    """What comes after a round; `num_wait_tokens` is what the wait text has."""
    is_short = seen.num_reasoning < budget.min_reasoning_tokens
    room = _room(allowed, seen)
    if seen.stopped == "end" and room >= 0:
        wants_more = is_short or seen.num_waits < budget.num_waits
        if wants_more and (room > num_wait_tokens or (is_short and room > 0)):
            return Wait(min(num_wait_tokens, room))
        return Accept()
    if seen.stopped == "loop":
        return Wait(min(num_wait_tokens, room)) if is_short and room > 0 else Stop("repetition")
    if is_short and room > 0:
        return GoOn()
    return Stop("length") if allowed.thought is None else Force()


def next_round(budget: Budget, allowed: Limits, seen: Seen, slack: int) -> Round:
    """The round that a thought goes on with; without tokens where there is no room for one."""
    can_be_replaced = (
        seen.num_waits < budget.num_waits or seen.num_reasoning < budget.min_reasoning_tokens
    )
    room = _room(allowed, seen)
    if allowed.thought is not None and room > 0:
        room = min(seen.num_left, allowed.thought - seen.num_reasoning + slack)
    return Round(max(room, 0), can_be_replaced)


def _room(allowed: Limits, seen: Seen) -> int:
    """Tokens that the thought may still have; below 0 where it has too many already."""
    if allowed.thought is None:
        return seen.num_left
    return min(seen.num_left, allowed.thought - seen.num_reasoning)
