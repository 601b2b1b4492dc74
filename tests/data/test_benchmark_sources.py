"""Problems of a benchmark by its name, and problems of a window of dates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.errors import DataError
from distillpipe.base.records import Problem
from distillpipe.data.sources import describe, find, place_of
from distillpipe.data.store.manifest import Manifest

# ---------------------------------------------------------------- benchmarks


@pytest.fixture
def benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., Path]) -> Path:
    """The folder DISTILL_DATA with a MATH-500 of one problem."""
    write(tmp_path / "math500.jsonl", {"problem": "1+1?", "answer": "2", "gold": "3"})
    monkeypatch.setenv("DISTILL_DATA", str(tmp_path))
    return tmp_path


def test_a_name_of_the_table_is_read_from_the_folder_of_benchmarks(
    benchmarks: Path, read: Callable[..., list[Problem]]
) -> None:
    (named,), (plain,) = read("math500"), read(benchmarks / "math500.jsonl")

    assert (named.benchmark, plain.benchmark) == ("math500", None)
    assert msgspec.structs.replace(named, benchmark=None) == plain
    assert describe(find("math500"), benchmarks / "out") == describe(
        find(str(benchmarks / "math500.jsonl")), benchmarks / "out"
    )


def test_a_benchmark_in_another_format_is_found_by_its_name(benchmarks: Path) -> None:
    (benchmarks / "gpqa_diamond.json").write_text("[]")
    (benchmarks / "HumanEval.jsonl").write_text("")

    assert place_of("gpqa_diamond") == f"{benchmarks}/gpqa_diamond.json"
    assert place_of("humaneval") == f"{benchmarks}/HumanEval.jsonl"
    (benchmarks / "HumanEval.jsonl.gz").write_bytes(b"")
    assert place_of("humaneval") == f"{benchmarks}/HumanEval.jsonl.gz"


def test_the_place_of_a_benchmark_is_its_file_others_are_unchanged(
    benchmarks: Path,
) -> None:
    assert place_of("math500") == f"{benchmarks}/math500.jsonl"
    assert place_of("none.jsonl") == "none.jsonl"


def test_fields_that_are_given_win_over_those_of_the_table(
    benchmarks: Path, read: Callable[..., list[Problem]]
) -> None:
    (found,) = read("math500", answer_field="gold", verifier="exact")

    assert (found.reference_answer, found.verifier) == ("3", "exact")


@pytest.mark.parametrize("folder", [None, "empty"])
def test_a_missing_benchmark_says_what_to_download_and_where_to(
    distill_process: Callable[..., Any], tmp_path: Path, folder: str | None
) -> None:
    data = "" if folder is None else str(tmp_path)
    done = distill_process(
        "import", "gsm8k", "--out", tmp_path / "out",
        DISTILL_DATA=data, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path),
    )  # fmt: skip

    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"error: benchmark gsm8k is neither in the folder DISTILL_DATA ({data or 'not set'}) nor "
        "available from the hub: download openai/gsm8k:main:test as gsm8k_test.jsonl (or as .json, .csv or "
        ".parquet) into that folder (hub:openai/gsm8k: never loaded on this machine, and HF_HUB_OFFLINE is set: unset it, or give a "
        "file)\n"
    )


# ---------------------------------------------------------------- windows of dates

DATED = [
    {"problem": f"{day}?", "answer": "2", "contest_date": f"{day}T18:30:00"}
    for day in ("2024-07-31", "2024-08-01", "2025-01-31", "2025-02-01")
]


@pytest.mark.parametrize(
    ("window", "numbers"),
    [
        ({}, [0, 1, 2, 3]),
        ({"min_date": "2024-08-01"}, [1, 2, 3]),
        ({"max_date": "2025-01-31"}, [0, 1, 2]),
        ({"min_date": "2024-08-01", "max_date": "2025-01-31"}, [1, 2]),
    ],
)
def test_a_window_of_dates_holds_its_first_and_its_last_day(
    tmp_path: Path,
    write_dataset: Callable[..., Manifest],
    window: dict[str, str],
    numbers: list[int],
    read: Callable[..., list[Problem]],
    write: Callable[..., Path],
) -> None:
    path = write(tmp_path / "p.jsonl", *DATED)
    write_dataset(tmp_path / "traces", [], problems=read(path))

    for source in (path, tmp_path / "traces"):
        found = [problem.problem for problem in read(source, **window)]
        assert found == [DATED[number]["problem"] for number in numbers]
    assert len(read(path, limit=1, min_date="2025-01-01")) == 1


def test_no_problem_within_the_dates_or_no_date_is_an_error(
    tmp_path: Path, read: Callable[..., list[Problem]], write: Callable[..., Path]
) -> None:
    path = write(tmp_path / "p.jsonl", *DATED, {"problem": "undated?", "date": "last May"})
    with pytest.raises(DataError, match=f"{path}:5: no date like 2024-08-01 under contest_date or"):
        read(path, min_date="2024-01-01")
    with pytest.raises(
        DataError, match=r"no problem is dated 2026-01-01 to \.\.\. \(--min-date, --max-date"
    ):
        read(write(path, *DATED), min_date="2026-01-01")
