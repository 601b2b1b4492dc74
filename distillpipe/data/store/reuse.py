"""What other versions hold of the rows that a run wants: it is taken over, never sampled again."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from distillpipe.base.records import REFUSALS, RejectedTrace, SoftLabels, Trace
from distillpipe.data.store import versions
from distillpipe.data.store.jsonl import decode, decoded, lines
from distillpipe.data.store.versions import ENGINE_ERROR

if TYPE_CHECKING:  # it loads numpy, which most commands have no use for
    from distillpipe.data.store.labels import Labels


class Sampled(msgspec.Struct):
    """What of a row tells whether it is wanted; also the name of it in an error."""

    row_key: str
    soft_labels: SoftLabels | None = None


def sampled_before(out: Path, wanted: set[str], prefix: str = "part") -> Iterator[Trace]:
    """Rows in any finished or partial version under `out` whose row keys are `wanted`, each once.

    They stand in the files that begin with `prefix`.
    """
    for _, trace in _found(out, set(wanted), prefix, 0):
        yield trace


def refused_before(out: Path, wanted: set[str], *, given_up: bool) -> dict[str, RejectedTrace]:
    """Rows in finished versions under `out` that an engine refused, by their row keys, of those `wanted`.

    With `given_up` those too that failed, and were rejected with --accept-errors.
    """
    reasons = {*REFUSALS, ENGINE_ERROR} if given_up else set(REFUSALS)
    found: dict[str, RejectedTrace] = {}
    for folder in versions.finished(out):
        for path in sorted(folder.glob("rejected-*.jsonl")):
            for row in decoded(path, RejectedTrace):
                if row.row_key in wanted and row.reason in reasons:
                    found[row.row_key] = row
    return found


def labelled_before(
    out: Path, wanted: set[str], k: int, identity: str
) -> Iterator[tuple[Trace, "Labels"]]:
    """Rows as of `sampled_before` that a model labelled with at least `k` tokens, and the first `k` of them.

    Labels whose files are not there any more, or not as they were written, are none.
    """
    from distillpipe.data.store.label_carry import are_whole
    from distillpipe.data.store.labels import read_labels, read_source

    left = set(wanted)
    for folder, trace in _found(out, left, "part", k):
        assert trace.soft_labels is not None  # since it has k of them
        is_whole = are_whole(folder, trace.soft_labels)
        if is_whole and read_source(folder, trace.soft_labels).identity == identity:
            yield trace, read_labels(folder, trace.soft_labels).top(k)
        else:
            left.add(trace.row_key)


def _found(out: Path, left: set[str], prefix: str, k: int) -> Iterator[tuple[Path, Trace]]:
    """Rows with at least `k` labels a token whose keys are in `left`, with their folder; keys found go."""
    keys, traces = msgspec.json.Decoder(Sampled), msgspec.json.Decoder(Trace)
    for folder in versions.finished(out) + versions.partials(out):
        for path in sorted(folder.glob(f"{prefix}-*.jsonl")):
            for number, line in lines(path, whole_only=True):
                if not left:
                    return
                where = f"{path}:{number}"
                row = decode(line, keys, where)
                num_labels = 0 if row.soft_labels is None else row.soft_labels.k
                if row.row_key in left and num_labels >= k:
                    trace = decode(line, traces, where)
                    left.remove(trace.row_key)
                    yield folder, trace
