"""`export`: one file, whole or not there, never over another; and back through `import`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.records import Trace
from distillpipe.data.formats.outgoing import Format, ReasoningAs
from distillpipe.data.formats.traces import Choices, ImportOptions
from distillpipe.data.store import dataset
from distillpipe.data.store.manifest import Manifest
from distillpipe.stages.export import Exported, export
from distillpipe.stages.import_traces import import_traces
from distillpipe.stages.run import Run


@pytest.fixture
def traces(
    tmp_path: Path, write_dataset: Callable[..., Manifest], make_traces: Callable[..., list[Trace]]
) -> str:
    """A dataset of three traces."""
    write_dataset(tmp_path / "traces", make_traces(3))
    return str(tmp_path / "traces")


def run(
    reference: str, out: Path, layout: Format = "openai", reasoning: ReasoningAs = "inline"
) -> Exported:
    return export(reference, out, layout, reasoning, allow_benchmark=False)


def test_each_kept_row_is_a_line(traces: str, tmp_path: Path) -> None:
    done = run(traces, tmp_path / "new" / "rows.jsonl")

    lines = (tmp_path / "new" / "rows.jsonl").read_text().splitlines()
    assert (done.rows, done.rows_unfinished, done.up_to_date) == (3, 0, False)
    assert json.loads(lines[1]) == {
        "messages": [
            {"role": "user", "content": "What is 1+1?"},
            {"role": "assistant", "content": "<think>\n1+1=2.\n</think>\n\n\\boxed{2}"},
        ]
    }
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["rows.jsonl"]


def test_the_same_content_is_up_to_date_and_another_is_refused(traces: str, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    run(traces, out)
    before = (out.read_bytes(), out.stat().st_mtime_ns)

    assert run(traces, out).up_to_date
    with pytest.raises(UsageError) as raised:
        run(traces, out, "sharegpt")
    assert str(raised.value) == (
        f"--out {out} holds something else: name another file, or move that one away"
    )
    assert (out.read_bytes(), out.stat().st_mtime_ns) == before
    assert [path.name for path in tmp_path.glob("*rows*")] == ["rows.jsonl"]


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("rows.json", "--out {place}/rows.json: name a .jsonl file"),
        ("folder", "--out {place}/folder: name a .jsonl file"),
        ("folder.jsonl", "--out {place}/folder.jsonl: name a .jsonl file"),
        (
            "file/rows.jsonl",
            "--out {place}/file/rows.jsonl: {place}/file is a file: name a .jsonl file in a folder",
        ),
    ],
)
def test_out_has_to_be_a_file_that_can_be(
    traces: str, tmp_path: Path, out: str, message: str
) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "file").touch()

    with pytest.raises(UsageError) as raised:
        run(traces, tmp_path / out)
    assert str(raised.value) == message.format(place=tmp_path)


def test_a_dataset_without_rows_is_an_error_and_leaves_no_file(
    tmp_path: Path, write_dataset: Callable[..., Manifest]
) -> None:
    write_dataset(tmp_path / "traces", [])

    with pytest.raises(DataError, match="traces: no rows to export"):
        run(str(tmp_path / "traces"), tmp_path / "rows.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["traces"]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("missing", "missing does not exist: give a dataset's folder, PATH@vN, or a .jsonl file"),
        ("folder", "folder holds no version of a dataset"),
        ("traces@v2", "traces has no version v2; it has v1"),
        (".", "holds several datasets, name one: "),
    ],
)
def test_a_reference_that_is_no_dataset_is_an_error(
    traces: str, tmp_path: Path, reference: str, message: str
) -> None:
    (tmp_path / "folder").mkdir()

    with pytest.raises(UsageError) as raised:
        run(str(tmp_path / reference), tmp_path / "rows.jsonl")
    assert message in str(raised.value)
    assert not (tmp_path / "rows.jsonl").exists()


def test_rows_of_a_benchmark_are_refused_unless_they_are_allowed(
    tmp_path: Path,
    write_dataset: Callable[..., Manifest],
    make_traces: Callable[..., list[Trace]],
    distill: Callable[..., Any],
) -> None:
    write_dataset(tmp_path / "traces", make_traces(2, benchmark="math500"))
    call = ("export", tmp_path / "traces", "--format", "trl", "--out", tmp_path / "rows.jsonl")
    refused = distill(*call)

    assert (refused.code, "belongs to the benchmark math500" in refused.err) == (2, True)
    assert not (tmp_path / "rows.jsonl").exists()
    allowed = distill(*call, "--allow-benchmark-training", "--json")
    assert (allowed.code, json.loads(allowed.out)["rows"]) == (0, 2)


def test_rows_that_were_cut_off_are_pointed_out(
    tmp_path: Path,
    write_dataset: Callable[..., Manifest],
    make_traces: Callable[..., list[Trace]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_dataset(tmp_path / "traces", make_traces(2, finish_reason="length"))
    done = run(str(tmp_path / "traces"), tmp_path / "rows.jsonl")

    assert done.rows_unfinished == 2
    assert (
        "export: 2 of 2 rows were cut off: `distill filter` drops them" in capsys.readouterr().err
    )


ROUND_TRIPS: list[tuple[Format, ReasoningAs]] = [
    ("trl", "inline"), ("trl", "field"), ("sharegpt", "inline"), ("sharegpt", "field"),
    ("openai", "inline"), ("openai", "field"),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "reasoning"), ROUND_TRIPS)
def test_what_was_exported_is_imported_as_it_was(
    tmp_path: Path,
    write_dataset: Callable[..., Manifest],
    make_trace: Callable[..., Trace],
    layout: Format,
    reasoning: ReasoningAs,
) -> None:
    def row(number: int, thought: str | None, response: str) -> Trace:
        asked = f"What is {number}+1?"
        return make_trace(asked, thought, response, row_key=f"{number:032x}")

    before = [
        row(0, "0+1=1.\n\n  Wait.", "\\boxed{1}\n"),
        row(1, None, "\\boxed{2}"),
        row(2, "é\u2028\x1f 数", "「3」"),
    ]
    write_dataset(tmp_path / "traces", before)
    run(str(tmp_path / "traces"), tmp_path / "rows.jsonl", layout, reasoning)
    options = ImportOptions(Choices("auto"))
    import_traces(str(tmp_path / "rows.jsonl"), tmp_path / "again", options, Run())

    after = list(dataset.read_traces(str(tmp_path / "again")))
    assert [(one.problem, one.reasoning, one.response) for one in after] == [
        (one.problem, one.reasoning, one.response) for one in before
    ]
