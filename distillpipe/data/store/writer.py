"""Write the rows of a version: keep, reject or fail them. A counted row survives a kill.

    with versions.draft(out, header) as draft, Writer(draft) as writer:
        writer.append(trace)                                  kept: part-*.jsonl
        writer.reject(trace, "wrong_answer", trace.answer)    rejected with a reason: rejected-*.jsonl
        writer.fail(trace, "connection lost")                 errors.jsonl: the same command tries it again
        writer.finish(problems)

Memory holds ids and hashes of rows, never their text.
"""

import time
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

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


PRODUCER_DIGITS = 16  # digits of the fingerprint in the names of label files
SAVE_SECONDS = 5.0  # at least, between two writes of the draft's manifest


class FailedRow(msgspec.Struct, frozen=True):
    """A line of errors.jsonl: a row that failed, and why."""

    id: str
    row_key: str
    error: str


class Writer:
    """Appends rows to a draft. `done` holds the ids of all its rows, kept and rejected."""

    def __init__(
        self, draft: Draft, sync_rows: int = SYNC_ROWS, soft_labels: "LabelSource | None" = None
    ) -> None:
        """`soft_labels` describes the labels that rows will be appended with. An fsync comes every `sync_rows`."""
        self.draft = draft
        self.counts = draft.manifest.counts
        self.done: set[str] = set()
        self.num_failed = 0
        self.failed_row: str | None = None
        "id of the first row that raised an internal error"
        self.failed_said = ""
        "the text of that error, if it was raised in this run"
        self._num_with_key = 0
        "of the rows that were on disk already: those that hold the API key"
        self._has_warned_of_key = False
        self._row_hashes: list[str] = []
        self._tally = Tally(self.counts)
        self._saved = time.monotonic()
        self._labels: LabelWriter | None = None
        self._last_labels: dict[str, SoftLabels] = {}
        "of the rows that were on disk already: their last labels in each label file"
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
        """Keep a row. Its labels, if there are any, are written before the row that names them."""
        with shielded():
            if labels is not None:
                assert self._labels is not None  # labels come only where `soft_labels` was given
                label_slice = self._labels.append(labels)
                trace = msgspec.structs.replace(trace, soft_labels=label_slice)
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
        """Keep a row among the rejected ones, with a drop reason and the value measured."""
        row = RejectedTrace(
            **{name: getattr(trace, name) for name in Trace.__struct_fields__},
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
        """Count a row, and warn at the first row with an internal error."""
        before = self.counts.num_internal_errors
        self._tally.add(trace, reason)
        if not before and self.counts.num_internal_errors:
            self.failed_row = trace.id
            error = measured if reason == REASON else trace.verdict_reason
            self.failed_said = error or ""
            outcome = "unverifiable" if reason is None else "rejected"
            say(
                f"warning: an error of {whose(self.failed_said)} on row {trace.id}: {error}; the row is {outcome}, "
                "the run continues"
            )

    def fail(self, trace: Trace, error: str) -> None:
        """List a failed row in errors.jsonl. It does not become a row of the draft."""
        self.fail_id(trace.id, error, trace.row_key)

    def fail_id(self, row_id: str, error: str, row_key: str = "") -> None:
        """As `fail`, for a row of which only the id is known."""
        row = FailedRow(row_id, row_key, error)
        with shielded(), (self.draft.path / ERRORS_FILE).open("ab") as file:
            file.write(encoder.encode(row) + b"\n")
        self.num_failed += 1

    def failed(self) -> list[FailedRow]:
        """The rows in errors.jsonl."""
        path = self.draft.path / ERRORS_FILE
        return list(decoded(path, FailedRow)) if path.is_file() else []

    def forget_failed(self) -> None:
        """Remove errors.jsonl, before its rows are tried again or rejected."""
        (self.draft.path / ERRORS_FILE).unlink(missing_ok=True)
        self.num_failed = 0

    def num_rows_within(self, low: int, high: int | None) -> int:
        """Number of kept rows with `low` to `high` reasoning tokens, both included. No limit if `high` is None."""
        return self._tally.num_rows_within(low, high)

    def sync(self) -> None:
        """Make every row written so far survive a power loss."""
        self._parts.sync()
        self._rejected.sync()

    def finish(self, problems: Iterable[Problem]) -> Manifest:
        """Write problems.jsonl, the manifest and the card, and make the draft a finished version."""
        self._close()
        path, manifest = self.draft.path, self.draft.manifest
        num_problems = 0
        problems_path = path / "problems.jsonl"
        with problems_path.open("wb") as file:
            for problem in problems:
                file.write(encoder.encode(problem) + b"\n")
                num_problems += 1
            file.flush()
            sync_file(file.fileno(), problems_path)
        # The hashes of the row files were computed while they were written.
        parts = {part.name: part for part in (*self._parts.parts, *self._rejected.parts)}
        manifest.files = []
        for file_path in versions.content_files(path):
            name, size = file_path.name, file_path.stat().st_size
            if (part := parts.get(name)) is not None:
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
        """Count a row that holds the API key, and warn once. Rows are stored as the server sent them."""
        if holds_key(line):
            self.counts.rows_with_key += 1
            if not self._has_warned_of_key:
                say(
                    "warning: a row contains the API key, because completions are stored as the server sent them: "
                    "check such rows before you share them (rows_with_key in manifest.json counts them)"
                )
                self._has_warned_of_key = True

    def _recovered(self, line: bytes, where: str) -> None:
        """Take in a row that an earlier run of this draft wrote."""
        try:
            row = msgspec.json.decode(line, type=Index)
        except NOT_DECODED as error:
            raise DataError(
                f"{where}: not a row of this draft ({what_is_wrong(error)}): delete the folder to start again"
            ) from error
        self.done.add(row.id)
        self._num_with_key += holds_key(line)
        self._tally.add(row, row.reason)
        if self.failed_row is None and self.counts.num_internal_errors:
            self.failed_row = row.id
            self.failed_said = row.verdict_reason or ""
        if (labels := row.soft_labels) is not None:
            last = self._last_labels.setdefault(labels.file, labels)
            self._last_labels[labels.file] = max(last, labels, key=lambda slice_: slice_.offset)
        if row.reason is None:
            self._row_hashes.append(row_hash(line, labels))


def row_hash(line: bytes, labels: SoftLabels | None) -> str:
    """Hash of a row's line, without file and offset of its labels: those depend on the order of the rows."""
    if labels is None:
        return bytes_hash(line)
    without_place = msgspec.structs.replace(labels, file="", offset=0)
    trace = msgspec.json.decode(line, type=Trace)
    return bytes_hash(encoder.encode(msgspec.structs.replace(trace, soft_labels=without_place)))


WITHOUT_FAILED = "with --accept-errors it then finishes without them"


def incomplete(writer: Writer, way_out: str = WITHOUT_FAILED) -> Incomplete:
    """The error for a run that ends with failed rows. `way_out` says what else the user can do."""
    failed = writer.failed()
    return Incomplete(
        f"{len(failed):,} rows failed (the first: {failed[0].error}), all are listed in "
        f"{writer.draft.path / ERRORS_FILE}: the same command tries them again, {way_out}"
    )


def check_plan(writer: Writer, planned: Collection[str]) -> None:
    """Check a draft against the ids of the rows that were planned, before it is finished.

    Raises DataError unless it holds each of them once, kept or rejected, and no other row.
    """
    others, missing = writer.done.difference(planned), set(planned) - writer.done
    counts = writer.counts
    num_twice = counts.rows_kept + counts.rows_rejected - len(writer.done)
    wrong = [
        f"{number:,} {what}"
        for number, what in (
            (len(others), "rows that this command does not plan"),
            (len(missing), "rows too few"),
            (num_twice, "rows twice"),
        )
        if number
    ]
    if wrong:
        first = min(others or missing, default="")
        raise DataError(
            f"{writer.draft.path} holds {' and '.join(wrong)}{f' (the first is {first})' if first else ''}, so it is not "
            f"finished: move this folder out of {writer.draft.out}, and run the same command again"
        )


def give_up_failed(
    writer: Writer, rows_of: Callable[[list[str]], Iterable[Trace]], *, accepted: bool
) -> None:
    """Reject the failed rows with the reason `engine_error`, if errors are accepted.

    `rows_of` returns the rows of a list of row keys, without the completion that failed. Raises Incomplete if
    errors are not accepted, or if no row was kept.
    """
    if not writer.num_failed:
        return
    if not accepted or not writer.counts.rows_kept:
        raise incomplete(writer, "no row succeeded" if accepted else WITHOUT_FAILED)
    errors = {row.row_key: row.error for row in writer.failed()}
    for trace in rows_of(list(errors)):
        writer.reject(trace, ENGINE_ERROR, errors[trace.row_key])
    writer.draft.save()  # with counts that say so, before errors.jsonl goes
    writer.forget_failed()
