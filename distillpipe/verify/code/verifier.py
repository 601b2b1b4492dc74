"""The verdict on a program: it runs in a sandbox, what it says is judged outside.

A program can pass only by saying right values. It never sees expected ones, it shares no process with
the judge, and how it ends counts for nothing but a failure. `BesideTests` are the exception: see there.
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
"The reason of a verdict on a program that imports a module which is not there."
_MODULE_NAME = re.compile(r"No module named '(\w+)")


class CodeResult(Record, frozen=True, kw_only=True):
    """What came of a program's tests; they stop at the first that fails."""

    verdict: Verdict
    reason: str
    "a stable name: `all_tests_passed`, `wrong_output`, `time_limit`"
    num_passed: int
    num_tests: int
    detail: str = ""
    "which test, and what the program said; for people"
    beside_candidate: bool = False
    "the tests ran in the program's own process: a hostile program may have forged it"

    @property
    def summary(self) -> str:
        """`wrong_value: test 3: said 7`, `all_tests_passed, beside the candidate`."""
        beside = ", beside the candidate" if self.beside_candidate else ""
        return ": ".join(filter(None, [self.reason, self.detail])) + beside


def missing_modules(reasons: Iterable[str | None]) -> list[str]:
    """A line that says how many programs, by the reasons of their verdicts, missed which modules; none for none."""
    names = Counter(
        found[1]
        for reason in reasons
        if reason and reason.startswith(MISSING_MODULE) and (found := _MODULE_NAME.search(reason))
    )
    if not names:
        return []
    listed = ", ".join(f"{name} {number:,}" for name, number in names.most_common(10))
    return [
        f"  {names.total():>8,} programs import a module that the sandbox does not have ({listed}):"
        " --code-packages NAME lets them import a package"
    ]


class _Failed(Exception):
    """A test that did not pass."""

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
    """Run the tests until one fails: at most `test_seconds` each, and as much for loading the program.

    With the rules `livecodebench` scripts and functions run as in that benchmark's harness, see
    `inside.livecodebench`, and what they say is compared as their own benchmark does (APPS: `CallTests.also`);
    tests of other kinds, which it has not, run as ever.
    `unverifiable` is for tests that are broken, whatever the program. Raises SandboxError where the
    machine cannot start a sandbox.
    """
    passed = 0
    try:
        if len(program) > MAX_PROGRAM_CHARACTERS or "\0" in program:
            raise _Failed("no_python", "over a million characters, or a null byte")
        run = _run_livecodebench if _are_livecodebench(tests, rules) else _passed_tests
        for _ in run(program, tests, sandbox, test_seconds):
            passed += 1
        failed = None
    except _Failed as error:
        failed = error
    where = f"test {passed + 1}: " if failed and failed.detail else ""
    return CodeResult(
        verdict=failed.verdict if failed else "correct",
        reason=failed.reason if failed else "all_tests_passed",
        num_passed=passed,
        num_tests=len(tests.cases),
        detail=where + failed.detail if failed else "",
        beside_candidate=isinstance(tests, BesideTests),
    )


def _passed_tests(
    program: str, tests: CodeTests, sandbox: Sandbox, seconds: float
) -> Iterator[None]:
    """Yield once for each test that passes; raise _Failed at the first that does not."""
    if isinstance(tests, InputTests):
        yield from _run_inputs(program, tests, sandbox, seconds)
        return
    before = "" if isinstance(tests, (ExpressionTests, BesideTests)) else tests.setup
    sources = [imports_for(f"{before}\n{tests_text(tests)}\n{program}"), before, program]
    with ExitStack() as stack:
        session = stack.enter_context(sandbox.start(_cpu_seconds(tests, seconds)))
        _done(session.ask(("load", sources), seconds))
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
    """The source that runs among the program's names, for what it needs imported."""
    if isinstance(tests, ExpressionTests):
        return "\n".join([tests.setup, *(expression for expression, _ in tests.cases)])
    return "\n".join([tests.setup, *tests.cases]) if isinstance(tests, BesideTests) else ""


# ---------------------------------------------------------------- one function a kind


