"""Real processes, killed at real moments: nothing that was finished is lost, nothing is done twice.

A child is forked from a server that has torch loaded, so that dozens of kills fit into a minute. Moments
are drawn: some soon after the start, most while rows are being written. Then once before each change of a
name on disk.
"""

import json
import multiprocessing
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from distillpipe.base.hashing import content_hash, file_sha256
from distillpipe.base.records import Trace
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.dataset import scan
from distillpipe.data.store.labels import Labels, files_of, label_bytes, read_labels
from distillpipe.data.store.writer import row_hash

HEAVY = [
    "accelerate", "torch", "transformers", "distillpipe.engines.transformers.engine", "distillpipe.stages.eval",
    "distillpipe.stages.filter", "distillpipe.stages.generate", "distillpipe.stages.label",
    "distillpipe.stages.sft",
    "distillpipe.training.loop",
]  # fmt: skip
SHIPPED = Path("data/quickstart")
NUM_ROWS = 300
SAMPLING = [
    "--limit", str(NUM_ROWS), "--max-tokens", "160", "--prompt-template", "{problem}",
    "--concurrency", "32",
]  # fmt: skip
GENERATE = [
    "generate", f"{SHIPPED}/problems-train.jsonl", "--teacher", f"{SHIPPED}/teacher", *SAMPLING,
]  # fmt: skip
LABELLED = [*GENERATE, "--soft-labels", "5"]
EVAL = [
    "eval", f"{SHIPPED}/teacher", "--benchmark", f"{SHIPPED}/problems-test.jsonl", *SAMPLING,
    "--num-waits", "1", "--max-reasoning-tokens", "100",
]  # fmt: skip
SFT = [
    "--student", f"{SHIPPED}/student-qwen", "--learning-rate", "2e-3", "--batch-size", "8",
    "--epochs", "3", "--max-length", "512", "--save-every", "3",
]  # fmt: skip

ANY_VERDICT = ["--verdict", "correct", "--verdict", "wrong", "--verdict", "unverifiable"]

RUN = "from distillpipe.cli.app import main; main()"
NUM_KILLS = 24
Start = Callable[..., ForkServerProcess]
Finish = Callable[[list[str]], None]
Alive = Callable[[], bool]
Moment = Callable[[Path, Alive], None]


# ---------------------------------------------------------------- processes


@pytest.fixture(scope="module")
def start(repository: Path) -> Iterator[Start]:
    """`start(["generate", ...])` runs the command in a fork of a server with all that is heavy loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)

    def run_in_fork(arguments: list[str], program: str = RUN) -> ForkServerProcess:
        patch.setattr(sys, "argv", ["distill", *arguments])  # the child gets a copy
        process = context.Process(target=exec, args=(program, {}))
        process.start()
        return process

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        # scikit-learn, which transformers loads where it is installed, loads pyarrow
        patch.setenv("JE_ARROW_MALLOC_CONF", "background_thread:false")
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        patch.setenv("TRANSFORMERS_VERBOSITY", "error")
        patch.chdir(repository)
        first = run_in_fork(["--version"])
        status = Path(f"/proc/{first.pid}/status").read_text(encoding="utf-8")
        first.join()
        server = int(next(line for line in status.splitlines() if line.startswith("PPid:"))[5:])
        threads = list(Path(f"/proc/{server}/task").iterdir())
        assert len(threads) == 1, "a fork of a process with threads is not safe"
        yield run_in_fork


@pytest.fixture(scope="module")
def finish(start: Start) -> Finish:
    """Run a command to its end."""

    def run(arguments: list[str]) -> None:
        process = start(arguments)
        process.join()
        assert process.exitcode == 0, arguments

    return run


@pytest.fixture(scope="module")
def traces(finish: Finish, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `generate` makes when nothing disturbs it."""
    out = tmp_path_factory.mktemp("kill") / "traces"
    finish([*GENERATE, "--out", str(out)])
    return out


def kill(process: ForkServerProcess) -> bool:
    """Kill a process; whether it was still running."""
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


# ---------------------------------------------------------------- moments


def parts(out: Path) -> list[Path]:
    names = ("part-*.jsonl", "rejected-*.jsonl", "losses.jsonl")
    return [path for name in names for path in sorted(out.glob(f"v*/{name}"))]


def num_bytes(paths: list[Path]) -> int:
    total = 0
    for path in paths:
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # its version was finished and renamed just now
            return -1
    return total


def soon(seconds: float) -> Moment:
    """So long after the start, whatever happens then."""

    def wait(_: Path, alive: Alive) -> None:
        until = time.monotonic() + seconds
        while alive() and time.monotonic() < until:
            time.sleep(0.001)

    return wait


