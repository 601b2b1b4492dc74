"""The verifier `code`: runs a program in a sandbox and compares its results outside.

A program can pass only by returning correct values: it never sees the expected ones, shares no process with the
judge, and its exit code can only make it fail. `BesideTests` are the exception: see there.
"""

import functools
import math
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from distillpipe.base.options import CodeRules
from distillpipe.base.records import Record, Verdict
from distillpipe.verify.code.imports import imports_for
from distillpipe.verify.code.kinds import (
    BesideTests,
    Call,
    CallTests,
    CheckTests,
    CodeTests,
    ExpressionTests,
    InputTests,
)
from distillpipe.verify.code.sandbox import Sandbox
from distillpipe.verify.code.session import START_SECONDS, Answer, Session, parsed_line
from distillpipe.verify.code.values import equal_output, equal_value

TEST_SECONDS = 6.0  # wall clock for each test, as in LiveCodeBench's harness
MAX_PROGRAM_CHARACTERS = 1_000_000
MAX_DETAIL_CHARACTERS = 200
MISSING_MODULE = "missing_module"
"Reason of the verdict on a program that imports a module which the sandbox does not have."
_MODULE_NAME = re.compile(r"No module named '(\w+)")


class CodeResult(Record, frozen=True, kw_only=True):
    """The result of a program's tests, which stop at the first failure."""

    verdict: Verdict
    reason: str
    "a stable name: `all_tests_passed`, `wrong_output`, `time_limit`"
    num_passed: int
    num_tests: int
    detail: str = ""
    "the failed test and the result of the program, to read"
    beside_candidate: bool = False
    "the tests ran in the program's own process, so a hostile program may have forged the result"

    @property
    def summary(self) -> str:
        """The reason of the verdict: `wrong_value: test 3: said 7`, `all_tests_passed, beside the candidate`."""
        suffix = ", beside the candidate" if self.beside_candidate else ""
        return ": ".join(filter(None, [self.reason, self.detail])) + suffix


def missing_modules(reasons: Iterable[str | None]) -> list[str]:
    """A line with the modules that programs could not import, counted in the reasons of their verdicts.

    Empty if there are none.
    """
    names = Counter(
        match[1]
        for reason in reasons
        if reason and reason.startswith(MISSING_MODULE) and (match := _MODULE_NAME.search(reason))
    )
    if not names:
        return []
    listed = ", ".join(f"{name} {number:,}" for name, number in names.most_common(10))
    return [
        f"  {names.total():>8,} programs import a module that the sandbox does not have ({listed}):"
        " --code-packages NAME lets them import a package"
    ]


class _TestFailure(Exception):
    """Raised for a test that failed."""

    def __init__(self, reason: str, detail: str = "", verdict: Verdict = "wrong") -> None:
        super().__init__(reason)
        self.reason, self.verdict = reason, verdict
        self.detail = detail[:MAX_DETAIL_CHARACTERS]


def judge_code(
    program: str,
    tests: CodeTests,
    *,
    sandbox: Sandbox,
    test_seconds: float = TEST_SECONDS,
    rules: CodeRules = "plain",
) -> CodeResult:
    """Run the tests until one fails, each for at most `test_seconds`, and loading the program as long.

    With the rules `livecodebench`, scripts and functions run as in that benchmark's harness, see
    `inside.livecodebench`. Their results are compared as in their own benchmark (APPS: `Call.also`). Tests
    of other kinds, which LiveCodeBench does not have, run as with the rules `plain`.

    The verdict is `unverifiable` only if the tests themselves are broken. Raises SandboxError if the machine
    cannot start a sandbox.
    """
    num_passed = 0
    try:
        if len(program) > MAX_PROGRAM_CHARACTERS or "\0" in program:
            raise _TestFailure("no_python", "over a million characters, or a null byte")
        # LiveCodeBench's harness only knows scripts, and functions whose results are JSON.
        has_kind = isinstance(tests, InputTests) or (
            isinstance(tests, CallTests) and tests.tuple_is_list
        )
        run = _run_livecodebench if rules == "livecodebench" and has_kind else _run_tests
        for _ in run(program, tests, sandbox, test_seconds):
            num_passed += 1
        failure = None
    except _TestFailure as error:
        failure = error
    test_number = f"test {num_passed + 1}: " if failure and failure.detail else ""
    return CodeResult(
        verdict=failure.verdict if failure else "correct",
        reason=failure.reason if failure else "all_tests_passed",
        num_passed=num_passed,
        num_tests=len(tests.cases),
        detail=test_number + failure.detail if failure else "",
        beside_candidate=isinstance(tests, BesideTests),
    )


