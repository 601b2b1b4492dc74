r"""Budget forcing (s1, Muennighoff et al. 2025, section 3): decides after each sampling round what comes next.

Sampling stops where the reasoning ends, where its tokens are used up, or in a repetition loop. `next_step`
then decides from counts alone, without tokens or text. `budget.thoughts` edits the token ids and
`budget.engine` continues with the engine.

- Two triggers keep reasoning going. The first `num_waits` ends are replaced by the wait text, whatever the
  length. An end before `min_reasoning_tokens` is replaced as often as needed.
- `max_reasoning_tokens` wins over both triggers.
- Room for a response is reserved:

    <think>\n  14+6=20.\n Wait  ...  \n</think>\n\n  end text \boxed{20}<|im_end|>
              |-- `TokenLimits.thought` --|          |-- rest of `TokenLimits.completion` --|
"""

from typing import Literal, NamedTuple

import msgspec

from distillpipe.base.errors import UsageError
from distillpipe.base.options import Budget, SamplingOptions

RESPONSE_TOKENS = 256  # reserved for a response if prompt and reasoning would fill the context


class TokenLimits(NamedTuple):
    """Maximum tokens of one completion and of its parts."""

    completion: int
    "of the whole completion: --max-tokens, or the rest of the context"
    thought: int | None
    "of reasoning; null if it may use the whole completion"
    reserved: int
    "of the completion, for the delimiter and the response"


class DelimiterTokens(NamedTuple):
    """Number of tokens around the reasoning."""

    opening: int
    closing: int
    "with the text that begins the response"
    slack: int
    "maximum that a model needs to write the end of its reasoning by itself"


class ThoughtState(NamedTuple):
    """The state of a completion when sampling stops in its reasoning, or at the end of it."""

    stopped: Literal["end", "limit", "loop"]
    "`end`: delimiter or end token; `limit`: tokens used up; `loop`: repetition"
    num_reasoning: int
    num_waits: int
    num_left: int
    "tokens of the completion after the reasoning, without the reserved ones"


class Accept(NamedTuple):
    """The reasoning ends where the model ended it."""


class Wait(NamedTuple):
    """Remove the end of reasoning, append the wait text and sample on."""

    num_tokens: int
    "of the wait text to append: fewer than it has if only these fit"


class SampleOn(NamedTuple):
    """Continue the reasoning as it is."""


class Force(NamedTuple):
    """Append the end of reasoning for the model."""


class Truncate(NamedTuple):
    """End the completion inside its reasoning."""

    reason: Literal["length", "repetition"]


NextStep = Accept | Wait | SampleOn | Force | Truncate


class Round(NamedTuple):
    """The next request to the engine."""

    num_tokens: int
    stops_at_end: bool
    "whether an end of reasoning stops sampling, because it may be replaced"


def active_budget(budget: Budget) -> Budget | None:
    """The budget; None if it sets no bound. Raises UsageError for options that contradict each other."""
    low, high = budget.min_reasoning_tokens, budget.max_reasoning_tokens
    if high is not None and low > high:
        raise UsageError(
            f"--min-reasoning-tokens {low:,} is more than --max-reasoning-tokens {high:,}"
        )
    if (budget.num_waits or low) and not budget.wait_text.strip():
        raise UsageError(
            "--wait-text is empty: give the text that continues the reasoning, for example 'Wait'"
        )
    return budget if budget.num_waits or low or high is not None else None


def checked(options: SamplingOptions) -> SamplingOptions:
    """The options, with None for a budget that sets no bound. Raises as `active_budget`."""
    budget = None if options.budget is None else active_budget(options.budget)
    return msgspec.structs.replace(options, budget=budget)


def token_limits(
    budget: Budget, max_tokens: int, context: int, delimiters: DelimiterTokens
) -> TokenLimits | None:
    """The limits of a completion with `context` tokens of the context left; None if there is no room.

    Raises UsageError if not even `max_tokens` has room for the budget.
    """
    high, low = budget.max_reasoning_tokens, budget.min_reasoning_tokens
    num_delimiters = sum(delimiters)
    required = low if high is None else high
    least = num_delimiters + required + 1
    if least > max_tokens and (required or high is not None):
        option = "--min-reasoning-tokens" if high is None else "--max-reasoning-tokens"
        raise UsageError(
            f"{option} {required:,} leaves no room for a response: with the delimiters it needs "
            f"--max-tokens {least:,} or more, not {max_tokens:,}"
        )
    completion = min(max_tokens, context)
    if high is None:
        return TokenLimits(completion, None, 0) if not low or completion >= least else None
    response = min(RESPONSE_TOKENS, max_tokens - high - num_delimiters)
    thought = min(high, completion - num_delimiters - response)
    reserved = delimiters.closing + response
    return TokenLimits(completion, thought, reserved) if thought >= low else None


def next_step(
    budget: Budget, limits: TokenLimits, state: ThoughtState, num_wait_tokens: int
) -> NextStep:
    """The step after a round. `num_wait_tokens` is the length of the wait text."""
    is_short = state.num_reasoning < budget.min_reasoning_tokens
    room = _room(limits, state)
    if state.stopped == "end" and room >= 0:
        wants_more = is_short or state.num_waits < budget.num_waits
        if wants_more and (room > num_wait_tokens or (is_short and room > 0)):
            return Wait(min(num_wait_tokens, room))
        return Accept()
    if state.stopped == "loop":
        can_wait = is_short and room > 0
        return Wait(min(num_wait_tokens, room)) if can_wait else Truncate("repetition")
    if is_short and room > 0:
        return SampleOn()
    return Truncate("length") if limits.thought is None else Force()


def next_round(budget: Budget, limits: TokenLimits, state: ThoughtState, slack: int) -> Round:
    """The next round of reasoning; it has 0 tokens if there is no room."""
    stops_at_end = (
        state.num_waits < budget.num_waits or state.num_reasoning < budget.min_reasoning_tokens
    )
    room = _room(limits, state)
    if limits.thought is not None and room > 0:
        room = min(state.num_left, limits.thought - state.num_reasoning + slack)
    return Round(max(room, 0), stops_at_end)


def _room(limits: TokenLimits, state: ThoughtState) -> int:
    """Tokens that the reasoning may still have; negative if it has too many already."""
    if limits.thought is None:
        return state.num_left
    return min(state.num_left, limits.thought - state.num_reasoning)
