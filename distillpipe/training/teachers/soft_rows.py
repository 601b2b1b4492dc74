"""The soft labels of a row: aligned with its tokens in pre-flight, read from their files in each step.

A row holds the location of its own labels, whatever step or pass it is in, so labels cannot get out of step with rows.
Each read compares the token that a label was made for with the token of the row; a difference is an error.

Shapes: N supervised tokens of the rows of a pass, K labels of a token.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from distillpipe.base.errors import DataError
from distillpipe.base.records import SoftLabels, Trace
from distillpipe.data.store.labels import SAMPLED, Labels, Vocabulary, read_labels, read_source
from distillpipe.models.chat import Chat
from distillpipe.models.vocabulary import counterparts, token_bytes, vocabulary_of
from distillpipe.training.losses.soft_losses import SoftTargets
from distillpipe.training.rows.rows import Row, StoredLabels, TeacherRow, row_of
from distillpipe.training.teachers.alignment import (
    NO_LABEL,
    Ids,
    SpelledTokens,
    label_positions,
    spell,
)

POSITION = np.dtype("<i4")
Array = npt.NDArray[Any]


class _TeacherTokens(NamedTuple):
    """The tokens of a teacher, as far as alignment needs them."""

    counterparts: Ids  # (V,) the student's ids of its tokens
    bytes_of: dict[int, bytes]


class LiveChat(NamedTuple):
    """A live teacher's chat template and tokenizer."""

    name: str
    chat: Chat
    num_positions: int | None
    "its context length; None if its config does not say"


