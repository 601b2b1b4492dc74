"""Decisions on all rows: the same by any number of processes, and what goes wrong in one says where."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.hashing import content_hash
from distillpipe.base.options import Judging
from distillpipe.base.records import Trace, trace_id
from distillpipe.data.store import versions
from distillpipe.filters import decide
from distillpipe.stages.filter import filter_traces
from distillpipe.stages.run import Run

OPTIONS = FilterOptions(
    verdicts=("correct", "wrong", "unverifiable"), verifier=None, min_reasoning_tokens=1,
    max_reasoning_tokens=None, max_repetition=0.3, max_foreign_letters=1, explain=True,
    dedup="near", per_problem=None, seed=0,
)  # fmt: skip
OPTIONS_OF_CHOICES = ["the cat", "the dog", "the cow", "the hen"]


@pytest.fixture(autouse=True)
def _small_inputs_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "SMALL_BYTES", 2_000_000)


def source_row(number: int) -> dict[str, Any]:
    """One of 300 rows of choices, every fifth of which is flawed in one of five ways."""
    steps = [
        f"Step {at}: {number} and {at} make {number + at}, which is odd or not." for at in range(60)
    ]
    letter = "ABCD"[number % 4]
    row = {
        "problem": f"Which animal has the number {number}?", "options": OPTIONS_OF_CHOICES, "gold": letter,
        "model": "teacher", "reasoning": "\n".join(steps), "answer_text": f"The answer is {letter}.",
    }  # fmt: skip
    flaws: dict[int, dict[str, Any]] = {
        0: {"reasoning": f"{number}: so it goes on. " * 150},
        5: {"reasoning": ""},
        10: {"answer_text": "The answer is ABCD."},
        15: {"reasoning": "\n".join([*steps, "所以答案是这个动物。"])},
        20: {"answer_text": ""},
    }
    return row | flaws.get(number % 25, {})


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two datasets: with options of choices, which stand in problems.jsonl, and with loops and other flaws."""
    from distillpipe.data.formats.traces import Choices, ImportOptions
    from distillpipe.stages.import_traces import import_traces

    folder = tmp_path_factory.mktemp("imported")
    for name, numbers in (("first", range(300)), ("second", range(300, 600))):
        rows = [msgspec.json.encode(source_row(number)) for number in numbers]
        (folder / f"{name}.jsonl").write_bytes(b"\n".join(rows) + b"\n")
        options = ImportOptions(Choices("auto"))
        import_traces(str(folder / f"{name}.jsonl"), folder / name, options, Run())
    return [str(folder / name) for name in ("first", "second")]


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "v1").glob("*.jsonl"))}


def test_many_processes_write_what_one_thread_writes(imported: list[str], tmp_path: Path) -> None:
    options = msgspec.structs.replace(OPTIONS, verifier="choice")
    parts = [part for one in imported for part in (Path(one) / "v1").glob("part-*.jsonl")]
    assert sum(part.stat().st_size for part in parts) > decide.SMALL_BYTES
    for num_workers in (1, 3):
        judging = Judging(num_workers=num_workers)
        found = filter_traces(
            imported, tmp_path / str(num_workers), options, Run(), judging=judging
        ).manifest
        assert found.counts.rows_kept + found.counts.rows_rejected == 600
        assert len(found.counts.dropped) >= 4, found.counts.dropped

    one = files(tmp_path / "1")
    assert list(one) == ["part-00000.jsonl", "problems.jsonl", "rejected-00000.jsonl"]
    assert one == files(tmp_path / "3")


def test_rows_are_written_alike_whether_their_texts_are_copied_or_spelled_otherwise(
    imported: list[str], tmp_path: Path
) -> None:
    """Of a version they are copied; the file has the same rows in ASCII, with spaces and in another order."""
    options = msgspec.structs.replace(OPTIONS, verifier="exact", dedup="exact")
    other = tmp_path / "other.jsonl"
    with other.open("w") as file:
        for part in sorted((Path(imported[1]) / "v1").glob("part-*.jsonl")):
            for line in part.read_bytes().splitlines():
                row = json.loads(line)
                file.write(json.dumps(dict(reversed(row.items())), ensure_ascii=True) + "\n")
    first = filter_traces([imported[1]], tmp_path / "version", options, Run()).manifest
    second = filter_traces([str(other)], tmp_path / "file", options, Run()).manifest

    assert first.id == second.id
    for prefix in ("part", "rejected"):
        name = f"{prefix}-00000.jsonl"
        assert files(tmp_path / "version")[name] == files(tmp_path / "file")[name]


