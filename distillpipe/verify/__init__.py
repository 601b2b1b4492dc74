"""Verifiers: extract the answer from a completion and compare it with the reference answer.

A new verifier is one line in `VERIFIERS`: how it extracts the answer from a response, and a function
`(answer, question) -> Judgement`. A truncated completion has no answer, and no answer is `wrong`.
`unverifiable` means that the reference (or the tests) is missing or cannot be read, or that the verifier
failed; it never means a poor answer. The function
of a user's own verifier is called in a worker process, see `base.user_code`.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from distillpipe.base.decoding import json_object
from distillpipe.base.encoding import escaped
from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.options import AnswerForm, CodeRules
from distillpipe.base.records import Problem, Trace, Verdict
from distillpipe.base.rowguard import REASON, InternalError, guarded
from distillpipe.base.user_code import functions
from distillpipe.base.user_code.functions import UserFunction, is_user_name
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
    """How model-written programs are extracted and run."""

    rules: CodeRules = "plain"
    packages: tuple[str, ...] = ()
    "packages that they may import, besides the standard library"
    unsafe: bool = False
    "whether they may run without a sandbox"


PLAIN = Programs()


class Question(NamedTuple):
    """What an answer is compared with: the reference answer, the problem, its options or tests."""

    reference: str
    problem: str = ""
    extra: str | None = None
    "the problem's other keys as one JSON string: the options of a choice, the tests of a program"
    order: tuple[int, ...] | None = None
    "order in which the prompt showed the options; None for that of the problem"
    programs: Programs = PLAIN
    response: str | None = None
    "the text after the reasoning; None for a truncated completion"
    own: UserFunction | None = None
    "the user's own verifier, called if the verifier has its name"


class Judgement(NamedTuple):
    """A verdict and its reason: a stable name, for programs with the failed test; None if it needs none."""

    verdict: Verdict
    reason: str | None = None


def _no_reference(question: Question) -> str | None:
    return None if question.reference.strip() else "no_reference"


class Verifier(NamedTuple):
    """How answers are extracted and compared."""

    judge: Callable[[str, Question], Judgement]
    answer: Callable[[str], str | None] = boxed_answer
    "extracts the answer from a response"
    any_answer: Callable[[str], str | None] = any_answer
    "the same, if the answer need not be boxed"
    missing: Callable[[Question], str | None] = _no_reference
    "why no answer to this question can be judged; None if it can"
    reads_extra: bool = False
    "whether it reads the problem's other keys"
    runs_code: bool = False
    answer_to: Callable[[str, Question], str | None] | None = None
    "extracts the answer if that depends on the question; None if it does not"
    recorded: Callable[[str, Question], str] = lambda answer, _: answer
    "the answer as it is stored in the row"


def _of_user(answer: str | None, question: Question) -> Judgement:
    """The judgement of the user's own verifier. Raises UserCodeError if its function fails."""
    if question.response is None:
        return Judgement("wrong", "no_answer")
    assert question.own is not None  # ensured by `check_runnable`
    result = question.own.call(
        {
            "response": question.response,
            "answer": answer,
            "reference_answer": question.reference or None,
            "problem": question.problem,
            "extra": json_object(question.extra),
        }
    )
    verdict, reason = result["verdict"], result["reason"]
    if reason is not None and reason.startswith(REASON):  # this prefix marks rows that failed
        reason = f"said: {reason}"
    return Judgement(verdict, reason)


def _comparing(same: Callable[[str, str], Verdict]) -> Verifier:
    return Verifier(
        lambda answer, question: _named(same(answer, question.reference), question.reference)
    )


def _choice(answer: str, question: Question) -> Judgement:
    return _named(same_choice(answer, *_choices(question)), question.reference)


def _choices(question: Question) -> tuple[str, list[str] | None]:
    """The reference and the options in the order of the prompt."""
    options = options_of(question.extra)
    if options is None or question.order is None or len(question.order) != len(options):
        return question.reference, options
    return as_shown(question.reference, options, question.order)


def _chosen(response: str, question: Question) -> str | None:
    reference, options = _choices(question)
    return chosen(response, options, reference)


def _chosen_text(answer: str, question: Question) -> str:
    """The text of the chosen option if the options were reordered: then a letter means another option in each row."""
    _, shown = _choices(question)
    return answer if question.order is None or shown is None else text_chosen(answer, shown)


def _named(verdict: Verdict, reference: str) -> Judgement:
    """A judgement; its reason holds the reference if that could not be read."""
    unread = verdict == "unverifiable"
    reason = f"unreadable_reference: {reference}"[:MAX_REASON_CHARACTERS] if unread else None
    return Judgement(verdict, reason)


def _code(program: str, question: Question) -> Judgement:
    programs = question.programs
    # the sandbox is tested only once in a process
    sandbox = find_sandbox(unsafe=programs.unsafe, code_packages=programs.packages)
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
USERS = _comparing(same_text)._replace(missing=lambda _: None, reads_extra=True)
"""The rule of every verifier that a user wrote. The function itself decides on a missing reference; a majority vote
compares answers as text."""
CODE_VERSION = (
    5  # part of the fingerprints of stages that use verdicts: raise it when a verdict changes
)