class SoftRows:
    """Finds and reads the soft labels of rows for one student."""

    def __init__(self, chat: Chat, num_embeddings: int, live: Sequence[LiveChat] = ()) -> None:
        """`num_embeddings`: the student predicts ids below this number. `live` teachers replace stored labels.

        Raises UsageError for a live teacher of another vocabulary.
        """
        self._student = vocabulary_of(chat)
        self._bytes_of = token_bytes(chat.tokenizer)
        self._num_embeddings = num_embeddings
        self._teachers: dict[tuple[str, int], _TeacherTokens] = {}
        self._live = [
            (teacher, self._tokens_of(vocabulary_of(teacher.chat), f"--teacher {teacher.name}"))
            for teacher in live
        ]

    @property
    def live_counterparts(self) -> list[Ids]:
        """For each live teacher, the student's ids of its tokens."""
        return [teacher.counterparts for _, teacher in self._live]

    def with_targets(self, trace: Trace, row: Row) -> Row:
        """The row with the teachers' targets; see `align` for the errors."""
        if self._live:
            rows = tuple(self._teacher_row(trace, row, *teacher) for teacher in self._live)
            return row._replace(teacher_rows=rows)
        return row._replace(labels=self.align(trace, row))

    def check(self, labels: SoftLabels) -> None:
        """Raise UsageError for labels of another vocabulary."""
        self._source(labels)

    def align(self, trace: Trace, row: Row) -> StoredLabels | None:
        """The location of a trace's labels and their positions in the row; None if there are none.

        Raises UsageError for labels of another vocabulary, and DataError for labels of another text or if their
        files are missing or too short.
        """
        labels = trace.soft_labels
        if labels is None:
            return None
        teacher = self._source(labels)
        stored = read_labels(Path(), labels)
        tokens = np.asarray(stored.tokens, np.int64)
        if not teacher.bytes_of.keys() >= set(tokens.tolist()):
            raise DataError(f"row {trace.id}: {_other_text(labels)}")
        theirs = spell(tokens, teacher.bytes_of)
        parts = trace.reasoning.strip(), trace.response.strip()
        if not all(part.encode() in theirs.content for part in parts):
            raise DataError(f"row {trace.id}: {_other_text(labels)}")
        positions = self._positions(trace, row, theirs, teacher)
        positions = np.where(
            np.append(stored.flags == SAMPLED, False)[positions], positions, NO_LABEL
        )
        return (
            StoredLabels(labels, positions.astype(POSITION).tobytes())
            if (positions >= 0).any()
            else None
        )

    def _positions(
        self, trace: Trace, row: Row, theirs: SpelledTokens, teacher: _TeacherTokens
    ) -> Ids:
        """For each supervised token, the index of the same token of the teacher, NO_LABEL without one."""
        ours = spell(np.array(row.ids[row.num_prompt :]), self._bytes_of)
        parts = trace.reasoning.strip(), trace.response.strip()
        positions = label_positions(ours, theirs, teacher.counterparts, *parts)
        # None if the student's tokenizer writes the text in another Unicode form (NFC)
        return np.full(row.num_supervised, NO_LABEL) if positions is None else positions

    def _teacher_row(
        self, trace: Trace, row: Row, live: LiveChat, teacher: _TeacherTokens
    ) -> TeacherRow:
        theirs = row_of(trace, live.chat)
        if live.num_positions is not None and len(theirs.ids) > live.num_positions:
            raise DataError(
                f"row {trace.id} has {len(theirs.ids):,} tokens for --teacher {live.name}, which has a context of "
                f"{live.num_positions:,}: drop longer rows with `distill filter`, or give another teacher"
            )
        completion = spell(np.array(theirs.ids[theirs.num_prompt :]), teacher.bytes_of)
        positions = self._positions(trace, row, completion, teacher)
        positions = np.where(positions >= 0, positions + theirs.num_prompt, NO_LABEL)
        return TeacherRow(theirs.ids, theirs.num_prompt, positions.astype(POSITION).tobytes())

    def targets(self, rows: Sequence[Row]) -> SoftTargets | None:
        """The labels of all supervised tokens of some rows, in order; None if no row has labels.

        The first token of a row is left out, because nothing predicts it. Raises DataError if a label was made for
        another token.
        """
        k = max((row.labels.found.k for row in rows if row.labels is not None), default=0)
        if not k:
            return None
        parts = [self._targets(row, k) for row in rows]
        tokens, logprobs, labelled = (np.concatenate(part) for part in zip(*parts, strict=True))
        return SoftTargets(*map(torch.from_numpy, (tokens, logprobs, labelled)))

    def _targets(self, row: Row, k: int) -> tuple[Array, Array, Array]:
        """Of one row: label tokens, log-probabilities, and whether each supervised token has a label."""
        skipped = 1 if row.num_prompt == 0 else 0
        num_tokens = row.num_supervised - skipped
        tokens = np.full((num_tokens, k), -1, np.int32)
        logprobs = np.zeros((num_tokens, k), np.float16)
        if row.labels is None:
            return tokens, logprobs, np.zeros(num_tokens, np.bool_)
        positions = np.frombuffer(row.labels.positions, POSITION)[skipped:]
        labelled: Any = positions >= 0
        indices = positions[labelled]
        stored = read_labels(Path(), row.labels.found)
        own_ids = self._source(row.labels.found).counterparts
        ids = np.array(row.ids[row.num_prompt + skipped :])[labelled]
        if not np.array_equal(_mapped(own_ids, stored.tokens[indices]), ids):
            raise DataError(
                f"row {row.id}: the labels in {row.labels.found.file} do not match its tokens: the file changed "
                "since training began; remove the unfinished version and train again"
            )
        tokens[labelled, : stored.k], logprobs[labelled, : stored.k] = self._top(
            stored, indices, own_ids
        )
        return tokens, logprobs, np.any(tokens >= 0, axis=-1)

    def _top(self, stored: Labels, indices: Ids, own_ids: Ids) -> tuple[Array, Array]:
        """The most likely tokens in the student's vocabulary, and their log-probabilities."""
        tokens, logprobs = (
            _mapped(own_ids, stored.top_tokens[indices]),
            stored.top_logprobs[indices],
        )
        lacking = (tokens >= self._num_embeddings) | np.isneginf(logprobs)
        return np.where(lacking, -1, tokens), np.where(lacking, np.float16(0), logprobs)

    def _source(self, labels: SoftLabels) -> _TeacherTokens:
        producer = labels.file.rpartition("-")[0], labels.k
        if producer not in self._teachers:
            source = read_source(Path(), labels)
            whose = f"the soft labels in {labels.file}, given by {source.teacher}"
            self._teachers[producer] = self._tokens_of(source.vocabulary, whose)
        return self._teachers[producer]

    def _tokens_of(self, vocabulary: Vocabulary, whose: str) -> _TeacherTokens:
        """The teacher's ordinary tokens are those of the student, so we do not need its tokenizer."""
        same = counterparts(vocabulary, self._student, whose)
        ordinary = {
            token: content
            for token, content in self._bytes_of.items()
            if token not in self._student.special
        }
        special = {token: text.encode() for token, text in vocabulary.special.items()}
        return _TeacherTokens(same, ordinary | special)


def _mapped(own_ids: Ids, ids: Array) -> Array:
    """The student's ids of a teacher's tokens, -1 without one; padding of the teacher's head has none."""
    inside = ids < len(own_ids)
    return np.where(inside, own_ids[np.where(inside, ids, 0)], -1)


def _other_text(labels: SoftLabels) -> str:
    return (
        f"its soft labels in {labels.file} belong to another text, because the row was edited after it was "
        "labelled: label it again with `distill label`, or set its soft_labels to null"
    )