def _run_inputs(
    program: str, tests: InputTests, sandbox: Sandbox, seconds: float
) -> Iterator[None]:
    """A process for each input, in one sandbox until a program leaves files behind."""
    cpu_seconds = math.ceil(2 * seconds)
    compiled = ("compile", [imports_for(program), program], sandbox.packages.imported_by(program))
    texts = [_as_bytes(text) for text, _ in tests.cases]
    input_bytes = max(map(len, texts), default=0)
    left = iter(zip(texts, tests.cases, strict=True))
    is_spoiled = True
    while is_spoiled:
        is_spoiled = False
        with sandbox.start(cpu_seconds, for_scripts=True, input_bytes=input_bytes) as session:
            _done(session.ask(compiled, START_SECONDS))
            for text, (_, expected) in left:
                answer = session.ask(("input", text), seconds)
                is_spoiled = _ended_well(answer)
                printed = answer.output.decode(errors="replace")
                if not equal_output(printed, expected, is_lenient=tests.is_lenient):
                    raise _Failed("wrong_output", f"printed {printed[:80]!r}")
                yield
                if is_spoiled:
                    break


def _as_bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # JSON may hold halves of characters


def _ended_well(answer: Answer) -> bool:
    """Whether a script has changed files; raise _Failed for one that did not end with exit code 0."""
    if answer.status != "answered" or answer.reply[:1] != ["ended"]:
        _done(answer)
        raise _Failed("no_value", str(answer.reply)[:100])
    _, exit_code, said, is_changed = answer.reply
    if exit_code != 0:
        reply = parsed_line(said.encode())
        if _is_outcome(reply):
            _done(Answer("answered", reply, b""))
        raise _Failed("ended_early", f"exit code {exit_code}")
    return bool(is_changed)


def _are_livecodebench(tests: CodeTests, rules: CodeRules) -> bool:
    """Whether that benchmark's rules are asked for, and the tests are of its two kinds."""
    is_known = isinstance(tests, InputTests) or (
        isinstance(tests, CallTests) and tests.tuple_is_list
    )
    return rules == "livecodebench" and is_known


def _run_livecodebench(
    program: str, tests: CodeTests, sandbox: Sandbox, seconds: float
) -> Iterator[None]:
    """One process for all tests, in which the program runs as in LiveCodeBench's harness."""
    with sandbox.start(_cpu_seconds(tests, seconds)) as session:
        _done(session.ask(("load", [_harness()]), START_SECONDS))
        if isinstance(tests, InputTests):
            _value(session.ask(("call", "prepare_script", (program,), {}), seconds))
            for text, expected in tests.cases:
                printed = _value(session.ask(("call", "run_script", (text,), {}), seconds))
                if not isinstance(printed, str) or not equal_output(
                    printed, expected, is_lenient=tests.is_lenient
                ):
                    raise _Failed("wrong_output", f"printed {str(printed)[:80]!r}")
                yield
        elif isinstance(tests, CallTests):
            name = tests.path.rpartition(".")[2]
            _value(session.ask(("call", "prepare_function", (program, name), {}), seconds))
            for case in tests.cases:
                said = _value(session.ask(("call", "run_function", case.arguments, {}), seconds))
                _must_be_result(said, case, tests)
                yield


@functools.cache
def _harness() -> str:
    return (Path(__file__).parent / "inside" / "livecodebench.py").read_text(encoding="utf-8")


def _run_calls(program: str, tests: CallTests, session: Session, seconds: float) -> Iterator[None]:
    path = _path_in(program, tests.path)
    for case in tests.cases:
        request = ("fresh", "call", path, case.arguments, case.keywords)
        _must_be_result(_value(session.ask(request, seconds)), case, tests)
        yield


def _must_be_result(said: Any, case: Call, tests: CallTests) -> None:
    """One of the values that the row's own benchmark takes, whoever ran the program."""
    said = _tuple_as_list(said) if tests.tuple_is_list else said
    deep = tests.inner_tuple_is_list
    if not any(equal_value(said, one, tuple_is_list=deep) for one in (case.expected, *case.also)):
        raise _Failed("wrong_value", f"said {str(said)[:100]}")


