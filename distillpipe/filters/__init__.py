"""Row filters. A new rule is one function and one entry in `ROW_RULES`.

A row rule is a function `(trace, options) -> Drop | None`. Rules run in this order, cheap ones first, and the first rule
that drops a row gives the reason. The verdict is last although it is cheap to check, so that a reason about the text
comes before the wrong answer. Rules that need all rows (duplicates, rows a problem) are in select.py and run on the rows
that are left.
"""

from collections.abc import Callable, Iterator

import msgspec

from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.records import Trace
from distillpipe.filters import rules
from distillpipe.filters.rules import Drop
from distillpipe.filters.scripts import mixed_scripts

ROW_RULES: dict[str, Callable[[Trace, FilterOptions], Drop | None]] = {
    rule.__name__: rule
    for rule in (
        rules.unfinished,
        rules.missing_reasoning,
        rules.too_few_reasoning_tokens,
        rules.too_many_reasoning_tokens,
        rules.missing_response,
        rules.refusal,
        rules.unfinished_response,
        rules.unfinished_reasoning,
        rules.answer_only_in_reasoning,
        rules.contradicting_answers,
        rules.template_text,
        mixed_scripts,
        rules.repetitive,
        rules.unwanted_verdict,
    )
}
"By name, which is also the drop reason (but for the verdict, whose reason is `wrong_answer` and the like)."
CODE_VERSION = 5  # part of the fingerprint: increase it when a rule decides differently


def drops_by_text(trace: Trace, options: FilterOptions) -> Iterator[Drop]:
    """The drops of all rules that reject the row, in the order of the rules, without the rule on the verdict.

    Verdicts are expensive, so `RowFilter.examine` asks for them last.
    """
    for name, rule in ROW_RULES.items():
        ignored = name == "unwanted_verdict" or name in options.ignored_rules
        if not ignored and (drop := rule(trace, options)) is not None:
            yield drop


def unjudged(trace: Trace, options: FilterOptions) -> Trace:
    """The row without its verdict and answer, so that rows which differ in nothing else are equal."""
    return msgspec.structs.replace(
        trace, answer=None, verdict=None, verdict_reason=None,
        verifier=options.verifier or trace.verifier,
    )  # fmt: skip
