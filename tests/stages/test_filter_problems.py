"""`filter` on problems: what stands in a benchmark, what is nearly another, and --explain."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.records import RejectedTrace
from distillpipe.data.store import versions
from distillpipe.data.store.dataset import read_traces, scan
from distillpipe.data.store.manifest import read as read_manifest

Distill = Callable[..., Any]
TRAIN = (
    "A train goes 60 km in 2 hours. How many kilometres does it go in 5 hours at the same speed?"
)
PROBLEMS = {
    "benchmark": TRAIN,
    "benchmark again, spelled otherwise": TRAIN.upper().replace("KM", r"\text{ km}"),
    "another train": TRAIN.replace("60", "80").replace("5", "3"),
    "boat": "A boat with 12 oars lost a quarter of them in a storm. How many oars were left on it?",
    "boat again, with a slip": "A boat with 12 oars lost a quarter of them in storms. How many oars "
    "were left on it?",
}


@pytest.fixture
def traces(distill: Distill, tmp_path: Path) -> Path:
    rows = [
        {"problem": text, "answer": "9", "raw": f"<think>\nWell, {name}.\n</think>\n\\boxed{{9}}"}
        for name, text in PROBLEMS.items()
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert distill("import", path, "--out", tmp_path / "traces").code == 0
    return tmp_path / "traces"


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    path = tmp_path / "trains.jsonl"
    rows = [{"problem": "What is the largest prime below 100?"}, {"problem": TRAIN}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rejected(out: Path) -> dict[str, RejectedTrace]:
    rows = scan(versions.resolve(str(out)), RejectedTrace, "rejected")
    names = {text: name for name, text in PROBLEMS.items()}
    return {names[row.problem]: row for row in rows}


def test_problems_of_a_benchmark_are_dropped_with_the_row_they_are(
    distill: Distill, traces: Path, benchmark: Path, tmp_path: Path
) -> None:
    done = distill("filter", traces, "--out", tmp_path / "clean", "--decontaminate", benchmark)

    assert done.code == 0, done.err
    found = rejected(tmp_path / "clean")
    assert set(found) == {"benchmark", "benchmark again, spelled otherwise"}
    reasons = {(row.reason, row.measured) for row in found.values()}
    assert reasons == {("contaminated", f"{benchmark} 2 held 1.00")}
    assert all(row.verdict is None for row in found.values())  # nobody paid for a verdict
    inputs = read_manifest(versions.resolve(str(tmp_path / "clean"))).inputs
    assert [Path(one.path).name for one in inputs] == ["traces", "trains.jsonl"]


def test_another_content_of_the_benchmark_is_another_version(
    distill: Distill, traces: Path, benchmark: Path, tmp_path: Path
) -> None:
    command = ("filter", traces, "--out", tmp_path / "clean", "--decontaminate", benchmark)
    assert "up to date" not in distill(*command).err
    assert "up to date" in distill(*command).err
    benchmark.write_text(json.dumps({"problem": PROBLEMS["boat"]}) + "\n", encoding="utf-8")
    assert "up to date" not in distill(*command).err
    assert rejected(tmp_path / "clean")["boat"].reason == "contaminated"


def test_a_benchmark_that_is_not_there_is_one_line_and_nothing_is_written(
    distill: Distill, traces: Path, tmp_path: Path
) -> None:
    done = distill("filter", traces, "--out", tmp_path / "clean", "--decontaminate", "no.jsonl")

    assert done.code == 2
    assert done.err.startswith("error: no.jsonl does not exist: give a dataset's folder")
    assert not (tmp_path / "clean").exists()


def test_of_near_duplicate_problems_one_stays(
    distill: Distill, traces: Path, tmp_path: Path
) -> None:
    done = distill("filter", traces, "--out", tmp_path / "clean", "--dedup", "near")

    assert done.code == 0, done.err
    found = rejected(tmp_path / "clean")
    kept = {row.problem for row in read_traces(str(tmp_path / "clean"))}
    pairs = [
        ("benchmark", "benchmark again, spelled otherwise"),
        ("boat", "boat again, with a slip"),
    ]
    for pair in pairs:
        stayed = [row for row in read_traces(str(tmp_path / "clean"))
                  if row.problem in {PROBLEMS[name] for name in pair}]  # fmt: skip
        dropped = [found[name] for name in pair if name in found]
        assert (len(stayed), len(dropped)) == (1, 1)
        assert dropped[0].reason == "near_duplicate_problem"
        assert (dropped[0].measured or "").startswith(stayed[0].problem_id)
    assert PROBLEMS["another train"] in kept


def test_explain_asks_every_rule_of_every_row(
    distill: Distill, traces: Path, benchmark: Path, tmp_path: Path
) -> None:
    done = distill(
        "filter", traces, "--out", tmp_path / "clean", "--decontaminate", benchmark, "--explain",
        "--verdict", "wrong", "--verdict", "correct", "--max-foreign-letters", 0,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "2 rows           2 by it alone  contaminated" in done.err
    assert {row.verdict for row in rejected(tmp_path / "clean").values()} == {"correct"}

    done = distill(
        "filter", traces, "--out", tmp_path / "wrong", "--decontaminate", benchmark, "--explain",
        "--verdict", "wrong",
    )  # fmt: skip
    assert done.code == 1
    assert "5 rows           3 by it alone  correct_answer" in done.err
    assert "2 rows           0 by it alone  contaminated" in done.err
