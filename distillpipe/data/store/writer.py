"""Writing a version: rows appended, rejected or failed, each durable when it is counted."""

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from distillpipe.base.decoding import NOT_DECODED, what_is_wrong
from distillpipe.base.errors import DataError, Incomplete
from distillpipe.base.filesystem import sync_file
from distillpipe.base.hashing import bytes_hash, content_hash, file_sha256
from distillpipe.base.interrupts import shielded
from distillpipe.base.progress import say
from distillpipe.base.records import Problem, RejectedTrace, SoftLabels, Trace
from distillpipe.base.redaction import holds_key
from distillpipe.base.rowguard import REASON, whose
from distillpipe.data.store import versions
from distillpipe.data.store.cards import dataset_card
from distillpipe.data.store.counts import Index, Tally
from distillpipe.data.store.jsonl import SYNC_ROWS, Stream, decoded, encoder
from distillpipe.data.store.manifest import FileEntry, Manifest
from distillpipe.data.store.versions import ENGINE_ERROR, ERRORS_FILE, Draft

if TYPE_CHECKING:
    from distillpipe.data.store.label_writer import LabelWriter
    from distillpipe.data.store.labels import Labels, LabelSource


PRODUCER_DIGITS = 16  # of the fingerprint, in the names of label files
SAVE_SECONDS = 5.0  # between two writes of the counts into the draft's manifest


class FailedRow(msgspec.Struct, frozen=True):
    """A line of errors.jsonl: a row that could not be made, and why."""

    id: str
    row_key: str
    error: str


class Writer:
    """Appends rows to a draft. `done` holds the ids of all rows, kept and rejected, in it."""

    def __init__(
        self, draft: Draft, sync_rows: int = SYNC_ROWS, soft_labels: "LabelSource | None" = None
    ) -> None:
        """`soft_labels` says whose labels will be appended with rows, and how many a token."""
        self.draft = draft
        self.counts = draft.manifest.counts
        self.done: set[str] = set()
        self.num_failed = 0
        self.failed_row: str | None = None
        "the id of the first row that met an internal error"
        self.failed_said = ""
        "what that error said, where it was met in this run"
        self._num_with_key = 0
        "of the rows found on disk"
        self._has_warned_of_key = False
        self._row_hashes: list[str] = []
        self._tally = Tally(self.counts)
        self._saved = time.monotonic()
        self._labels: LabelWriter | None = None
        self._last_labels: dict[str, SoftLabels] = {}
        "of the rows found on disk, by file"
        if soft_labels is not None:
            from distillpipe.data.store import label_writer

            label_writer.cut_rows_without_labels(draft.path, sync_rows)
        self._parts = Stream(draft.path, "part", self._recovered, sync_rows, self._sync_labels)
        self._rejected = Stream(draft.path, "rejected", self._recovered, sync_rows)
        self.counts.rows_with_key = max(self.counts.rows_with_key, self._num_with_key)
        if soft_labels is not None:
            producer = draft.manifest.fingerprint[:PRODUCER_DIGITS]
            kept = self._last_labels.values()
            self._labels = label_writer.LabelWriter(draft.path, producer, soft_labels, kept)

    def append(self, trace: Trace, labels: "Labels | None" = None) -> None:
        """Keep a row, with its labels if there are any: they are on disk before the row is."""
        with shielded():
            if labels is not None:
                assert self._labels is not None  # or nobody could have asked for any
                found = self._labels.append(labels)
                trace = msgspec.structs.replace(trace, soft_labels=found)
            line = encoder.encode(trace)
            self._parts.append(line)
        self._note_key(line)
        self.done.add(trace.id)
        self._count(trace, None)
        self._row_hashes.append(row_hash(line, trace.soft_labels))
        self._save_now_and_then()

    def reject(
        self, trace: Trace, reason: str, measured: object, other_reasons: list[str] | None = None
    ) -> None:
        """Keep a row among the rejected, with the name of what is wrong and the value measured."""
        row = RejectedTrace(
            **_fields(trace),
            reason=reason,
            measured=None if measured is None else str(measured),
            other_reasons=other_reasons,
        )
        line = encoder.encode(row)
        self._rejected.append(line)
        self._note_key(line)
        self.done.add(trace.id)
        self._count(trace, reason, row.measured)
        self._save_now_and_then()

    def _count(self, trace: Trace, reason: str | None, measured: str | None = None) -> None:
        """Count a row; the first one that met an internal error is named at once."""
        before = self.counts.num_internal_errors
        self._tally.add(trace, reason)
        if not before and self.counts.num_internal_errors:
            self.failed_row = trace.id
            said = measured if reason == REASON else trace.verdict_reason
            self.failed_said = said or ""
            became = "unverifiable" if reason is None else "rejected"
            say(
                f"warning: an error of {whose(self.failed_said)} on row {trace.id}: {said}; the row is {became}, the "
                "run goes on"
            )

    def fail(self, trace: Trace, error: str) -> None:
        """Note a row that could not be made this time in errors.jsonl; it is no row of the draft."""
        self.fail_id(trace.id, error, trace.row_key)

    def fail_id(self, row_id: str, error: str, row_key: str = "") -> None:
        """As `fail`, of a row of which no more is known."""
        row = FailedRow(row_id, row_key, error)
        with shielded(), (self.draft.path / ERRORS_FILE).open("ab") as file:
            file.write(encoder.encode(row) + b"\n")
        self.num_failed += 1

    def failed(self) -> list[FailedRow]:
        """What errors.jsonl lists."""
        path = self.draft.path / ERRORS_FILE
        return list(decoded(path, FailedRow)) if path.is_file() else []

    def forget_failed(self) -> None:
        """Empty errors.jsonl: the rows in it are tried again, or rejected."""
        (self.draft.path / ERRORS_FILE).unlink(missing_ok=True)
        self.num_failed = 0

    def num_rows_within(self, low: int, high: int | None) -> int:
        """Rows kept whose reasoning has `low` to `high` tokens, no matter how many where `high` is null."""
        return self._tally.num_rows_within(low, high)

    def sync(self) -> None:
        """Make every row so far durable."""
        self._parts.sync()
        self._rejected.sync()

    def finish(self, problems: Iterable[Problem]) -> Manifest:
        """Write problems.jsonl, then manifest and card, and make the draft a version."""
        self._close()
        path, manifest = self.draft.path, self.draft.manifest
        num_problems = 0
        listed = path / "problems.jsonl"
        with listed.open("wb") as file:
            for problem in problems:
                file.write(encoder.encode(problem) + b"\n")
                num_problems += 1
            file.flush()
            sync_file(file.fileno(), listed)
        written = {part.name: part for part in (*self._parts.parts, *self._rejected.parts)}
        manifest.files = []
        for file_path in versions.content_files(path):
            name, size = file_path.name, file_path.stat().st_size
            if (part := written.get(name)) is not None:
                entry = FileEntry(name, part.rows, size, part.sha256.hexdigest())
            else:
                rows = num_problems if name == "problems.jsonl" else None
                entry = FileEntry(name, rows, size, file_sha256(file_path))
            manifest.files.append(entry)
        manifest.id = content_hash(sorted(self._row_hashes))
        self._tally.close()
        return self.draft.finish(dataset_card(manifest))

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        with shielded():
            self._parts.close()
            self._rejected.close()
            if self._labels is not None:
                self._labels.close()

    def _sync_labels(self) -> None:
        if self._labels is not None:
            self._labels.sync()

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self.draft.save()
            self._saved = time.monotonic()

    def _note_key(self, line: bytes) -> None:
        """Count a row that holds the API key: it is stored as it came, and whoever shares it should know."""
        if holds_key(line):
            self.counts.rows_with_key += 1
            if not self._has_warned_of_key:
                say(
                    "warning: a row holds the API key, since completions are stored as they were sent: look at "
                    "such rows before you share them (rows_with_key in manifest.json counts them)"
                )
                self._has_warned_of_key = True

    def _recovered(self, line: bytes, where: str) -> None:
        try:
            row = msgspec.json.decode(line, type=Index)
        except NOT_DECODED as error:
            raise DataError(
                f"{where}: not a row of this draft ({what_is_wrong(error)}): delete the folder to start it anew"
            ) from error
        self.done.add(row.id)
        self._num_with_key += holds_key(line)
        self._tally.add(row, row.reason)
        if self.failed_row is None and self.counts.num_internal_errors:
            self.failed_row = row.id
            self.failed_said = row.verdict_reason or ""
        if (found := row.soft_labels) is not None:
            last = self._last_labels.setdefault(found.file, found)
            self._last_labels[found.file] = max(last, found, key=lambda one: one.offset)
        if row.reason is None:
            self._row_hashes.append(row_hash(line, found))


