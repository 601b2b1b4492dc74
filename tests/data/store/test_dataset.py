"""Rows on disk: appended rows are read back, survive a torn line, and are never written twice."""

import hashlib
import json
import resource
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from distillpipe.base.errors import DataError
from distillpipe.base.hashing import content_hash
from distillpipe.base.records import Problem, RejectedTrace, TokenCounts, Trace
from distillpipe.data.store import jsonl, versions
from distillpipe.data.store.counts import Dropped
from distillpipe.data.store.dataset import read_traces, scan
from distillpipe.data.store.manifest import FileEntry, Manifest
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer

MakeTraces = Callable[..., list[Trace]]
AppendAndStop = Callable[..., Path]
AsLine = Callable[[msgspec.Struct], bytes]
MakeHeader = Callable[..., Header]
WriteDataset = Callable[..., Manifest]


# ---------------------------------------------------------------- write and read


def test_rows_are_read_back_as_they_were_appended(
    tmp_path: Path, make_traces: MakeTraces, write_dataset: WriteDataset, as_line: AsLine
) -> None:
    first, second = make_traces(2, served_by="r1-0528", domain="algebra", extra='{"a": 1}')
    manifest = write_dataset(tmp_path / "out", [second, first])

    assert list(read_traces(str(tmp_path / "out"))) == [second, first]
    assert (tmp_path / "out/v1/part-00000.jsonl").read_bytes() == as_line(second) + as_line(first)
    assert manifest.version == "v1"


def test_every_key_is_in_every_row_null_where_it_is_not_filled(
    tmp_path: Path, make_traces: MakeTraces, write_dataset: WriteDataset
) -> None:
    write_dataset(tmp_path, make_traces(1))

    row = json.loads((tmp_path / "v1/part-00000.jsonl").read_text())
    assert tuple(row) == Trace.__struct_fields__
    assert [name for name in row if row[name] is None] == [
        "benchmark", "domain", "served_by", "verdict", "verdict_reason", "answer", "soft_labels", "extra",
    ]  # fmt: skip


def test_text_of_any_script_and_line_breaks_inside_stay_one_line(
    tmp_path: Path, make_trace: Callable[..., Trace], write_dataset: WriteDataset
) -> None:
    text = 'two\nlines\r\n\u2028\u0085 "quoted" \\frac{1}{2} 価格 🙂 \x00 \ud7ff'
    row = make_trace(problem=text, reasoning=text, response=text)
    write_dataset(tmp_path, [row])

    assert (tmp_path / "v1/part-00000.jsonl").read_bytes().count(b"\n") == 1
    assert list(read_traces(str(tmp_path))) == [row]


@pytest.mark.parametrize(
    "reference", ["{out}", "{out}@v1", "{out}/v1", "{out}/latest", "{out}/v1/part-00000.jsonl"]
)
def test_rows_are_read_from_every_form_of_a_reference(
    tmp_path: Path, make_traces: MakeTraces, write_dataset: WriteDataset, reference: str
) -> None:
    rows = make_traces(2)
    write_dataset(tmp_path / "out", rows)

    assert list(read_traces(reference.format(out=tmp_path / "out"))) == rows


def test_an_older_version_is_read_by_its_name(
    tmp_path: Path, make_traces: MakeTraces, write_dataset: WriteDataset
) -> None:
    one, two = make_traces(2)
    write_dataset(tmp_path, [one], name="A")
    write_dataset(tmp_path, [two], name="B")

    assert list(read_traces(f"{tmp_path}@v1")) == [one]
    assert list(read_traces(f"{tmp_path}")) == [two]


