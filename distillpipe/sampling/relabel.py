"""Rows that were sampled without labels, or with too few: they are scored, not sampled again.

The tokens are those that were sampled where labels say them, else those of the text encoded anew. What budget
forcing may have put there gets no label, in either case.
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


class ToLabel(msgspec.Struct, frozen=True):
    """A row, the tokens of its completion, and their flags (see `labels`)."""

    trace: Trace
    token_ids: list[int]
    flags: bytes

    def label(self, labels: Labels) -> Labels:
        """What was scored, but for the tokens that the model did not draw.

        Raises EngineError where an engine has made other tokens of a text than it was given.
        """
        if labels.tokens.tolist() != self.token_ids:
            raise EngineError(
                f"row {self.trace.id}: the engine labelled another text than this row's"
            )
        return labels.flagged(np.frombuffer(self.flags, np.uint8))


class RowsToLabel:
    """Rows by their keys; they lie on disk, in `folder`."""

    def __init__(self, rows: Iterator[ToLabel], folder: Path) -> None:
        self._rows = Spool(folder, ToLabel)
        self._numbers: dict[str, int] = {}
        for row in rows:
            self._numbers[row.trace.row_key] = len(self._rows)
            self._rows.append(row)

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, key: str) -> bool:
        return key in self._numbers

    def __getitem__(self, key: str) -> ToLabel:
        return self._rows[self._numbers[key]]


def sampled_without_labels(
    out: Path, wanted: set[str], chat: Chat, budget: Budget | None, identity: str
) -> Iterator[ToLabel]:
    """Rows as of `reuse.sampled_before`; those that the model labelled with too few tokens first."""
    left = set(wanted)
    for trace, labels in reuse.labelled_before(out, left, 1, identity):
        left.remove(trace.row_key)
        yield ToLabel(trace, labels.tokens.tolist(), labels.flags.tobytes())
    bytes_of: dict[int, bytes] = {}
    for trace in reuse.sampled_before(out, left):
        ids = completion_ids(trace, chat)
        flags = bytes([SAMPLED]) * len(ids)
        if budget is not None and (trace.num_waits or trace.forced_end):
            bytes_of = bytes_of or token_bytes(chat.tokenizer)
            flags = _flags(trace, [bytes_of[token] for token in ids], chat, budget)
        yield ToLabel(trace, ids, flags)


def _flags(trace: Trace, pieces: list[bytes], chat: Chat, budget: Budget) -> bytes:
    """UNLABELLED for every token with a part in a text that forcing inserts, wherever it stands."""
    content = b"".join(pieces)
    found: list[tuple[int, int]] = []
    if trace.num_waits:
        wait = budget.wait_text.encode()
        at = content.find(wait)
        while wait and at >= 0:
            found.append((at, at + len(wait)))
            at = content.find(wait, at + 1)
    if trace.forced_end:
        parts = chat.split(content.decode(errors="replace"))
        start = len((parts.opening + parts.reasoning).encode())
        found.append((start, start + len((parts.middle + budget.end_text).encode())))
    ends = list(accumulate(map(len, pieces)))
    return bytes(
        UNLABELLED
        if any(start < end and end - len(piece) < stop for start, stop in found)
        else SAMPLED
        for piece, end in zip(pieces, ends, strict=True)
    )