__all__ = [
    "CODE_VERSION",
    "VERIFIERS",
    "Judge",
    "Judgement",
    "PLAIN",
    "USERS",
    "Programs",
    "Question",
    "Verifier",
    "can_judge",
    "find_own",
    "check_name",
    "check_runnable",
    "judge",
    "judgement",
    "rule_of",
    "verified",
]


def verified(
    trace: Trace,
    verifier: str | None = None,
    extra: str | None = None,
    *,
    answer_form: AnswerForm = "boxed",
    programs: Programs = PLAIN,
    own: UserFunction | None = None,
) -> Trace:
    """The trace with a new answer and verdict; `verifier` overrides the row's own.

    `extra` holds the problem's other keys (options, tests), by default the trace's own. With the form
    `any` an answer that is stated without a box counts too. `own` is the user's
    own verifier, for rows that name it. If a verifier fails unexpectedly, the row is
    `unverifiable` and its reason starts with `internal_error`. Raises MissingDependencyError if a program has
    to run and there is neither a sandbox nor permission to run without one.
    """
    name = verifier or trace.verifier
    check_name(name)
    judged = guarded(_verified, trace, name, extra, answer_form, programs, own)
    if isinstance(judged, InternalError):
        return msgspec.structs.replace(
            trace, verifier=name, answer=None, verdict="unverifiable", verdict_reason=judged.reason,
        )  # fmt: skip
    return judged


def _verified(
    trace: Trace,
    name: str,
    extra: str | None,
    answer_form: AnswerForm,
    programs: Programs,
    own: UserFunction | None,
) -> Trace:
    rule = rule_of(name)
    extract = rule.answer if answer_form == "boxed" else rule.any_answer
    if rule.runs_code and programs.rules == "livecodebench":
        extract = extract_last_fenced
    question = Question(
        trace.reference_answer or "",
        trace.problem,
        trace.extra if extra is None else extra,
        order_in(trace.extra) if rule.reads_extra and not rule.runs_code else None,
        programs,
        None if trace.is_truncated else trace.response,
        own,
    )
    answer = None
    if not trace.is_truncated:
        response = trace.response
        answer = rule.answer_to(response, question) if rule.answer_to else extract(response)
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
    """The verdict on an answer, which may be None; raises UsageError for an unknown verifier."""
    return judgement(answer, Question(reference or "", extra=extra), verifier).verdict


def judgement(answer: str | None, question: Question, verifier: str) -> Judgement:
    """The verdict on an answer, which may be None, and its reason."""
    check_name(verifier)
    if is_user_name(verifier):
        return _of_user(answer, question)
    rule = VERIFIERS[verifier]
    if (missing := rule.missing(question)) is not None:
        return Judgement("unverifiable", missing)
    return Judgement("wrong", "no_answer") if answer is None else rule.judge(answer, question)


def can_judge(problem: Problem) -> bool:
    """Whether answers to a problem can be judged: it has a reference answer or tests."""
    check_name(problem.verifier)
    question = Question(problem.reference_answer or "", problem.problem, problem.extra)
    return guarded(rule_of(problem.verifier).missing, question) is None


def rule_of(verifier: str) -> Verifier:
    """The rule of a verifier, by its name. The file of a user's own verifier is not needed."""
    return USERS if is_user_name(verifier) else VERIFIERS[verifier]


def find_own(verifier: str | None) -> tuple[str | None, UserFunction | None]:
    """The name of a verifier as rows store it, and the function of FILE.py:FUNCTION; None for a built-in one.

    Raises UsageError if there is no such verifier or file.
    """
    if verifier is None or ":" not in verifier:
        if verifier is not None:
            check_name(verifier)
        return verifier, None
    own = functions.find(verifier, "verifier")
    return own.name, own


def check_name(verifier: str) -> None:
    """Raise UsageError if there is no verifier with this name; `checks:check` names one of a user's own."""
    if verifier not in VERIFIERS and not is_user_name(verifier):
        names = ", ".join(VERIFIERS)
        raise UsageError(
            f"no verifier {verifier!r}: there are {names}, or your own FILE.py:FUNCTION"
        )


def check_runnable(
    verifiers: Iterable[str], programs: Programs, own: UserFunction | None = None
) -> None:
    """Raise MissingDependencyError if one of the verifiers runs programs and there is no sandbox.

    Raises UsageError if a package that programs may import is not installed or does not work in the sandbox,
    and if a verifier is a user's own but not `own`.
    """
    verifiers = set(verifiers)
    for name in sorted(verifiers):
        if is_user_name(name) and (own is None or own.name != name):
            file, _, function = name.partition(":")
            raise UsageError(
                f"rows are judged by {name}, a verifier of the user's own: give its file again, "
                f"--verifier PATH/{file}.py:{function}, or another verifier for all rows"
            )
    if any(rule_of(name).runs_code for name in verifiers):
        find_sandbox(unsafe=programs.unsafe, code_packages=programs.packages)
