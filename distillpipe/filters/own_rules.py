"""Rules of the user's own: functions of a file of theirs that say why a trace is to be dropped.

What such a function takes and returns stands in `base.user_code`.
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
"What a rule of the user's own may not give as its reason: the funnel could not tell the two apart."


def find_rules(references: Sequence[str]) -> tuple[UserFunction, ...]:
    """The functions that `--rule FILE.py:FUNCTION` stand for, in their order; UsageError for two of one name."""
    found = {one.name: one for one in (functions.find(given, "rule") for given in references)}
    if len(found) < len(references):
        names = ", ".join(found)
        raise UsageError(
            f"--rule: two of them have one name, FILE:FUNCTION ({names}): rename one, or leave it out"
        )
    return tuple(found.values())


def own_drops(trace: Trace, rules: Sequence[UserFunction]) -> Iterator[Drop]:
    """What the rules that would drop a row say, in their order. Raises UserCodeError where one fails.

    Neither a verdict that the row came with nor the place of its soft labels is theirs to decide by.
    """
    if not rules:
        return
    seen = msgspec.structs.replace(
        trace, answer=None, verdict=None, verdict_reason=None, soft_labels=None
    )
    arguments = msgspec.to_builtins(seen)
    for rule in rules:
        said = rule.call(arguments)
        if said["reason"] in OUR_REASONS:
            raise UserCodeError(
                f"{USER_CODE}{rule.name}: returned {said['reason']!r}, a reason of distillpipe's own: give another"
            )
        if said["reason"] is not None:
            yield Drop(said["reason"], said["measured"])
