"""The sandbox: what a program sees, its limits, errors if there is no sandbox, and the answers."""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from distillpipe.base.errors import MissingDependencyError
from distillpipe.verify.code import sandbox as sandboxes
from distillpipe.verify.code import seccomp
from distillpipe.verify.code.sandbox import Limits, Sandbox, find_sandbox
from distillpipe.verify.code.session import Answer, SandboxError

MB = 1 << 20


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    try:
        return find_sandbox(Limits(memory_bytes=512 * MB, tmp_bytes=8 * MB, output_bytes=MB))
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.fixture
def no_memory_of_trials() -> Iterator[None]:
    sandboxes._try_out.cache_clear()
    yield
    sandboxes._try_out.cache_clear()


def evaluate(sandbox: Sandbox, expression: str, setup: str = "", seconds: float = 20) -> Answer:
    with sandbox.start(cpu_seconds=20) as session:
        return session.ask(("evaluate", setup, expression), seconds)


def script(sandbox: Sandbox, source: str, text: str = "", seconds: float = 20) -> Answer:
    with sandbox.start(cpu_seconds=20, for_scripts=True) as session:
        assert session.ask(("compile", [source]), 20).reply == ["done"]
        return session.ask(("input", text.encode()), seconds)


# ---------------------------------------------------------------- what a program sees


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("os.getuid(), os.geteuid(), os.getgid()", ["t", 1000, 1000, 1000]),
        (
            "sorted(os.listdir('/dev'))",
            ["l", "fd", "null", "shm", "stderr", "stdin", "stdout", "urandom", "zero"],
        ),
        ("os.listdir('/tmp'), os.listdir('.')", ["t", ["l"], ["l"]]),
        ("os.getcwd()", "/sandbox/work"),
        ("os.path.exists('/proc'), os.path.exists('/home')", ["t", False, False]),
        ("os.uname().nodename", "sandbox"),
        ("sorted(os.environ)", ["l", "LC_CTYPE", "MALLOC_ARENA_MAX", "PWD", "PYTHONHASHSEED"]),
        ("hash('a') == hash('a'), sys.flags.hash_randomization", ["t", True, 0]),
        ("[p for p in sys.path if 'site-packages' in p]", ["l"]),
    ],
)
def test_a_program_sees_a_bare_machine(sandbox: Sandbox, expression: str, value: object) -> None:
    assert evaluate(sandbox, expression, "import os, sys").reply == ["value", value]


def test_the_interpreter_is_the_one_that_runs_us(sandbox: Sandbox) -> None:
    said = evaluate(sandbox, "sys.version, sys.base_prefix", "import sys").reply[1]

    assert said[1:] == [__import__("sys").version, str(sandboxes._prefix())]


def test_nothing_of_our_environment_is_inside(sandbox: Sandbox, monkeypatch) -> None:
    monkeypatch.setenv("DISTILL_SECRET", "b3f1")

    assert "b3f1" not in str(evaluate(sandbox, "dict(os.environ)", "import os").reply)


def test_the_first_process_inside_has_none_of_our_environment(sandbox, monkeypatch) -> None:
    """The environment of bubblewrap stays readable in /proc, which a later version might mount."""
    monkeypatch.setenv("DISTILL_SECRET", "b3f1")
    with sandbox.start(cpu_seconds=5) as session:
        environment = Path(f"/proc/{session.process.pid}/environ").read_bytes()

    assert environment == b""


def test_a_program_runs_as_an_ordinary_user_even_under_root(sandbox: Sandbox) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root")
    with sandbox.start(cpu_seconds=5) as session:
        uids = set()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                status = (process / "status").read_text()
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            is_inside = b"-c\0import sys,marshal" in command and b"bwrap" not in command
            if is_inside and is_below(int(process.name), session.process.pid):
                uids.add(status.partition("Uid:")[2].split()[0])
                assert "CapEff:\t0000000000000000" in status
                assert "NoNewPrivs:\t1" in status
                assert "Seccomp:\t2" in status

    assert len(uids) == 1
    assert int(uids.pop()) >= 65534


def is_below(process: int, ancestor: int) -> bool:
    while process > 1 and process != ancestor:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
        process = int(text.rpartition(")")[2].split()[1])
    return process == ancestor


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("len(bytearray(600_000_000))", "MemoryError"),
        ("open('/tmp/x', 'wb').write(b'x' * 9_000_000)", "OSError"),
        ("[open('/dev/null') for _ in range(100)]", "OSError"),
        ("os.fork()", "PermissionError"),
        ("subprocess.run(['/bin/true'])", "PermissionError"),
        ("socket.socket()", "PermissionError"),
        ("open('/usr/x', 'w')", "OSError"),
        ("open('/etc/passwd')", "FileNotFoundError"),
        ("os.kill(1, 0) or os.setuid(0)", "OSError"),
        ("os.setuid(0)", "OSError"),
    ],
)
def test_what_is_not_allowed_fails_as_an_exception(sandbox, expression, error) -> None:
    answer = evaluate(sandbox, expression, "import os, socket, subprocess")
    if answer.reply[0] == "raised" and error == "OSError":
        assert answer.reply[1] in ("OSError", "PermissionError")
    else:
        assert answer.reply[:2] == ["raised", error], answer


