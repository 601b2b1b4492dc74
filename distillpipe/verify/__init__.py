"""Verifiers: from a completion to an answer, from an answer to a verdict.

A new verifier is one line in `VERIFIERS`: how it finds the answer in a response, and a function
`(answer, question) -> Judgement`. A completion that was cut off has no answer; no answer is `wrong`;
`unverifiable` is for a reference (or tests) that is missing or that the verifier cannot read, or a verifier
that failed on it, never for a poor answer.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from distillpipe.base.encoding import escaped
from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.options import AnswerForm, CodeRules
from distillpipe.base.records import Problem, Trace, Verdict
from distillpipe.base.rowguard import InternalError, guarded
from distillpipe.verify.choice import (
    as_shown,
    chosen,
    options_of,
    order_in,
    same_choice,
    text_chosen,
)
from distillpipe.verify.code.extract import extract_code, extract_last_fenced
from distillpipe.verify.code.problem_tests import tests_in
from distillpipe.verify.code.sandbox import find_sandbox
from distillpipe.verify.code.verifier import judge_code
from distillpipe.verify.extract import any_answer, boxed_answer
from distillpipe.verify.judge import Judge
from distillpipe.verify.math.numeric import same_number, same_text
from distillpipe.verify.math.verifier import same_value

MAX_REASON_CHARACTERS = 200


class Programs(NamedTuple):
    """How programs that models wrote are found and run."""

    rules: CodeRules = "plain"
    packages: tuple[str, ...] = ()
    "that they may import beside the standard library"
    unsafe: bool = False
    "whether they may run without a sandbox"


PLAIN = Programs()


class Question(NamedTuple):
    """What an answer is judged by."""

    reference: str
    problem: str = ""
    extra: str | None = None
    "the problem's other keys as one JSON string: the options of a choice, the tests of a program"
    order: tuple[int, ...] | None = None
    "in which the options were shown; null for that of the problem"
    programs: Programs = PLAIN


class Judgement(NamedTuple):
    """A verdict, and why: a stable name, for programs with the test that failed; null where it needs none."""

    verdict: Verdict
    reason: str | None = None


def _no_reference(question: Question) -> str | None:
    return None if question.reference.strip() else "no_reference"


class Verifier(NamedTuple):
    """A rule of comparison."""

    judge: Callable[[str, Question], Judgement]
    answer: Callable[[str], str | None] = boxed_answer
    "of a response"
    any_answer: Callable[[str], str | None] = any_answer
    "of a response that need not be boxed"
    missing: Callable[[Question], str | None] = _no_reference
    "why no answer can be judged by this question, null where it can"
    reads_extra: bool = False
    "whether it looks at the problem's other keys"
    runs_code: bool = False
    answer_to: Callable[[str, Question], str | None] | None = None
    "of a response, where what was asked has a say in what its answer is; null where it has none"
    recorded: Callable[[str, Question], str] = lambda answer, _: answer
    "an answer as the row keeps it"


def _comparing(same: Callable[[str, str], Verdict]) -> Verifier:
    return Verifier(
        lambda answer, question: _named(same(answer, question.reference), question.reference)
    )


def _choice(answer: str, question: Question) -> Judgement:
    return _named(same_choice(answer, *_choices(question)), question.reference)


def _choices(question: Question) -> tuple[str, list[str] | None]:
    """Reference and options as they were shown."""
    options = options_of(question.extra)
    if options is None or question.order is None or len(question.order) != len(options):
        return question.reference, options
    return as_shown(question.reference, options, question.order)


def _chosen(response: str, question: Question) -> str | None:
    reference, options = _choices(question)
    return chosen(response, options, reference)


def _chosen_text(answer: str, question: Question) -> str:
    """Of options in another order than the problem's the text: letters mean another thing in each row."""
    _, shown = _choices(question)
    return answer if question.order is None or shown is None else text_chosen(answer, shown)


def _named(verdict: Verdict, reference: str) -> Judgement:
    """A verdict on values, with the reference where that is what could not be read."""
    unread = verdict == "unverifiable"
    reason = f"unreadable_reference: {reference}"[:MAX_REASON_CHARACTERS] if unread else None
    return Judgement(verdict, reason)


def _code(program: str, question: Question) -> Judgement:
    programs = question.programs
    sandbox = find_sandbox(
        unsafe=programs.unsafe, code_packages=programs.packages
    )  # tried out once
    tests = tests_in(question.extra, question.problem)
    result = judge_code(program, tests, sandbox=sandbox, rules=programs.rules)
    return Judgement(result.verdict, result.summary)


