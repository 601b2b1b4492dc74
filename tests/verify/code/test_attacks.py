"""Hostile programs: each is contained, none passes its tests, and the machine is unchanged.

A program in `attacks/` prints "breached: ..." if its attack succeeded, and passes if it finds the expected
value, which is in the environment, in files and in the judge's memory. Its first line may name the kind
of test; @PORT@, @CWD@ and @HOME@ are replaced by targets outside the sandbox.
"""

import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from distillpipe.base.errors import MissingDependencyError
from distillpipe.verify.code.kinds import (
    BesideTests,
    Call,
    CallTests,
    CheckTests,
    CodeTests,
    InputTests,
)
from distillpipe.verify.code.sandbox import Limits, Sandbox, find_sandbox
from distillpipe.verify.code.verifier import judge_code

ATTACKS = sorted((Path(__file__).parent / "attacks").glob("*.txt"))
TEST_SECONDS = 2.0
LIMITS = Limits(memory_bytes=512 << 20, tmp_bytes=32 << 20)
MAX_LOST_MEMORY_BYTES = 1 << 30  # other programs run on this machine too
SETTLE_SECONDS = 20

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Target:
    """The targets of an attack."""

    token: str
    folder: Path
    home: Path
    listeners: list[socket.socket]

    @property
    def port(self) -> int:
        return int(self.listeners[0].getsockname()[1])


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    try:
        return find_sandbox(LIMITS)
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """A secret in the environment and in files, a working folder, and servers on every kind of socket."""
    token = secrets.token_hex(16)
    root = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="distill-test-"))
    folder, home = root / "work", root / "home"
    for path in (folder, home):
        path.mkdir()
        (path / "secret.txt").write_text(token)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DISTILL_SECRET", token)
    tcp = socket.create_server(("127.0.0.1", 0))
    listeners = [tcp, socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
    listeners[1].bind(f"\0distill-attack-{tcp.getsockname()[1]}")
    listeners[2].bind(str(folder / "socket"))
    for listener in listeners:
        listener.listen()
        listener.setblocking(False)
    yield Target(token, folder, home, listeners)
    for listener in listeners:
        listener.close()
    shutil.rmtree(root)


def kind_of_tests(kind: str, token: str) -> CodeTests:
    if kind == "# input":
        return InputTests((("7\n", token),))
    if kind == "# check":
        return CheckTests({"solve": "solve"}, ("assert abs(solve(7) - 0.25) < 1e-6",))
    if kind == "# beside":
        return BesideTests(("assert solve(7) == 0.25",))
    return CallTests("solve", (Call((7,), {}, token),))


def foreign_processes() -> set[str]:
    """The visible processes in other pid namespaces than ours."""
    own, pids = Path("/proc/self/ns/pid").readlink(), set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "ns" / "pid").readlink() != own:
                pids.add(process.name)
        except OSError:
            continue
    return pids


def available_memory() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def names(folder: str | Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def snapshot(target: Target) -> dict[str, object]:
    """The state that an attack must not change: files, mounts, sockets, our descriptors."""
    folders = ("/tmp", "/dev", "/dev/shm", "/var/tmp", "/")
    return {
        "marks": [name for folder in folders for name in names(folder) if "attack" in name],
        "folder": names(target.folder),
        "home": names(target.home),
        "secrets": [(path / "secret.txt").read_text() for path in (target.folder, target.home)],
        "mounts": len(Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()),
        "descriptors": len(names("/proc/self/fd")),
        "clock": round((time.time() - time.monotonic()) / 60),
    }


def settles(is_settled: object) -> bool:
    deadline = time.monotonic() + SETTLE_SECONDS
    while not (done := is_settled()) and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.05)
    return bool(done)


def was_called(listener: socket.socket) -> bool:
    try:
        listener.accept()
    except BlockingIOError:
        return False
    return True


def test_there_are_enough_attacks() -> None:
    assert len(ATTACKS) >= 90


@pytest.mark.parametrize("path", ATTACKS, ids=[path.stem for path in ATTACKS])
def test_an_attack_is_contained(path: Path, sandbox: Sandbox, target: Target) -> None:
    source = path.read_text(encoding="utf-8")
    program = source.replace("@PORT@", str(target.port)).replace("@CWD@", str(target.folder))
    program = program.replace("@HOME@", str(target.home)).replace("@NUL@", "\0")
    tests = kind_of_tests(source.partition("\n")[0], target.token)
    processes, memory, before = foreign_processes(), available_memory(), snapshot(target)
    begin = time.monotonic()

    result = judge_code(program, tests, sandbox=sandbox, test_seconds=TEST_SECONDS)

    took = time.monotonic() - begin
    assert result.verdict == "wrong", result
    assert "breached" not in result.detail
    assert took < 4 * TEST_SECONDS + 10  # seconds; the rest is the machine's to start and to end it
    assert settles(lambda: foreign_processes() <= processes), "processes are left"
    assert settles(lambda: available_memory() > memory - MAX_LOST_MEMORY_BYTES), "memory is lost"
    assert snapshot(target) == before
    assert not any(map(was_called, target.listeners))


def test_after_all_attacks_a_right_program_still_passes(sandbox: Sandbox) -> None:
    tests = CallTests("solve", (Call((7,), {}, 14),))

    result = judge_code("def solve(x):\n    return 2 * x\n", tests, sandbox=sandbox)

    assert (result.verdict, result.num_passed) == ("correct", 1)


@pytest.mark.parametrize("name", ["infinite_loop", "a_million_empty_files", "signals_ignored"])
def test_a_sandbox_dies_with_us(name: str, sandbox: Sandbox) -> None:
    """After the judge is killed in the middle of a test, no process of the program is left."""
    before = foreign_processes()
    source = (Path(__file__).parent / "attacks" / f"{name}.txt").read_text()
    child = os.fork()
    if child == 0:
        judge_code(source, kind_of_tests("", "x"), sandbox=sandbox, test_seconds=60)
        os._exit(0)
    assert settles(lambda: foreign_processes() - before), "it never started"
    time.sleep(0.5)
    os.kill(child, 9)
    os.waitpid(child, 0)

    assert settles(lambda: foreign_processes() <= before)
