"""`show`: what is on disk, read from the manifests, also of what is unfinished."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe import versions
from distillpipe.errors import DataError, UsageError
from distillpipe.manifest import Manifest
from distillpipe.records import Trace
from distillpipe.stages.show import show
from distillpipe.versions import Header

SCORES = {
    "benchmark": "problems-test",
    "pass@1": 0.5,
    "standard_error": 0.25,
    "interval": [0.0945, 0.9055],
    "num_problems": 2,
    "num_samples": 2,
    "num_correct": 2,
    "num_wrong": 1,
    "num_truncated": 1,
    "num_unverifiable": 0,
    "mean_reasoning_tokens": 12.345,
}


@pytest.fixture
def write_scores(make_header: Callable[..., Header]) -> Callable[..., None]:
    """`write_scores(out, **changes)` finishes a version of predictions with scores."""

    def factory(out: Path, **changes: Any) -> None:
        with versions.draft(out, make_header(kind="predictions", stage="eval")) as draft:
            draft.manifest.id = "the id"
            draft.manifest.metrics = {**SCORES, **changes}
            draft.finish("a card\n")

    return factory


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[list[str]]]:
    """`shown(path)` is the cells of the lines that `show` prints, without rules and borders."""

    def run(*references: Path | str) -> list[list[str]]:
        show([str(reference) for reference in references], as_json=False)
        lines = capsys.readouterr().out.splitlines()
        cells = [line.replace("┃", "│").split("│") for line in lines if set(line) & set("│┃")]
        return [[cell.strip() for cell in line[1:-1]] for line in cells]

    return run


HEADER = ["stage", "dataset", "rows in", "rows out", "tokens", "seconds", "tokens/s"]


def test_datasets_are_lines_of_a_table_in_the_order_given(
    tmp_path: Path,
    make_traces: Callable[..., list[Trace]],
    write_dataset: Callable[..., Manifest],
    shown: Callable[..., list[list[str]]],
) -> None:
    one, two = make_traces(2)
    write_dataset(tmp_path / "traces", [one], name="A")
    write_dataset(tmp_path / "traces", [one, two], name="B")
    write_dataset(tmp_path / "clean", [one], [(two, "duplicate", None)], stage="filter")

    first, *lines = shown(tmp_path / "clean", tmp_path / "traces", f"{tmp_path}/traces@v1")
    assert first == HEADER
    assert [line[:2] + line[3:5] for line in lines] == [
        ["filter", "clean v1", "1", "14"],
        ["generate", "traces v2", "2", "28"],
        ["generate", "traces v1", "1", "14"],
    ]


def test_large_numbers_are_grouped_and_the_rate_is_of_the_working_time(
    tmp_path: Path, make_header: Callable[..., Header], shown: Callable[..., list[list[str]]]
) -> None:
    with versions.draft(tmp_path / "traces", make_header()) as draft:
        counts = draft.manifest.counts
        counts.rows_read, counts.rows_kept, counts.tokens_sampled = 6000, 5987, 1_234_567
        counts.seconds_working = 100.0
        draft.finish("a card\n")

    (line,) = shown(tmp_path / "traces")[1:]
    assert line[:5] == ["generate", "traces v1", "6,000", "5,987", "1,234,567"]
    assert line[6] == "12,346"


def test_scores_of_every_benchmark_of_an_eval_are_shown_under_its_name(
    tmp_path: Path, write_scores: Callable[..., None], shown: Callable[..., list[list[str]]]
) -> None:
    write_scores(tmp_path / "eval-student" / "sums")
    write_scores(tmp_path / "eval-student" / "products", num_samples=1)
    write_scores(tmp_path / "eval-base" / "sums")

    lines = shown(tmp_path / "eval-student", tmp_path / "eval-base")
    assert lines[:4] == [
        ["model", "Pass@1", "95% interval", "reasoning tokens", "truncated", "problems"],
        ["eval-student/products", "0.500", "0.095 - 0.905", "12.3", "25.0%", "2 x 1"],
        ["eval-student/sums", "0.500", "0.095 - 0.905", "12.3", "25.0%", "2 x 2"],
        ["eval-base", "0.500", "0.095 - 0.905", "12.3", "25.0%", "2 x 2"],
    ]
    assert [line[:2] for line in lines[4:]] == [
        HEADER[:2],
        ["eval", "eval-student/products v1"],
        ["eval", "eval-student/sums v1"],
        ["eval", "eval-base v1"],
    ]


def test_the_folder_that_one_is_in_has_a_name(
    tmp_path: Path,
    write_dataset: Callable[..., Manifest],
    write_scores: Callable[..., None],
    shown: Callable[..., list[list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_dataset(tmp_path / "traces", [])
    write_scores(tmp_path / "eval-base" / "sums")

    monkeypatch.chdir(tmp_path / "traces")
    assert shown(".")[1][1] == "traces v1"
    monkeypatch.chdir(tmp_path / "eval-base")
    assert shown(".")[1][0] == "eval-base"


def test_an_unfinished_version_is_shown_and_said_to_be_unfinished(
    tmp_path: Path,
    make_header: Callable[..., Header],
    shown: Callable[..., list[list[str]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with versions.draft(tmp_path / "clean", make_header(stage="filter")) as draft:
        draft.manifest.counts.rows_read = 7
    show([str(tmp_path / "clean")], as_json=False)
    assert capsys.readouterr().err == (
        f"{tmp_path}/clean: unfinished, the command that makes it goes on with it\n"
    )

    assert shown(tmp_path / "clean")[1][:4] == ["filter", "clean v1", "7", "0"]


def test_json_is_the_manifests_and_nothing_else_on_stdout(
    tmp_path: Path,
    make_traces: Callable[..., list[Trace]],
    write_dataset: Callable[..., Manifest],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_dataset(tmp_path / "traces", make_traces(2))
    show([str(tmp_path / "traces"), str(tmp_path / "traces")], as_json=True)

    out, err = capsys.readouterr()
    manifest = json.loads((tmp_path / "traces/v1/manifest.json").read_text())
    assert json.loads(out) == [{"name": "traces", "manifest": manifest}] * 2
    assert err == ""


def test_what_is_no_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="empty holds no version of a dataset"):
        (tmp_path / "empty").mkdir()
        show([str(tmp_path / "empty")], as_json=False)
    with pytest.raises(UsageError, match="missing does not exist"):
        show([str(tmp_path / "missing")], as_json=True)


def test_a_manifest_of_another_format_is_an_error_with_its_path(
    tmp_path: Path, write_dataset: Callable[..., Manifest]
) -> None:
    write_dataset(tmp_path, [])
    (tmp_path / "v1/manifest.json").write_text('{"format": "distillpipe/9"}')

    with pytest.raises(DataError, match=f"{tmp_path}/v1/manifest.json: format 'distillpipe/9'"):
        show([str(tmp_path)], as_json=False)
