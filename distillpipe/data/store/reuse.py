"""Find rows of a run that other versions hold already, by row key, so that they are not sampled again."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from distillpipe.base.records import REFUSALS, RejectedTrace, Trace
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.dataset import RowKeys
from distillpipe.data.store.jsonl import decode
from distillpipe.data.store.versions import ENGINE_ERROR

if TYPE_CHECKING:  # loads numpy, which most commands do not need
    from distillpipe.data.store.labels import Labels


def sampled_before(out: Path, wanted: set[str], prefix: str = "part") -> Iterator[Trace]:
    """Yield the rows with `wanted` row keys from all versions and drafts under `out`, each key once.

    `prefix` chooses the files: "part" for kept rows, "rejected" for rejected ones.
    """
    for _, trace in _matching(out, set(wanted), prefix, 0):
        yield trace


def refused_before(out: Path, wanted: set[str], *, given_up: bool) -> dict[str, RejectedTrace]:
    """Rows with `wanted` row keys that an engine refused, from the finished versions under `out`, by row key.

    `given_up` includes rows that failed and were rejected because of --accept-errors.
    """
    reasons = {*REFUSALS, ENGINE_ERROR} if given_up else set(REFUSALS)
    refused: dict[str, RejectedTrace] = {}
    for folder in versions.finished(out):
        for row in dataset.scan(folder, RejectedTrace, "rejected"):
            if row.row_key in wanted and row.reason in reasons:
                refused[row.row_key] = row
    return refused


def labelled_before(
    out: Path, wanted: set[str], k: int, identity: str
) -> Iterator[tuple[Trace, "Labels"]]:
    """As `sampled_before`, but only rows that the model `identity` labelled, with their top `k` labels.

    Rows with fewer than `k` labels per token, and rows whose label files are missing or changed, are skipped.
    """
    from distillpipe.data.store.label_carry import are_intact
    from distillpipe.data.store.labels import read_labels, read_source

    pending = set(wanted)
    for folder, trace in _matching(out, pending, "part", k):
        assert trace.soft_labels is not None  # because it has at least k >= 1 labels
        is_usable = are_intact(folder, trace.soft_labels)
        if is_usable and read_source(folder, trace.soft_labels).identity == identity:
            yield trace, read_labels(folder, trace.soft_labels).top(k)
        else:
            pending.add(trace.row_key)  # another version may have it


def _matching(out: Path, pending: set[str], prefix: str, k: int) -> Iterator[tuple[Path, Trace]]:
    """Rows with keys in `pending` and at least `k` labels per token, with their folder.

    Removes the keys that it yields from `pending`, and ends when `pending` is empty.
    """
    keys, traces = msgspec.json.Decoder(RowKeys), msgspec.json.Decoder(Trace)
    for folder in versions.finished(out) + versions.partials(out):
        for where, line in dataset.scan_lines(folder, prefix, skip_torn=True):
            if not pending:
                return
            row = decode(line, keys, where)  # most rows are not wanted: do not decode their text
            num_labels = 0 if row.soft_labels is None else row.soft_labels.k
            if row.row_key in pending and num_labels >= k:
                trace = decode(line, traces, where)
                pending.remove(trace.row_key)
                yield folder, trace
