"""Read and append JSONL files: durable appends, repair of torn lines, errors with file and line.

An appended line survives `kill -9`, because each line is one `write` call. It survives a power loss after the
next fsync. An fsync comes at the latest after `SYNC_ROWS` rows or `SYNC_SECONDS`; stages whose rows are cheap to
make again use more rows. A torn last line is cut off when the files are opened again, and its row is made again.
"""

import hashlib
import io
import os
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from distillpipe.base.decoding import NOT_DECODED, what_is_wrong
from distillpipe.base.errors import DataError
from distillpipe.base.filesystem import sync_file, sync_folder
from distillpipe.base.interrupts import shielded

SYNC_ROWS = 64
SYNC_SECONDS = 1.0
PART_BYTES = 256 * 1024 * 1024
READ_BYTES = 1024 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

R = TypeVar("R", bound=msgspec.Struct)
encoder = msgspec.json.Encoder()


class Part(msgspec.Struct):
    """One numbered file: what has been written to it so far."""

    name: str
    rows: int
    bytes: int
    sha256: Any
    "running hashlib object over all bytes of the file"


class Stream:
    """Append to numbered JSONL files with one prefix: `part-00000.jsonl`, `part-00001.jsonl`, ...

    Opening reads the existing files once and calls `recovered(line, "FILE:LINE")` for each line.
    """

    def __init__(
        self,
        folder: Path,
        prefix: str,
        recovered: Callable[[bytes, str], None],
        sync_rows: int = SYNC_ROWS,
        before_sync: Callable[[], None] | None = None,
    ) -> None:
        """`before_sync` is called before each fsync: it syncs files that the rows refer to."""
        self._folder = folder
        self._before_sync = before_sync
        self._sync_rows = sync_rows
        self._prefix = prefix
        self.parts: list[Part] = []
        self._descriptor: int | None = None
        self._unsynced = 0
        self._synced = time.monotonic()
        for path in sorted(folder.glob(f"{prefix}-*.jsonl")):
            cut_torn_line(path)
            part = Part(path.name, 0, 0, hashlib.sha256())
            for number, line in lines(path):
                recovered(line, f"{path}:{number}")
                self._count(part, line + b"\n")
            self.parts.append(part)

    def append(self, line: bytes) -> None:
        """Write one row, without its line feed."""
        content = line + b"\n"
        with shielded():
            part, descriptor = self._open()
            unwritten = memoryview(content)
            try:
                while unwritten:
                    unwritten = unwritten[os.write(descriptor, unwritten) :]
            except OSError as error:
                error.filename = str(self._folder / part.name)  # os.write knows only the descriptor
                raise
            self._count(part, content)
            self._unsynced += 1
            if self._unsynced >= self._sync_rows or time.monotonic() - self._synced >= SYNC_SECONDS:
                self.sync()

    def sync(self) -> None:
        """Make all rows written so far survive a power loss."""
        if self._descriptor is not None and self._unsynced:
            if self._before_sync is not None:
                self._before_sync()
            sync_file(self._descriptor, self._folder / self.parts[-1].name, content_only=True)
            self._unsynced = 0
            self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close the file. The next `append` opens it again."""
        self.sync()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> tuple[Part, int]:
        """The part to append to and its descriptor. A new part starts when the last one is full."""
        if not self.parts or self.parts[-1].bytes >= PART_BYTES:
            self.close()
            name = f"{self._prefix}-{len(self.parts):05d}.jsonl"
            self.parts.append(Part(name, 0, 0, hashlib.sha256()))
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._descriptor = os.open(self._folder / self.parts[-1].name, flags, 0o644)
            sync_folder(self._folder)
        return self.parts[-1], self._descriptor

    @staticmethod
    def _count(part: Part, content: bytes) -> None:
        part.rows += 1
        part.bytes += len(content)
        part.sha256.update(content)


class Slice(NamedTuple):
    """A range of whole lines of a file, as byte offsets: `start` to before `end`."""

    path: Path
    start: int
    end: int


class Spool(Generic[R]):
    """A list of records in an unnamed temporary file. Memory holds 8 bytes per record, never the text."""

    def __init__(self, folder: Path, record: type[R]) -> None:
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - stays open as long as the spool exists
        self._decoder = msgspec.json.Decoder(record)
        self._ends = array("Q", [0])

    def append(self, row: R) -> None:
        content = encoder.encode(row)
        with self._errors_name_folder():
            self._file.write(content)
        self._ends.append(self._ends[-1] + len(content))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def flush(self) -> None:
        """Write buffered records to the file, so that a forked process does not write them again."""
        with self._errors_name_folder():
            self._file.flush()

    def __getitem__(self, number: int) -> R:
        """The record with this 0-based number. Raises IndexError if there is none."""
        start, end = self._ends[number], self._ends[number + 1]
        self.flush()
        return self._decoder.decode(os.pread(self._file.fileno(), end - start, start))

    @contextmanager
    def _errors_name_folder(self) -> Iterator[None]:
        """Put the folder into disk errors, because the file itself has no name."""
        try:
            yield
        except OSError as error:
            error.filename = str(self._folder)
            raise


def decoded(path: Path, record: type[R]) -> Iterator[R]:
    """Decode the rows of a file. A row that does not decode raises a DataError with file and line."""
    decoder = msgspec.json.Decoder(record)
    for number, line in lines(path):
        yield decode(line, decoder, f"{path}:{number}")


def slices(path: Path, num_bytes: int) -> Iterator[Slice]:
    """Split a file into slices of about `num_bytes`. Only the last line of each slice is read."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = 0
        while start < size:
            file.seek(start + num_bytes)
            file.readline()
            end = min(file.tell(), size)
            yield Slice(path, start, end)
            start = end


