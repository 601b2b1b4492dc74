"""The rows of a file, each with its place: JSON lines, a JSON list, CSV, all gzipped, Parquet.

    traces.jsonl:7          {"problem": "...", "raw": "<think>..."}
    problems.json: item 3   {"problem": "...", "answer": "12"}
    train.parquet: row 12   {"question": "...", "deepseek_attempt": "..."}
    gpqa_diamond.csv: row 3 {"Question": "...", "Correct Answer": "..."}, all text, named by the first row

Text is never all in memory, but for a .json file.
"""

import csv
import gzip
import importlib
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec

from distillpipe.base.decoding import NOT_DECODED, check_depth, what_is_wrong
from distillpipe.base.errors import DataError, MissingDependencyError, first_line
from distillpipe.base.requirements import install_command
from distillpipe.data.store.jsonl import BYTE_ORDER_MARK

Placed = tuple[str, Any]
PARQUET_ROWS = 64  # decoded at a time
MAX_CELL_CHARACTERS = 1 << 24
_JSON_MARKS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)


class Unreadable(NamedTuple):
    """A row that a file holds in a form that cannot be read, where the rows around it can."""

    error: str
    "with its place, and what to do"
    content: str
    "as it stands there"


def rows_and_unreadable(path: Path, holds: str = "row") -> Iterator[Placed]:
    """Place and value of each row; a single row that cannot be read is an `Unreadable`.

    A DataError names the place where the rest of the file cannot be read; `holds` is what an error says that a
    line should be.
    """
    kind = Path(path.name.removesuffix(".gz")).suffix
    rows = _READERS.get(kind, _json_lines)(path)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path} is empty: it should hold one {holds} a line")
    yield first
    yield from rows


def readable(row: Any) -> Any:
    """The row; a DataError for one that could not be read."""
    if isinstance(row, Unreadable):
        raise DataError(row.error)
    return row


def load_module(name: str, package: str, needed_for: str) -> Any:
    """An optional library; a MissingDependencyError says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"{needed_for} needs {package}, which is not installed: {install_command(package)}"
        ) from error


def _json_lines(path: Path) -> Iterator[Placed]:
    with _opened(path) as file:
        for number, line in enumerate(_lines(file, path), start=1):
            content = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if content.strip():
                yield f"{path}:{number}", _decode(content, f"{path}:{number}")


def _json_list(path: Path) -> Iterator[Placed]:
    with _opened(path) as file:
        content = b"".join(_lines(file, path)).removeprefix(BYTE_ORDER_MARK)
    try:
        rows = msgspec.json.decode(content)
    except NOT_DECODED as error:
        items = _items(content)
        if items is None:
            raise DataError(
                f"{path}: not valid JSON ({what_is_wrong(error)}): mend the file, or give JSON lines"
            ) from error
        for number, item in enumerate(items, start=1):
            yield f"{path}: item {number}", _decode(item, f"{path}: item {number}")
        return
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected a list of objects, got {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        yield f"{path}: item {number}", _checked(row, f"{path}: item {number}")


def _items(content: bytes) -> list[bytes] | None:
    """The texts of a list's items where its brackets match, whatever stands in the items; None for another text."""
    start, depth, items = content.find(b"[") + 1, 0, []
    if content[: start - 1].strip() or not start:
        return None
    for mark in _JSON_MARKS.finditer(content, start - 1):
        depth += mark[0] in (b"[", b"{")
        depth -= mark[0] in (b"]", b"}")
        if (mark[0] == b"," and depth == 1) or not depth:
            items.append(content[start : mark.start()])
            start = mark.end()
        if not depth:
            return None if content[start:].strip() else items
    return None


def _csv(path: Path) -> Iterator[Placed]:
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    with _opened(path) as file:
        rows = csv.DictReader(_text(_lines(file, path), path), restkey="more_cells", strict=True)
        number = 0
        try:
            twice = [name for name, count in Counter(rows.fieldnames).items() if name and count > 1]
            if twice:
                raise DataError(f"{path}: several columns are named {twice[0]!r}: rename them")
            for number, row in enumerate(rows, start=1):
                yield f"{path}: row {number}", row
        except csv.Error as error:
            raise DataError(
                f"{path}: not readable as CSV after row {number} ({error}): mend it, or give JSON lines"
            ) from error


def _text(lines: Iterator[bytes], path: Path) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{number}: not UTF-8 ({error.reason}): save it as such"
            ) from error


def _parquet(path: Path) -> Iterator[Placed]:
    arrow = load_module("pyarrow", "pyarrow", f"{path}: Parquet")
    parquet = load_module("pyarrow.parquet", "pyarrow", f"{path}: Parquet")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                for row in arrow_rows(batch, arrow, f"{path}: row", number):
                    number += 1
                    yield row
    except (arrow.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: not a readable Parquet file after row {number} ({first_line(error)}): "
            "copy or download it again"
        ) from error


def arrow_rows(batch: Any, arrow: Any, place: str, before: int) -> Iterator[Placed]:
    """The rows of a batch of the library `arrow`, which has `before` rows before it."""
    wrong = (arrow.ArrowException, ValueError, OverflowError)
    "text that is not UTF-8, a date that Python does not have"
    try:
        rows = batch.to_pylist()
    except wrong:
        rows = [None] * batch.num_rows
        for at in range(batch.num_rows):
            one = batch.slice(at, 1)
            try:
                (rows[at],) = one.to_pylist()
            except wrong as error:
                where = f"{place} {before + at + 1}"
                said = f"{where}: cannot be read ({first_line(error)}): mend or remove the row"
                rows[at] = Unreadable(said, str(one))
    for number, row in enumerate(rows, start=before + 1):
        yield f"{place} {number}", row


_READERS = {".json": _json_list, ".parquet": _parquet, ".csv": _csv}


def _opened(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    try:
        yield from file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: not a whole gzip file ({first_line(error)}): copy or download it again"
        ) from error


def _decode(content: bytes, where: str) -> Any:
    """The value of a JSON text, or an `Unreadable`."""
    try:
        return _checked(msgspec.json.decode(content), where, content)
    except NOT_DECODED as error:
        return _unreadable(error, where, content)


def _checked(row: Any, where: str, content: bytes = b"") -> Any:
    """A decoded value; an `Unreadable` for one that is nested too deep."""
    try:
        check_depth(row)
    except RecursionError as error:
        return _unreadable(error, where, content or msgspec.json.encode(row))
    return row


def _unreadable(error: Exception, where: str, content: bytes) -> Unreadable:
    said = f"{where}: not valid JSON ({what_is_wrong(error)}): mend or remove the line"
    return Unreadable(said, content.strip().decode("utf-8", "backslashreplace"))
