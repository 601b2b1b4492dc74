"""Each test starts with a restored interpreter: changes by a program in one test do not reach the next."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from distillpipe.base.errors import MissingDependencyError
from distillpipe.verify.code.kinds import Call, CallTests, CheckTests, ExpressionTests, InputTests
from distillpipe.verify.code.sandbox import Limits, Sandbox, find_sandbox
from distillpipe.verify.code.session import Session
from distillpipe.verify.code.verifier import judge_code

MB = 1 << 20
IMPORTS = (
    "import atexit, builtins, decimal, fractions, gc, io, locale, math, os, random, resource, signal, sys,"
    " threading, time, warnings"
)


class Spoiled(NamedTuple):
    """A part of the state of the interpreter or its process: code that changes it, and code that checks it."""

    spoil: str
    look: str
    by_calls: bool = True
    "whether it is put back before the next call of a function, too"


SPOILED = {
    "recursion limit": Spoiled("sys.setrecursionlimit(120)", "sys.getrecursionlimit()"),
    "decimal precision": Spoiled("decimal.getcontext().prec = 3", "decimal.Decimal(1) / 3"),
    "decimal traps": Spoiled("decimal.getcontext().traps[decimal.Inexact] = True", "decimal.Decimal(1) / 3"),
    "random state": Spoiled("random.seed(5)", "random.random() == 0.6229016948897019"),
    "environment": Spoiled("os.environ['X'] = '1'; os.environ.pop('PWD')", "sorted(os.environ)"),
    "real environment": Spoiled("os.putenv('TZ', 'Asia/Tokyo')", "time.tzset() or time.tzname", by_calls=False),
    "folder": Spoiled("os.chdir('/')", "os.getcwd()"),
    "files": Spoiled("open('left', 'w').write('x')", "os.listdir('.')"),
    "files in tmp": Spoiled("open('/tmp/left', 'w').write('x')", "os.listdir('/tmp')"),
    "its own file": Spoiled("open(__file__, 'a').write('# x')", "open(__file__).read()[-3:] == '# x'", by_calls=False),
    "mask of files": Spoiled("os.umask(0o777)", "os.umask(0)", by_calls=False),
    "descriptors": Spoiled("[os.dup(0) for _ in range(50)]", "os.close(max(os.dup(0) for _ in range(20)))", by_calls=False),
    "closed input": Spoiled("os.close(0)", "os.fstat(0).st_size"),
    "closed output": Spoiled("os.close(1)", "os.fstat(1).st_nlink"),
    "output that does not wait": Spoiled("os.set_blocking(1, False)", "os.get_blocking(1)"),
    "output in another place": Spoiled("sys.stdout = io.StringIO()", "sys.stdout.fileno()"),
    "closed stream": Spoiled("sys.stdout.close()", "print(end='') or sys.stdout.closed"),
    "closed input stream": Spoiled("sys.stdin.close()", "sys.stdin.read() == 'never'"),
    "builtins": Spoiled("builtins.len = lambda _: 3", "len('')"),
    "new builtins": Spoiled("builtins.answer = 3", "hasattr(builtins, 'answer')"),
    "modules": Spoiled("sys.modules['math'] = fractions", "__import__('math').pi"),
    "names of modules": Spoiled("math.sqrt = None", "math.sqrt(4)", by_calls=False),
    "warnings": Spoiled("warnings.simplefilter('error')", "warnings.filters[0][0]"),
    "locale": Spoiled("locale.setlocale(locale.LC_ALL, 'C')", "locale.setlocale(locale.LC_CTYPE)"),
    "signal handlers": Spoiled("signal.signal(signal.SIGALRM, print)", "signal.getsignal(signal.SIGALRM)"),
    "alarms": Spoiled("signal.alarm(1)", "signal.getitimer(signal.ITIMER_REAL)"),
    "blocked signals": Spoiled("signal.pthread_sigmask(0, {2})", "signal.pthread_sigmask(0, [])"),
    "digits": Spoiled("sys.set_int_max_str_digits(640)", "len(str(10 ** 9000))"),
    "collector": Spoiled("gc.disable(); gc.set_threshold(7)", "gc.isenabled(), gc.get_threshold()"),
    "path": Spoiled("sys.path.clear()", "len(sys.path) > 2"),
    "arguments": Spoiled("sys.argv.append('x')", "len(sys.argv)"),
    "profile": Spoiled("sys.setprofile(lambda *_: 0)", "sys.getprofile()"),
    "stack of threads": Spoiled("threading.stack_size(1 << 20)", "threading.stack_size()"),
    "threads": Spoiled("threading.Thread(target=time.sleep, args=(9,), daemon=True).start()", "threading.active_count()", by_calls=False),
    "switches": Spoiled("sys.setswitchinterval(0.5)", "sys.getswitchinterval()", by_calls=False),
    "limits": Spoiled("resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))", "resource.getrlimit(resource.RLIMIT_NOFILE)", by_calls=False),
    "niceness": Spoiled("os.nice(3)", "os.getpriority(os.PRIO_PROCESS, 0)", by_calls=False),
    "what waits for the exit": Spoiled("atexit.register(print, 'late')", "1", by_calls=False),
    "hooks": Spoiled("sys.excepthook = sys.displayhook = None", "sys.excepthook is sys.__excepthook__", by_calls=False),
    "memory": Spoiled("sys.kept = bytearray(300 << 20)", "len(bytearray(300 << 20))", by_calls=False),
    "its own names": Spoiled("globals().update(x=1)", "'x' in globals()", by_calls=False),
}  # fmt: skip


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    try:
        return find_sandbox(Limits(memory_bytes=512 * MB))
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def scripts(sandbox: Sandbox) -> Iterator[Session]:
    with sandbox.start(cpu_seconds=60, for_scripts=True) as session:
        yield session


@pytest.fixture(scope="module")
def functions(sandbox: Sandbox) -> Iterator[Session]:
    with sandbox.start(cpu_seconds=60) as session:
        yield session


def script_of(spoiled: Spoiled) -> str:
    return (
        f"{IMPORTS}\nif sys.stdin.readline() == 'spoil\\n':\n    {spoiled.spoil}\n"
        f"else:\n    print(repr(({spoiled.look})))\n"
    )


@pytest.mark.parametrize("name", SPOILED)
def test_a_script_finds_nothing_of_its_last_run(scripts: Session, sandbox, name: str) -> None:
    source = script_of(SPOILED[name])
    assert scripts.ask(("compile", [source]), 20).reply == ["done"]
    looked = scripts.ask(("input", b"look\n"), 20)
    spoiled = scripts.ask(("input", b"spoil\n"), 20)

    assert looked.reply[:3] == ["ended", 0, ""]
    assert spoiled.reply[:2] == ["ended", 0]
    if spoiled.reply[3]:  # files were changed: `judge_code` takes another sandbox
        expected = looked.output.decode()
        tests = InputTests((("look\n", expected), ("spoil\n", ""), ("look\n", expected)))
        assert judge_code(source, tests, sandbox=sandbox).summary == "all_tests_passed"
        remove_files(scripts)
    else:
        assert scripts.ask(("input", b"look\n"), 20) == looked


def remove_files(scripts: Session) -> None:
    """Remove the files that another test may have left in the shared sandbox."""
    source = "import os\nfor path in ('left', '/tmp/left'):\n    if os.path.exists(path): os.unlink(path)"
    scripts.ask(("compile", [source]), 20)
    scripts.ask(("input", b""), 20)


@pytest.mark.parametrize("name", [name for name, spoiled in SPOILED.items() if spoiled.by_calls])
def test_a_call_finds_nothing_of_the_last_one(functions: Session, name: str) -> None:
    one = SPOILED[name]
    source = (
        f"{IMPORTS}\ndef spoil():\n    {one.spoil}\ndef look():\n    return repr(({one.look}))\n"
    )
    assert functions.ask(("load", [source]), 20).reply == ["done"]
    looked = functions.ask(("fresh", "call", "look", (), {}), 20)
    spoiled = functions.ask(("fresh", "call", "spoil", (), {}), 20)

    assert looked.reply[0] == "value"
    assert spoiled.reply[0] in ("value", "raised")  # a file object is no plain value
    assert functions.ask(("fresh", "call", "look", (), {}), 20) == looked


@pytest.mark.parametrize(
    ("program", "calls"),
    [
        ("n = 0\ndef f():\n    global n\n    n += 1\n    return n", [1, 2, 3]),
        ("def f(a=[]):\n    a.append(1)\n    return len(a)", [1, 2, 3]),
        ("import decimal\ndecimal.getcontext().prec = 3\ndef f():\n    return str(1 / decimal.Decimal(3))", ["0.333"] * 2),
        ("import sys\nsys.setrecursionlimit(60_000)\ndef f():\n    return sys.getrecursionlimit()", [60_000] * 2),
        ("import sys\ndef f():\n    sys.setrecursionlimit(sys.getrecursionlimit() + 1)\n    return sys.getrecursionlimit()", [50_001, 50_002]),
    ],
)  # fmt: skip
def test_functions_keep_what_is_theirs(sandbox: Sandbox, program: str, calls: list[object]) -> None:
    """As in the graders of their benchmarks, which load a program once: a changed default stays changed."""
    tests = CallTests("f", tuple(Call((), {}, expected) for expected in calls))

    assert judge_code(program, tests, sandbox=sandbox).summary == "all_tests_passed"


def test_checks_and_expressions_start_fresh_too(sandbox: Sandbox) -> None:
    program = (
        "import sys\ndef f(n):\n    if n == 0:\n        sys.setrecursionlimit(120)\n        return 0\n"
        "    return depth(n)\ndef depth(n):\n    return n and 1 + depth(n - 1)\n"
    )
    checks = CheckTests({"f": "f"}, ("assert f(0) == 0", "assert f(500) - 500 == 0"))
    expressions = ExpressionTests((("f(0)", 0), ("f(500)", 500)))
    calls = CallTests("f", (Call((0,), {}, 0), Call((500,), {}, 500)))

    for tests in (checks, expressions, calls):
        assert judge_code(program, tests, sandbox=sandbox).summary == "all_tests_passed"


def test_a_program_that_breaks_everything_spoils_only_itself(sandbox: Sandbox) -> None:
    """The program breaks even the code that restores the state: its next call is wrong, no other program's."""
    program = (
        "import builtins, sys, posix\ndef f(x):\n    if x:\n        posix.dup2 = posix.chdir = sys.settrace = None\n"
        "        builtins.setattr = builtins.open = None\n    return x\n"
    )
    tests = CallTests("f", (Call((1,), {}, 1), Call((0,), {}, 0)))

    assert judge_code(program, tests, sandbox=sandbox).summary == "all_tests_passed"
