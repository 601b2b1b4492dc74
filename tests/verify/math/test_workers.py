"""Worker processes: reused while they answer, killed when they do not, and ended with their parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from distillpipe.base import workers as processes
from distillpipe.base.errors import EngineError
from distillpipe.verify.math import workers

TOWER = "9^{9^{9^{9}}}"


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    processes.close()
    yield
    processes.close()


def _pids() -> set[int]:
    return {worker.process.pid for worker in processes._state.all}


def _wait_for(condition) -> None:
    """Poll until the condition is true; without a time limit of its own."""
    while not condition():
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
            != "Z"
        )
    except FileNotFoundError:
        return False


def test_a_worker_is_started_by_the_first_question_and_kept() -> None:
    assert _pids() == set()
    assert workers.ask("x+1", "1+x") == "same"
    first = _pids()
    assert len(first) == 1
    assert workers.ask("x+1", "x+2") == "different"
    assert workers.ask(r"\frac{}{2}", "1") == "unreadable_answer"
    assert workers.ask("1", r"\frac{}{2}") == "unreadable_reference"
    assert workers.ask("\x00", "1") in ("unreadable_answer", "different")
    assert workers.ask("\ud800", "1") in ("unreadable_answer", "different", "failed")
    assert _pids() == first


def test_a_question_over_its_cpu_time_costs_only_its_worker(
    monkeypatch,
) -> None:
    monkeypatch.setattr(workers, "CPU_SECONDS", 1.0)
    assert workers.ask("1", "1") == "same"
    first = _pids()
    assert workers.ask(TOWER, "1") == "failed"
    assert _pids() == set()
    assert workers.ask("1", "1") == "same"
    assert _pids().isdisjoint(first)


def test_a_question_beyond_its_wall_clock_fails(monkeypatch) -> None:
    monkeypatch.setattr(workers, "WALL_SECONDS", 0.5)
    monkeypatch.setattr(workers, "CPU_SECONDS", 600.0)
    assert workers.ask(TOWER, "1") == "failed"
    assert _pids() == set()


def test_a_worker_that_died_while_idle_is_replaced_silently() -> None:
    workers.ask("1", "1")
    (pid,) = _pids()
    os.kill(pid, signal.SIGKILL)
    _wait_for(lambda: not _is_running(pid))
    assert workers.ask("1", "1") == "same"
    assert _pids() != {pid}


def test_each_of_several_threads_has_a_worker_of_its_own() -> None:
    barrier = threading.Barrier(2)
    outcomes = []

    def ask(number: int) -> None:
        barrier.wait()
        outcomes.append(workers.ask(f"x+{number}", f"{number}+x"))

    threads = [threading.Thread(target=ask, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["same"] * 2
    assert len(_pids()) == 2


def test_closing_kills_busy_workers_and_their_questions_are_void(monkeypatch) -> None:
    monkeypatch.setattr(workers, "CPU_SECONDS", 600.0)
    monkeypatch.setattr(workers, "WALL_SECONDS", 600.0)
    workers.ask("1", "1")
    (pid,) = _pids()
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            workers.ask(TOWER, "1")
        except processes.Closed as closed:
            raised.append(closed)

    thread = threading.Thread(target=ask)
    thread.start()
    _wait_for(lambda: not processes._state.idle)
    processes.close()
    thread.join()
    assert len(raised) == 1
    assert not _is_running(pid)


def test_a_fork_has_workers_of_its_own() -> None:
    workers.ask("1", "1")
    before = _pids()
    child = os.fork()
    if not child:
        is_right = workers.ask("1", "1") == "same" and _pids().isdisjoint(before)
        processes.close()
        os._exit(0 if is_right else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert workers.ask("1", "1") == "same"
    assert _pids() == before


def test_a_worker_that_does_not_start_is_an_error_and_no_verdict(monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EngineError, match="did not start"):
        workers.ask("1", "1")


ASKING = """
import signal, sys, threading
from distillpipe.base import interrupts, workers as processes
from distillpipe.verify.math import workers
interrupts.install()
workers.CPU_SECONDS = workers.WALL_SECONDS = 600.0
workers.ask("1", "1")
print(*[worker.process.pid for worker in processes._state.all], flush=True)
workers.ask(sys.argv[1], "1")
"""


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        signal.SIGKILL,
    ],
)
def test_workers_end_with_their_parent_however_it_ends(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ASKING, TOWER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as asking:
        pid = int(asking.stdout.readline())
        assert _is_running(pid)
        asking.send_signal(number)
        asking.wait()
    assert asking.returncode != 0
    _wait_for(lambda: not _is_running(pid))


def test_modules_in_the_working_folder_do_not_shadow_a_workers(tmp_path, monkeypatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('not yours')")
    (tmp_path / "sympy.py").write_text("raise SystemExit('not yours')")
    monkeypatch.chdir(tmp_path)
    assert workers.ask("x+1", "1+x") == "same"
