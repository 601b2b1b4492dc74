"""Streams track rows, bytes and sha256 of their files. Spools return their records."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.base import filesystem
from distillpipe.base.errors import DataError
from distillpipe.base.records import Problem
from distillpipe.data.store import jsonl
from distillpipe.data.store.jsonl import (
    Spool,
    Stream,
    cut_from_line,
    cut_torn_line,
    decoded,
    decoded_slice,
    encoder,
    lines,
    slices,
)

Row = tuple[bytes, str]


def problem(number: int, text: str = "1+1?") -> Problem:
    return Problem(problem_id=str(number), problem=text, reference_answer=None, verifier="math")


def opened(folder: Path, prefix: str = "part") -> tuple[Stream, list[Row]]:
    """A stream, and the lines that were on disk with their places."""
    found: list[Row] = []
    return Stream(folder, prefix, lambda line, where: found.append((line, where))), found


def check_parts(stream: Stream, folder: Path) -> None:
    """Check that rows, bytes and sha256 of the stream are those of the files."""
    assert [part.name for part in stream.parts] == sorted(path.name for path in folder.iterdir())
    for part in stream.parts:
        content = (folder / part.name).read_bytes()
        assert (part.rows, part.bytes) == (content.count(b"\n"), len(content))
        assert part.sha256.hexdigest() == hashlib.sha256(content).hexdigest()


# ---------------------------------------------------------------- Stream


def test_a_stream_makes_no_file_before_its_first_row(tmp_path: Path) -> None:
    stream, found = opened(tmp_path)
    stream.sync()
    stream.close()

    assert (stream.parts, found, list(tmp_path.iterdir())) == ([], [], [])


def test_rows_rows_and_sha256_are_those_of_the_file_after_each_row(tmp_path: Path) -> None:
    stream, _ = opened(tmp_path)
    for line in (b'{"a": 1}', b"", "價格".encode(), b"x" * 100_000):
        stream.append(line)
        check_parts(stream, tmp_path)
    assert [(part.name, part.rows) for part in stream.parts] == [("part-00000.jsonl", 4)]


def test_a_new_part_begins_when_the_last_is_full_between_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "PART_BYTES", 10)
    stream, _ = opened(tmp_path)
    for line in (b"1234", b"5678", b"next", b"a row longer than a part", b"last"):
        stream.append(line)

    check_parts(stream, tmp_path)
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [
        b"1234\n5678\n", b"next\na row longer than a part\n", b"last\n",
    ]  # fmt: skip


@pytest.mark.parametrize("part_bytes", [1, 12, 1000], ids=["each", "some", "all"])
@pytest.mark.parametrize(
    "torn", [b"", b"1", b'{"torn": "' + b"x" * 3000], ids=["whole", "1", "long"]
)
def test_after_a_resume_rows_are_appended_to_the_existing_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_bytes: int, torn: bytes
) -> None:
    monkeypatch.setattr(jsonl, "PART_BYTES", part_bytes)
    rows = [f"row {number}".encode() for number in range(6)]
    stream, _ = opened(tmp_path)
    for line in rows[:4]:
        stream.append(line)
    stream.close()
    with (tmp_path / stream.parts[-1].name).open("ab") as file:
        file.write(torn)

    resumed, found = opened(tmp_path)
    assert [line for line, _ in found] == rows[:4]
    assert [where for _, where in found] == [
        f"{tmp_path / part.name}:{number}"
        for part in stream.parts
        for number in range(1, part.rows + 1)
    ]
    check_parts(resumed, tmp_path)
    for line in rows[4:]:
        resumed.append(line)
    resumed.close()
    check_parts(resumed, tmp_path)
    assert [line for part in resumed.parts for _, line in lines(tmp_path / part.name)] == rows


def test_a_part_that_holds_nothing_but_a_torn_line_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "part-00000.jsonl").write_bytes(b"whole\n")
    (tmp_path / "part-00001.jsonl").write_bytes(b"torn")
    stream, found = opened(tmp_path)
    stream.append(b"next")

    assert [line for line, _ in found] == [b"whole"]
    assert (tmp_path / "part-00001.jsonl").read_bytes() == b"next\n"
    check_parts(stream, tmp_path)


def test_streams_with_two_prefixes_leave_each_other_alone(tmp_path: Path) -> None:
    parts, _ = opened(tmp_path, "part")
    rejected, _ = opened(tmp_path, "rejected")
    parts.append(b"kept")
    rejected.append(b"dropped")

    assert (tmp_path / "part-00000.jsonl").read_bytes() == b"kept\n"
    assert (tmp_path / "rejected-00000.jsonl").read_bytes() == b"dropped\n"
    assert [line for line, _ in opened(tmp_path, "rejected")[1]] == [b"dropped"]


def synced_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync_rows: int, seconds: float
) -> list[int]:
    """The number of rows written at each fsync, for ten rows."""
    stream = Stream(tmp_path, "part", lambda *_: None, sync_rows)
    synced: list[int] = []
    monkeypatch.setattr(jsonl, "SYNC_SECONDS", seconds)
    monkeypatch.setattr(filesystem, "_sync_content", lambda _: synced.append(stream.parts[-1].rows))
    for _ in range(10):
        stream.append(b"row")
    stream.close()
    return synced


@pytest.mark.parametrize(
    ("sync_rows", "seconds", "synced"),
    [(4, 1000.0, [4, 8, 10]), (1000, 0.0, list(range(1, 11))), (1000, 1000.0, [10])],
    ids=["rows", "seconds", "at the end"],
)
def test_rows_are_synced_after_so_many_rows_or_seconds_and_at_the_end(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sync_rows: int,
    seconds: float,
    synced: list[int],
) -> None:
    assert synced_rows(tmp_path, monkeypatch, sync_rows, seconds) == synced


def test_a_disk_that_is_full_is_an_error_with_the_name_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, _ = opened(tmp_path)

    def full(_descriptor: int, _content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left on device") as raised:
        stream.append(b"row")
    assert raised.value.filename == str(tmp_path / "part-00000.jsonl")


def test_a_line_that_the_system_takes_in_pieces_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:3]))
    stream, _ = opened(tmp_path)
    stream.append(b"a long line")

    check_parts(stream, tmp_path)


# ---------------------------------------------------------------- torn lines


@given(st.binary(max_size=300), st.integers(1, 40))
def test_a_torn_line_is_cut_whatever_the_size_of_a_read(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, read_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "torn.jsonl"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "READ_BYTES", read_bytes)
        cut_torn_line(path)
    assert path.read_bytes() == content[: content.rfind(b"\n") + 1]


@pytest.mark.parametrize(("number", "rest"), [(1, b""), (2, b"a\n"), (3, b"a\nb\n")])
def test_lines_from_a_number_on_are_cut_off(tmp_path: Path, number: int, rest: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"a\nb\nc\n")
    cut_from_line(path, number)
    assert path.read_bytes() == rest


@pytest.mark.parametrize(
    ("content", "every", "whole"),
    [
        (b"", [], []),
        (b"a\nb\n", [(1, b"a"), (2, b"b")], [(1, b"a"), (2, b"b")]),
        (b"a\n\n  \nb\n", [(1, b"a"), (4, b"b")], [(1, b"a"), (4, b"b")]),
        (b"a\nb", [(1, b"a"), (2, b"b")], [(1, b"a")]),
        (b"torn", [(1, b"torn")], []),
    ],
    ids=["empty", "two", "blank lines", "no end", "only torn"],
)
def test_lines_are_numbered_and_a_torn_one_can_be_skipped(
    tmp_path: Path, content: bytes, every: list[object], whole: list[object]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)

    assert list(lines(path)) == every
    assert list(lines(path, whole_only=True)) == whole


@pytest.mark.parametrize(
    ("schema", "remedy"),
    [
        ("problem/2", "or install the version of distillpipe that wrote 'problem/2'"),
        ("problem/1", "or convert the file with `distill import`"),
        (7, "or convert the file with `distill import`"),
    ],
)
def test_a_row_that_does_not_fit_says_where_it_stands_and_what_to_do(
    tmp_path: Path, schema: object, remedy: str
) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text(json.dumps({"schema": schema, "problem_id": 5}) + "\n")

    with pytest.raises(DataError) as raised:
        list(decoded(path, Problem))
    assert str(raised.value).startswith(f"{path}:1: not a row of kind Problem (")
    assert str(raised.value).endswith(f"): correct or remove the line, {remedy}")


# ---------------------------------------------------------------- slices


@given(
    texts=st.lists(st.sampled_from(["", "x" * 5, "x" * 300, "價格"]), max_size=8),
    num_bytes=st.integers(1, 700),
    has_end=st.booleans(),
)
def test_slices_are_whole_lines_and_hold_the_rows_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], num_bytes: int, has_end: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "sliced.jsonl"
    rows = [problem(number, text) for number, text in enumerate(texts)]
    content = b"\n".join(encoder.encode(row) for row in rows) + b"\n" * has_end
    path.write_bytes(content)
    parts = list(slices(path, num_bytes))

    assert b"".join(content[part.start : part.end] for part in parts) == content
    assert all(content[part.end - 1 : part.end] == b"\n" for part in parts[:-1])
    assert all(part.end - part.start > num_bytes for part in parts[:-1])
    assert [row for part in parts for row in decoded_slice(part, Problem)] == rows


def test_a_bad_row_of_a_slice_says_where_it_stands_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    line = encoder.encode(problem(0)) + b"\n"
    path.write_bytes(line * 7 + b"\n \n" + line + b'{"problem_id": 5}\n' + line)
    *_, last = slices(path, len(line) * 5)

    assert last.start == len(line) * 6
    with pytest.raises(DataError, match=rf"{path}:11: not a row of kind Problem \("):
        list(decoded_slice(last, Problem))


# ---------------------------------------------------------------- Spool


def test_a_spool_gives_every_record_back_by_its_number_in_any_order(tmp_path: Path) -> None:
    rows = [
        problem(number, text) for number, text in enumerate(["", "1+1?", "價格\n" * 50_000, "x"])
    ]
    spool = Spool(tmp_path, Problem)
    for count, row in enumerate(rows):
        assert len(spool) == count
        spool.append(row)
        assert spool[count] == row

    assert [spool[number] for number in (3, 0, 2, 1, 2)] == [rows[n] for n in (3, 0, 2, 1, 2)]


def test_a_spool_has_no_record_beyond_its_last(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Problem)
    with pytest.raises(IndexError):
        spool[0]
    spool.append(problem(0))
    with pytest.raises(IndexError):
        spool[1]


def test_a_spool_leaves_no_name_in_its_folder(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Problem)
    spool.append(problem(0))

    assert list(tmp_path.iterdir()) == []
