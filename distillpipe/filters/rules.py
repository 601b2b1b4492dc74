"""The rules that look at one row: each returns why the row is dropped, or null."""

from typing import NamedTuple

from distillpipe.records import FilterOptions, Trace


class Drop(NamedTuple):
    """Why a row is dropped: a stable name of what is wrong, and the value that was measured."""

    reason: str
    measured: str | None


def unfinished(trace: Trace, _options: FilterOptions) -> Drop | None:
    """A completion that was cut off: its answer, where it has one, is not its last word."""
    return Drop("unfinished", trace.finish_reason) if trace.is_truncated else None


def missing_reasoning(trace: Trace, _options: FilterOptions) -> Drop | None:
    return None if trace.reasoning.strip() else Drop("missing_reasoning", None)


def too_few_reasoning_tokens(trace: Trace, options: FilterOptions) -> Drop | None:
    num_tokens = trace.num_tokens.reasoning
    if num_tokens < options.min_reasoning_tokens:
        return Drop("too_few_reasoning_tokens", str(num_tokens))
    return None


def too_many_reasoning_tokens(trace: Trace, options: FilterOptions) -> Drop | None:
    num_tokens = trace.num_tokens.reasoning
    if options.max_reasoning_tokens is not None and num_tokens > options.max_reasoning_tokens:
        return Drop("too_many_reasoning_tokens", str(num_tokens))
    return None


def unwanted_verdict(trace: Trace, options: FilterOptions) -> Drop | None:
    """The verdict has to be made first; the reason is the verdict: `wrong_answer`."""
    if trace.verdict in options.verdicts:
        return None
    reasons = {"correct": "correct_answer", "wrong": "wrong_answer"}
    return Drop(reasons.get(str(trace.verdict), "unverifiable_answer"), trace.answer)
