"""The rows of a version: append them durably, take over those of other versions, read them back.

A row that was appended survives `kill -9`, since its line goes to the system at once, and a power cut
after the next fsync, which comes at the latest with the row after `SYNC_ROWS` or `SYNC_SECONDS`. A torn
last line is cut off when a draft is taken up again, and its row is made anew. Text is never held in
memory, an index of ids is.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from distillpipe import versions
from distillpipe.cards import dataset_card
from distillpipe.errors import DataError, UsageError
from distillpipe.hashing import content_hash, file_sha256
from distillpipe.interrupts import shielded
from distillpipe.manifest import Dropped, FileEntry, Manifest
from distillpipe.records import Problem, RejectedTrace, Trace
from distillpipe.versions import Draft

SYNC_ROWS = 64
SYNC_SECONDS = 1.0
SAVE_SECONDS = 5.0  # between two writes of the counts into the draft's manifest
PART_BYTES = 256 * 1024 * 1024

R = TypeVar("R", bound=msgspec.Struct)
_encoder = msgspec.json.Encoder()


class _Index(msgspec.Struct):
    """What the writer keeps of a row that it finds on disk."""

    id: str
    num_tokens: dict[str, int]
    reason: str | None = None


class Writer:
    """Appends rows to a draft. `done` holds the ids of all rows, kept and rejected, in it."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.counts = draft.manifest.counts
        self.done: set[str] = set()
        self._row_hashes: list[str] = []
        self._saved = time.monotonic()
        self.counts.rows_kept = self.counts.rows_rejected = self.counts.tokens_kept = 0
        self.counts.dropped = {}
        self._parts = _Stream(draft.path, "part", self._recovered)
        self._rejected = _Stream(draft.path, "rejected", self._recovered)

    def append(self, trace: Trace) -> None:
        """Keep a row."""
        self._count(trace.id, trace.num_tokens.total - trace.num_tokens.prompt, None)
        self._row_hashes.append(self._parts.append(trace))
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self.draft.save()
            self._saved = time.monotonic()

    def reject(self, trace: Trace, reason: str, measured: object) -> None:
        """Keep a row among the rejected, with the name of what is wrong and the value measured."""
        row = RejectedTrace(
            **_fields(trace), reason=reason, measured=None if measured is None else str(measured)
        )
        self._count(trace.id, trace.num_tokens.total - trace.num_tokens.prompt, reason)
        self._rejected.append(row)

    def sync(self) -> None:
        """Make every row so far durable."""
        self._parts.sync()
        self._rejected.sync()

    def finish(self, problems: Iterable[Problem]) -> Manifest:
        """Write problems.jsonl, then manifest and card, and make the draft a version."""
        path = self.draft.path
        with shielded():
            self._parts.close()
            self._rejected.close()
        num_problems = 0
        with (path / "problems.jsonl").open("wb") as file:
            for problem in problems:
                file.write(_encoder.encode(problem) + b"\n")
                num_problems += 1
            file.flush()
            os.fsync(file.fileno())
        rows = {**self._parts.rows, **self._rejected.rows, "problems.jsonl": num_problems}
        manifest = self.draft.manifest
        manifest.files = [
            FileEntry(file.name, rows.get(file.name), file.stat().st_size, file_sha256(file))
            for file in versions.content_files(path)
        ]
        manifest.id = content_hash(sorted(self._row_hashes))
        return self.draft.finish(dataset_card(manifest))

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        with shielded():
            self._parts.close()
            self._rejected.close()

    def _recovered(self, line: bytes, where: str) -> None:
        try:
            row = msgspec.json.decode(line, type=_Index)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DataError(
                f"{where}: not a row of this draft ({error}): delete the folder to start it anew"
            ) from error
        self._count(row.id, row.num_tokens["total"] - row.num_tokens["prompt"], row.reason)
        if row.reason is None:
            self._row_hashes.append(_row_hash(line))

    def _count(self, row_id: str, tokens: int, reason: str | None) -> None:
        self.done.add(row_id)
        if reason is None:
            self.counts.rows_kept += 1
            self.counts.tokens_kept += tokens
            return
        self.counts.rows_rejected += 1
        dropped = self.counts.dropped.setdefault(reason, Dropped())
        dropped.rows += 1
        dropped.tokens += tokens


