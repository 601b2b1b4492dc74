"""Judging many rows: in order, few in memory, stopped at once."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from distillpipe.base import workers
from distillpipe.verify import verified
from distillpipe.verify.judge import Judge


def test_rows_come_out_judged_in_their_order(make_trace) -> None:
    traces = [
        make_trace(response=rf"\boxed{{{number % 3}}}", reference_answer="1")
        for number in range(50)
    ]
    with Judge(num_workers=3) as judge:
        judged = list(judge.map(verified, traces))
    assert [trace.answer for trace in judged] == [str(number % 3) for number in range(50)]
    assert [trace.verdict for trace in judged] == [
        "correct" if number % 3 == 1 else "wrong" for number in range(50)
    ]


def test_hard_rows_go_to_workers_that_end_with_the_judge(make_trace) -> None:
    sums = [rf"\boxed{{\sum_{{k=1}}^{{{number}}} k}}" for number in range(1, 7)]
    traces = [make_trace(response=text, reference_answer="6") for text in sums]
    with Judge(num_workers=2) as judge:
        verdicts = [trace.verdict for trace in judge.map(verified, traces)]
        assert 1 <= len(workers._state.all) <= 2
    assert verdicts == ["wrong", "wrong", "correct", "wrong", "wrong", "wrong"]
    assert workers._state.all == set()


def test_no_rows_are_no_rows() -> None:
    with Judge(1) as judge:
        assert list(judge.map(str, [])) == []


def test_only_a_few_rows_are_read_ahead() -> None:
    read = []

    def rows() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    with Judge(num_workers=2) as judge:
        judged = judge.map(str, rows())
        assert next(judged) == "0"
        assert len(read) == 8
        assert next(judged) == "1"
        assert len(read) == 9


def test_results_keep_their_order_and_a_slow_row_blocks_late() -> None:
    may_end = threading.Event()

    def judged(number: int) -> int:
        if number == 1:
            may_end.wait()
        return -number

    with Judge(num_workers=2) as judge:
        got = []
        for number in range(8):
            judge.put(judged, number)
            if number == 7:
                may_end.set()  # eight are under way: now the oldest is waited for
            got.append(list(judge.ready()))
        left = list(judge.rest())
    assert got[:7] == [[0], [], [], [], [], [], []]
    assert [*got[7], *left] == [-1, -2, -3, -4, -5, -6, -7]
    assert judge.num_waiting == 0


def test_all_pending_results_come_before_an_error_is_raised() -> None:
    def judged(number: int) -> int:
        if number in (1, 3):
            raise ValueError(number)
        return number

    with Judge(num_workers=2) as judge:
        for number in range(5):
            judge.put(judged, number)
        got = []
        with pytest.raises(ValueError, match="1"):
            for result in judge.rest():
                got.append(result)
    assert got == [0, 2, 4]


def test_an_error_of_a_row_is_raised_in_its_turn() -> None:
    def judged(number: int) -> int:
        if number == 2:
            raise ValueError("row 2")
        return number

    with Judge(2) as judge:
        out = judge.map(judged, range(5))
        assert [next(out), next(out)] == [0, 1]
        with pytest.raises(ValueError, match="row 2"):
            next(out)


def test_leaving_early_does_not_wait_for_what_was_not_begun() -> None:
    release = threading.Event()
    begun = []

    def judged(number: int) -> int:
        begun.append(number)
        if number:
            release.wait()
        return number

    with Judge(1) as judge:
        assert next(judge.map(judged, range(100))) == 0
        release.set()
    assert len(begun) <= 3


ENDLESS = r"""
import sys
from distillpipe.base import interrupts
from distillpipe.base.errors import Interrupted
from distillpipe.verify import Judge, judge
from distillpipe.verify.math import workers
interrupts.install()
workers.CPU_SECONDS = workers.WALL_SECONDS = 600.0
workers.ask("1", "1")
towers = ("9^{9^{9^{9}}}+%d" % number for number in range(100))
print("begun", flush=True)
try:
    with Judge(2) as judging:
        for _ in judging.map(lambda answer: judge(answer, r"\sum_{k=1}^3 k", "math"), towers):
            pass
except Interrupted:
    print("stopped", flush=True)
"""


def test_ctrl_c_stops_a_judge_whose_workers_hang() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "begun\n"
        while len(_children(process.pid)) < 2:
            pass
        process.send_signal(2)
        assert process.stdout.readline() == "stopped\n"
        assert process.wait() == 0


def _children(pid: int) -> list[str]:
    return [
        child
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