def row_hash(line: bytes, found: SoftLabels | None) -> str:
    """The hash of a row's line; the place of its labels, which depends on the order of the rows, left out."""
    if found is None:
        return bytes_hash(line)
    anywhere = msgspec.structs.replace(found, file="", offset=0)
    trace = msgspec.json.decode(line, type=Trace)
    return bytes_hash(encoder.encode(msgspec.structs.replace(trace, soft_labels=anywhere)))


def _fields(trace: Trace) -> dict[str, Any]:
    return {name: getattr(trace, name) for name in Trace.__struct_fields__}


ALSO = "with --accept-errors it then goes on without them"


def incomplete(writer: Writer, way_out: str = ALSO) -> Incomplete:
    """What to raise when a run ends with failed rows."""
    failed = writer.failed()
    return Incomplete(
        f"{len(failed):,} rows failed (the first: {failed[0].error}), all are listed in "
        f"{writer.draft.path / ERRORS_FILE}: the same command tries them again, {way_out}"
    )


def give_up_failed(
    writer: Writer, rows_of: Callable[[list[str]], Iterable[Trace]], *, accepted: bool
) -> None:
    """Reject the failed rows where errors are accepted; `rows_of` row keys gives each as far as it had come.

    Raises Incomplete where they are not, or where there is no other row.
    """
    if not writer.num_failed:
        return
    if not accepted or not writer.counts.rows_kept:
        raise incomplete(writer, "there is no other row" if accepted else ALSO)
    errors = {row.row_key: row.error for row in writer.failed()}
    for trace in rows_of(list(errors)):
        writer.reject(trace, ENGINE_ERROR, errors[trace.row_key])
    writer.draft.save()  # its counts say that rows were given up
    writer.forget_failed()
