"""Verifiers: from a completion to an answer, from an answer and a reference to a verdict.

A new verifier is one line in `VERIFIERS`: how it finds the answer in a response, and a function
`(answer, reference, extra) -> Verdict`, where `extra` holds the other keys of the problem, as one JSON
string. A completion that was cut off has no answer; no answer is `wrong`; `unverifiable` is for a reference
that is missing or that the verifier cannot read, or a verifier that failed on it, never for a poor answer.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from distillpipe.errors import UsageError
from distillpipe.records import Trace, Verdict
from distillpipe.verify.choice import chosen, options_of, same_choice
from distillpipe.verify.exact import same_text
from distillpipe.verify.extract import any_answer, boxed_answer
from distillpipe.verify.judge import Judge
from distillpipe.verify.math import same_value
from distillpipe.verify.numeric import same_number


class Verifier(NamedTuple):
    """A rule of comparison."""

    verdict: Callable[[str, str, str | None], Verdict]
    "of an answer, a reference and the problem's extra keys"
    answer: Callable[[str], str | None] = boxed_answer
    "of a response"
    any_answer: Callable[[str], str | None] = any_answer
    "of a response that need not be boxed"
    needs_reference: bool = True
    "false where the problem's extra keys hold what an answer is judged by"


VERIFIERS: dict[str, Verifier] = {
    "exact": Verifier(lambda answer, reference, _: same_text(answer, reference)),
    "numeric": Verifier(lambda answer, reference, _: same_number(answer, reference)),
    "math": Verifier(lambda answer, reference, _: same_value(answer, reference)),
    "choice": Verifier(
        lambda answer, reference, extra: same_choice(answer, reference, options_of(extra)),
        chosen,
        chosen,
    ),
}
CODE_VERSION = 2  # part of the fingerprint of what verdicts decide: raise it when a verdict changes

__all__ = ["CODE_VERSION", "VERIFIERS", "Judge", "Verifier", "check_name", "judge", "verified"]


def verified(
    trace: Trace,
    verifier: str | None = None,
    extra: str | None = None,
    *,
    any_form: bool = False,
) -> Trace:
    """The trace with its answer and verdict made anew; `verifier` overrides the row's own.

    `extra` holds the problem's other keys (options of a choice), by default the trace's own. With
    `any_form` an answer that is stated without a box counts too.
    """
    name = verifier or trace.verifier
    check_name(name)
    found = VERIFIERS[name].any_answer if any_form else VERIFIERS[name].answer
    answer = None if trace.is_truncated else found(trace.response)
    verdict = judge(answer, trace.reference_answer, name, trace.extra if extra is None else extra)
    return msgspec.structs.replace(trace, verifier=name, answer=answer, verdict=verdict)


def judge(
    answer: str | None, reference: str | None, verifier: str, extra: str | None = None
) -> Verdict:
    """The verdict on an answer, null for none; raises UsageError for an unknown verifier."""
    check_name(verifier)
    rule = VERIFIERS[verifier]
    if rule.needs_reference and not (reference or "").strip():
        return "unverifiable"
    return "wrong" if answer is None else rule.verdict(answer, reference or "", extra)


def check_name(verifier: str) -> None:
    """Raise UsageError for the name of a verifier that does not exist."""
    if verifier not in VERIFIERS:
        raise UsageError(f"no verifier {verifier!r}: there are {', '.join(VERIFIERS)}")