def test_the_sum_of_files_is_limited(sandbox: Sandbox) -> None:
    setup = "def f():\n for i in range(9):\n  with open(f'/tmp/{i}', 'wb') as x: x.write(b'x' * 1000000)"

    assert evaluate(sandbox, "f()", setup).reply[:2] == ["raised", "OSError"]


def test_threads_are_there_and_limited(sandbox: Sandbox) -> None:
    setup = (
        "import threading, time\n"
        "def f(n):\n"
        " all = [threading.Thread(target=time.sleep, args=(.2,)) for _ in range(n)]\n"
        " [t.start() for t in all]; [t.join() for t in all]\n"
        " return n"
    )

    assert evaluate(sandbox, "f(10)", setup).reply == ["value", 10]
    assert evaluate(sandbox, "f(100)", setup).reply[:2] == ["raised", "RuntimeError"]


def test_time_is_limited_from_outside(sandbox: Sandbox) -> None:
    begin = time.monotonic()

    answer = script(sandbox, "print('begun', flush=True)\nwhile True: pass", seconds=0.5)

    assert (answer.status, answer.output) == ("time_limit", b"begun\n")
    assert 0.5 <= time.monotonic() - begin < 10  # seconds


def test_processor_time_is_limited_too(sandbox: Sandbox) -> None:
    with sandbox.start(cpu_seconds=1, for_scripts=True) as session:
        session.ask(("compile", ["while True: pass"]), 20)
        answer = session.ask(("input", b""), 30)

    assert answer.reply == ["ended", -9, "", False]


def test_output_is_cut_and_the_program_killed(sandbox: Sandbox) -> None:
    answer = script(sandbox, "while True: print('x' * 1000)")

    assert answer.status == "output_limit"
    assert MB < len(answer.output) < 2 * MB


def test_a_long_answer_is_cut_too(sandbox: Sandbox) -> None:
    assert evaluate(sandbox, "'x' * 5_000_000").status == "output_limit"


# ---------------------------------------------------------------- scripts


@pytest.mark.parametrize(
    ("source", "text", "printed"),
    [
        ("print(sum(map(int, input().split())))", "1 2\n", "3\n"),
        ("import sys\nprint(sys.stdin.read() * 2, end='')", "ä\n", "ä\nä\n"),
        ("print(open(0).read())", "x", "x\n"),
        ("import os\nos.write(1, os.read(0, 9))", "x", "x"),
        ("import sys\nprint(1)\nsys.exit()", "", "1\n"),
        ("if __name__ == '__main__':\n print(1)", "", "1\n"),
        ("import sys\nfor line in sys.stdin: print(line, end='')", "a\nb", "a\nb"),
        ("import threading\nthreading.Thread(target=lambda: print(1)).start()", "", "1\n"),
        ("import atexit, sys\natexit.register(lambda: print(1))", "", "1\n"),
        ("import io, sys\nsys.stdout = io.StringIO()\nsys.__stdout__.write('1')", "", "1"),
        ("def f(n): return n and f(n - 1)\nprint(f(20_000))", "", "0\n"),
        ("from dataclasses import dataclass\n@dataclass\nclass A:\n a: int\nprint(A(1))", "", "A(a=1)\n"),
    ],
)  # fmt: skip
def test_a_script_runs_as_a_script_does(sandbox: Sandbox, source, text, printed) -> None:
    answer = script(sandbox, source, text)

    assert (answer.status, answer.output) == ("answered", printed.encode())
    assert answer.reply[:3] == ["ended", 0, ""]


@pytest.mark.parametrize(
    ("source", "exception"),
    [
        ("print(1)\nraise ValueError('no')", ["raised", "ValueError", "no"]),
        ("import sys\nsys.exit(3)", ["raised", "SystemExit", "3"]),
        ("input()", ["raised", "EOFError", "EOF when reading a line"]),
    ],
)
def test_a_script_that_fails_says_how(sandbox: Sandbox, source: str, exception: list[str]) -> None:
    _, exit_code, text, _ = script(sandbox, source).reply

    assert exit_code == (3 if "exit" in source else 1)
    assert json.loads(text) == exception


def test_a_script_that_leaves_has_printed_what_it_printed(sandbox: Sandbox) -> None:
    source = "import os\nprint(7, flush=True)\nos._exit(5)"

    assert script(sandbox, source) == Answer("answered", ["ended", 5, "", False], b"7\n")


def test_each_input_finds_fresh_streams_and_names(sandbox: Sandbox) -> None:
    source = (
        "import os, sys\nprint(input(), 'x' in globals())\nx = 1\nsys.stdout.flush()\nos.close(1)"
    )
    with sandbox.start(cpu_seconds=20, for_scripts=True) as session:
        session.ask(("compile", [source]), 20)
        answers = [session.ask(("input", text), 20) for text in (b"a\nrest\n", b"b\n")]

    assert [answer.output for answer in answers] == [b"a False\n", b"b False\n"]