def test_rejected_rows_keep_reason_and_measured_and_decode_as_traces(
    tmp_path: Path, make_traces: MakeTraces, write_dataset: WriteDataset
) -> None:
    long, silent, kept = make_traces(3)
    write_dataset(
        tmp_path,
        [kept],
        [(long, "too_many_reasoning_tokens", 512), (silent, "missing_reasoning", None)],
    )

    rejected = list(scan(tmp_path / "v1", RejectedTrace, "rejected"))
    assert [(row.id, row.reason, row.measured) for row in rejected] == [
        (long.id, "too_many_reasoning_tokens", "512"),
        (silent.id, "missing_reasoning", None),
    ]
    assert list(read_traces(str(tmp_path / "v1/rejected-00000.jsonl"))) == [long, silent]
    assert list(read_traces(str(tmp_path))) == [kept]


def test_counts_of_the_manifest_are_those_of_the_rows(
    tmp_path: Path, make_traces: MakeTraces, write_dataset: WriteDataset
) -> None:
    tokens = TokenCounts(prompt=10, reasoning=4, response=3, total=20)
    rows = make_traces(5, num_tokens=tokens)
    rejected = [(rows[2], "unfinished", "length"), (rows[3], "unfinished", None)]
    manifest = write_dataset(tmp_path, rows[:2], [*rejected, (rows[4], "duplicate", "x")])

    assert manifest.counts.rows_kept == 2
    assert manifest.counts.tokens_kept == 20
    assert manifest.counts.rows_rejected == 3
    assert manifest.counts.dropped == {
        "unfinished": Dropped(rows=2, tokens=20),
        "duplicate": Dropped(rows=1, tokens=10),
    }


def test_the_manifest_lists_every_file_with_rows_bytes_and_sha256(
    tmp_path: Path, make_traces: MakeTraces, write_dataset: WriteDataset, as_line: AsLine
) -> None:
    one, two, three = make_traces(3)
    problem = Problem(problem_id="p", problem="1+1?", reference_answer="2", verifier="math")
    manifest = write_dataset(tmp_path, [one, two], [(three, "duplicate", None)], [problem])

    contents = {
        "part-00000.jsonl": (2, as_line(one) + as_line(two)),
        "problems.jsonl": (1, as_line(problem)),
        "rejected-00000.jsonl": (1, (tmp_path / "v1/rejected-00000.jsonl").read_bytes()),
    }
    assert manifest.files == [
        FileEntry(name, rows, len(content), hashlib.sha256(content).hexdigest())
        for name, (rows, content) in contents.items()
    ]


def test_a_version_without_rows_is_whole_and_reads_as_none(
    tmp_path: Path, write_dataset: WriteDataset
) -> None:
    manifest = write_dataset(tmp_path, [])

    assert [entry.name for entry in manifest.files] == ["problems.jsonl"]
    assert manifest.id == content_hash([])
    assert list(read_traces(str(tmp_path))) == []


# ---------------------------------------------------------------- the id of a dataset


