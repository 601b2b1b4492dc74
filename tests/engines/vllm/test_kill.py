"""Runs with vLLM that are killed, interrupted, or lose a replica: real processes, the real command.

One dataset through all of it, since every start of vLLM lasts most of a minute.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.vllm

NUM_ROWS = 300
ROWS_BEFORE = 50  # each of three interruptions, so that two replicas still have many to share
SECONDS_TO_EXIT = 10  # of a replica that is still loading, see vllm.process
ARGUMENTS = [
    "generate", "data/quickstart/problems-train.jsonl", "--teacher", "data/quickstart/teacher",
    "--prompt-template", "{problem}", "--max-tokens", "160", "--limit", str(NUM_ROWS),
    "--engine", "vllm", "--concurrency", "8",
]  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vllm") / "traces"


@pytest.fixture
def num_replicas() -> int:
    return 1


@pytest.fixture
def started(out: Path, repository: Path, num_replicas: int) -> Iterator[subprocess.Popen[str]]:
    """The command in a process group of its own."""
    program = "from distillpipe.cli.app import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *ARGUMENTS, "--replicas", str(num_replicas), "--out", out],
        cwd=repository,
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    yield process
    process.kill()
    process.communicate()


def rows(out: Path) -> list[bytes]:
    parts = sorted(out.glob("v*/part-*.jsonl"))
    return [
        line
        for part in parts
        for line in part.read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
    ]


def wait_for_rows(process: subprocess.Popen[str], out: Path, more: int) -> list[psutil.Process]:
    """Wait until so many rows more are there; the processes of the run."""
    enough = len(rows(out)) + more
    while process.poll() is None and len(rows(out)) < enough:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1]
    return psutil.Process(process.pid).children(recursive=True)


def are_gone(processes: list[psutil.Process]) -> bool:
    return not [one for one in processes if one.is_running() and one.status() != "zombie"]


def engine_cores(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if "EngineCore" in command_line(one)]


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return ""


def test_a_run_that_is_killed_while_the_model_is_loaded_leaves_no_process(
    started: subprocess.Popen[str], out: Path
) -> None:
    ours = psutil.Process(started.pid)
    while not (cores := engine_cores(ours.children(recursive=True))):
        assert started.poll() is None, started.communicate()[1]
        time.sleep(0.1)
    group = os.getpgid(cores[0].pid)
    assert group != started.pid
    started.kill()
    killed = time.monotonic()
    while of_group(group):
        time.sleep(0.1)
    assert time.monotonic() - killed < SECONDS_TO_EXIT + 20
    assert rows(out) == []


def of_group(number: int) -> list[int]:
    """The ids of a process group's living processes."""
    listed = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True)
    lines = [line.split() for line in listed.stdout.splitlines()]
    return [int(pid) for pid, group, state in lines if int(group) == number and state[0] != "Z"]


def test_a_killed_run_leaves_no_process_and_keeps_its_rows(
    started: subprocess.Popen[str], out: Path
) -> None:
    processes = wait_for_rows(started, out, ROWS_BEFORE)
    assert len(engine_cores(processes)) == 1
    started.kill()
    before = rows(out)
    while not are_gone(processes):  # they see that the pipe is closed, and end
        time.sleep(0.1)
    assert rows(out)[: len(before)] == before
    assert len(before) >= ROWS_BEFORE


def test_an_interrupted_run_leaves_no_process_and_says_how_to_go_on(
    started: subprocess.Popen[str], out: Path
) -> None:
    before = rows(out)
    processes = wait_for_rows(started, out, ROWS_BEFORE)
    os.killpg(started.pid, signal.SIGINT)
    _, said = started.communicate()
    assert are_gone(processes)
    assert started.returncode == 130
    assert "the same command goes on from here" in said
    assert "Traceback" not in said
    assert rows(out)[: len(before)] == before


@pytest.mark.parametrize("num_replicas", [2])
def test_a_run_that_loses_a_replica_ends_with_every_row_once(
    started: subprocess.Popen[str], out: Path
) -> None:
    before = rows(out)
    processes = wait_for_rows(started, out, ROWS_BEFORE)
    engine_cores(processes)[0].kill()
    printed, said = started.communicate()
    assert started.returncode == 0, said
    assert "of vLLM died" in said
    assert "requests in flight go to the remaining replicas (1)" in said
    assert printed == ""
    assert are_gone(processes)
    whole = rows(out)
    assert set(before) <= set(whole)
    assert len({json.loads(row)["row_key"] for row in whole}) == len(whole) == NUM_ROWS
