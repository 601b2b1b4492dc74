"""JSONL files: append so that a row survives, cut what was torn, name file and line in every error.

A line that was appended survives `kill -9`, since it goes to the system at once, and a power cut after the
next fsync, which comes at the latest with the row after `SYNC_ROWS` (more where rows are made again at once) or
`SYNC_SECONDS`. A torn last line is cut off when the files are opened again, and its row is made anew.
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
    """One of the numbered files, as far as it is written."""

    name: str
    rows: int
    bytes: int
    sha256: Any
    "the running hash of its bytes"


class Stream:
    """Numbered JSONL files with one prefix, open for appending: `part-00000.jsonl`.

    What stands in them already is read once: `recovered` is called with each line and its place.
    """

    def __init__(
        self,
        folder: Path,
        prefix: str,
        recovered: Callable[[bytes, str], None],
        sync_rows: int = SYNC_ROWS,
        before_sync: Callable[[], None] | None = None,
    ) -> None:
        """`before_sync` makes durable what the rows need beside them."""
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
        """Write a row."""
        content = line + b"\n"
        with shielded():
            part, descriptor = self._open()
            left = memoryview(content)
            try:
                while left:
                    left = left[os.write(descriptor, left) :]
            except OSError as error:
                error.filename = str(self._folder / part.name)  # it knows the descriptor only
                raise
            self._count(part, content)
            self._unsynced += 1
            if self._unsynced >= self._sync_rows or time.monotonic() - self._synced >= SYNC_SECONDS:
                self.sync()

    def sync(self) -> None:
        """Make what was written survive a power cut."""
        if self._descriptor is not None and self._unsynced:
            if self._before_sync is not None:
                self._before_sync()
            sync_file(self._descriptor, self._folder / self.parts[-1].name, content_only=True)
            self._unsynced = 0
            self._synced = time.monotonic()

    def close(self) -> None:
        self.sync()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> tuple[Part, int]:
        """The part to append to and its descriptor; the next one is begun when it is full."""
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
    """Whole lines of a file, by the places of their bytes."""

    path: Path
    start: int
    end: int


class Spool(Generic[R]):
    """Records by number in a file without a name: memory holds 8 bytes of each, never the text."""

    def __init__(self, folder: Path, record: type[R]) -> None:
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as the spool
        self._decoder = msgspec.json.Decoder(record)
        self._ends = array("Q", [0])

    def append(self, row: R) -> None:
        content = encoder.encode(row)
        with self._named():
            self._file.write(content)
        self._ends.append(self._ends[-1] + len(content))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def flush(self) -> None:
        """Leave nothing in memory that a fork would write too."""
        with self._named():
            self._file.flush()

    def __getitem__(self, number: int) -> R:
        """The record with this 0-based number; IndexError where there is none."""
        start, end = self._ends[number], self._ends[number + 1]
        self.flush()
        return self._decoder.decode(os.pread(self._file.fileno(), end - start, start))

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the folder in an error of the disk: the file has no name."""
        try:
            yield
        except OSError as error:
            error.filename = str(self._folder)
            raise


def decoded(path: Path, record: type[R]) -> Iterator[R]:
    """The rows of a file; a DataError names file and line."""
    decoder = msgspec.json.Decoder(record)
    for number, line in lines(path):
        yield decode(line, decoder, f"{path}:{number}")


def slices(path: Path, num_bytes: int) -> Iterator[Slice]:
    """A file in slices of about `num_bytes`, of which little more than the last line of each is read."""
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
    """The rows of a slice; a DataError names file and line."""
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
    """A row; a DataError names `where` it stands."""
    try:
        return decoder.decode(line)
    except NOT_DECODED as error:
        raise DataError(
            f"{where}: not a row of kind {decoder.type.__name__} ({what_is_wrong(error)}): mend or remove the line, "
            f"{_remedy(line)}"
        ) from error


def lines(path: Path, *, whole_only: bool = False) -> Iterator[tuple[int, bytes]]:
    """Line number and content of each line; with `whole_only` a torn last line is passed over."""
    with path.open("rb", buffering=READ_BYTES) as file:
        for number, line in enumerate(file, start=1):
            if whole_only and not line.endswith(b"\n"):
                return
            if not line.isspace():
                yield number, _content(line, number)


def _content(line: bytes, number: int) -> bytes:
    """A line without its end; the first one of a file without the mark that editors may put before it."""
    return (line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line).rstrip(b"\n")


def rewrite(
    folder: Path, prefix: str, needle: bytes, change: Callable[[bytes, str], bytes | None]
) -> None:
    """Write the files of a draft anew that hold lines with `needle`: as `change` makes them, null leaves one out.

    Each file is replaced in one step: whatever ends the process, a line is there, as it was or changed.
    """
    for unfinished in folder.glob(f".{prefix}-*.new"):
        unfinished.unlink()
    for path in sorted(folder.glob(f"{prefix}-*.jsonl")):
        cut_torn_line(path)
        if not any(needle in line for _, line in lines(path)):
            continue
        writing = path.with_name(f".{path.name}.new")
        with writing.open("wb") as file:
            for number, line in lines(path):
                changed = change(line, f"{path}:{number}") if needle in line else line
                if changed is not None:
                    file.write(changed + b"\n")
            file.flush()
            sync_file(file.fileno(), writing)
        writing.replace(path)
        sync_folder(folder)


def cut_torn_line(path: Path) -> None:
    """Cut off what stands after the last line feed."""
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


class _Schema(msgspec.Struct):
    schema: str


def _remedy(line: bytes) -> str:
    """What to do with a file whose rows are not ours, or are of a schema that is not known yet."""
    with suppress(*NOT_DECODED):
        schema = msgspec.json.decode(line, type=_Schema).schema
        if not schema.endswith("/1"):
            return f"or install the distillpipe that wrote {schema!r}"
    return "or bring the file in with `distill import`"