def begun(out: Path, alive: Alive) -> None:
    """When the folder of a draft is there, before its manifest is: a moment of milliseconds."""
    while alive() and not any(out.glob("v*.partial")):
        time.sleep(0.0001)


def grown_by(more: int) -> Moment:
    """When so many bytes more of rows, or of an sft's losses, are written."""

    def wait(out: Path, alive: Alive) -> None:
        enough = num_bytes(parts(out)) + more
        while alive() and num_bytes(parts(out)) < enough:
            time.sleep(0.0005)

    return wait


def saving(out: Path, alive: Alive) -> None:
    """While a training state is being written; one that a kill has left behind does not count."""

    def changed() -> list[int]:
        return [path.stat().st_mtime_ns for path in out.glob("v*.partial/state.writing")]

    before = changed()
    while alive() and changed() in ([], before):
        time.sleep(0.0005)


def drawn_moments(seed: int, bytes_a_kill: int) -> list[Moment]:
    """One kind of moment after the other, in an order and with figures that depend on the seed."""
    rng = random.Random(seed)
    writing = [grown_by(rng.randrange(1, 2 * bytes_a_kill)) for _ in range(NUM_KILLS - 7)]
    moments = [*writing, *(soon(rng.uniform(0.0, 0.5)) for _ in range(6))]
    rng.shuffle(moments)
    return [begun, *moments]


# ---------------------------------------------------------------- kills


class Killed(NamedTuple):
    """What the kills of one command hit."""

    num_kills: int
    num_writing: int
    "kills in a life in which rows were written and rows were still missing"


def kill_at(moments: list[Moment], start: Start, arguments: list[str], out: Path) -> Killed:
    """Start the command and kill it, once for each moment; no whole row ever changes."""
    num_kills = num_writing = 0
    whole = whole_lines(out)
    for moment in moments:
        process = start(arguments)
        moment(out, process.is_alive)
        was_killed = kill(process)
        before, whole = whole, whole_lines(out)
        for name, lines in before.items():
            assert whole[name][: len(lines)] == lines
        num_kills += was_killed
        num_writing += was_killed and whole != before
    return Killed(num_kills, num_writing)


def whole_lines(out: Path) -> dict[str, list[bytes]]:
    """The lines with an end, by the name of their file."""
    return {
        path.name: [line for line in path.read_bytes().splitlines(True) if line.endswith(b"\n")]
        for path in parts(out)
    }


def check_version(out: Path, num_rows: int) -> None:
    """One finished version with every row once, which is what its manifest says."""
    assert [path.name for path in out.glob("v*")] == ["v1"]
    assert (out / "latest").readlink() == Path("v1")
    found = manifests.read(out / "v1")
    rows = [json.loads(line) for lines in whole_lines(out).values() for line in lines]
    assert len({row["id"] for row in rows}) == len(rows) == num_rows
    assert found.counts.rows_kept + found.counts.rows_rejected == num_rows
    kept = [line for path in out.glob("v1/part-*") for line in path.read_bytes().splitlines()]
    labels = [row.soft_labels for row in scan(out / "v1", Trace)]
    assert found.id == content_hash(sorted(map(row_hash, kept, labels)))
    for entry in found.files:
        path = out / "v1" / entry.name
        assert (path.stat().st_size, file_sha256(path)) == (entry.bytes, entry.sha256)


def check_labels(folder: Path) -> None:
    """Every row with the labels of its own tokens, and no label beside them."""
    num_tokens = 0
    for row in scan(folder, Trace):
        assert row.soft_labels is not None
        labels = read_labels(folder, row.soft_labels)
        assert len(labels.tokens) == row.num_completion_tokens
        assert (labels.top_logprobs[:, 0] >= labels.own_logprobs).all()
        is_likeliest = labels.top_tokens[:, 0] == labels.tokens
        assert (labels.top_logprobs[:, 0] == labels.own_logprobs)[is_likeliest].all()
        num_tokens += len(labels.tokens)
    sizes = [path.stat().st_size for path in files_of(folder) if path.suffix != ".json"]
    assert sum(sizes) == label_bytes(num_tokens, 5)


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param(GENERATE, marks=pytest.mark.slow),
        pytest.param(LABELLED, marks=pytest.mark.long),  # before every change of a name: slow
        pytest.param(EVAL, marks=pytest.mark.long),
    ],
    ids=["generate", "generate with labels", "eval under a budget"],
)
def test_a_killed_run_goes_on_with_every_key_once_and_finished_rows_unchanged(
    start: Start, finish: Finish, tmp_path: Path, traces: Path, stage: list[str]
) -> None:
    arguments = [*stage, "--out", str(tmp_path)]
    out = tmp_path / "problems-test" if stage is EVAL else tmp_path
    bytes_a_kill = num_bytes(parts(traces)) // (2 * NUM_KILLS)
    killed = kill_at(drawn_moments(7, bytes_a_kill), start, arguments, out)
    finish(arguments)

    check_version(out, NUM_ROWS)
    if stage is LABELLED:
        check_labels(out / "v1")
    if stage is EVAL:
        assert manifests.read(out / "v1").counts.control == 1.0
    print(f"{stage[0]}: {killed}")
    assert killed.num_kills >= 20
    assert killed.num_writing >= 12


