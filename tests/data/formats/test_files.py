"""Rows of files in every format, each with its place; broken and truncated files."""

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distillpipe.base.errors import DataError, MissingDependencyError
from distillpipe.base.requirements import install_command
from distillpipe.data.formats.files import Placed, readable, rows_and_unreadable

ROWS = [{"problem": "1+1?", "answer": "2"}, {"problem": "é?", "answer": None}]
LINES = "".join(f"{json.dumps(row)}\n" for row in ROWS).encode()
LIST = json.dumps(ROWS, ensure_ascii=False).encode()


def file_rows(path: Path, holds: str = "row") -> Iterator[Placed]:
    return ((where, readable(row)) for where, row in rows_and_unreadable(path, holds))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "places"),
    [
        ("rows.jsonl", LINES, [":1", ":2"]),
        ("rows.txt", LINES, [":1", ":2"]),
        ("rows.jsonl", b"\n \r\n" + LINES.replace(b"\n", b"\r\n"), [":3", ":4"]),
        ("rows.jsonl", b"\xef\xbb\xbf" + LINES, [":1", ":2"]),
        ("rows.jsonl.gz", LINES, [":1", ":2"]),
        ("rows.json", LIST, [": item 1", ": item 2"]),
        ("rows.json", b"\xef\xbb\xbf" + LIST, [": item 1", ": item 2"]),
        ("rows.json.gz", LIST, [": item 1", ": item 2"]),
    ],
)
def test_rows_are_read_with_their_places(
    tmp_path: Path, name: str, content: bytes, places: list[str]
) -> None:
    path = write(tmp_path / name, content)

    assert list(file_rows(path)) == [
        (f"{path}{place}", row) for place, row in zip(places, ROWS, strict=True)
    ]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_cells_of_a_csv_file_may_hold_line_ends_commas_and_quotes(
    tmp_path: Path, mark: bytes
) -> None:
    content = (
        mark + b'Question,Answer\r\n"Is a, ""b""\r\nor c?",b\r\n\xc3\xa9?,\r\n1,2,3\r\nonly\r\n'
    )
    path = write(tmp_path / "rows.csv", content)

    assert list(file_rows(path)) == [
        (f"{path}: row 1", {"Question": 'Is a, "b"\r\nor c?', "Answer": "b"}),
        (f"{path}: row 2", {"Question": "é?", "Answer": ""}),
        (f"{path}: row 3", {"Question": "1", "Answer": "2", "more_cells": ["3"]}),
        (f"{path}: row 4", {"Question": "only", "Answer": None}),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"a,b\n1,2\n\xe9a,3\n",
            ":3: not UTF-8 (invalid continuation byte): save the file as UTF-8",
        ),
        (
            b'a,b\n1,2\n"3,4\n',
            ": not readable as CSV after row 1 (unexpected end of data): correct the file",
        ),
        (b"a,b\n", " is empty: expected one row per line"),
    ],
)
def test_a_csv_file_that_cannot_be_read_is_an_error_with_its_place(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = write(tmp_path / "rows.csv", content)
    with pytest.raises(DataError) as raised:
        list(file_rows(path))
    assert str(raised.value).startswith(f"{path}{message}")


def test_parquet_is_read_in_pieces_with_its_row_numbers(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"problem": f"{number}+1?", "messages": [{"role": "user"}]} for number in range(200)]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    found = list(file_rows(tmp_path / "rows.parquet"))

    assert [row for _, row in found] == rows
    assert found[199][0] == f"{tmp_path}/rows.parquet: row 200"


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.json"])
def test_an_empty_file_is_an_error_that_says_what_it_should_hold(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, b"[]" if name == "rows.json" else b" \n")

    with pytest.raises(DataError, match=f"{name} is empty: expected one trace per line"):
        list(file_rows(path, "trace"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", LINES + b'{"a": ', ":3: not valid JSON (Input data was truncated): correct"),
        ("rows.jsonl", LINES + b'{"a": "\xe9"}\n', ":3: not valid JSON ("),
        ("rows.json", b"[{", ": not valid JSON ("),
        ("rows.json", b"{}", ": expected a list of objects, got dict"),
        ("rows.jsonl.gz", b"", ": the gzip file is incomplete or damaged ("),
        ("rows.jsonl.gz", b"plain text", ": the gzip file is incomplete or damaged ("),
        (
            "rows.jsonl.gz",
            gzip.compress(LINES * 99, mtime=0)[:-20],
            ": the gzip file is incomplete or damaged (",
        ),
        ("rows.parquet", b"plain text", ": not a readable Parquet file after row 0 ("),
    ],
)
def test_a_file_that_is_broken_is_an_error_with_the_place(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    if name == "rows.parquet":
        pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    path = tmp_path / name
    path.write_bytes(content)
    if name.endswith(".gz") and not content:
        message = " is empty: "

    with pytest.raises(DataError) as raised:
        list(file_rows(path))
    assert str(raised.value).startswith(f"{path}{message}")


def test_rows_before_a_broken_line_are_read_first(tmp_path: Path) -> None:
    rows = file_rows(write(tmp_path / "rows.jsonl", LINES + b"broken\n"))

    assert [next(rows)[1], next(rows)[1]] == ROWS
    with pytest.raises(DataError, match=r"rows.jsonl:3: not valid JSON"):
        next(rows)


def test_parquet_without_pyarrow_names_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # what an import of a missing package meets
    with pytest.raises(MissingDependencyError) as raised:
        list(file_rows(write(tmp_path / "rows.parquet", b"")))
    assert str(raised.value) == (
        f"{tmp_path}/rows.parquet: Parquet needs pyarrow, which is not installed: "
        f"{install_command('pyarrow')}"
    )
