"""Finds rows that were sampled without soft labels, or with too few: they are scored, not sampled again.

Their token ids come from existing labels if there are any; otherwise the text is tokenized again. Tokens that budget
forcing may have inserted get no label in either case.
"""

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import msgspec
import numpy as np

from distillpipe.base.errors import EngineError
from distillpipe.base.options import Budget
from distillpipe.base.records import Trace
from distillpipe.data.store import reuse
from distillpipe.data.store.jsonl import Spool
from distillpipe.data.store.labels import SAMPLED, UNLABELLED, Labels
from distillpipe.models.chat import Chat
from distillpipe.models.tokens import completion_ids
from distillpipe.models.vocabulary import token_bytes


class RowToLabel(msgspec.Struct, frozen=True):
    """A row, the tokens of its completion, and their flags (see `store.labels`)."""

    trace: Trace
    token_ids: list[int]
    flags: bytes

    def label(self, labels: Labels) -> Labels:
        """The labels with this row's flags, which mark tokens that the model did not sample.

        Raises EngineError if the engine labelled other tokens than it was given.
        """
        if labels.tokens.tolist() != self.token_ids:
            raise EngineError(
                f"row {self.trace.id}: the engine labelled other tokens than those of this row"
            )
        return labels.flagged(np.frombuffer(self.flags, np.uint8))


class RowsToLabel:
    """Rows to label, by row key. They are stored on disk, in `folder`."""

    def __init__(self, rows: Iterator[RowToLabel], folder: Path) -> None:
        self._rows = Spool(folder, RowToLabel)
        self._numbers: dict[str, int] = {}
        for row in rows:
            self._numbers[row.trace.row_key] = len(self._rows)
            self._rows.append(row)

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, key: str) -> bool:
        return key in self._numbers

    def __getitem__(self, key: str) -> RowToLabel:
        return self._rows[self._numbers[key]]


def rows_without_labels(
    out: Path, keys: set[str], chat: Chat, budget: Budget | None, identity: str
) -> Iterator[RowToLabel]:
    """Rows of other versions with these keys: first those with too few labels per token, then those without."""
    pending = set(keys)
    for trace, labels in reuse.labelled_before(out, pending, 1, identity):
        pending.remove(trace.row_key)
        yield RowToLabel(trace, labels.tokens.tolist(), labels.flags.tobytes())
    bytes_of: dict[int, bytes] = {}
    for trace in reuse.sampled_before(out, pending):
        ids = completion_ids(trace, chat)
        flags = bytes([SAMPLED]) * len(ids)
        if budget is not None and (trace.num_waits or trace.forced_end):
            bytes_of = bytes_of or token_bytes(chat.tokenizer)
            flags = _flags(trace, [bytes_of[token] for token in ids], chat, budget)
        yield RowToLabel(trace, ids, flags)


def _flags(trace: Trace, pieces: list[bytes], chat: Chat, budget: Budget) -> bytes:
    """UNLABELLED for each token that overlaps a text that budget forcing inserts, wherever it occurs."""
    content = b"".join(pieces)
    spans: list[tuple[int, int]] = []  # of bytes
    if trace.num_waits:
        wait = budget.wait_text.encode()
        start = content.find(wait)
        while wait and start >= 0:
            spans.append((start, start + len(wait)))
            start = content.find(wait, start + 1)
    if trace.forced_end:
        parts = chat.split(content.decode(errors="replace"))
        start = len((parts.opening + parts.reasoning).encode())
        spans.append((start, start + len((parts.middle + budget.end_text).encode())))
    ends = list(accumulate(map(len, pieces)))
    return bytes(
        UNLABELLED
        if any(start < end and end - len(piece) < stop for start, stop in spans)
        else SAMPLED
        for piece, end in zip(pieces, ends, strict=True)
    )