def _run_tests(program: str, tests: CodeTests, sandbox: Sandbox, seconds: float) -> Iterator[None]:
    """Yield once for each test that passes; raise _TestFailure at the first that fails."""
    if isinstance(tests, InputTests):
        yield from _run_inputs(program, tests, sandbox, seconds)
        return
    setup = "" if isinstance(tests, (ExpressionTests, BesideTests)) else tests.setup
    sources = [imports_for(f"{setup}\n{tests_text(tests)}\n{program}"), setup, program]
    with ExitStack() as stack:
        session = stack.enter_context(sandbox.start(_cpu_seconds(tests, seconds)))
        _check_answer(session.ask(("load", sources), seconds))
        if isinstance(tests, CallTests):
            yield from _run_calls(program, tests, session, seconds)
        elif isinstance(tests, CheckTests):
            checker = stack.enter_context(sandbox.start(_cpu_seconds(tests, seconds)))
            yield from _run_checks(program, tests, session, checker, seconds)
        elif isinstance(tests, ExpressionTests):
            yield from _run_expressions(tests, session, seconds)
        else:
            yield from _run_beside(tests, session, seconds)


def tests_text(tests: CodeTests) -> str:
    """The source of tests that run in the program's namespace, to add the imports that it needs."""
    if isinstance(tests, ExpressionTests):
        return "\n".join([tests.setup, *(expression for expression, _ in tests.cases)])
    return "\n".join([tests.setup, *tests.cases]) if isinstance(tests, BesideTests) else ""


# ---------------------------------------------------------------- one function a kind


def _run_inputs(
    program: str, tests: InputTests, sandbox: Sandbox, seconds: float
) -> Iterator[None]:
    """Run a process for each input; start a new sandbox only after the program has changed files."""
    cpu_seconds = math.ceil(2 * seconds)
    compiled = ("compile", [imports_for(program), program], sandbox.packages.imported_by(program))
    # JSON may hold lone surrogates.
    texts = [text.encode(errors="surrogatepass") for text, _ in tests.cases]
    input_bytes = max(map(len, texts), default=0)
    pending = iter(zip(texts, tests.cases, strict=True))
    has_changed_files = True
    while has_changed_files:
        has_changed_files = False
        with sandbox.start(cpu_seconds, for_scripts=True, input_bytes=input_bytes) as session:
            _check_answer(session.ask(compiled, START_SECONDS))
            for text, (_, expected) in pending:
                answer = session.ask(("input", text), seconds)
                has_changed_files = _check_script_end(answer)
                _check_output(answer.output.decode(errors="replace"), expected, tests)
                yield
                if has_changed_files:
                    break


def _check_output(printed: Any, expected: str, tests: InputTests) -> None:
    """Raise _TestFailure unless a program has printed the expected text."""
    is_text = isinstance(printed, str)
    if not is_text or not equal_output(printed, expected, is_lenient=tests.is_lenient):
        raise _TestFailure("wrong_output", f"printed {str(printed)[:80]!r}")


def _check_script_end(answer: Answer) -> bool:
    """Whether a script has changed files; raise _TestFailure if its exit code is not 0."""
    if answer.status != "answered" or answer.reply[:1] != ["ended"]:
        _check_answer(answer)
        raise _TestFailure("no_value", str(answer.reply)[:100])
    _, exit_code, report, has_changed_files = answer.reply
    if exit_code != 0:
        reply = parsed_line(report.encode())
        if _is_outcome(reply):
            _check_answer(Answer("answered", reply, b""))
        raise _TestFailure("ended_early", f"exit code {exit_code}")
    return bool(has_changed_files)


def _run_livecodebench(
    program: str, tests: CodeTests, sandbox: Sandbox, seconds: float
) -> Iterator[None]:
    """Run all tests in one process, as LiveCodeBench's harness does."""
    with sandbox.start(_cpu_seconds(tests, seconds)) as session:
        _check_answer(session.ask(("load", [_harness_source()]), START_SECONDS))
        if isinstance(tests, InputTests):
            _value_of(session.ask(("call", "prepare_script", (program,), {}), seconds))
            for text, expected in tests.cases:
                printed = _value_of(session.ask(("call", "run_script", (text,), {}), seconds))
                _check_output(printed, expected, tests)
                yield
        elif isinstance(tests, CallTests):
            name = tests.path.rpartition(".")[2]
            _value_of(session.ask(("call", "prepare_function", (program, name), {}), seconds))
            for case in tests.cases:
                answer = session.ask(("call", "run_function", case.arguments, {}), seconds)
                _check_result(_value_of(answer), case, tests)
                yield


@functools.cache
def _harness_source() -> str:
    return (Path(__file__).parent / "inside" / "livecodebench.py").read_text(encoding="utf-8")


def _run_calls(program: str, tests: CallTests, session: Session, seconds: float) -> Iterator[None]:
    path = _path_in(program, tests.path)
    for case in tests.cases:
        request = ("fresh", "call", path, case.arguments, case.keywords)
        _check_result(_value_of(session.ask(request, seconds)), case, tests)
        yield