def test_the_id_of_a_dataset_ignores_the_order_of_rows_and_parts(
    tmp_path: Path,
    make_traces: MakeTraces,
    write_dataset: WriteDataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two, three, four = make_traces(4)
    forwards = write_dataset(tmp_path / "a", [one, two, three], [(four, "duplicate", None)])
    monkeypatch.setattr(jsonl, "PART_BYTES", 1)
    backwards = write_dataset(tmp_path / "b", [three, one, two], [(four, "duplicate", None)])

    assert len(list((tmp_path / "b/v1").glob("part-*"))) == 3
    assert forwards.id == backwards.id


def test_the_id_of_a_dataset_ignores_rejected_rows(
    tmp_path: Path, make_traces: MakeTraces, write_dataset: WriteDataset
) -> None:
    one, two = make_traces(2)
    changed = msgspec.structs.replace(two, verdict="correct")
    both = write_dataset(tmp_path, [one, two], name="both")
    alone = write_dataset(tmp_path, [one], name="one")
    other = write_dataset(tmp_path, [one, changed], name="another verdict")
    rejected = write_dataset(tmp_path, [one], [(two, "duplicate", None)], name="rejected")

    assert len({both.id, alone.id, other.id}) == 3
    assert rejected.id == alone.id


def test_the_id_after_a_resume_is_that_of_an_undisturbed_run(
    tmp_path: Path,
    make_traces: MakeTraces,
    make_header: MakeHeader,
    write_dataset: WriteDataset,
    append_and_stop: AppendAndStop,
) -> None:
    one, two, three = make_traces(3)
    undisturbed = write_dataset(tmp_path / "a", [one, two], [(three, "duplicate", None)])
    append_and_stop(tmp_path / "b", make_header(), [one])
    resumed = write_dataset(tmp_path / "b", [two], [(three, "duplicate", None)])

    assert resumed.id == undisturbed.id
    assert resumed.files == undisturbed.files


# ---------------------------------------------------------------- resume


def test_a_resumed_draft_knows_its_rows_and_keeps_their_bytes(
    tmp_path: Path, make_traces: MakeTraces, make_header: MakeHeader, as_line: AsLine
) -> None:
    one, two, three = make_traces(3)
    with versions.draft(tmp_path, make_header()) as draft, Writer(draft) as writer:
        writer.append(one)
        writer.reject(two, "unfinished", "length")
    before = (draft.path / "part-00000.jsonl").read_bytes()

    with versions.draft(tmp_path, make_header()) as draft, Writer(draft) as writer:
        assert writer.done == {one.id, two.id}
        assert writer.counts.rows_kept == 1
        assert writer.counts.dropped == {"unfinished": Dropped(rows=1, tokens=14)}
        writer.append(three)
        writer.finish([])

    assert (tmp_path / "v1/part-00000.jsonl").read_bytes() == before + as_line(three)
    assert list(read_traces(str(tmp_path))) == [one, three]


@pytest.mark.parametrize("kept_bytes", [1, 20, -2, -1], ids=["one", "some", "two short", "no end"])
def test_a_torn_last_line_is_dropped_and_redone(
    tmp_path: Path,
    make_traces: MakeTraces,
    make_header: MakeHeader,
    kept_bytes: int,
    append_and_stop: AppendAndStop,
    as_line: AsLine,
) -> None:
    one, two = make_traces(2)
    path = append_and_stop(tmp_path, make_header(), [one]) / "part-00000.jsonl"
    with path.open("ab") as file:
        file.write(as_line(two)[:kept_bytes])

    with versions.draft(tmp_path, make_header()) as draft, Writer(draft) as writer:
        assert writer.done == {one.id}
        assert path.read_bytes() == as_line(one)
        writer.append(two)
        manifest = writer.finish([])

    assert list(read_traces(str(tmp_path))) == [one, two]
    assert manifest.counts.rows_kept == 2


def test_a_draft_with_nothing_but_a_torn_line_starts_with_no_row(
    tmp_path: Path,
    make_traces: MakeTraces,
    make_header: MakeHeader,
    append_and_stop: AppendAndStop,
    as_line: AsLine,
) -> None:
    (one,) = make_traces(1)
    path = append_and_stop(tmp_path, make_header(), [one]) / "part-00000.jsonl"
    path.write_bytes(as_line(one)[:-1])

    with versions.draft(tmp_path, make_header()) as draft, Writer(draft) as writer:
        assert writer.done == set()
        writer.append(one)
        writer.finish([])

    assert (tmp_path / "v1/part-00000.jsonl").read_bytes() == as_line(one)


def test_a_torn_line_longer_than_one_read_is_cut_off_whole(
    tmp_path: Path,
    make_traces: MakeTraces,
    make_header: MakeHeader,
    append_and_stop: AppendAndStop,
    as_line: AsLine,
) -> None:
    (one,) = make_traces(1)
    path = append_and_stop(tmp_path, make_header(), [one]) / "part-00000.jsonl"
    with path.open("ab") as file:
        file.write(b"x" * 200_000)

    with versions.draft(tmp_path, make_header()) as draft, Writer(draft) as writer:
        assert writer.done == {one.id}

    assert path.read_bytes() == as_line(one)


@pytest.mark.parametrize("line", [b'{"schema": "trace/1", ', b"\xff\xfe", b"\0\0\0\0", b"[]"])
def test_a_bad_line_within_a_draft_is_named_and_nothing_is_lost(
    tmp_path: Path,
    make_traces: MakeTraces,
    make_header: MakeHeader,
    line: bytes,
    append_and_stop: AppendAndStop,
    as_line: AsLine,
) -> None:
    one, two = map(as_line, make_traces(2))
    path = append_and_stop(tmp_path, make_header(), []) / "part-00000.jsonl"
    path.write_bytes(one + line + b"\n" + two)

    with (
        versions.draft(tmp_path, make_header()) as draft,
        pytest.raises(DataError, match=rf"{path}:2: not a row of this draft .*delete the folder"),
    ):
        Writer(draft)
    assert path.read_bytes() == one + line + b"\n" + two


def test_a_row_that_met_a_full_disk_is_made_again_others_are_intact(
    tmp_path: Path, make_traces: MakeTraces, make_header: MakeHeader, as_line: AsLine
) -> None:
    one, two = make_traces(2)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    room = len(as_line(one)) + 100
    assert room < 1000 < len(as_line(one)) + len(as_line(two))  # the second row does not fit
    with (
        pytest.raises(OSError, match="File too large"),
        versions.draft(tmp_path / "out", make_header()) as draft,
        Writer(draft) as writer,
    ):
        writer.append(one)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, unlimited[1]))
        try:
            writer.append(two)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert (draft.path / "part-00000.jsonl").stat().st_size == room

    with versions.draft(tmp_path / "out", make_header()) as draft, Writer(draft) as writer:
        assert writer.done == {one.id}
        writer.append(two)
        writer.finish([])
    assert list(read_traces(str(tmp_path / "out"))) == [one, two]


