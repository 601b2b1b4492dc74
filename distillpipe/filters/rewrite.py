"""The second reading: each row once, as it is written after what was decided on it.

Texts make up nearly all of a row, and only a cut changes them. So in rows that we have written ourselves they stay
the bytes of JSON that they are, which takes half the time. Rows of other files are decoded: whoever wrote them may
spell the same row in other bytes.
"""

from collections.abc import Iterator

import msgspec

from distillpipe.base.options import FilterOptions
from distillpipe.base.records import SoftLabels, Trace
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.jsonl import decode, lines
from distillpipe.filters.examine import Decision


class _Written(Trace, frozen=True, kw_only=True):
    """A row of a version: it is written again as it was, but for what is replaced."""

    problem: msgspec.Raw  # type: ignore[assignment]
    messages: msgspec.Raw  # type: ignore[assignment]
    extra: msgspec.Raw = msgspec.Raw(b"null")  # type: ignore[assignment]


def rows_once(
    inputs: list[str],
    decisions: dict[str, Decision],
    options: FilterOptions,
    moved: dict[str, SoftLabels | None],
) -> Iterator[tuple[Trace, Decision]]:
    """The rows of `inputs` with their decisions applied, in their order; one that comes again is passed over.

    They are there to be written: their texts need not be strings. `moved` says where soft labels are now.
    """
    left = set(decisions)
    whole = msgspec.json.Decoder(Trace)
    for reference in inputs:
        record: type[Trace] = Trace if versions.plain_file(reference) else _Written
        quick = msgspec.json.Decoder(record)
        for path in dataset.trace_files(reference):
            for number, line in lines(path):
                row = decode(line, quick, f"{path}:{number}")
                if row.id not in left:
                    continue
                left.remove(row.id)
                decision = decisions[row.id]
                if decision.cut is not None and not decision.drops:
                    row = whole.decode(line)
                if row.soft_labels is not None and row.id in moved:
                    row = msgspec.structs.replace(row, soft_labels=moved[row.id])
                yield decision.applied(row, options), decision
