"""`show`: what is on disk, read from the manifests, also of what is unfinished; and single rows."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.records import Trace
from distillpipe.data.store import dataset, versions
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.manifest import Manifest
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.reports import dataset_text
from distillpipe.reports.rows import RowQuery
from distillpipe.stages.show import show

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
        show([str(reference) for reference in references], RowQuery(), as_json=False)
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
    show([str(tmp_path / "clean")], RowQuery(), as_json=False)
    assert capsys.readouterr().err == (
        f"{tmp_path}/clean: unfinished, the command that makes it goes on with it\n"
    )

    assert shown(tmp_path / "clean")[1][:4] == ["filter", "clean v1", "7", "0"]


def test_drafts_in_the_folder_of_an_eval_are_shown_beside_what_is_finished(
    tmp_path: Path,
    make_header: Callable[..., Header],
    write_scores: Callable[..., None],
    shown: Callable[..., list[list[str]]],
) -> None:
    with versions.draft(tmp_path / "eval/aime", make_header(kind="predictions", stage="eval")):
        pass
    assert shown(tmp_path / "eval")[1][:2] == ["eval", "eval v1"]
    write_scores(tmp_path / "eval/sums")
    assert [line[1] for line in shown(tmp_path / "eval")[3:]] == ["eval/aime v1", "eval/sums v1"]


def test_details_are_shown_of_one_version_only(
    tmp_path: Path,
    make_traces: Callable[..., list[Trace]],
    write_dataset: Callable[..., Manifest],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_dataset(tmp_path / "traces", make_traces(2))
    show([str(tmp_path / "traces")], RowQuery(), as_json=False)
    assert "\ntraces v1: traces, made by generate; latest\n" in capsys.readouterr().out
    show([str(tmp_path / "traces")] * 2, RowQuery(), as_json=False)
    assert "made by" not in capsys.readouterr().out


def test_the_details_of_a_real_pipeline(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show([str(clean)], RowQuery(), as_json=False)

    out, err = capsys.readouterr()
    counts = manifests.read(clean / "v1").counts
    by_rows = sorted(counts.dropped.items(), key=lambda item: -item[1].rows)
    dropped = ", ".join(f"{reason} {one.rows}" for reason, one in by_rows)
    lines = out.splitlines()
    start = lines.index("funnel")
    assert [" ".join(line.split()) for line in lines[start + 1 : start + 4]] == [
        "problems-train.jsonl 12 problems",
        "-> traces v1 24 rows",
        f"-> clean v1 {counts.rows_kept} rows of 24 ({dropped})",
    ]
    assert f"  correct {counts.rows_kept}" in lines
    assert "reasoning tokens" in lines
    assert err == ""


def test_json_is_one_object_and_nothing_else_on_stdout(
    tmp_path: Path,
    make_traces: Callable[..., list[Trace]],
    write_dataset: Callable[..., Manifest],
    make_header: Callable[..., Header],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_dataset(tmp_path / "traces", make_traces(2))
    with versions.draft(tmp_path / "traces", make_header("B")):
        pass
    show([str(tmp_path / "traces")] * 2, RowQuery(), as_json=True)

    out, err = capsys.readouterr()
    manifest = json.loads((tmp_path / "traces/v1/manifest.json").read_text())
    del manifest["checksum"]
    sizes = {
        name: sum(file.stat().st_size for file in (tmp_path / "traces" / name).iterdir())
        for name in ("v1", "v2.partial")
    }
    step = {
        "name": "traces", "version": "v1", "path": f"{tmp_path}/traces/v1", "state": "found",
        "kind": "traces", "stage": "generate", "rows": 2, "rows_read": 0, "dropped": {}, "inputs": [],
    }  # fmt: skip
    partial = {
        "name": "v2.partial", "rows_kept": 0, "rows_rejected": 0, "failed_rows": 0,
        "disk_bytes": sizes["v2.partial"],
    }  # fmt: skip
    expected = {
        "name": "traces", "path": f"{tmp_path}/traces/v1", "manifest": manifest, "funnel": [step],
        "latest": "v1", "disk_bytes": sizes["v1"], "dataset_disk_bytes": sizes, "partials": [partial],
    }  # fmt: skip
    assert json.loads(out) == {"versions": [expected] * 2}
    assert err == ""


def test_rows_are_printed_and_what_is_said_of_them_goes_to_stderr(
    tmp_path: Path,
    make_traces: Callable[..., list[Trace]],
    write_dataset: Callable[..., Manifest],
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, two = make_traces(2)
    write_dataset(tmp_path / "clean", [one], [(two, "wrong_answer", "3")], stage="filter")
    show([str(tmp_path / "clean")], RowQuery(sample=1), as_json=False)
    out, err = capsys.readouterr()
    assert out == "\n".join([*dataset_text.row_lines(one, whole=False), ""])
    assert err == "1 of 1 rows kept, drawn with seed 0\n"

    show([str(tmp_path / "clean")], RowQuery(row=two.id), as_json=False)
    out, err = capsys.readouterr()
    assert out.startswith(f"=== {two.id}\n")
    assert "\ndropped    wrong_answer: 3\n" in out
    assert err == ""


def test_rows_as_json_are_the_records_whole(
    tmp_path: Path,
    make_trace: Callable[..., Trace],
    write_dataset: Callable[..., Manifest],
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = make_trace(problem="a" * 5000)
    write_dataset(tmp_path / "clean", [], [(one, "wrong_answer", None)])
    show([str(tmp_path / "clean")], RowQuery(reason="wrong_answer"), as_json=True)

    expected = {
        **msgspec.to_builtins(one),
        "reason": "wrong_answer",
        "measured": None,
        "other_reasons": None,
    }
    assert json.loads(capsys.readouterr().out) == {"rows": [expected]}


def test_rows_of_several_versions_or_of_a_checkpoint_are_an_error(
    tmp_path: Path,
    write_dataset: Callable[..., Manifest],
    write_checkpoint: Callable[..., Manifest],
    write_scores: Callable[..., None],
) -> None:
    write_dataset(tmp_path / "traces", [])
    write_checkpoint(tmp_path / "student", "id")
    write_scores(tmp_path / "eval/sums")
    write_scores(tmp_path / "eval/aime")
    traces, student = str(tmp_path / "traces"), str(tmp_path / "student")

    with pytest.raises(UsageError) as caught:
        show([traces, student], RowQuery(reason="a"), as_json=True)
    assert str(caught.value) == (
        "--reason shows rows of one dataset, not of traces v1, student v1: name one"
    )
    with pytest.raises(UsageError, match="not of eval/aime v1, eval/sums v1: name one"):
        show([str(tmp_path / "eval")], RowQuery(sample=1), as_json=False)
    with pytest.raises(
        UsageError, match=r"--row: .*student/v1 is a checkpoint, which holds no rows"
    ):
        show([student], RowQuery(row="a"), as_json=False)


OPENED = """
import json, sys
from distillpipe.cli.app import main

