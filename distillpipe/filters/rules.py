"""The rules that look at one row: each returns why the row is dropped, or null."""

from typing import NamedTuple

from distillpipe.base.errors import UsageError
from distillpipe.base.options import FilterOptions
from distillpipe.base.records import Trace
from distillpipe.base.rowguard import REASON, is_internal_error
from distillpipe.models.endings import ANSWER_TAG, NUM_SHOWN, breaks_off, is_open_block, last_words

OVER_BUDGET = "too_many_reasoning_tokens"


class Drop(NamedTuple):
    """Why a row is dropped: a stable name of what is wrong, and the value that was measured."""

    reason: str
    measured: str | None


def unfinished(trace: Trace, _options: FilterOptions) -> Drop | None:
    """A completion that was cut off: its answer, where it has one, is not its last word."""
    return Drop("unfinished", trace.finish_reason) if trace.is_truncated else None


def missing_reasoning(trace: Trace, options: FilterOptions) -> Drop | None:
    """No reasoning at all, unless none is asked for: 0 keeps answers without reasoning too."""
    if trace.reasoning.strip() or not options.min_reasoning_tokens:
        return None
    return Drop("missing_reasoning", None)


def too_few_reasoning_tokens(trace: Trace, options: FilterOptions) -> Drop | None:
    """Any reasoning has a token: a minimum of one needs no counts."""
    if options.min_reasoning_tokens <= 1 and trace.num_tokens is None:
        return None
    num_tokens = _num_reasoning_tokens(trace, "--min-reasoning-tokens")
    if num_tokens < options.min_reasoning_tokens:
        return Drop("too_few_reasoning_tokens", str(num_tokens))
    return None


def too_many_reasoning_tokens(trace: Trace, options: FilterOptions) -> Drop | None:
    if options.max_reasoning_tokens is None:
        return None
    num_tokens = _num_reasoning_tokens(trace, "--max-reasoning-tokens")
    if num_tokens > options.max_reasoning_tokens:
        return Drop(OVER_BUDGET, str(num_tokens))
    return None


def repetitive(trace: Trace, options: FilterOptions) -> Drop | None:
    """More of the worst stretch says nothing new than is allowed; 1 allows all."""
    if options.max_repetition >= 1:
        return None
    from distillpipe.filters.loops import repeated_share  # numpy: not for an "up to date" answer

    share = repeated_share(f"{trace.reasoning}\n{trace.response}")
    return Drop("repetitive", f"{share:.2f}") if share > options.max_repetition else None


def unwanted_verdict(trace: Trace, options: FilterOptions) -> Drop | None:
    """The verdict has to be made first; the reason is the verdict: `wrong_answer`."""
    if trace.verdict in options.verdicts:
        return None
    if is_internal_error(None, trace.verdict_reason):
        return Drop(REASON, str(trace.verdict_reason).removeprefix(f"{REASON}: "))
    reasons = {"correct": "correct_answer", "wrong": "wrong_answer"}
    return Drop(
        reasons.get(str(trace.verdict), "unverifiable_answer"), trace.verdict_reason or trace.answer
    )


def _num_reasoning_tokens(trace: Trace, option: str) -> int:
    if trace.num_tokens is None:
        raise UsageError(
            f"row {trace.id} has no token counts, which {option} needs: import it again with "
            "`distill import --tokenizer MODEL`"
        )
    return trace.num_tokens.reasoning


def missing_response(trace: Trace, _options: FilterOptions) -> Drop | None:
    """The thought ended, or was ended, and no answer came."""
    response = trace.response
    if len(response) < NUM_SHOWN and not ANSWER_TAG.sub("", response).strip():
        return Drop("missing_response", None)
    return None


def unfinished_reasoning(trace: Trace, _options: FilterOptions) -> Drop | None:
    """The thought stops in mid-sentence; that its tag is closed does not mend it."""
    reasoning = trace.reasoning
    return Drop("unfinished_reasoning", last_words(reasoning)) if breaks_off(reasoning) else None


def unfinished_response(trace: Trace, _options: FilterOptions) -> Drop | None:
    """The response stops in mid-sentence, or in a box, a formula or a code block that is not closed."""
    response = trace.response
    if is_open_block(response) or (trace.verifier != "code" and breaks_off(response)):
        return Drop("unfinished_response", last_words(response))
    return None
