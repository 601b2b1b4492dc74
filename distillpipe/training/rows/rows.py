"""Tokenize a trace into prompt and completion ids; the loss is on reasoning, response and end token.

The prompt has no loss, unless --train-on-prompt asks for it (`with_prompt`). It is the same prompt that the student
gets when it samples. The completion ends with the end token, so the student does not learn what follows it.
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
from distillpipe.base.interrupts import shielded
from distillpipe.base.processes import result_of
from distillpipe.base.records import SoftLabels, Trace
from distillpipe.base.rowguard import InternalError, guarded
from distillpipe.models.chat import Chat

ROWS_AHEAD = 64  # rows that are tokenized in advance
POSITION_BYTES = 4
NUM_QUOTED = 200  # characters of a rendered turn in an error


class StoredLabels(msgspec.Struct, frozen=True):
    """The soft labels of a row, and their positions in its tokens."""

    found: SoftLabels
    "its `file` includes the folder"
    positions: bytes
    "int32: for each supervised token the index of its label in the slice, -1 without a label"


class TeacherRow(msgspec.Struct, frozen=True):
    """The tokens of the same trace for a live teacher."""

    ids: list[int]
    num_prompt: int
    positions: bytes
    "int32: for each supervised token of the student the index of the same token in `ids`, -1 without one"


class Row(NamedTuple):
    """The tokens of one trace for the student."""

    id: str
    ids: list[int]
    num_prompt: int
    "the first ids, which have no loss"
    labels: StoredLabels | None = None
    "stored soft labels to learn from"
    teacher_rows: tuple[TeacherRow, ...] = ()
    "one for each live teacher to learn from"

    @property
    def num_supervised(self) -> int:
        return len(self.ids) - self.num_prompt

    def cut(self, length: int) -> "Row":
        """The first `length` ids of the row; `length` is greater than `num_prompt`."""
        size = (length - self.num_prompt) * POSITION_BYTES
        labels = self.labels
        if labels is not None:
            labels = StoredLabels(labels.found, labels.positions[:size])
        rows = tuple(
            TeacherRow(teacher_row.ids, teacher_row.num_prompt, teacher_row.positions[:size])
            for teacher_row in self.teacher_rows
        )
        return Row(self.id, self.ids[:length], self.num_prompt, labels, rows)

    def with_prompt(self) -> "Row":
        """The row with a loss on its prompt too, except on the first token, which nothing predicts.

        Prompt tokens have no soft labels and train on the hard loss only.
        """
        num_more = max(0, self.num_prompt - 1)
        none = array("i", [-1]) * num_more
        labels = self.labels
        if labels is not None:
            labels = StoredLabels(labels.found, none.tobytes() + labels.positions)
        rows = tuple(
            TeacherRow(
                teacher_row.ids, teacher_row.num_prompt, none.tobytes() + teacher_row.positions
            )
            for teacher_row in self.teacher_rows
        )
        return Row(self.id, self.ids, self.num_prompt - num_more, labels, rows)

    @property
    def num_labelled(self) -> int:
        """The number of supervised tokens that have a soft label or that a live teacher has too."""
        position_arrays = [] if self.labels is None else [self.labels.positions]
        position_arrays += [teacher_row.positions for teacher_row in self.teacher_rows]
        views = [memoryview(positions).cast("i") for positions in position_arrays]
        return sum(max(indices) >= 0 for indices in zip(*views, strict=True))


RowOutcome = Row | DataError | InternalError


def row_of(trace: Trace, chat: Chat) -> Row:
    """Tokenize a trace. Raises DataError if its text would train the student wrongly."""
    mode = chat.mode_of(trace.messages[-1])
    prompt_text = chat.prompt(trace.messages[:-1], mode)
    prompt = chat.ids(prompt_text)
    completion = chat.completion_ids(trace.messages[-1], mode)
    if not chat.end_ids.isdisjoint(completion[:-1]):
        raise DataError(
            f"row {trace.id}: an end token is inside the completion, so the student would learn "
            "to stop there: remove the row or the token"
        )
    if chat.turn.tags.close in trace.reasoning:
        raise DataError(
            f"row {trace.id}: {chat.turn.tags.close} is inside the reasoning, so the student would "
            "learn to end its reasoning there: remove the row or the tag"
        )
    if not chat.thinks and trace.reasoning:
        raise DataError(
            f"row {trace.id} has reasoning, and the prompt of the chat template closes an empty thought, so the "
            "student would learn to think when the thought is over: leave out the --template-option that "
            "switches thinking off"
        )
    if (rendered := chat.renders_otherwise(trace.messages, prompt_text)) is not None:
        raise DataError(
            f"row {trace.id}: the chat template writes this turn in another way than the row, it ends with "
            f"{rendered[-NUM_QUOTED:]!r}: give another --chat-template, or name the marks with --think-open and "
            "--think-close"
        )
    text = chat.text(completion)
    for name, part in (("reasoning", trace.reasoning), ("response", trace.response)):
        if not _holds(text, part):
            raise DataError(
                f"row {trace.id}: the student's tokenizer changes the text of the {name} when it encodes and "
                "decodes it, so the student would learn another text: remove the row, or take another student"
            )
    return Row(trace.id, prompt + completion, len(prompt))


def rows_of(traces: Iterable[Trace], chat: Chat) -> Iterator[tuple[Trace, RowOutcome]]:
    """Each trace, in order, with its row, with the DataError of `row_of`, or with an internal error.

    Threads tokenize a few rows in advance, because tokenizers release Python's global interpreter lock.
    """
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        ahead: deque[tuple[Trace, Future[RowOutcome]]] = deque()
        for trace in traces:
            with shielded():  # see `result_of`
                ahead.append((trace, threads.submit(guarded, _attempt, trace, chat)))
            if len(ahead) == ROWS_AHEAD:
                first, future = ahead.popleft()
                yield first, result_of(future)
        for first, future in ahead:
            yield first, result_of(future)


def _attempt(trace: Trace, chat: Chat) -> Row | DataError:
    try:
        return row_of(trace, chat)
    except DataError as error:
        return error


def _holds(text: str, part: str) -> bool:
    """Whether `text` holds `part` after Unicode normalisation, since tokenizers may apply NFC or NFKC."""
    part = part.strip()
    if part in text:
        return True
    return unicodedata.normalize("NFKC", part) in unicodedata.normalize("NFKC", text)


IGNORED = -100  # label of a position without loss