@pytest.fixture
def large(tmp_path: Path, make_trace: Callable[..., Trace]) -> Path:
    """A file of 2,000 rows, large enough that processes look at it."""
    thought = "So it is twenty. " * 65
    rows = [
        make_trace(
            problem=f"What is {number}+0?", reference_answer=str(number), verifier="exact",
            reasoning=f"{number}. {thought}", row_key=content_hash(number),
        )
        for number in range(2_000)
    ]  # fmt: skip
    path = tmp_path / "large.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    assert path.stat().st_size > decide.SMALL_BYTES
    return path


def changed(path: Path, number: int, line: bytes) -> None:
    """Put another line in place of one, numbered from 1."""
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = line + b"\n"
    path.write_bytes(b"".join(lines))


def test_a_bad_row_is_named_by_file_and_line_whichever_process_finds_it(
    large: Path, tmp_path: Path
) -> None:
    changed(large, 1_234, b'{"id": 5}')

    with pytest.raises(DataError, match=rf"\A{large}:1234: not a row of kind Trace \("):
        filter_traces([str(large)], tmp_path / "clean", OPTIONS, Run(), judging=Judging(3))
    assert not list((tmp_path / "clean").glob("v1*"))


def test_a_row_of_a_benchmark_is_refused_by_every_process(large: Path, tmp_path: Path) -> None:
    line = large.read_bytes().splitlines()[999]
    row = msgspec.json.decode(line, type=Trace)
    changed(large, 1_000, msgspec.json.encode(msgspec.structs.replace(row, benchmark="math500")))

    with pytest.raises(
        UsageError, match=rf"{large}: row {row.id} belongs to the benchmark math500"
    ):
        filter_traces([str(large)], tmp_path / "clean", OPTIONS, Run(), judging=Judging(2))


def test_one_id_with_two_contents_in_two_slices_is_an_error(large: Path, tmp_path: Path) -> None:
    first = msgspec.json.decode(large.read_bytes().splitlines()[0], type=Trace)
    changed(large, 2_000, msgspec.json.encode(msgspec.structs.replace(first, seed=124)))

    with pytest.raises(
        DataError, match=rf"row {first.id} is in the input twice .* different content"
    ):
        filter_traces([str(large)], tmp_path / "clean", OPTIONS, Run(), judging=Judging(2))


@pytest.mark.slow
def test_a_process_that_is_killed_loses_nothing(imported: list[str], tmp_path: Path) -> None:
    """One of two is killed while the rules run; then the same command finishes."""
    many = tmp_path / "many.jsonl"
    part = next((Path(imported[1]) / "v1").glob("part-*.jsonl"))
    rows = [msgspec.json.decode(line, type=Trace) for line in part.read_bytes().splitlines()]
    with many.open("wb") as file:
        for number, row in enumerate(islice(cycle(rows), 9_000)):
            key = content_hash(number)
            copy = msgspec.structs.replace(row, row_key=key, id=trace_id(row.problem_id, key))
            file.write(msgspec.json.encode(copy) + b"\n")
    arguments = [
        "filter", str(many), "--verifier", "exact", "--verdict", "wrong", "--num-workers", "2",
        "--dedup", "none", "--out", str(tmp_path / "clean"),
    ]  # fmt: skip
    program = "from distillpipe.cli.app import main; main()"
    command = [sys.executable, "-c", program, *arguments]

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while len(children(process.pid)) < 2:
            assert process.poll() is None
        os.kill(children(process.pid)[1], signal.SIGKILL)
        _, said = process.communicate()
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith("error: a worker process was killed")
    assert "Traceback" not in said

    subprocess.run(command, check=True, capture_output=True)
    found = versions.resolve(str(tmp_path / "clean"))
    assert found.name == "v1"
    assert sum(len(path.read_bytes().splitlines()) for path in found.glob("[pr]*-*.jsonl")) == 9_000


def children(pid: int) -> list[int]:
    return [
        int(word)
        for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    ]
