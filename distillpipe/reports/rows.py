"""Single rows of a version: by id, by drop reason, or drawn.

Files are read once, line by line; a line is decoded only where its bytes hold what is looked for. That
is sound since our lines are compact JSON: inside a string a quotation mark would be escaped.
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
from distillpipe.data.store import versions
from distillpipe.data.store.jsonl import decode, encoder, lines
from distillpipe.data.store.manifest import Manifest

MAX_ROWS = 10  # shown where no number is asked for
ROWS = "Rows"  # heading of the help
ID_START = b'{"schema":"trace/1","id":"'


class Wanted(Options, frozen=True):
    """Which rows are asked for."""

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
        """The option that asks for rows, None where none does; a UsageError for two that cannot be."""
        if self.row is not None and (self.reason is not None or self.sample is not None):
            other = "--reason" if self.reason is not None else "--sample"
            raise UsageError(f"--row names one row: leave {other} away")
        given = {"--row": self.row, "--reason": self.reason, "--sample": self.sample}
        return next((flag for flag, value in given.items() if value is not None), None)


class Chosen(msgspec.Struct):
    """Rows, and what to say of them."""

    rows: list[Trace]
    said: str | None


class _Id(msgspec.Struct):
    id: str


_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    "part": msgspec.json.Decoder(Trace),
    "rejected": msgspec.json.Decoder(RejectedTrace),
}
_ids = msgspec.json.Decoder(_Id)
_Line = tuple[str, bytes]  # where it stands, and its bytes


def choose(folder: Path, manifest: Manifest, wanted: Wanted) -> Chosen:
    """The rows of the version in `folder` that are asked for.

    Raises UsageError where there is no such row, DataError where a file is not as it was written.
    """
    versions.check_sizes(folder, manifest)
    if wanted.row is not None:
        return _by_id(folder, wanted.row)
    if wanted.reason is not None:
        return _by_reason(folder, manifest, wanted.reason, wanted)
    rows = _drawn(_lines(folder, "part"), "part", wanted.sample or 0, wanted.seed)
    if not rows:
        raise UsageError(f"{folder} has kept no row: --reason R shows rejected ones")
    return Chosen(rows, _draw_said(rows, manifest.counts.rows_kept, "kept", wanted.seed))


def _by_id(folder: Path, row_id: str) -> Chosen:
    found = list(islice(_with_id(folder, row_id), MAX_ROWS + 1))
    if not found:
        raise UsageError(
            f"{folder} has no row whose id begins with {row_id!r}: `--sample 3` shows rows with ids"
        )
    said = None
    if len(found) > MAX_ROWS:
        said = f"more than {MAX_ROWS} ids begin with {row_id!r}, the first {MAX_ROWS}: give more of the id"
    return Chosen(found[:MAX_ROWS], said)


def _with_id(folder: Path, row_id: str) -> Iterator[Trace]:
    """Rows, kept and rejected, whose id begins with `row_id`; only one where that is a whole id."""
    needle = b'"id":' + encoder.encode(row_id)[:-1]
    for prefix, decoder in _decoders.items():
        for where, line in _lines(folder, prefix):
            if needle in line and (row := decode(line, decoder, where)).id.startswith(row_id):
                yield row
                if row.id == row_id:
                    return


def _by_reason(folder: Path, manifest: Manifest, reason: str, wanted: Wanted) -> Chosen:
    dropped = manifest.counts.dropped
    if reason not in dropped and manifest.finished is not None:
        raise _no_such_reason(folder, manifest, reason)
    needle = b'"reason":' + encoder.encode(reason)
    found = ((where, line) for where, line in _lines(folder, "rejected") if needle in line)
    if wanted.sample is None:
        rows = [
            decode(line, _decoders["rejected"], where) for where, line in islice(found, MAX_ROWS)
        ]
    else:
        rows = _drawn(found, "rejected", wanted.sample, wanted.seed)
    if not rows:
        raise _no_such_reason(folder, manifest, reason)
    total = max(dropped[reason].rows if reason in dropped else 0, len(rows))
    of_reason = f"rejected for {reason}"
    if wanted.sample is not None:
        return Chosen(rows, _draw_said(rows, total, of_reason, wanted.seed))
    if total > len(rows):
        return Chosen(
            rows,
            f"the first {len(rows)} of {total:,} rows {of_reason}; --sample N draws among them",
        )
    return Chosen(rows, None)


def _no_such_reason(folder: Path, manifest: Manifest, reason: str) -> UsageError:
    dropped = manifest.counts.dropped
    if not dropped:
        return UsageError(f"{folder} has rejected no row")
    close = difflib.get_close_matches(reason, dropped, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    known = ", ".join(
        f"{name} {one.rows:,}" for name, one in sorted(dropped.items(), key=lambda d: -d[1].rows)
    )
    return UsageError(f"{folder} has rejected no row for {reason!r}: {meant}There are {known}")


def _drawn(found: Iterator[_Line], prefix: str, count: int, seed: int) -> list[Trace]:
    """`count` rows in the order of a hash of seed and id: a smaller draw is the start of a larger."""
    keyed = ((uniform(seed, _id_of(line, where)), where, line) for where, line in found)
    chosen = heapq.nsmallest(count, keyed)
    return [decode(line, _decoders[prefix], where) for _, where, line in chosen]


def _draw_said(rows: list[Trace], total: int, what: str, seed: int) -> str:
    return f"{len(rows):,} of {max(total, len(rows)):,} rows {what}, drawn with seed {seed}"


def _id_of(line: bytes, where: str) -> str:
    if line.startswith(ID_START):
        return line[len(ID_START) : line.index(b'"', len(ID_START))].decode()
    return decode(line, _ids, where).id


def _lines(folder: Path, prefix: str) -> Iterator[_Line]:
    """Lines of the files that begin with `prefix`; of a draft, not one that is being written."""
    for path in sorted(folder.glob(f"{prefix}-*.jsonl")):
        for number, line in lines(path, whole_only=True):
            yield f"{path}:{number}", line
