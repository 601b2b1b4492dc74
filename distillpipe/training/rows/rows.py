"""From a trace to token ids and labels: loss on reasoning, response and end token.

There is none on the prompt, unless `with_prompt` is asked for (--train-on-prompt).
The prompt is what the student is asked with when it samples; the completion behind it ends with the end
token, so that no student learns what comes next.
"""

import os
import unicodedata
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import msgspec

from distillpipe.base.errors import DataError
from distillpipe.base.records import SoftLabels, Trace
from distillpipe.base.rowguard import InternalError, guarded
from distillpipe.models.chat import Chat

ROWS_AHEAD = 64  # made before they are asked for
POSITION_BYTES = 4


class StoredLabels(msgspec.Struct, frozen=True):
    """The soft labels of a row, and which of them belongs to which of its tokens."""

    found: SoftLabels
    "its `file` with the folder that it lies in"
    positions: bytes
    "int32: for each supervised token the number of its label in the slice, -1 where it has none"


class TeacherRow(msgspec.Struct, frozen=True):
    """The same trace as a live teacher reads it."""

    ids: list[int]
    num_prompt: int
    positions: bytes
    "int32: for each supervised token of the student the place of the same token in `ids`, -1 where it has none"


class Row(NamedTuple):
    """One trace as the student sees it."""

    id: str
    ids: list[int]
    num_prompt: int
    "the first so many ids carry no loss"
    labels: StoredLabels | None = None
    "of a student that learns from stored soft labels"
    teacher_rows: tuple[TeacherRow, ...] = ()
    "one for each live teacher"

    @property
    def num_supervised(self) -> int:
        return len(self.ids) - self.num_prompt

    def cut(self, length: int) -> "Row":
        """The row without what stands behind its first `length` ids, which reach beyond the prompt."""
        size = (length - self.num_prompt) * POSITION_BYTES
        labels = self.labels
        if labels is not None:
            labels = StoredLabels(labels.found, labels.positions[:size])
        rows = tuple(
            TeacherRow(one.ids, one.num_prompt, one.positions[:size]) for one in self.teacher_rows
        )
        return Row(self.id, self.ids[:length], self.num_prompt, labels, rows)

    def with_prompt(self) -> "Row":
        """The row with a loss on its prompt too, but for its first token, which nothing predicts.

        No teacher has anything to say of a prompt: its tokens have no soft label and train on the hard loss.
        """
        num_more = max(0, self.num_prompt - 1)
        none = array("i", [-1]) * num_more
        labels = self.labels
        if labels is not None:
            labels = StoredLabels(labels.found, none.tobytes() + labels.positions)
        rows = tuple(
            TeacherRow(one.ids, one.num_prompt, none.tobytes() + one.positions)
            for one in self.teacher_rows
        )
        return Row(self.id, self.ids, self.num_prompt - num_more, labels, rows)

    @property
    def num_labelled(self) -> int:
        """Supervised tokens with a soft label, or that a live teacher has too."""
        found = [] if self.labels is None else [self.labels.positions]
        found += [one.positions for one in self.teacher_rows]
        views = [memoryview(positions).cast("i") for positions in found]
        return sum(max(places) >= 0 for places in zip(*views, strict=True))


Made = Row | DataError | InternalError


def row_of(trace: Trace, chat: Chat) -> Row:
    """The row of a trace; a DataError names what stands in it that would train wrongly."""
    prompt = chat.prompt_ids(trace.messages[:-1])
    completion = chat.completion_ids(trace.messages[-1])
    if not chat.end_ids.isdisjoint(completion[:-1]):
        raise DataError(
            f"row {trace.id}: an end token stands inside the completion, so the student would learn "
            "to stop there: remove the row or the token"
        )
    if chat.turn.tags.close in trace.reasoning:
        raise DataError(
            f"row {trace.id}: {chat.turn.tags.close} stands inside the reasoning, so the student would "
            "learn to end its thought there: remove the row or the tag"
        )
    text = chat.text(completion)
    for name, part in (("reasoning", trace.reasoning), ("response", trace.response)):
        if not _holds(text, part):
            raise DataError(
                f"row {trace.id}: the tokenizer does not give back the text of its {name}, so the "
                "student would learn another one: remove the row, or take a student whose tokenizer can"
            )
    return Row(trace.id, prompt + completion, len(prompt))


def rows_of(traces: Iterable[Trace], chat: Chat) -> Iterator[tuple[Trace, Made]]:
    """Each trace, in order, with its row, or with what stands in it that would train wrongly, or an internal error.

    Rows are made in threads, a few ahead of the one asked for: tokenizers let go of Python's lock.
    """
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        ahead: deque[tuple[Trace, Future[Made]]] = deque()
        for trace in traces:
            ahead.append((trace, threads.submit(guarded, _attempt, trace, chat)))
            if len(ahead) == ROWS_AHEAD:
                first, made = ahead.popleft()
                yield first, made.result()
        for first, made in ahead:
            yield first, made.result()


def _attempt(trace: Trace, chat: Chat) -> Row | DataError:
    try:
        return row_of(trace, chat)
    except DataError as error:
        return error


def _holds(text: str, part: str) -> bool:
    """Tokenizers may compose accents (NFC) or write one form of a letter for another (NFKC)."""
    part = part.strip()
    if part in text:
        return True
    return unicodedata.normalize("NFKC", part) in unicodedata.normalize("NFKC", text)


IGNORED = -100  # label of a position without loss