opened = []
sys.addaudithook(lambda event, found: event == "open" and opened.append(str(found[0])))
try:
    main()
finally:
    print(json.dumps(opened), file=sys.stderr)
"""


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_no_file_of_rows_is_opened_where_none_are_asked_for(
    tmp_path: Path,
    make_traces: Callable[..., list[Trace]],
    write_dataset: Callable[..., Manifest],
    make_header: Callable[..., Header],
    flags: list[str],
) -> None:
    traces, clean = tmp_path / "traces", tmp_path / "clean"
    one, two = make_traces(2)
    write_dataset(traces, [one, two])
    inputs = [dataset.describe(dataset.find(str(traces)), clean)]
    write_dataset(clean, [one], [(two, "wrong_answer", "3")], inputs=inputs)
    with versions.draft(clean, make_header("B")) as draft, Writer(draft) as writer:
        writer.append(one)
        writer.fail(two, "connection lost")
    for name in ("part-00000.jsonl", "rejected-00000.jsonl"):  # 10 GB of what is no row
        with (clean / "v1" / name).open("rb+") as file:
            file.truncate(10_000_000_000)

    done = subprocess.run(
        [sys.executable, "-c", OPENED, "show", str(clean), *flags],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    opened = {path for path in json.loads(done.stderr) if path.startswith(str(tmp_path))}
    assert opened == {
        str(path)
        for path in (
            clean / "v1/manifest.json",
            clean / "v2.partial/manifest.json",
            clean / "v2.partial/errors.jsonl",
            traces / "v1/manifest.json",
        )
    }
    assert ("20.0 GB" in done.stdout) != bool(flags)


def test_what_is_no_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="empty holds no version of a dataset"):
        (tmp_path / "empty").mkdir()
        show([str(tmp_path / "empty")], RowQuery(), as_json=False)
    with pytest.raises(UsageError, match="missing does not exist"):
        show([str(tmp_path / "missing")], RowQuery(), as_json=True)


def test_a_manifest_of_another_format_is_an_error_with_its_path(
    tmp_path: Path, write_dataset: Callable[..., Manifest]
) -> None:
    write_dataset(tmp_path, [])
    (tmp_path / "v1/manifest.json").write_text('{"format": "distillpipe/9"}')

    with pytest.raises(DataError, match=f"{tmp_path}/v1/manifest.json: format 'distillpipe/9'"):
        show([str(tmp_path)], RowQuery(), as_json=False)


def test_scores_that_are_not_known_are_shown_as_unknown(
    write_scores: Callable[..., None], shown: Callable[..., list[list[str]]], tmp_path: Path
) -> None:
    # a server that counts no tokens; a version in which nothing was scored
    write_scores(tmp_path / "served", mean_reasoning_tokens=None)
    unscored = {"pass@1": None, "interval": [None, None], "mean_reasoning_tokens": None}
    none = {f"num_{name}": 0 for name in ("correct", "wrong", "truncated", "problems", "samples")}
    write_scores(tmp_path / "nothing", **unscored, **none)
    rows = shown(tmp_path / "served", tmp_path / "nothing")
    assert rows[1][1:] == ["0.500", "0.095 - 0.905", "-", "25.0%", "2 x 2"]
    assert rows[2][1:] == ["-", "- - -", "-", "-", "0 x 0"]


def test_what_was_left_out_stands_beside_the_score(
    write_scores: Callable[..., None], shown: Callable[..., list[list[str]]], tmp_path: Path
) -> None:
    write_scores(tmp_path / "e", num_not_run=0, num_asked=1000, num_left_out=7)
    assert shown(tmp_path / "e")[1][1] == "0.500, over 993 of 1,000"