class _Stream:
    """Numbered JSONL files with one prefix, open for appending: `part-00000.jsonl`."""

    def __init__(self, folder: Path, prefix: str, recovered: Callable[[bytes, str], None]) -> None:
        self._folder = folder
        self._prefix = prefix
        self.rows: dict[str, int] = {}
        self._descriptor: int | None = None
        self._bytes = 0
        self._unsynced = 0
        self._synced = time.monotonic()
        for path in sorted(folder.glob(f"{prefix}-*.jsonl")):
            _cut_torn_line(path)
            self.rows[path.name] = 0
            for number, line in _lines(path):
                recovered(line, f"{path}:{number}")
                self.rows[path.name] += 1
            self._bytes = path.stat().st_size

    def append(self, row: Trace) -> str:
        """Write a row; its hash."""
        line = _encoder.encode(row)
        with shielded():
            name, descriptor = self._open()
            content = memoryview(line + b"\n")
            self._bytes += len(content)
            while content:
                content = content[os.write(descriptor, content) :]
            self.rows[name] += 1
            self._unsynced += 1
            if self._unsynced >= SYNC_ROWS or time.monotonic() - self._synced >= SYNC_SECONDS:
                self.sync()
        return _row_hash(line)

    def sync(self) -> None:
        """Make what was written survive a power cut."""
        if self._descriptor is not None and self._unsynced:
            os.fsync(self._descriptor)
            self._unsynced = 0
            self._synced = time.monotonic()

    def close(self) -> None:
        self.sync()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> tuple[str, int]:
        """Name and descriptor of the file to append to; the next one is begun when it is full."""
        if self._bytes >= PART_BYTES:
            self.close()
        number = max(len(self.rows) - 1, 0) + (self._bytes >= PART_BYTES)
        name = f"{self._prefix}-{number:05d}.jsonl"
        if self._descriptor is None:
            if name not in self.rows:
                self.rows[name] = self._bytes = 0
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._descriptor = os.open(self._folder / name, flags, 0o644)
            versions.sync_folder(self._folder)
        return name, self._descriptor


def read_traces(reference: str) -> Iterator[Trace]:
    """The kept rows of a dataset (`PATH`, `PATH@v1`) or the rows of a .jsonl file.

    Raises DataError with file and line for a row that is not a trace.
    """
    path = Path(reference)
    if path.is_file():
        yield from _decoded(path, Trace)
        return
    yield from read_rows(versions.resolve(reference), "part", Trace)


def read_training_traces(references: Iterable[str]) -> Iterator[Trace]:
    """The rows of several datasets one after the other; a row of a benchmark is a UsageError."""
    for reference in references:
        for trace in read_traces(reference):
            if trace.benchmark is not None:
                raise UsageError(
                    f"{reference}: row {trace.id} is of the benchmark {trace.benchmark}, "
                    "which is for evaluation, not for training"
                )
            yield trace


def count_rows(references: Iterable[str]) -> int:
    """How many rows several datasets have, counted by lines, without decoding them."""
    paths = [
        path
        for reference in references
        for path in (
            [Path(reference)]
            if Path(reference).is_file()
            else versions.resolve(reference).glob("part-*.jsonl")
        )
    ]
    return sum(1 for path in paths for _ in _lines(path))


def conflict(row_id: str) -> DataError:
    """The error for one id with two contents: which of the two was meant cannot be known."""
    return DataError(
        f"row {row_id} stands twice in the input with different content: "
        "an edited copy needs a new row_key and id"
    )


def read_problems(reference: str) -> Iterator[Problem]:
    """The problems of a dataset; none for a .jsonl file of traces, which has no list of its own."""
    if not Path(reference).is_file():
        path = versions.resolve(reference) / "problems.jsonl"
        if not path.is_file():
            raise UsageError(f"{reference} holds no problems: it is no dataset of traces")
        yield from _decoded(path, Problem)


def read_rows(folder: Path, prefix: str, record: type[R]) -> Iterator[R]:
    """Rows of the files of one version that begin with `prefix`, in their order."""
    for path in sorted(folder.glob(f"{prefix}-*.jsonl")):
        yield from _decoded(path, record)


def sampled_before(out: Path, wanted: set[str]) -> Iterator[Trace]:
    """Rows in any finished or partial version under `out` whose row keys are `wanted`, each once."""
    left = set(wanted)
    keys, traces = msgspec.json.Decoder(Sampled), msgspec.json.Decoder(Trace)
    for folder in versions.finished(out) + versions.partials(out):
        for path in sorted(folder.glob("part-*.jsonl")):
            for number, line in _lines(path, whole_only=True):
                if not left:
                    return
                where = f"{path}:{number}"
                if _decode(line, keys, where).row_key in left:
                    trace = _decode(line, traces, where)
                    left.remove(trace.row_key)
                    yield trace


class Sampled(msgspec.Struct):
    """What of a row tells whether it is wanted; also the name of it in an error."""

    row_key: str


def _decoded(path: Path, record: type[R]) -> Iterator[R]:
    decoder = msgspec.json.Decoder(record)
    for number, line in _lines(path):
        yield _decode(line, decoder, f"{path}:{number}")


def _decode(line: bytes, decoder: msgspec.json.Decoder[R], where: str) -> R:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(
            f"{where}: not a row of kind {decoder.type.__name__} ({error}): "
            "mend or remove the line, or make the dataset with `distill generate`"
        ) from error


def _lines(path: Path, *, whole_only: bool = False) -> Iterator[tuple[int, bytes]]:
    """Line number and content of each line; with `whole_only` a torn last line is passed over."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if whole_only and not line.endswith(b"\n"):
                return
            if line.strip():
                yield number, line.rstrip(b"\n")


def _cut_torn_line(path: Path) -> None:
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
            os.fsync(file.fileno())


def _row_hash(line: bytes) -> str:
    return content_hash(line)


def _fields(trace: Trace) -> dict[str, Any]:
    return {name: getattr(trace, name) for name in Trace.__struct_fields__}