@pytest.mark.slow
def test_a_killed_filter_goes_on_with_every_row_once(
    start: Start, finish: Finish, tmp_path: Path, traces: Path
) -> None:
    many = tmp_path / "many.jsonl"  # enough rows that a kill finds the writing
    num_copies = 60
    rows = [json.loads(line) for line in (traces / "v1/part-00000.jsonl").read_bytes().splitlines()]
    with many.open("w") as file:
        for copy in range(num_copies):
            for row in rows:
                row["id"] = f"{row['problem_id']}/{copy:016x}"
                file.write(json.dumps(row) + "\n")
    arguments = ["filter", str(many), "--dedup", "none", "--out", str(tmp_path / "clean")]
    bytes_a_kill = many.stat().st_size // (2 * NUM_KILLS)
    killed = kill_at(drawn_moments(11, bytes_a_kill), start, arguments, tmp_path / "clean")
    finish(arguments)

    check_version(tmp_path / "clean", num_copies * len(rows))
    print(f"filter: {killed}")
    assert killed.num_kills >= 20
    assert killed.num_writing >= 12


@pytest.mark.long
def test_a_killed_label_goes_on_with_rows_and_labels_in_step(
    start: Start, finish: Finish, tmp_path: Path, traces: Path
) -> None:
    given = [
        "label", str(traces), "--teacher", f"{SHIPPED}/teacher", "--soft-labels", "4",
        "--concurrency", "2",  # or all rows are there at once
    ]  # fmt: skip
    finish([*given, "--out", str(tmp_path / "whole")])
    arguments = [*given, "--out", str(tmp_path / "out")]
    bytes_a_kill = num_bytes(parts(tmp_path / "whole")) // (2 * NUM_KILLS)
    killed = kill_at(drawn_moments(3, bytes_a_kill), start, arguments, tmp_path / "out")
    finish(arguments)

    print(f"label: {killed}")
    assert killed.num_kills >= 20
    assert killed.num_writing >= 12
    found, whole = (labels_by_row(tmp_path / name / "v1") for name in ("out", "whole"))
    assert found.keys() == whole.keys()
    assert len(found) == NUM_ROWS
    for row_id, labels in found.items():
        assert np.array_equal(labels.tokens, whole[row_id].tokens)
        one, other = (
            np.exp(side.own_logprobs, dtype=np.float32) for side in (labels, whole[row_id])
        )
        assert np.allclose(one, other, atol=1e-3)
    sizes = [path.stat().st_size for path in (tmp_path / "out" / "v1").glob("labels-*.tokens")]
    assert sum(sizes) == 5 * sum(len(labels.tokens) for labels in found.values())


def labels_by_row(folder: Path) -> dict[str, Labels]:
    rows = scan(folder, Trace)
    return {row.id: read_labels(folder, row.soft_labels) for row in rows if row.soft_labels}


def losses(folder: Path) -> list[tuple[int, float]]:
    path = folder / "losses.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    steps = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return [(step["step"], step["loss"]) for step in steps]


def check_checkpoint(out: Path, undisturbed: Path) -> None:
    """One finished version with losses and weights of the undisturbed one, and nothing beside them."""
    assert losses(out / "latest") == losses(undisturbed / "latest")
    one, other = (folder / "latest/model.safetensors" for folder in (out, undisturbed))
    assert one.read_bytes() == other.read_bytes()
    assert names(out / "latest") == names(undisturbed / "latest")
    assert manifests.read(out / "latest").id == manifests.read(undisturbed / "latest").id


