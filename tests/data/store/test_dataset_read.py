"""Scanning rows, rows that cannot be read, and rows that earlier versions already have."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.records import TokenCounts, Trace
from distillpipe.data.store.dataset import (
    RowKeys,
    count_rows,
    describe,
    find,
    read_traces,
    row_files,
    scan,
    scan_lines,
)
from distillpipe.data.store.manifest import Manifest
from distillpipe.data.store.reuse import sampled_before
from distillpipe.data.store.versions import Header

MakeTraces = Callable[..., list[Trace]]
AppendAndStop = Callable[..., Path]
AsLine = Callable[[msgspec.Struct], bytes]
MakeHeader = Callable[..., Header]
WriteDataset = Callable[..., Manifest]


# ---------------------------------------------------------------- scan


def test_scan_reads_datasets_folders_and_files(
    tmp_path: Path, make_traces: MakeTraces, write_dataset: WriteDataset, as_line: AsLine
) -> None:
    kept, rejected = make_traces(2)
    out, file = tmp_path / "traces", tmp_path / "traces.jsonl"
    write_dataset(out, [kept], [(rejected, "wrong_answer", "7")])
    file.write_bytes(as_line(kept).rstrip())  # the last line of a file may lack its line feed
    keys, rejected_keys = (RowKeys(row.id, row.row_key) for row in (kept, rejected))

    for source in (find(str(out)), find(f"{out}@v1"), out / "v1", find(str(file)), file):
        assert list(scan(source, RowKeys)) == [keys]
        ((where, line),) = scan_lines(source)
        assert where == f"{row_files(source)[0]}:1"
        assert msgspec.json.decode(line, type=Trace) == kept
    for source in (find(str(out)), out / "v1"):
        assert list(scan(source, RowKeys, "rejected")) == [rejected_keys]
    assert list(scan(find(str(file)), RowKeys, "rejected")) == []


def test_scan_checks_a_dataset_but_not_a_folder(
    tmp_path: Path, make_traces: MakeTraces, write_dataset: WriteDataset, as_line: AsLine
) -> None:
    one, two = make_traces(2)
    write_dataset(tmp_path, [one])
    (tmp_path / "v1/part-00000.jsonl").write_bytes(as_line(two))

    assert list(scan(tmp_path / "v1", Trace)) == [two]
    with pytest.raises(DataError, match=r"v1/part-00000.jsonl was changed|bytes, .* were written"):
        list(scan(find(str(tmp_path)), Trace))


def test_a_dataset_stays_the_version_that_was_found(
    tmp_path: Path, make_traces: MakeTraces, write_dataset: WriteDataset
) -> None:
    one, two = make_traces(2)
    write_dataset(tmp_path, [one], name="A")
    source = find(str(tmp_path))
    write_dataset(tmp_path, [one, two], name="B")

    assert list(scan(source, Trace)) == [one]
    assert (count_rows([source]), describe(source, tmp_path).version) == (1, "v1")
    assert count_rows([find(str(tmp_path))]) == 2


def test_scan_can_skip_a_torn_last_line(
    tmp_path: Path,
    make_traces: MakeTraces,
    make_header: MakeHeader,
    append_and_stop: AppendAndStop,
    as_line: AsLine,
) -> None:
    one, two = make_traces(2)
    folder = append_and_stop(tmp_path, make_header(), [one])
    with (folder / "part-00000.jsonl").open("ab") as file:
        file.write(as_line(two)[:40])

    assert list(scan(folder, Trace, skip_torn=True)) == [one]
    with pytest.raises(DataError, match=r"part-00000.jsonl:2: not a row of kind Trace"):
        list(scan(folder, Trace))


# ---------------------------------------------------------------- rows that cannot be read


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"schema": "trace/1", ', "truncated"),
        (b"not json", "malformed"),
        (b"[1, 2]", "Expected `object`, got `array`"),
        (b'{"problem": "1+1?"}', "missing required field `id`"),
        (b'{"schema": "trace/2"}', "Invalid enum value 'trace/2'"),
        (b'{"id": "\xff"}', "not UTF-8"),
    ],
)
def test_a_line_that_is_no_trace_is_an_error_with_file_and_line(
    tmp_path: Path, make_traces: MakeTraces, line: bytes, complaint: str, as_line: AsLine
) -> None:
    path = tmp_path / "traces.jsonl"
    one, two = map(as_line, make_traces(2))
    path.write_bytes(one + b"\n" + line + b"\n" + two)

    rows = read_traces(str(path))
    next(rows)
    with pytest.raises(DataError, match=f"{path}:3: not a row of kind Trace") as raised:
        next(rows)
    assert complaint in str(raised.value)
    assert "correct or remove the line" in str(raised.value)


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()

    assert list(read_traces(str(tmp_path / "empty.jsonl"))) == []


def test_a_missing_dataset_is_an_error_that_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing does not exist: give a dataset's folder"):
        list(read_traces(str(tmp_path / "nothing")))


# ---------------------------------------------------------------- rows sampled before


def test_rows_of_versions_and_drafts_are_reused_each_once(
    tmp_path: Path,
    make_traces: MakeTraces,
    make_header: MakeHeader,
    write_dataset: WriteDataset,
    append_and_stop: AppendAndStop,
) -> None:
    one, two, three, four = make_traces(4)
    write_dataset(tmp_path, [one, two], name="A")
    append_and_stop(tmp_path, make_header("B"), [two, three])
    wanted = {row.row_key for row in (one, two, three)} | {"never sampled"}

    assert list(sampled_before(tmp_path, wanted)) == [one, two, three]
    assert list(sampled_before(tmp_path, {four.row_key})) == []
    assert list(sampled_before(tmp_path, set())) == []
    assert list(sampled_before(tmp_path / "nothing", wanted)) == []


def test_a_torn_last_line_of_another_draft_is_passed_over(
    tmp_path: Path, make_traces: MakeTraces, make_header: MakeHeader, append_and_stop: AppendAndStop
) -> None:
    one, two = make_traces(2)
    path = append_and_stop(tmp_path, make_header(), [one, two]) / "part-00000.jsonl"
    path.write_bytes(path.read_bytes()[:-1])

    assert list(sampled_before(tmp_path, {one.row_key, two.row_key})) == [one]
    assert not path.read_bytes().endswith(b"\n")


def test_a_row_rejected_before_sampling_is_not_reused(
    tmp_path: Path, make_traces: MakeTraces, write_dataset: WriteDataset
) -> None:
    nothing = TokenCounts(prompt=600, reasoning=0, response=0, total=600)
    kept, refused = make_traces(2)
    refused = msgspec.structs.replace(refused, num_tokens=nothing)
    write_dataset(tmp_path, [kept], [(refused, "prompt_too_long", 600)])

    assert list(sampled_before(tmp_path, {kept.row_key, refused.row_key})) == [kept]


def test_a_broken_line_in_rows_to_reuse_is_an_error_with_its_place(
    tmp_path: Path, make_traces: MakeTraces, write_dataset: WriteDataset, as_line: AsLine
) -> None:
    one, two = make_traces(2)
    write_dataset(tmp_path, [one])
    path = tmp_path / "v1/part-00000.jsonl"
    path.write_bytes(b"\0" * 40 + b"\n" + as_line(two))

    with pytest.raises(DataError, match=f"{path}:1: not a row of kind RowKeys"):
        list(sampled_before(tmp_path, {two.row_key}))
