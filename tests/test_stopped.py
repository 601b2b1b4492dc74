"""The installed `distill`, stopped from outside: by signals, by `kill -9`, by a run that was there before."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

DISTILL = str(Path(sys.executable).with_name("distill"))
SHIPPED = Path("data/quickstart")
NUM_ROWS = 100
GENERATE = [
    "generate", f"{SHIPPED}/problems-train.jsonl", "--teacher", f"{SHIPPED}/teacher",
    "--limit", str(NUM_ROWS), "--max-tokens", "160", "--prompt-template", "{problem}",
    "--concurrency", "32",
]  # fmt: skip


def start(repository: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [DISTILL, *arguments], cwd=repository, stderr=subprocess.PIPE, env=environment
    )


def run(repository: Path, arguments: list[str]) -> None:
    process = start(repository, arguments)
    _, said = process.communicate()
    assert process.returncode == 0, said


def lines_of(out: Path) -> list[bytes]:
    parts = sorted(out.glob("v1*/part-*.jsonl"))
    lines = [line for part in parts for line in part.read_bytes().splitlines(keepends=True)]
    return [line for line in lines if line.endswith(b"\n")]


def wait_for_more_rows(out: Path, process: subprocess.Popen[bytes]) -> None:
    num_before = len(lines_of(out))
    while process.poll() is None and len(lines_of(out)) <= num_before:
        time.sleep(0.005)


@pytest.mark.long  # test_kill.py kills more often; here the command is the installed one
def test_the_installed_command_killed_goes_on_where_it_was(
    repository: Path, tmp_path: Path
) -> None:
    rng = random.Random(7)
    arguments = [*GENERATE, "--out", str(tmp_path)]
    finished: list[bytes] = []
    for _ in range(3):
        process = start(repository, arguments)
        wait_for_more_rows(tmp_path, process)
        time.sleep(rng.uniform(0.0, 0.2))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert lines_of(tmp_path)[: len(finished)] == finished
        finished = lines_of(tmp_path)
    run(repository, arguments)

    lines = lines_of(tmp_path)
    assert lines[: len(finished)] == finished
    assert len({json.loads(line)["row_key"] for line in lines}) == len(lines) == NUM_ROWS
    assert [path.name for path in tmp_path.glob("v*")] == ["v1"]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long)],
)
def test_ctrl_c_and_sigterm_say_how_to_go_on_and_the_same_command_does(
    repository: Path, tmp_path: Path, number: int, code: int
) -> None:
    arguments = [*GENERATE, "--out", str(tmp_path)]
    process = start(repository, arguments)
    wait_for_more_rows(tmp_path, process)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == code
    assert b"what was done is safe; the same command goes on from here" in said
    assert b"Traceback" not in said
    finished = lines_of(tmp_path)
    assert finished
    run(repository, arguments)

    assert lines_of(tmp_path)[: len(finished)] == finished
    assert len(lines_of(tmp_path)) == NUM_ROWS


def test_a_second_run_at_the_same_time_is_refused_and_the_first_one_finishes(
    repository: Path, tmp_path: Path
) -> None:
    arguments = [*GENERATE, "--out", str(tmp_path)]
    first = start(repository, arguments)
    wait_for_more_rows(tmp_path, first)
    first.send_signal(signal.SIGSTOP)  # else it may have ended before the second one looks
    second = start(repository, arguments)
    _, said = second.communicate()
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 1
    assert said.decode() == (
        f"error: {tmp_path} is being written by another run (process {first.pid}): "
        "wait until that run ends, or choose another --out\n"
    )
    first.communicate()
    assert first.returncode == 0
    assert len(lines_of(tmp_path)) == NUM_ROWS
