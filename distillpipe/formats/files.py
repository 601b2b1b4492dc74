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
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from distillpipe.errors import DataError, MissingDependencyError, first_line

Placed = tuple[str, Any]
PARQUET_ROWS = 64  # decoded at a time
MAX_CELL_CHARACTERS = 1 << 24
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def file_rows(path: Path, holds: str = "row") -> Iterator[Placed]:
    """Place and value of each row; a DataError names the place where the file cannot be read.

    `holds` is what an error says that a line should be.
    """
    kind = Path(path.name.removesuffix(".gz")).suffix
    rows = _READERS.get(kind, _json_lines)(path)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path} is empty: it should hold one {holds} a line")
    yield first
    yield from rows


def load_module(name: str, package: str, needed_for: str) -> Any:
    """An optional library; a MissingDependencyError says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"{needed_for} needs {package}, which is not installed: pip install {package}"
        ) from error


def _json_lines(path: Path) -> Iterator[Placed]:
    with _opened(path) as file:
        for number, line in enumerate(_lines(file, path), start=1):
            content = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if content.strip():
                yield f"{path}:{number}", _decode(content, f"{path}:{number}")


def _json_list(path: Path) -> Iterator[Placed]:
    with _opened(path) as file:
        rows = _decode(b"".join(_lines(file, path)).removeprefix(BYTE_ORDER_MARK), str(path))
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected a list of objects, got {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        yield f"{path}: item {number}", row


def _csv(path: Path) -> Iterator[Placed]:
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    with _opened(path) as file:
        rows = csv.DictReader(_text(_lines(file, path), path), restkey="more_cells", strict=True)
        number = 0
        try:
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
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
    except (arrow.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path}: not a readable Parquet file after row {number} ({first_line(error)}): "
            "copy or download it again"
        ) from error


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
    try:
        return msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: not valid JSON ({error}): mend or remove the line") from error