def test_a_row_that_was_appended_is_on_disk_before_the_next_one(
    tmp_path: Path, make_traces: MakeTraces, make_header: MakeHeader
) -> None:
    rows = make_traces(3)
    with versions.draft(tmp_path, make_header()) as draft, Writer(draft) as writer:
        for count, row in enumerate(rows, start=1):
            writer.append(row)
            assert list(scan(draft.path, Trace)) == rows[:count]


# ---------------------------------------------------------------- parts


def test_parts_have_bounded_size_and_a_resume_appends_to_the_last(
    tmp_path: Path,
    make_traces: MakeTraces,
    make_header: MakeHeader,
    write_dataset: WriteDataset,
    monkeypatch: pytest.MonkeyPatch,
    append_and_stop: AppendAndStop,
    as_line: AsLine,
) -> None:
    rows = make_traces(6)
    size = len(as_line(rows[0]))
    assert {len(as_line(row)) for row in rows} == {size}
    monkeypatch.setattr(jsonl, "PART_BYTES", 2 * size)
    append_and_stop(tmp_path, make_header(), rows[:3])
    manifest = write_dataset(tmp_path, rows[3:5], [(rows[5], "duplicate", None)])

    assert [(entry.name, entry.rows) for entry in manifest.files] == [
        ("part-00000.jsonl", 2),
        ("part-00001.jsonl", 2),
        ("part-00002.jsonl", 1),
        ("problems.jsonl", 0),
        ("rejected-00000.jsonl", 1),
    ]
    assert list(read_traces(str(tmp_path))) == rows[:5]


def test_a_resume_after_a_full_part_begins_the_next_one(
    tmp_path: Path,
    make_traces: MakeTraces,
    make_header: MakeHeader,
    write_dataset: WriteDataset,
    monkeypatch: pytest.MonkeyPatch,
    append_and_stop: AppendAndStop,
    as_line: AsLine,
) -> None:
    one, two = make_traces(2)
    monkeypatch.setattr(jsonl, "PART_BYTES", len(as_line(one)))
    append_and_stop(tmp_path, make_header(), [one])
    write_dataset(tmp_path, [two])

    assert (tmp_path / "v1/part-00000.jsonl").read_bytes() == as_line(one)
    assert (tmp_path / "v1/part-00001.jsonl").read_bytes() == as_line(two)
