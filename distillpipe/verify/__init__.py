"""Verifiers: from a completion to an answer, from an answer and a reference to a verdict.

A new verifier is one function `(answer, reference) -> Verdict` and one line in `VERIFIERS`. A completion
that was cut off has no answer; no answer is `wrong`; `unverifiable` is for a reference that is missing
or that the verifier cannot read, never for a poor answer.
"""

from collections.abc import Callable

import msgspec

from distillpipe.errors import UsageError
from distillpipe.records import Trace, Verdict
from distillpipe.verify.exact import same_text
from distillpipe.verify.extract import boxed_answer
from distillpipe.verify.math import same_value
from distillpipe.verify.numeric import same_number

VERIFIERS: dict[str, Callable[[str, str], Verdict]] = {
    "exact": same_text,
    "numeric": same_number,
    "math": same_value,
}
CODE_VERSION = 1  # part of the fingerprint of what verdicts decide: raise it when a verdict changes


def verified(trace: Trace, verifier: str | None = None) -> Trace:
    """The trace with its answer and verdict made anew; `verifier` overrides the row's own."""
    name = verifier or trace.verifier
    answer = None if trace.is_truncated else boxed_answer(trace.response)
    return msgspec.structs.replace(
        trace, verifier=name, answer=answer, verdict=judge(answer, trace.reference_answer, name)
    )


def judge(answer: str | None, reference: str | None, verifier: str) -> Verdict:
    """The verdict on an answer, null for none; raises UsageError for an unknown verifier."""
    check_name(verifier)
    if reference is None or not reference.strip():
        return "unverifiable"
    if answer is None:
        return "wrong"
    return VERIFIERS[verifier](answer, reference)


def check_name(verifier: str) -> None:
    """Raise UsageError for the name of a verifier that does not exist."""
    if verifier not in VERIFIERS:
        raise UsageError(f"no verifier {verifier!r}: there are {', '.join(VERIFIERS)}")