def newest_steps(out: Path) -> list[tuple[int, float]]:
    return [(0, 0.0), *(step for path in out.glob("v*.partial") for step in losses(path))]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_a_killed_sft_ends_with_the_losses_and_weights_of_an_undisturbed_one(
    start: Start, finish: Finish, tmp_path: Path, traces: Path
) -> None:
    whole, out, ended = tmp_path / "whole", tmp_path / "killed", str(tmp_path / "ended")
    finish(
        ["filter", str(traces), *ANY_VERDICT, "--out", ended]
    )  # sft refuses rows that were cut off
    finish(["sft", ended, *SFT, "--out", str(whole)])
    rng = random.Random(5)
    moments = [*drawn_moments(5, bytes_a_kill=400), *[saving] * 4]  # a step is 150 bytes
    rng.shuffle(moments)
    arguments = ["sft", ended, *SFT, "--out", str(out)]
    num_kills = num_training = 0
    for moment in moments:
        last = max(newest_steps(out))
        process = start(arguments)
        moment(out, process.is_alive)
        num_kills += kill(process)
        num_training += max(newest_steps(out)) > last
    states = list(out.glob("v*.partial/state-*"))
    finish(arguments)

    print(f"sft: {num_kills} kills, {num_training} while training, last {states}")
    check_checkpoint(out, whole)
    assert num_kills >= 20
    assert num_training >= 12
    assert states  # the last run went on from one


# ---------------------------------------------------------------- before every change


KILL_BEFORE = """
import os, signal, sys

changes_left, out = {number}, {out!r}
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.truncate")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
is_begun = False

def look(event, arguments):
    global changes_left, is_begun
    opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
    if opens or event in CHANGES:
        removes = event in ("os.remove", "os.rmdir")  # names beside a descriptor of the folder
        is_ours = out in str(arguments[0]) or is_begun and removes
        is_begun |= is_ours
        changes_left -= is_ours
        if changes_left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(look)
from distillpipe.cli.app import main
main()
"""
SMALL = [
    "--limit", "3", "--max-tokens", "100", "--prompt-template", "{problem}", "--temperature", "0",
]  # fmt: skip
STAGES = {
    "generate": [f"{SHIPPED}/problems-train.jsonl", "--teacher", f"{SHIPPED}/teacher", *SMALL],
    "generate with labels": [
        f"{SHIPPED}/problems-train.jsonl", "--teacher", f"{SHIPPED}/teacher", *SMALL, "--soft-labels", "5",
    ],
    "filter": ["TRACES"],
    "label": ["TRACES", "--teacher", f"{SHIPPED}/teacher", "--soft-labels", "4"],
    "sft": [
        "TRACES", "--student", f"{SHIPPED}/student-qwen", "--max-steps", "2", "--batch-size", "2",
        "--save-every", "1",
    ],
    "eval": [f"{SHIPPED}/teacher", "--benchmark", f"{SHIPPED}/problems-test.jsonl", *SMALL],
}  # fmt: skip


# "generate with labels" makes every change that "generate" makes
@pytest.mark.slow
@pytest.mark.parametrize(
    "stage",
    [pytest.param(stage, marks=[pytest.mark.long] * (stage == "generate")) for stage in STAGES],
)
def test_a_run_killed_before_any_change_of_a_name_on_disk_is_made_good_by_the_next_one(
    start: Start, finish: Finish, tmp_path: Path, stage: str
) -> None:
    finish(["generate", *STAGES["generate"], "--out", str(tmp_path / "traces")])
    arguments = [str(tmp_path / "traces") if one == "TRACES" else one for one in STAGES[stage]]
    command = stage.split()[0]
    finish([command, *arguments, "--out", str(tmp_path / "undisturbed")])
    found = {}
    number = num_kills = 0
    while number == num_kills:
        out = tmp_path / str(number)
        call = [command, *arguments, "--out", str(out)]
        process = start(call, KILL_BEFORE.format(number=number, out=str(out)))
        process.join()
        num_kills += process.exitcode == -signal.SIGKILL
        found[number] = (contents(out), start(call))
        found[number][1].join()
        number += 1
    (wanted,) = contents(tmp_path / "undisturbed").items()
    broken = {
        number: (at_death, process.exitcode, contents(tmp_path / str(number)))
        for number, (at_death, process) in found.items()
        if list(contents(tmp_path / str(number)).items()) != [wanted]
    }
    print(f"{stage}: killed before each of {num_kills} changes")
    assert broken == {}
    assert process.exitcode == 0
    assert num_kills >= 15


def contents(out: Path) -> dict[str, tuple[str | None, list[str]]]:
    """The versions under a folder, or under the one in it: id and names of files."""
    versions = sorted(path for path in out.rglob("v*") if path.is_dir())
    return {
        path.name: (
            manifests.read(path).id if (path / "manifest.json").is_file() else None,
            sorted(file.name for file in path.iterdir()),
        )
        for path in versions
    }