def _check_result(result: Any, case: Call, tests: CallTests) -> None:
    """Raise _TestFailure unless a result equals one of the values that its benchmark accepts."""
    if tests.tuple_is_list and isinstance(result, list) and result[:1] == ["t"]:
        result = ["l", *result[1:]]
    if not any(
        equal_value(result, expected, tuple_is_list=tests.inner_tuple_is_list)
        for expected in (case.expected, *case.also)
    ):
        raise _TestFailure("wrong_value", f"said {str(result)[:100]}")


def _run_expressions(tests: ExpressionTests, session: Session, seconds: float) -> Iterator[None]:
    setup = tests.setup
    for expression, expected in tests.cases:
        answer = session.ask(("fresh", "evaluate", setup, expression), seconds)
        _check_equal(_value_of(answer), expected)
        setup = ""
        yield


def _run_beside(tests: BesideTests, session: Session, seconds: float) -> Iterator[None]:
    """Run tests in the program's own process. A hostile program may find the nonce in its memory."""
    setup = tests.setup
    for source in tests.cases:
        nonce = secrets.token_hex(16)
        answer = session.ask(("fresh", "beside", f"{setup}\n{source}", nonce), seconds)
        _check_equal(_value_of(answer), nonce)
        setup = ""
        yield


def _run_checks(
    program: str, tests: CheckTests, session: Session, checker: Session, seconds: float
) -> Iterator[None]:
    """Run the tests in `checker`, and pass each of their calls to `session`, where the program is."""
    names = {name: _path_in(program, path) for name, path in tests.names.items()}
    for source in tests.cases:
        setup = [imports_for(f"{tests.setup}\n{source}"), tests.setup]
        deadline = time.monotonic() + seconds
        _check_answer(session.ask(("fresh", "nothing"), seconds))
        answer = checker.ask(("check", setup, names, source), seconds)
        num_calls = 0
        while answer.reply[:1] == ["call"]:
            num_calls += 1
            result = session.ask(("relay", *answer.reply[1:]), _seconds_until(deadline))
            if result.status != "answered":
                _check_answer(result)
            outcome = result.reply if _is_outcome(result.reply) else ("raised", "Error", "")
            answer = checker.ask(tuple(outcome), _seconds_until(deadline))
        if answer.reply != ["done"]:
            raise _check_failure(answer, num_calls)
        yield


def _check_failure(answer: Answer, num_calls: int) -> _TestFailure:
    """The failure of a check: `unverifiable` if the tests failed before they called the program, else `wrong`."""
    detail = ": ".join(map(str, answer.reply[1:])) or answer.status
    if num_calls == 0:
        return _TestFailure("broken_tests", detail, "unverifiable")
    return _TestFailure("failed_check", detail)


def _cpu_seconds(tests: CodeTests, seconds: float) -> int:
    """The limit of CPU time: twice the wall-clock time of all tests, as a second line of defence."""
    return math.ceil(2 * seconds * (len(tests.cases) + 1))


def _seconds_until(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _is_outcome(reply: list[Any]) -> bool:
    """Whether a program's answer has a form that may be passed to the tests; it is untrusted."""
    return (reply[:1] == ["value"] and len(reply) == 2) or (
        reply[:1] == ["raised"] and len(reply) == 3 and all(isinstance(part, str) for part in reply)
    )


def _path_in(program: str, path: str) -> str:
    """LiveCodeBench's rule: a method is called as a function if the program has no `class Solution`."""
    owner, dot, method = path.rpartition("().")
    return method if dot and f"class {owner}" not in program else path


def _check_equal(result: Any, expected: Any) -> None:
    if not equal_value(result, expected):
        raise _TestFailure("wrong_value", f"said {str(result)[:100]}")


def _value_of(answer: Answer) -> Any:
    """The encoded value in an answer; raise _TestFailure for any other answer."""
    if answer.status == "answered" and answer.reply[:1] == ["value"] and len(answer.reply) == 2:
        return answer.reply[1]
    _check_answer(answer)
    raise _TestFailure("no_value", str(answer.reply)[:100])


def _check_answer(answer: Answer) -> None:
    """Raise _TestFailure if there is no answer, or if it reports an exception."""
    if answer.status == "ended":
        raise _TestFailure("ended_early", f"exit code {answer.exit_code}")
    if answer.status != "answered":
        raise _TestFailure(answer.status)
    if answer.reply[:1] == ["raised"]:
        is_missing = answer.reply[1:2] == ["ModuleNotFoundError"]
        raise _TestFailure(
            MISSING_MODULE if is_missing else "raised", ": ".join(map(str, answer.reply[1:]))
        )
    if not answer.reply:
        raise _TestFailure("no_value", "the answer was no JSON list")
