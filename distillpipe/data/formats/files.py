"""Read the rows of JSONL, JSON, CSV and Parquet files, each with its place. All but Parquet may be gzipped.

    traces.jsonl:7          {"problem": "...", "raw": "<think>..."}
    problems.json: item 3   {"problem": "...", "answer": "12"}
    train.parquet: row 12   {"question": "...", "deepseek_attempt": "..."}
    questions.txt:7         one question a line
    gpqa_diamond.csv: row 3 {"Question": "...", "Correct Answer": "..."}: keys from the first row, values are text

Only a .json file is read into memory as a whole.
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
PARQUET_ROWS = 64  # rows decoded at a time
MAX_CELL_CHARACTERS = 1 << 24
_JSON_MARKS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)


class Unreadable(NamedTuple):
    """A row that cannot be read, in a file whose other rows can."""

    error: str
    "message with the place and what to do"
    content: str
    "the text of the row"


def rows_and_unreadable(path: Path, holds: str = "row") -> Iterator[Placed]:
    """Yield place and value of each row, or an `Unreadable` for a single row that cannot be read.

    `holds` is the noun for a row in error messages: "row" or "problem". Raises DataError with the place where the
    rest of the file cannot be read.
    """
    kind = Path(path.name.removesuffix(".gz")).suffix
    rows = _READERS.get(kind, _json_lines)(path)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path} is empty: expected one {holds} per line")
    yield first
    yield from rows


def readable(row: Any) -> Any:
    """Return the row. Raises DataError if it is `Unreadable`."""
    if isinstance(row, Unreadable):
        raise DataError(row.error)
    return row


def load_module(name: str, package: str, needed_for: str) -> Any:
    """Import an optional library. Raises MissingDependencyError with the command that installs it."""
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
                f"{path}: not valid JSON ({what_is_wrong(error)}): correct the file, or give JSON lines"
            ) from error
        for number, item in enumerate(items, start=1):
            yield f"{path}: item {number}", _decode(item, f"{path}: item {number}")
        return
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected a list of objects, got {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        yield f"{path}: item {number}", _checked(row, f"{path}: item {number}")


def _items(content: bytes) -> list[bytes] | None:
    """Split the text of a JSON list into its items, which may be invalid. None if the brackets do not match."""
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
            names = Counter(rows.fieldnames)
            repeated = [name for name, count in names.items() if name and count > 1]
            if repeated:
                raise DataError(f"{path}: several columns are named {repeated[0]!r}: rename them")
            for number, row in enumerate(rows, start=1):
                yield f"{path}: row {number}", row
        except csv.Error as error:
            raise DataError(
                f"{path}: not readable as CSV after row {number} ({error}): correct the file, or give JSON lines"
            ) from error


def _text(lines: Iterator[bytes], path: Path) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{number}: not UTF-8 ({error.reason}): save the file as UTF-8"
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
    """Yield the rows of an Arrow batch. `before` is the number of rows before the batch."""
    # Raised for text that is not UTF-8, and for dates that Python does not have.
    errors = (arrow.ArrowException, ValueError, OverflowError)
    try:
        rows = batch.to_pylist()
    except errors:  # one bad row fails the whole batch: convert the rows one by one
        rows = [None] * batch.num_rows
        for index in range(batch.num_rows):
            row = batch.slice(index, 1)
            try:
                (rows[index],) = row.to_pylist()
            except errors as error:
                where = f"{place} {before + index + 1}"
                message = (
                    f"{where}: cannot be read ({first_line(error)}): correct or remove the row"
                )
                rows[index] = Unreadable(message, str(row))
    for number, row in enumerate(rows, start=before + 1):
        yield f"{place} {number}", row


def text_lines(path: Path) -> Iterator[Placed]:
    """One question a line; empty lines are left out, and a line that is not UTF-8 is `Unreadable`."""
    with _opened(path) as file:
        for number, line in enumerate(_lines(file, path), start=1):
            where = f"{path}:{number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                message = f"{where}: not UTF-8 ({error.reason}): save the file as UTF-8"
                yield where, Unreadable(message, line.decode("utf-8", "backslashreplace"))
                continue
            if text:
                yield where, {"problem": text}


def _text_or_json(path: Path) -> Iterator[Placed]:
    """A .txt file: JSON lines if its first line is JSON, else one question a line."""
    with _opened(path) as file:
        first = next((line.strip() for line in _lines(file, path) if line.strip()), b"")
    is_json = first.removeprefix(BYTE_ORDER_MARK)[:1] in (b"{", b"[")
    return _json_lines(path) if is_json else text_lines(path)


_READERS = {".txt": _text_or_json, ".json": _json_list, ".parquet": _parquet, ".csv": _csv}


def _opened(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    try:
        yield from file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: the gzip file is incomplete or damaged ({first_line(error)}): copy or download it again"
        ) from error


def _decode(content: bytes, where: str) -> Any:
    """Decode a JSON text. Returns an `Unreadable` if that fails."""
    try:
        return _checked(msgspec.json.decode(content), where, content)
    except NOT_DECODED as error:
        return _unreadable(error, where, content)


def _checked(row: Any, where: str, content: bytes = b"") -> Any:
    """Return a decoded value, or an `Unreadable` if it is nested too deeply."""
    try:
        check_depth(row)
    except RecursionError as error:
        return _unreadable(error, where, content or msgspec.json.encode(row))
    return row


def _unreadable(error: Exception, where: str, content: bytes) -> Unreadable:
    message = f"{where}: not valid JSON ({what_is_wrong(error)}): correct or remove the line"
    return Unreadable(message, content.strip().decode("utf-8", "backslashreplace"))