def decoded_slice(part: Slice, record: type[R]) -> Iterator[R]:
    """Decode the rows of a slice. A row that does not decode raises a DataError with file and line."""
    decoder = msgspec.json.Decoder(record)
    with part.path.open("rb") as file:
        file.seek(part.start)
        content = io.BytesIO(file.read(part.end - part.start))
    for number, line in enumerate(content, start=1):
        if line.isspace():
            continue
        try:
            row = decoder.decode(line)
        except NOT_DECODED:
            number += _num_lines_before(part)
            row = decode(_content(line, number), decoder, f"{part.path}:{number}")
        yield row


def _num_lines_before(part: Slice) -> int:
    with part.path.open("rb") as file:
        blocks = iter(lambda: file.read(min(READ_BYTES, part.start - file.tell())), b"")
        return sum(block.count(b"\n") for block in blocks)


def decode(line: bytes, decoder: msgspec.json.Decoder[R], where: str) -> R:
    """Decode one row. A row that does not decode raises a DataError that starts with `where` (file:line)."""
    try:
        return decoder.decode(line)
    except NOT_DECODED as error:
        raise DataError(
            f"{where}: not a row of kind {decoder.type.__name__} ({what_is_wrong(error)}): correct or remove the line, "
            f"{_remedy(line)}"
        ) from error


def lines(path: Path, *, whole_only: bool = False) -> Iterator[tuple[int, bytes]]:
    """1-based number and content of each non-blank line.

    `whole_only` skips a last line without a line feed: another process may be writing it.
    """
    with path.open("rb", buffering=READ_BYTES) as file:
        for number, line in enumerate(file, start=1):
            if whole_only and not line.endswith(b"\n"):
                return
            if not line.isspace():
                yield number, _content(line, number)


def _content(line: bytes, number: int) -> bytes:
    """A line without its line feed, and the first line without a byte order mark."""
    return (line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line).rstrip(b"\n")


def rewrite(
    folder: Path, prefix: str, needle: bytes, change: Callable[[bytes, str], bytes | None]
) -> None:
    """Rewrite the files of a draft that have lines with `needle` in them.

    Each such line is replaced by `change(line, "FILE:LINE")`, or removed where that returns None.
    Each file is replaced atomically: after a kill it holds either the old lines or the new ones.
    """
    for unfinished in folder.glob(f".{prefix}-*.new"):
        unfinished.unlink()
    for path in sorted(folder.glob(f"{prefix}-*.jsonl")):
        cut_torn_line(path)
        if not any(needle in line for _, line in lines(path)):
            continue
        temporary = path.with_name(f".{path.name}.new")
        with temporary.open("wb") as file:
            for number, line in lines(path):
                changed = change(line, f"{path}:{number}") if needle in line else line
                if changed is not None:
                    file.write(changed + b"\n")
            file.flush()
            sync_file(file.fileno(), temporary)
        temporary.replace(path)
        sync_folder(folder)


def cut_torn_line(path: Path) -> None:
    """Truncate a file after its last line feed."""
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            start = max(0, end - READ_BYTES)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
            sync_file(file.fileno(), path)


def cut_from_line(path: Path, number: int) -> None:
    """Cut off the line with this 1-based number and all lines after it."""
    with path.open("rb+") as file:
        for _ in range(number - 1):
            file.readline()
        file.truncate(file.tell())


class _Schema(msgspec.Struct):
    schema: str


def _remedy(line: bytes) -> str:
    """What the user can do with a line that does not decode. Depends on the schema that the line names."""
    with suppress(*NOT_DECODED):
        schema = msgspec.json.decode(line, type=_Schema).schema
        if not schema.endswith("/1"):
            return f"or install the version of distillpipe that wrote {schema!r}"
    return "or convert the file with `distill import`"