def test_large_inputs_and_outputs_pass(sandbox: Sandbox) -> None:
    text = "0123456789\n" * 80_000

    assert (
        script(sandbox, "import sys\nprint(sys.stdin.read(), end='')", text).output == text.encode()
    )


# ---------------------------------------------------------------- the end


def test_nothing_is_left_running(sandbox: Sandbox) -> None:
    with sandbox.start(cpu_seconds=5) as session:
        process = session.process.pid
    session.close()

    assert session.process.returncode is not None
    assert not Path(f"/proc/{process}").exists()


def orphans() -> set[str]:
    """Zombie processes of bubblewrap that only init can reap."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(") ")
        except OSError:
            continue
        if name.endswith("(bwrap") and rest.split()[1] == "1":
            found.add(path.parent.name)
    return found


@pytest.mark.parametrize("source", ["1", "while True: pass", "while True: print('x' * 10 ** 6)"])
def test_no_dead_process_is_left_to_init(sandbox: Sandbox, source: str) -> None:
    before = orphans()
    for _ in range(5):
        script(sandbox, source, seconds=0.2)

    assert orphans() <= before


def test_descriptors_are_given_back(sandbox: Sandbox) -> None:
    evaluate(sandbox, "1")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for expression in ("1", "1 / 0", "x", "'x' * 5_000_000"):
        evaluate(sandbox, expression)

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_several_threads_may_start_sandboxes(sandbox: Sandbox) -> None:
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(evaluate(sandbox, f"{n}").reply[1]))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(found) == list(range(6))  # type: ignore[type-var]


# ---------------------------------------------------------------- refusal


def test_without_bubblewrap_it_is_refused(monkeypatch, no_memory_of_trials, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(MissingDependencyError, match="bubblewrap is not installed") as error:
        find_sandbox()
    assert sandboxes.install_command() in str(error.value)
    assert sandboxes.UNSAFE_FLAG in str(error.value)


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("bwrap: No permissions to create new namespace", "allow user namespaces"),
        ("bwrap: setting up uid map: Permission denied", "allow user namespaces"),
        ("bwrap: Unknown option --size", "bubblewrap 0.8 or newer"),
        ("nothing known", "bubblewrap"),
    ],
)
def test_an_error_of_bubblewrap_is_shown_with_a_remedy(
    monkeypatch, no_memory_of_trials, tmp_path, message, remedy
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text(f"#!/bin/sh\necho '{message}' >&2\nexit 1\n")
    fake.chmod(0o755)
    tmp_path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(sandboxes, "_is_readable_by_all", lambda path: False)

    with pytest.raises(MissingDependencyError) as error:
        find_sandbox()
    assert message in str(error.value)
    assert remedy in str(error.value)


def test_a_machine_without_a_filter_is_refused(monkeypatch, no_memory_of_trials) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")

    with pytest.raises(MissingDependencyError, match="x86-64 or aarch64"):
        find_sandbox()


def test_a_sandbox_that_fails_later_is_no_programs_fault(sandbox, monkeypatch, tmp_path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(sandboxes, "_is_readable_by_all", lambda path: False)

    with pytest.raises(SandboxError, match="exit code 1"), sandbox.start(cpu_seconds=1):
        pass


def test_the_unsafe_way_runs_as_we_are_with_limits_only(tmp_path: Path) -> None:
    unsafe = find_sandbox(Limits(memory_bytes=512 * MB), unsafe=True)

    assert not unsafe.is_isolated
    assert evaluate(unsafe, "os.getuid()", "import os").reply == ["value", os.getuid()]
    assert evaluate(unsafe, "len(bytearray(600_000_000))").reply[1] == "MemoryError"
    assert script(unsafe, "print(input())", "a").output == b"a\n"
    folder = evaluate(unsafe, "os.getcwd()", "import os").reply[1]
    assert "distill-unsafe-" in folder
    assert not Path(folder).exists()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_filter_has_whole_instructions_and_jumps_inside_it(machine: str) -> None:
    for may_fork in (True, False):
        check_filter(seccomp.filter_program(machine, may_fork=may_fork))
    check_filter(seccomp.no_processes(machine))


def check_filter(program: bytes) -> None:
    steps = [program[at : at + 8] for at in range(0, len(program), 8)]

    assert len(program) % 8 == 0
    assert len(program) < 65536  # the pipe that it is handed over in
    for place, step in enumerate(steps):
        if step[0] in (0x15, 0x35, 0x45):
            assert place + 1 + max(step[2], step[3]) < len(steps)
    assert steps[-1][:1] == b"\x06"


def test_a_system_call_of_another_machine_kills(sandbox: Sandbox) -> None:
    """The filter has the numbers of one architecture: 32-bit calls have other numbers."""
    setup = (
        "import ctypes, mmap\n"
        "code = mmap.mmap(-1, 4096, prot=7)\n"
        "code.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))\n"  # mov eax, 20; int 0x80; ret
        "call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))"
    )
    if os.uname().machine != "x86_64":
        pytest.skip("x86-64 only")

    assert evaluate(sandbox, "call()", setup).status == "ended"
