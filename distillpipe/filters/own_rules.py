"""Filter rules of the user's own: functions in their files that return the reason for dropping a trace.

`base.user_code` documents the arguments and the result of such a function.
"""

from collections.abc import Iterator, Sequence

import msgspec

from distillpipe.base.errors import UsageError, UserCodeError
from distillpipe.base.records import REFUSALS, Trace
from distillpipe.base.rowguard import REASON, USER_CODE
from distillpipe.base.user_code import functions
from distillpipe.base.user_code.functions import UserFunction
from distillpipe.data.store.versions import ENGINE_ERROR
from distillpipe.filters import ROW_RULES
from distillpipe.filters.rules import Drop

OUR_REASONS = frozenset(
    (
        *ROW_RULES, *REFUSALS, REASON, ENGINE_ERROR, "answer_not_reached", "contaminated", "correct_answer", "duplicate",
        "label_in_problem", "near_duplicate_problem", "not_selected", "over_per_problem", "problem_needs_picture",
        "several_problems", "too_easy", "too_hard", "unknown_difficulty", "unverifiable_answer",
        "wrong_answer",
    )
)  # fmt: skip
"Reasons that a user's rule must not return, because the funnel could not tell them apart from ours."


def find_rules(references: Sequence[str]) -> tuple[UserFunction, ...]:
    """The functions of `--rule FILE.py:FUNCTION`, in order. Raises UsageError for two with the same name."""
    rules = {rule.name: rule for rule in (functions.find(name, "rule") for name in references)}
    if len(rules) < len(references):
        names = ", ".join(rules)
        raise UsageError(
            f"--rule: two of them have one name, FILE:FUNCTION ({names}): rename one, or leave it out"
        )
    return tuple(rules.values())


def own_drops(trace: Trace, rules: Sequence[UserFunction]) -> Iterator[Drop]:
    """The drops of the user's rules that reject a row, in order. Raises UserCodeError if one fails.

    The rules do not see the verdict that a row came with, nor the location of its soft labels.
    """
    if not rules:
        return
    visible = msgspec.structs.replace(
        trace, answer=None, verdict=None, verdict_reason=None, soft_labels=None
    )
    arguments = msgspec.to_builtins(visible)
    for rule in rules:
        result = rule.call(arguments)
        if result["reason"] in OUR_REASONS:
            raise UserCodeError(
                f"{USER_CODE}{rule.name}: returned {result['reason']!r}, a reason of distillpipe's own: give another"
            )
        if result["reason"] is not None:
            yield Drop(result["reason"], result["measured"])
