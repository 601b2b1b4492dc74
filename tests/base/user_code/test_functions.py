"""A function of the user's own: refused at the door for what it is, and costs a row for what it does."""

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from distillpipe.base import workers
from distillpipe.base.errors import UsageError, UserCodeError
from distillpipe.base.user_code import functions
from distillpipe.base.user_code.functions import UserFunction, find, is_user_name, reference_to

ARGUMENTS = {
    "response": "It is 4.", "answer": "4", "reference_answer": "4", "problem": "2+2?", "extra": {"unit": "m"},
}  # fmt: skip

Write = Callable[..., UserFunction]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    workers.close()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(source, "check")`: the function of a file checks.py with this source."""

    def factory(source: str, name: str = "check", kind: Any = "verifier") -> UserFunction:
        path = tmp_path / "checks.py"
        path.write_text(source, encoding="utf-8")
        return find(f"{path}:{name}", kind)

    return factory


# ---------------------------------------------------------------- what it is told and says


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return True", ("correct", None)),
        ("return False", ("wrong", None)),
        ("return 'unverifiable'", ("unverifiable", None)),
        ("return 'wrong', 'no\\n unit'", ("wrong", "no unit")),
        ("return True, None", ("correct", None)),
        ("return False, 'x' * 1000", ("wrong", "x" * 160)),
        ("import numpy; return numpy.bool_(1)", ("correct", None)),
        ("return False, '\\ud800'", ("wrong", "\ud800")),
    ],
)
def test_a_verdict_may_be_said_in_these_ways(write: Write, body: str, expected: Any) -> None:
    reply = write(f"def check(answer):\n    {body}").call(ARGUMENTS)
    assert (reply["verdict"], reply["reason"]) == expected


@pytest.mark.parametrize(
    ("signature", "seen"),
    [
        ("response, extra", "It is 4. {'unit': 'm'}"),
        ("answer, reference_answer, problem", "4 4 2+2?"),
        ("problem, *, answer='?', mode='fast'", "2+2? 4 fast"),
        ("**known", "{'response'"),
    ],
)
def test_a_verifier_gets_what_its_parameters_name(write: Write, signature: str, seen: str) -> None:
    names = (
        signature.replace("*, ", "").replace("**", "").replace("='?'", "").replace("='fast'", "")
    )
    said = "+' '+".join(f"str({name})" for name in names.split(", "))
    reply = write(f"def check({signature}):\n    return True, {said}").call(ARGUMENTS)
    assert reply["reason"].startswith(seen)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return None", (None, None)),
        ("return 'too_short'", ("too_short", None)),
        ("return 'too_short', 3.5", ("too_short", "3.5")),
        ("return f'n_{trace.sample}', trace.response", ("n_0", r"\boxed{20}")),
        ("return 'r', [trace.reasoning, trace.is_truncated]", ("r", "['14+6=20.', False]")),
    ],
)
def test_a_rule_says_why_a_trace_is_dropped(
    write: Write, make_trace: Callable[..., Any], body: str, expected: Any
) -> None:
    import msgspec

    rule = write(f"def drop(trace):\n    {body}", "drop", "rule")
    reply = rule.call(msgspec.to_builtins(make_trace()))
    assert (reply["reason"], reply["measured"]) == expected


# ---------------------------------------------------------------- what costs a row


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return", "returned None, expected True, False, 'correct', 'wrong', 'unverifiable', or one"),
        ("return 1", "returned 1, expected"),
        ("return 0.5", "returned 0.5, expected"),
        ("return 'right'", "returned 'right', expected"),
        ("return True, 3", "returned (True, 3), expected a text as the reason"),
        ("return [True]", "returned [True], expected"),
        ("return {}['unit']", "KeyError: 'unit' (checks.py:3)"),
        ("raise SystemExit(0)", "SystemExit: 0 (checks.py:3)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt (checks.py:3)"),
        ("return check(answer)", "RecursionError: maximum recursion depth exceeded (checks.py:3)"),
        ("os._exit(0)", "ended its process (exit status 0)"),
        ("os._exit(3)", "ended its process (exit status 3)"),
        ("import ctypes; ctypes.string_at(0)", "ended its process (SIGSEGV)"),
        ("os.kill(os.getpid(), 9)", "ended its process (SIGKILL)"),
        ("x = bytearray(3 * 2**30)", "took more than 2048 MB of memory: MemoryError"),
    ],
)  # fmt: skip
def test_a_call_that_fails_says_how(write: Write, body: str, said: str) -> None:
    function = write(f"import os\ndef check(answer):\n    {body}")
    with pytest.raises(UserCodeError) as raised:
        function.call(ARGUMENTS)
    assert str(raised.value).startswith(f"user code checks:check: {said}")


@pytest.mark.parametrize(
    ("body", "said", "wall_seconds"),
    [
        ("while True: pass", "took more than 0.5 s of CPU time", 600.0),
        ("time.sleep(1000)", "took more than 1 s", 1.0),
        (
            "signal.signal(signal.SIGPROF, signal.SIG_IGN)\n    while True: pass",
            "took more than 1 s",
            1.0,
        ),
        ("os.kill(os.getpid(), signal.SIGSTOP)", "took more than 1 s", 1.0),
        ("return time.sleep(1000) if os.fork() else True", "took more than 1 s", 1.0),
    ],
)
def test_a_call_that_does_not_end_is_ended(
    write: Write, monkeypatch: pytest.MonkeyPatch, body: str, said: str, wall_seconds: float
) -> None:
    monkeypatch.setattr(functions, "CPU_SECONDS", 0.5)
    monkeypatch.setattr(functions, "WALL_SECONDS", wall_seconds)
    function = write(f"import os, signal, time\ndef check(answer):\n    {body}")
    with pytest.raises(UserCodeError, match=f"user code checks:check: {said}$"):
        function.call(ARGUMENTS)


LEAKY = """
import os, sys, threading
count = 0
def check(answer, extra):
    global count
    count += 1
    os.chdir("/")
    os.environ["LEFT"] = "here"
    sys.setrecursionlimit(50)
    print("on stdout", input if extra.get("reads") else "")
    threading.Thread(target=lambda: None).start()
    if extra.get("fails"):
        os._exit(1)
    return True, f"{count} {os.environ.get('BEFORE')}"
"""


def test_a_call_leaves_nothing_to_the_next(write: Write) -> None:
    function = write(LEAKY)
    first = function.call(ARGUMENTS)
    for _ in range(3):
        with pytest.raises(UserCodeError):
            function.call({**ARGUMENTS, "extra": {"fails": True}})
    assert function.call(ARGUMENTS) == first
    assert first["reason"] == "1 None"
    assert len(workers._state.all) == 1  # the process that has imported the file lives on


def test_a_fork_of_a_call_has_no_verdict_of_its_own(write: Write) -> None:
    function = write("import os\ndef check(answer):\n    return os.fork() > 0")
    assert [function.call(ARGUMENTS)["verdict"] for _ in range(20)] == ["correct"] * 20


def test_what_a_call_has_started_ends_with_it(write: Write, tmp_path: Path) -> None:
    function = write(
        "import subprocess\ndef check(answer):\n"
        "    child = subprocess.Popen(['sleep', '1000'])\n    return True, str(child.pid)"
    )
    pid = int(function.call(ARGUMENTS)["reason"])
    while Path(f"/proc/{pid}").exists() and b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes():
        time.sleep(0.05)  # gone, or never: the harness has a time limit


def test_long_texts_reach_the_function_whole(write: Write) -> None:
    function = write("def check(response):\n    return True, str(len(response))")
    assert function.call({**ARGUMENTS, "response": "ä\ud800" * 500_000})["reason"] == "1000000"


# ---------------------------------------------------------------- at the door


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def check(answer):\n    return (", "checks.py:2: SyntaxError: '(' was never closed"),
        ("  def check(answer): 1", "checks.py:1: IndentationError: unexpected indent"),
        ("import no_such_package.deep", "it needs the package no_such_package, which is not installed"),
        ("from json import nothing", "importing checks.py failed: ImportError: cannot import name"),
        ("1 / 0", "importing checks.py failed: ZeroDivisionError: division by zero (checks.py:1)"),
        ("raise SystemExit(3)", "importing checks.py failed: SystemExit: 3 (checks.py:1)"),
        ("def other(answer): 1", "no check in checks.py, which has other"),
        ("from json import loads", "no check in checks.py, which has no function"),
        ("check = 3", "check is not a function, but int"),
        ("async def check(answer): 1", "check is async or a generator"),
        ("def check(answer): yield 1", "check is async or a generator"),
        ("def check(): 1", "check(): the parameters of a verifier are any of response, answer, "
         "reference_answer, problem, extra; it has none of them"),
        ("def check(answer, gold): 1", "check(answer, gold): the parameters of a verifier are any of response, "
         "answer, reference_answer, problem, extra; unknown: gold"),
        ("def check(answer, /): 1", "unknown: answer"),
        ("def check(*answer): 1", "unknown: answer"),
        ("import os; os._exit(7)", "importing the file ended the process (7)"),
        ("import ctypes; ctypes.string_at(0)", "importing the file ended the process (-11)"),
        ("x = bytearray(9 * 2**30)", "importing checks.py failed: MemoryError"),
    ],
)  # fmt: skip
def test_a_verifier_that_cannot_be_called_is_refused(write: Write, source: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        write(source).check()
    assert said in str(raised.value)
    assert "checks.py:check: " in str(raised.value)


@pytest.mark.parametrize(
    "source",
    ["def drop(): 1", "def drop(trace, other): 1", "def drop(*, trace): 1", "def drop(*traces): 1"],
)
def test_a_rule_takes_the_trace_and_no_more(write: Write, source: str) -> None:
    with pytest.raises(UsageError, match="expected one parameter, the trace"):
        write(source, "drop", "rule").check()


def test_an_import_without_end_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "START_SECONDS", 0.5)
    with pytest.raises(UsageError, match="importing the file took more than 0 s"):
        write("while True: pass").check()


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("nowhere.py:check", "nowhere.py does not exist (the working directory is /"),
        ("checks.py", "expected FILE.py:FUNCTION"),
        ("checks:check", "expected FILE.py:FUNCTION"),
        ("checks.py:", "expected FILE.py:FUNCTION"),
        ("checks.py:a.b", "expected FILE.py:FUNCTION"),
        (":check", "expected FILE.py:FUNCTION"),
        ("folder.py:check", "folder.py is not a file"),
    ],
)
def test_a_reference_to_nothing_is_refused(
    reference: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(UsageError) as raised:
        find(reference, "verifier")
    assert str(raised.value).startswith(f"--verifier {reference}: ")
    assert said in str(raised.value)


def test_a_file_that_calls_us_while_it_is_imported_is_refused(write: Write) -> None:
    source = (
        "from distillpipe.base.user_code.functions import find\n"
        "def check(answer): 1\nfind(f'{__file__}:check', 'verifier').check()"
    )
    with pytest.raises(UsageError, match="calls distillpipe while it is imported"):
        write(source).check()


def test_a_file_that_changes_during_a_run_stops_it(write: Write) -> None:
    before = write("def check(answer):\n    return True")
    write("def check(answer):\n    return False")
    with pytest.raises(
        UsageError, match="the file has changed since the command started: run it again"
    ):
        before.call(ARGUMENTS)


# ---------------------------------------------------------------- given by Python code


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


SOURCE = """
def check(answer, reference_answer):
    return answer == reference_answer
nameless = lambda answer: True
def make():
    def inner(answer):
        return True
    return inner
class Checks:
    def method(self, answer):
        return True
"""


def test_a_function_of_a_module_stands_for_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "given_checks.py"
    path.write_text(SOURCE, encoding="utf-8")
    module = imported(path)
    monkeypatch.setitem(sys.modules, "given_checks", module)
    assert reference_to(module.check) == f"{path}:check"
    assert find(reference_to(module.check), "verifier").call(ARGUMENTS)["verdict"] == "correct"
    for function, why in [
        (module.nameless, "is a lambda, which cannot be imported by name"),
        (module.make(), "is defined inside another function, so it cannot be imported"),
        (module.Checks.method, "is a method"),
        (module.Checks().method, "is not a function"),
        (len, "is not a function"),
        (42, "is not a function"),
    ]:
        with pytest.raises(UsageError) as raised:
            reference_to(function)
        assert why in str(raised.value)
        assert "'FILE.py:FUNCTION'" in str(raised.value)
    replaced, module.check = module.check, len
    with pytest.raises(UsageError, match=r"is not given_checks\.check, which"):
        reference_to(replaced)
    replaced.__module__ = "__main__"
    with pytest.raises(UsageError, match="in the running script, console or notebook"):
        reference_to(replaced)


# ---------------------------------------------------------------- names and hashes


def test_the_hash_is_of_the_file_and_what_it_imports_beside_it(tmp_path: Path) -> None:
    def place(folder: str, main: str = "import helper\n", helper: str = "from deep.er import x\n",
              deeper: str = "x = 1\n") -> UserFunction:  # fmt: skip
        root = tmp_path / folder
        (root / "deep").mkdir(parents=True, exist_ok=True)
        (root / "checks.py").write_text(main + "def check(answer):\n    return True\n")
        (root / "helper.py").write_text(helper)
        (root / "deep" / "__init__.py").write_text("")
        (root / "deep" / "er.py").write_text(deeper)
        (root / "unused.py").write_text(folder)
        return find(f"{root}/checks.py:check", "verifier")

    first, moved = place("a"), place("b")
    assert first.name == moved.name == "checks:check"
    assert first.digest == moved.digest
    changed = [
        place("c", main="import helper #\n"), place("d", helper="from deep import er \n"),
        place("e", deeper="x = 2\n"),
    ]  # fmt: skip
    assert len({first.digest, *(one.digest for one in changed)}) == 4
    place("d").check()


def test_a_file_of_a_package_is_imported_as_its_module(tmp_path: Path) -> None:
    package = tmp_path / "mypackage"
    (package / "inner").mkdir(parents=True)
    for folder in (package, package / "inner"):
        (folder / "__init__.py").write_text("")
    (package / "values.py").write_text("ANSWER = '4'\n")
    path = package / "inner" / "checks.py"
    path.write_text(
        "from ..values import ANSWER\ndef check(answer):\n    return answer == ANSWER, __name__\n"
    )
    function = find(f"{path}:check", "verifier")
    assert function.call(ARGUMENTS) == {"verdict": "correct", "reason": "mypackage.inner.checks"}
    (package / "values.py").write_text("ANSWER = '5'\n")
    changed = find(f"{path}:check", "verifier")
    assert changed.digest != function.digest
    assert changed.call(ARGUMENTS)["verdict"] == "wrong"


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("checks:check", True), ("my.v2:check", True), ("math", False), ("checks.py:check", False),
     ("a/checks:check", False), ("checks:", False), ("checks:a b", False), (":check", False)],
)  # fmt: skip
def test_names_of_users_verifiers_are_told_from_ours(name: str, is_one: bool) -> None:
    assert is_user_name(name) is is_one
