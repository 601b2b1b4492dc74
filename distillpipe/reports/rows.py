"""Select single rows of a version: by id, by drop reason, or at random.

We read files once, line by line, and decode a line only if its bytes contain the search string. This is correct because
our lines are compact JSON, and a quotation mark inside a string is escaped.
"""

import difflib
import heapq
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import msgspec

from distillpipe.base.errors import UsageError
from distillpipe.base.hashing import uniform
from distillpipe.base.option import Option, Options
from distillpipe.base.records import RejectedTrace, Trace
from distillpipe.data.store import dataset, integrity
from distillpipe.data.store.jsonl import decode, encoder
from distillpipe.data.store.manifest import Manifest

MAX_ROWS = 10  # shown by default
ROWS = "Rows"  # heading of the help
ID_START = b'{"schema":"trace/1","id":"'


class RowQuery(Options, frozen=True):
    """Which rows to select."""

    row: Annotated[
        str | None, Option("Show the whole row with this id, or with an id that begins so.", ROWS)
    ] = None
    reason: Annotated[
        str | None, Option("Show rows that were rejected for this reason: the first 10.", ROWS)
    ] = None
    sample: Annotated[
        int | None,
        Option(
            "Show N rows at random: of the rejected with --reason, else of the kept.", ROWS, min=1
        ),
    ] = None
    seed: Annotated[int, Option("Seed of --sample.", ROWS, min=0)] = 0

    @property
    def flag(self) -> str | None:
        """The option that selects rows, None without one. Raises UsageError for options that exclude each other."""
        if self.row is not None and (self.reason is not None or self.sample is not None):
            other = "--reason" if self.reason is not None else "--sample"
            raise UsageError(f"--row selects a single row: leave {other} out")
        flags = {"--row": self.row, "--reason": self.reason, "--sample": self.sample}
        return next((flag for flag, value in flags.items() if value is not None), None)


class RowSelection(msgspec.Struct):
    """Selected rows, and a note on the selection."""

    rows: list[Trace]
    note: str | None


class _Id(msgspec.Struct):
    id: str


_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    "part": msgspec.json.Decoder(Trace),
    "rejected": msgspec.json.Decoder(RejectedTrace),
}
_ids = msgspec.json.Decoder(_Id)
_Line = tuple[str, bytes]  # file and line number, and its bytes


def choose(folder: Path, manifest: Manifest, query: RowQuery) -> RowSelection:
    """Select rows of the version in `folder`.

    Raises UsageError if there is no such row, DataError if a file does not match its manifest.
    """
    integrity.check_sizes(folder, manifest)
    if query.row is not None:
        return _by_id(folder, query.row)
    if query.reason is not None:
        return _by_reason(folder, manifest, query.reason, query)
    rows = _drawn(_lines(folder, "part"), "part", query.sample or 0, query.seed)
    if not rows:
        raise UsageError(f"{folder} has no kept rows: --reason R shows rejected ones")
    return RowSelection(rows, _draw_note(rows, manifest.counts.rows_kept, "kept", query.seed))


def _by_id(folder: Path, row_id: str) -> RowSelection:
    matches = list(islice(_with_id(folder, row_id), MAX_ROWS + 1))
    if not matches:
        raise UsageError(
            f"{folder} has no row whose id starts with {row_id!r}: `--sample 3` shows rows with their ids"
        )
    note = None
    if len(matches) > MAX_ROWS:
        note = f"more than {MAX_ROWS} ids start with {row_id!r}; these are the first {MAX_ROWS}: give a longer id"
    return RowSelection(matches[:MAX_ROWS], note)


def _with_id(folder: Path, row_id: str) -> Iterator[Trace]:
    """Kept and rejected rows whose id starts with `row_id`; a single one if `row_id` is a whole id."""
    needle = b'"id":' + encoder.encode(row_id)[:-1]
    for prefix, decoder in _decoders.items():
        for where, line in _lines(folder, prefix):
            if needle in line and (row := decode(line, decoder, where)).id.startswith(row_id):
                yield row
                if row.id == row_id:
                    return


def _by_reason(folder: Path, manifest: Manifest, reason: str, query: RowQuery) -> RowSelection:
    dropped = manifest.counts.dropped
    if reason not in dropped and manifest.finished is not None:
        raise _no_such_reason(folder, manifest, reason)
    needle = b'"reason":' + encoder.encode(reason)
    matches = ((where, line) for where, line in _lines(folder, "rejected") if needle in line)
    if query.sample is None:
        rows = [
            decode(line, _decoders["rejected"], where) for where, line in islice(matches, MAX_ROWS)
        ]
    else:
        rows = _drawn(matches, "rejected", query.sample, query.seed)
    if not rows:
        raise _no_such_reason(folder, manifest, reason)
    total = max(dropped[reason].rows if reason in dropped else 0, len(rows))
    description = f"rejected for {reason}"
    if query.sample is not None:
        return RowSelection(rows, _draw_note(rows, total, description, query.seed))
    if total > len(rows):
        return RowSelection(
            rows,
            f"the first {len(rows)} of {total:,} rows {description}; --sample N draws among them",
        )
    return RowSelection(rows, None)


def _no_such_reason(folder: Path, manifest: Manifest, reason: str) -> UsageError:
    dropped = manifest.counts.dropped
    if not dropped:
        return UsageError(f"{folder} has no rejected rows: leave --reason out")
    close = difflib.get_close_matches(reason, dropped, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    by_rows = sorted(dropped.items(), key=lambda item: -item[1].rows)
    reasons = ", ".join(f"{name} {dropped_rows.rows:,}" for name, dropped_rows in by_rows)
    return UsageError(
        f"{folder} has no row rejected for {reason!r}: {meant}its reasons are {reasons}"
    )


def _drawn(lines_: Iterator[_Line], prefix: str, count: int, seed: int) -> list[Trace]:
    """`count` rows ordered by a hash of seed and id, so that a smaller sample is the start of a larger one."""
    keyed = ((uniform(seed, _id_of(line, place)), place, line) for place, line in lines_)
    chosen = heapq.nsmallest(count, keyed)
    return [decode(line, _decoders[prefix], place) for _, place, line in chosen]


def _draw_note(rows: list[Trace], total: int, what: str, seed: int) -> str:
    return f"{len(rows):,} of {max(total, len(rows)):,} rows {what}, drawn with seed {seed}"


def _id_of(line: bytes, where: str) -> str:
    if line.startswith(ID_START):
        return line[len(ID_START) : line.index(b'"', len(ID_START))].decode()
    return decode(line, _ids, where).id


def _lines(folder: Path, prefix: str) -> Iterator[_Line]:
    """All lines of kept or rejected rows. Another process may be writing the last line of a draft."""
    return dataset.scan_lines(folder, prefix, skip_torn=True)
