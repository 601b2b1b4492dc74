"""Real processes, killed at real moments: nothing that was finished is lost, nothing is done twice."""

import hashlib
import json
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
GENERATE = [
    "generate", f"{SHIPPED}/problems-train.jsonl", "--teacher", f"{SHIPPED}/teacher", "--limit", "300",
    "--max-tokens", "160", "--prompt-template", "{problem}", "--concurrency", "32",
]  # fmt: skip
EVAL = [
    "eval", f"{SHIPPED}/teacher", "--benchmark", f"{SHIPPED}/problems-test.jsonl", "--limit", "300",
    "--max-tokens", "160", "--prompt-template", "{problem}", "--concurrency", "32",
]  # fmt: skip


@pytest.fixture(scope="module")
def traces(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kill") / "traces"
    run(repository, [*GENERATE, "--out", str(out)])
    return out


def run(repository: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [DISTILL, *arguments], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def start(repository: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([DISTILL, *arguments], cwd=repository, stderr=subprocess.PIPE)


def lines_of(out: Path) -> list[bytes]:
    parts = sorted(out.glob("v1*/part-*.jsonl")) + sorted(out.glob("v1*/rejected-*.jsonl"))
    return [line for part in parts for line in part.read_bytes().splitlines(keepends=True)]


def wait_for(found: Path, pattern: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a file that matches is there and not empty, or the process has ended."""
    while process.poll() is None and not any(p.stat().st_size for p in found.glob(pattern)):
        time.sleep(0.01)


@pytest.mark.parametrize("stage", [GENERATE, EVAL], ids=["generate", "eval"])
def test_a_killed_run_goes_on_with_every_key_once_and_finished_rows_unchanged(
    repository: Path, tmp_path: Path, stage: list[str]
) -> None:
    rng = random.Random(7)
    arguments = [*stage, "--out", str(tmp_path)]
    out = tmp_path if stage is GENERATE else tmp_path / "problems-test"
    finished: list[bytes] = []
    for _ in range(4):
        process = start(repository, arguments)
        time_to_live = rng.uniform(0.0, 0.8)
        num_before = len(lines_of(out))
        while process.poll() is None and len(lines_of(out)) <= num_before:
            time.sleep(0.01)
        time.sleep(time_to_live)
        process.kill()
        process.wait()
        whole = [line for line in lines_of(out) if line.endswith(b"\n")]
        assert whole[: len(finished)] == finished
        finished = whole
    run(repository, arguments)
    lines = lines_of(out)
    assert lines[: len(finished)] == finished
    assert len({json.loads(line)["row_key"] for line in lines}) == len(lines) == 300
    assert [path.name for path in out.glob("v*")] == ["v1"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_say_how_to_go_on_and_the_same_command_does(
    repository: Path, tmp_path: Path, number: int, code: int
) -> None:
    arguments = [*GENERATE, "--out", str(tmp_path)]
    process = start(repository, arguments)
    wait_for(tmp_path, "v1.partial/part-*.jsonl", process)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == code
    assert b"what was done is safe; the same command goes on from here" in said
    assert b"Traceback" not in said
    finished = lines_of(tmp_path)
    assert finished
    run(repository, arguments)
    assert lines_of(tmp_path)[: len(finished)] == finished
    assert len(lines_of(tmp_path)) == 300


def test_a_second_run_at_the_same_time_is_refused_and_the_first_one_finishes(
    repository: Path, tmp_path: Path
) -> None:
    arguments = [*GENERATE, "--out", str(tmp_path)]
    first = start(repository, arguments)
    wait_for(tmp_path, "v1.partial/manifest.json", first)
    second = start(repository, arguments)
    _, said = second.communicate()
    assert second.returncode == 1
    assert f"is being written by another run (process {first.pid})".encode() in said
    first.communicate()
    assert first.returncode == 0
    assert len(lines_of(tmp_path)) == 300


def test_a_killed_filter_goes_on_with_every_row_once(
    repository: Path, tmp_path: Path, traces: Path
) -> None:
    many = tmp_path / "many.jsonl"  # enough rows that a kill finds the writing
    rows = [json.loads(line) for line in (traces / "v1/part-00000.jsonl").read_bytes().splitlines()]
    with many.open("w") as file:
        for copy in range(60):
            for row in rows:
                key = hashlib.sha256(f"{row['row_key']} {copy}".encode()).hexdigest()[:32]
                changed = {"row_key": key, "id": f"{row['problem_id']}/{key[:16]}"}
                file.write(json.dumps({**row, **changed}) + "\n")
    out = tmp_path / "clean"
    arguments = ["filter", str(many), "--dedup", "none", "--out", str(out)]
    rng = random.Random(3)
    finished: dict[str, bytes] = {}
    for _ in range(6):
        process = start(repository, arguments)
        num_before = len(lines_of(out))
        while process.poll() is None and len(lines_of(out)) <= num_before:
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, 0.1))
        process.kill()
        process.wait()
        found = {json.loads(line)["id"]: line for line in lines_of(out) if line.endswith(b"\n")}
        assert {key: found[key] for key in finished} == finished
        finished = found
    run(repository, arguments)
    found = {json.loads(line)["id"]: line for line in lines_of(out)}
    assert {key: found[key] for key in finished} == finished
    assert len(found) == len(lines_of(out)) == 60 * len(rows)


def test_a_killed_sft_ends_with_the_losses_and_weights_of_an_undisturbed_one(
    repository: Path, tmp_path: Path, traces: Path
) -> None:
    command = [
        "sft", str(traces), "--student", f"{SHIPPED}/student-qwen", "--learning-rate", "2e-3",
        "--batch-size", "16", "--epochs", "4", "--max-length", "512", "--save-every", "10",
    ]  # fmt: skip
    run(repository, [*command, "--out", str(tmp_path / "whole")])
    rng = random.Random(5)
    for _ in range(4):
        process = start(repository, [*command, "--out", str(tmp_path / "killed")])
        wait_for(tmp_path / "killed", "v1.partial/state-*/model.safetensors", process)
        time.sleep(rng.uniform(0.0, 1.0))
        process.kill()
        process.wait()
    run(repository, [*command, "--out", str(tmp_path / "killed")])

    def losses(name: str) -> list[tuple[int, float]]:
        lines = (tmp_path / name / "v1" / "losses.jsonl").read_bytes().splitlines()
        return [(step["step"], step["loss"]) for step in map(json.loads, lines)]

    assert losses("killed") == losses("whole")
    weights = [
        (tmp_path / name / "v1/model.safetensors").read_bytes() for name in ("killed", "whole")
    ]
    assert weights[0] == weights[1]
