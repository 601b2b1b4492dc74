"""Filters: why a row is dropped. A new rule is one function and one line in `ROW_RULES`.

A row rule is `(trace, options) -> Drop | None`. Rules run in this order, cheap before dear, and the first
that drops a row names the reason. What needs to see all rows (duplicates, the share of a problem) is in
select.py and runs on the rows that are left.
"""

from collections.abc import Callable

from distillpipe.filters.rules import (
    Drop,
    missing_reasoning,
    too_few_reasoning_tokens,
    too_many_reasoning_tokens,
    unfinished,
    unwanted_verdict,
)
from distillpipe.records import FilterOptions, Trace

ROW_RULES: dict[str, Callable[[Trace, FilterOptions], Drop | None]] = {
    "unfinished": unfinished,
    "missing_reasoning": missing_reasoning,
    "too_few_reasoning_tokens": too_few_reasoning_tokens,
    "too_many_reasoning_tokens": too_many_reasoning_tokens,
    "unwanted_verdict": unwanted_verdict,
}
CODE_VERSION = 2  # part of the fingerprint: raise it when a rule decides differently


def first_drop(trace: Trace, options: FilterOptions) -> Drop | None:
    """What the first rule that drops the row says, null where every rule keeps it."""
    for rule in ROW_RULES.values():
        if (drop := rule(trace, options)) is not None:
            return drop
    return None
