"""Filters: why a row is dropped. A new rule is one function and one line in `ROW_RULES`.

A row rule is `(trace, options) -> Drop | None`. Rules run in this order, cheap before dear, and the first
that drops a row names the reason; the verdict, though cheap, is the last, so that a reason says what is wrong
with a trace before that its answer is. What needs to see all rows (duplicates, the share of a problem) is in
select.py and runs on the rows that are left.
"""

from collections.abc import Callable, Iterator

import msgspec

from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.records import Trace
from distillpipe.filters.rules import (
    Drop,
    answer_only_in_reasoning,
    contradicting_answers,
    missing_reasoning,
    missing_response,
    refusal,
    repetitive,
    template_text,
    too_few_reasoning_tokens,
    too_many_reasoning_tokens,
    unfinished,
    unfinished_reasoning,
    unfinished_response,
    unwanted_verdict,
)
from distillpipe.filters.scripts import mixed_scripts

ROW_RULES: dict[str, Callable[[Trace, FilterOptions], Drop | None]] = {
    "unfinished": unfinished,
    "missing_reasoning": missing_reasoning,
    "too_few_reasoning_tokens": too_few_reasoning_tokens,
    "too_many_reasoning_tokens": too_many_reasoning_tokens,
    "missing_response": missing_response,
    "refusal": refusal,
    "unfinished_response": unfinished_response,
    "unfinished_reasoning": unfinished_reasoning,
    "answer_only_in_reasoning": answer_only_in_reasoning,
    "contradicting_answers": contradicting_answers,
    "template_text": template_text,
    "mixed_scripts": mixed_scripts,
    "repetitive": repetitive,
    "unwanted_verdict": unwanted_verdict,
}
CODE_VERSION = 5  # part of the fingerprint: raise it when a rule decides differently


def drops_by_text(trace: Trace, options: FilterOptions) -> Iterator[Drop]:
    """What each rule that would drop the row says, in their order, but for the one that needs the verdict.

    A verdict is dear to make, so `examine` asks for it last.
    """
    for name, rule in ROW_RULES.items():
        ignored = name == "unwanted_verdict" or name in options.ignored_rules
        if not ignored and (drop := rule(trace, options)) is not None:
            yield drop


def unjudged(trace: Trace, options: FilterOptions) -> Trace:
    """The row without what a verdict said of it: rows that differ in nothing else are one row."""
    return msgspec.structs.replace(
        trace, answer=None, verdict=None, verdict_reason=None,
        verifier=options.verifier or trace.verifier,
    )  # fmt: skip