def _no_tests(question: Question) -> str | None:
    try:
        tests_in(question.extra, question.problem)
    except DataError as error:
        return f"no_tests: {error}"[:MAX_REASON_CHARACTERS]
    return None


VERIFIERS: dict[str, Verifier] = {
    "exact": _comparing(same_text),
    "numeric": _comparing(same_number),
    "math": _comparing(same_value),
    "choice": Verifier(
        _choice, chosen, chosen, reads_extra=True, answer_to=_chosen, recorded=_chosen_text
    ),
    "code": Verifier(
        _code, extract_code, extract_code, _no_tests, reads_extra=True, runs_code=True
    ),
}
CODE_VERSION = 5  # part of the fingerprint of what verdicts decide: raise it when a verdict changes

__all__ = [
    "CODE_VERSION",
    "VERIFIERS",
    "Judge",
    "Judgement",
    "PLAIN",
    "Programs",
    "Question",
    "Verifier",
    "can_judge",
    "check_name",
    "check_runnable",
    "judge",
    "judgement",
    "verified",
    "escaped",
]


def verified(
    trace: Trace,
    verifier: str | None = None,
    extra: str | None = None,
    *,
    answer_form: AnswerForm = "boxed",
    programs: Programs = PLAIN,
) -> Trace:
    """The trace with its answer and verdict made anew; `verifier` overrides the row's own.

    `extra` holds the problem's other keys (options, tests), by default the trace's own. With the form
    `any` an answer that is stated without a box counts too. A verifier that fails in a way that nobody
    foresaw leaves the row unverifiable, its reason beginning with `internal_error`. Raises
    MissingDependencyError where a program would have to run and there is neither a sandbox nor leave to go
    without.
    """
    name = verifier or trace.verifier
    check_name(name)
    judged = guarded(_verified, trace, name, extra, answer_form, programs)
    if isinstance(judged, InternalError):
        return msgspec.structs.replace(
            trace, verifier=name, answer=None, verdict="unverifiable", verdict_reason=judged.reason,
        )  # fmt: skip
    return judged


def _verified(
    trace: Trace, name: str, extra: str | None, answer_form: AnswerForm, programs: Programs
) -> Trace:
    rule = VERIFIERS[name]
    found = rule.answer if answer_form == "boxed" else rule.any_answer
    if rule.runs_code and programs.rules == "livecodebench":
        found = extract_last_fenced
    question = Question(
        trace.reference_answer or "",
        trace.problem,
        trace.extra if extra is None else extra,
        order_in(trace.extra) if rule.reads_extra and not rule.runs_code else None,
        programs,
    )
    answer = None
    if not trace.is_truncated:
        response = trace.response
        answer = rule.answer_to(response, question) if rule.answer_to else found(response)
    verdict, reason = judgement(answer, question, name)
    if answer is not None:
        answer = rule.recorded(answer, question)
    if trace.is_truncated and verdict == "wrong":
        reason = "truncated"
    return msgspec.structs.replace(
        trace, verifier=name, answer=answer and escaped(answer), verdict=verdict,
        verdict_reason=reason and escaped(reason),
    )  # fmt: skip


def judge(
    answer: str | None, reference: str | None, verifier: str, extra: str | None = None
) -> Verdict:
    """The verdict on an answer, null for none; raises UsageError for an unknown verifier."""
    return judgement(answer, Question(reference or "", extra=extra), verifier).verdict


def judgement(answer: str | None, question: Question, verifier: str) -> Judgement:
    """The verdict on an answer, null for none, and the reason."""
    check_name(verifier)
    rule = VERIFIERS[verifier]
    if (missing := rule.missing(question)) is not None:
        return Judgement("unverifiable", missing)
    return Judgement("wrong", "no_answer") if answer is None else rule.judge(answer, question)


def can_judge(problem: Problem) -> bool:
    """Whether answers to a problem can be judged: it has a reference, or tests."""
    check_name(problem.verifier)
    question = Question(problem.reference_answer or "", problem.problem, problem.extra)
    return guarded(VERIFIERS[problem.verifier].missing, question) is None


def check_name(verifier: str) -> None:
    """Raise UsageError for the name of a verifier that does not exist."""
    if verifier not in VERIFIERS:
        raise UsageError(f"no verifier {verifier!r}: there are {', '.join(VERIFIERS)}")


def check_runnable(verifiers: Iterable[str], programs: Programs) -> None:
    """Raise MissingDependencyError where one of them runs programs and there is no sandbox for them.

    UsageError for a package that they may import and that is not installed, or does not work there.
    """
    if any(VERIFIERS[name].runs_code for name in verifiers):
        find_sandbox(unsafe=programs.unsafe, code_packages=programs.packages)
