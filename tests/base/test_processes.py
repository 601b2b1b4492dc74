"""Forked processes: results in order, errors in their turn, and no process outlives the one that began it."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distillpipe.base.errors import DataError, EngineError
from distillpipe.base.processes import Processes
from distillpipe.data.store import versions
from distillpipe.data.store.versions import Header


def test_results_come_in_the_order_of_the_items() -> None:
    table = [number * number for number in range(500)]  # a fork has it
    with Processes(3, table.__getitem__) as processes:
        assert list(processes.map(range(500))) == table


def test_no_items_are_no_results() -> None:
    with Processes[int, str](2, str) as processes:
        assert list(processes.map([])) == []


def test_only_a_few_items_are_read_ahead() -> None:
    read = []

    def items() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    with Processes(2, str) as processes:
        found = processes.map(items())
        assert next(found) == "0"
        assert len(read) == 8


def test_an_error_for_an_item_is_raised_in_its_turn() -> None:
    def checked(number: int) -> int:
        if number == 2:
            raise DataError("row 2")
        return number

    with Processes(2, checked) as processes:
        found = processes.map(range(50))
        assert [next(found), next(found)] == [0, 1]
        with pytest.raises(DataError, match=r"\Arow 2\Z"):
            next(found)


def test_a_process_that_is_killed_is_an_error_that_says_how_to_go_on() -> None:
    def killed(number: int) -> int:
        if number == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    said = "was killed, by hand or because memory ran out: the same command resumes"
    with pytest.raises(EngineError, match=said), Processes(2, killed) as processes:
        list(processes.map(range(50)))


HANGING = """
import sys, time
from pathlib import Path
from distillpipe.data.store import versions
from distillpipe.base import interrupts
from distillpipe.base.errors import Interrupted
from distillpipe.base.processes import Processes
from distillpipe.data.store.versions import Header

interrupts.install()
header = Header(kind="traces", stage="generate", content={}, inputs=[], models=[], options={})
try:
    with versions.draft(Path(sys.argv[1]), header), Processes(3, time.sleep) as processes:
        print(*(child.pid for child in processes._children), flush=True)
        list(processes.map([600] * 3))
except Interrupted as interrupted:
    sys.exit(interrupted.exit_code)
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_no_process_is_left_and_the_lock_is_free_when_the_first_one_is_stopped(
    tmp_path: Path, make_header: Callable[..., Header], number: int, code: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HANGING, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        children = [int(word) for word in process.stdout.readline().split()]
        assert len(children) == 3
        for child in children:
            os.kill(child, signal.SIGTERM)  # as where the whole group gets it: ours to answer
        process.send_signal(number)
        assert process.wait() == code
        with versions.draft(tmp_path, make_header()):
            pass
    while any(map(is_alive, children)):  # the system takes its time
        pass


def is_alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0]
        return state not in "ZX"
    return False
