"""A run with a server that is stopped or killed goes on, and buys nothing twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.dataset import read_traces

PRICES = ("--price-input", 0.55, "--price-output", 2.19)
Distill = Callable[..., Any]


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[str]]:
    """Run `distill` in a process of its own."""

    def run(*given: object) -> subprocess.Popen[str]:
        program = "from distillpipe.cli.app import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, given)], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip

    return run


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_ends_it_at_once_and_the_same_command_goes_on(
    serve: Any, sent: Any, start: Distill, problems: Path, generate_from: Callable[..., list[str]],
    tmp_path: Path, number: signal.Signals,
) -> None:  # fmt: skip
    server = serve(lambda *_: sent() if sum(server.answered.values()) < 9 else sent(stall=600.0))
    out = tmp_path / "out"
    running = start(*generate_from(server, problems, out))
    wait_for(lambda: sum(server.answered.values()) == 9 and server.under_way == 8)
    running.send_signal(number)

    assert running.communicate()[1].endswith(
        "stopped: what was done is safe; the same command goes on from here\n"
    )
    assert running.returncode == 128 + number
    wait_for(lambda: server.under_way == 0)
    server.react = lambda *_: sent()
    again = start(*generate_from(server, problems, out))
    assert "sampling 11 of 20 rows" in again.communicate()[1]
    assert sum(server.answered.values()) == 20


@pytest.mark.slow
def test_kills_cost_no_more_than_the_cap_and_lose_no_row(
    serve: Any, sent: Any, start: Distill, write_problems: Callable[[int], Path],
    generate_from: Callable[..., list[str]], tmp_path: Path,
) -> None:  # fmt: skip
    problems, out = write_problems(400), tmp_path / "out"
    server = serve(lambda *_: sent(stall=0.005))
    cap = 0.02
    given = [*generate_from(server, problems, out), *PRICES, "--max-cost"]
    for kill in range(1, 9):
        running = start(*given, cap)
        wait_for(lambda: running.poll() is not None or len(server.bodies) >= 30 * kill)  # noqa: B023
        running.kill()
        running.communicate()
        assert server.bill(0.55, 2.19) <= cap
    running = start(*given, cap)
    running.communicate()
    assert running.returncode == 3
    assert server.bill(0.55, 2.19) <= cap
    spent = manifests.read(out / "v1.partial").counts.cost_dollars
    assert server.bill(0.55, 2.19) <= spent <= cap

    running = start(*given, 1.0)
    running.communicate()
    assert running.returncode == 0
    assert server.bill(0.55, 2.19) <= manifests.read(out / "v1").counts.cost_dollars
    assert len({row.row_key for row in read_traces(str(out))}) == 400


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.005)