def _run_expressions(tests: ExpressionTests, session: Session, seconds: float) -> Iterator[None]:
    setup = tests.setup
    for expression, expected in tests.cases:
        said = _value(session.ask(("fresh", "evaluate", setup, expression), seconds))
        _must_equal(said, expected)
        setup = ""
        yield


def _run_beside(tests: BesideTests, session: Session, seconds: float) -> Iterator[None]:
    """Weaker: a program that looks for the nonce in its own process's memory may find it."""
    setup = tests.setup
    for source in tests.cases:
        nonce = secrets.token_hex(16)
        said = session.ask(("fresh", "beside", f"{setup}\n{source}", nonce), seconds)
        _must_equal(_value(said), nonce)
        setup = ""
        yield


def _run_checks(
    program: str, tests: CheckTests, session: Session, checker: Session, seconds: float
) -> Iterator[None]:
    """The tests run in `checker`; each call they make is handed to `session`, where the program is."""
    names = {name: _path_in(program, path) for name, path in tests.names.items()}
    for source in tests.cases:
        setup = [imports_for(f"{tests.setup}\n{source}"), tests.setup]
        deadline = time.monotonic() + seconds
        _done(session.ask(("fresh", "nothing"), seconds))
        answer = checker.ask(("check", setup, names, source), seconds)
        num_calls = 0
        while answer.reply[:1] == ["call"]:
            num_calls += 1
            called = session.ask(("relay", *answer.reply[1:]), _seconds_to(deadline))
            if called.status != "answered":
                _done(called)
            kind, *said = called.reply if _is_outcome(called.reply) else ("raised", "Error", "")
            answer = checker.ask((kind, *said), _seconds_to(deadline))
        if answer.reply != ["done"]:
            raise _check_failed(answer, num_calls)
        yield


def _check_failed(answer: Answer, num_calls: int) -> _Failed:
    """Wrong, but for tests that failed before they called the program."""
    said = ": ".join(map(str, answer.reply[1:])) or answer.status
    if num_calls == 0:
        return _Failed("broken_tests", said, "unverifiable")
    return _Failed("failed_check", said)


def _cpu_seconds(tests: CodeTests, seconds: float) -> int:
    """Twice the wall clock of all tests: it ends what the wall clock, from outside, has missed."""
    return math.ceil(2 * seconds * (len(tests.cases) + 1))


def _seconds_to(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _is_outcome(reply: list[Any]) -> bool:
    """Whether a program's answer may be handed to the tests: it may say anything."""
    return (reply[:1] == ["value"] and len(reply) == 2) or (
        reply[:1] == ["raised"] and len(reply) == 3 and all(isinstance(part, str) for part in reply)
    )


def _path_in(program: str, path: str) -> str:
    """LiveCodeBench's rule: a method is a function where the program has no `class Solution`."""
    owner, dot, method = path.rpartition("().")
    return method if dot and f"class {owner}" not in program else path


def _tuple_as_list(said: Any) -> Any:
    return ["l", *said[1:]] if isinstance(said, list) and said[:1] == ["t"] else said


def _must_equal(said: Any, expected: Any) -> None:
    if not equal_value(said, expected):
        raise _Failed("wrong_value", f"said {str(said)[:100]}")


def _value(answer: Answer) -> Any:
    if answer.status == "answered" and answer.reply[:1] == ["value"] and len(answer.reply) == 2:
        return answer.reply[1]
    _done(answer)
    raise _Failed("no_value", str(answer.reply)[:100])


def _done(answer: Answer) -> None:
    """Raise _Failed for whatever is no answer, or the news of an exception."""
    if answer.status == "ended":
        raise _Failed("ended_early", f"exit code {answer.exit_code}")
    if answer.status != "answered":
        raise _Failed(answer.status)
    if answer.reply[:1] == ["raised"]:
        is_missing = answer.reply[1:2] == ["ModuleNotFoundError"]
        raise _Failed(
            MISSING_MODULE if is_missing else "raised", ": ".join(map(str, answer.reply[1:]))
        )
    if not answer.reply:
        raise _Failed("no_value", "the answer was no JSON list")
