"""From a row to the soft labels of its tokens: found by their text in the pre-flight, looked up in a step.

A row carries where its own labels lie, whatever step or pass it comes into, so there is no order of rows that
labels could lose step with. At each look-up the token that a label was made at is compared with the token of
the row, and a difference is an error.

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
from distillpipe.training.teachers.alignment import NO_LABEL, Ids, Spelled, label_positions, spelled

POSITION = np.dtype("<i4")
Array = npt.NDArray[Any]


class _Teacher(NamedTuple):
    """What has to be known of the tokens of a model that is learnt from."""

    counterparts: Ids  # (V,) the student's ids of its tokens
    bytes_of: dict[int, bytes]


class LiveChat(NamedTuple):
    """A live teacher, as far as rows go."""

    name: str
    chat: Chat
    num_positions: int | None
    "the longest row that it was made for"


class SoftRows:
    """The soft labels of rows, as one student has their tokens."""

    def __init__(self, chat: Chat, num_embeddings: int, live: Sequence[LiveChat] = ()) -> None:
        """`num_embeddings`: the student predicts ids below it. `live` teachers take the place of stored labels.

        Raises UsageError for a live teacher of another vocabulary.
        """
        self._student = vocabulary_of(chat)
        self._bytes_of = token_bytes(chat.tokenizer)
        self._num_embeddings = num_embeddings
        self._teachers: dict[tuple[str, int], _Teacher] = {}
        self._live = [
            (one, self._tokens_of(vocabulary_of(one.chat), f"--teacher {one.name}")) for one in live
        ]

    @property
    def live_counterparts(self) -> list[Ids]:
        """Of each live teacher the student's ids of its tokens."""
        return [teacher.counterparts for _, teacher in self._live]

    def taught(self, trace: Trace, row: Row) -> Row:
        """The row of a trace with what teachers say of it: see `align` for the errors."""
        if self._live:
            rows = tuple(self._teacher_row(trace, row, *one) for one in self._live)
            return row._replace(teacher_rows=rows)
        return row._replace(labels=self.align(trace, row))

    def check(self, found: SoftLabels) -> None:
        """Raise UsageError for labels of another vocabulary."""
        self._source(found)

    def align(self, trace: Trace, row: Row) -> StoredLabels | None:
        """Where the labels of a trace lie and which belongs to which token of its row; None: there are none.

        Raises UsageError for labels of another vocabulary, DataError for those of another text and where
        their files are missing or too short.
        """
        found = trace.soft_labels
        if found is None:
            return None
        teacher = self._source(found)
        given = read_labels(Path(), found)
        tokens = np.asarray(given.tokens, np.int64)
        if not teacher.bytes_of.keys() >= set(tokens.tolist()):
            raise DataError(f"row {trace.id}: {_other_text(found)}")
        theirs = spelled(tokens, teacher.bytes_of)
        parts = trace.reasoning.strip(), trace.response.strip()
        if not all(part.encode() in theirs.content for part in parts):
            raise DataError(f"row {trace.id}: {_other_text(found)}")
        at = self._places(trace, row, theirs, teacher)
        at = np.where(np.append(given.flags == SAMPLED, False)[at], at, NO_LABEL)
        return StoredLabels(found, at.astype(POSITION).tobytes()) if (at >= 0).any() else None

    def _places(self, trace: Trace, row: Row, theirs: Spelled, teacher: _Teacher) -> Ids:
        """For each supervised token the number of the same one of the teacher, NO_LABEL where it has none."""
        ours = spelled(np.array(row.ids[row.num_prompt :]), self._bytes_of)
        parts = trace.reasoning.strip(), trace.response.strip()
        found = label_positions(ours, theirs, teacher.counterparts, *parts)
        # None where a tokenizer writes the text in another form (NFC)
        return np.full(row.num_supervised, NO_LABEL) if found is None else found

    def _teacher_row(self, trace: Trace, row: Row, live: LiveChat, teacher: _Teacher) -> TeacherRow:
        theirs = row_of(trace, live.chat)
        if live.num_positions is not None and len(theirs.ids) > live.num_positions:
            raise DataError(
                f"row {trace.id} has {len(theirs.ids):,} tokens as --teacher {live.name} reads it, which was "
                f"made for {live.num_positions:,}: drop longer rows with `distill filter`, or take another teacher"
            )
        completion = spelled(np.array(theirs.ids[theirs.num_prompt :]), teacher.bytes_of)
        at = self._places(trace, row, completion, teacher)
        at = np.where(at >= 0, at + theirs.num_prompt, NO_LABEL)
        return TeacherRow(theirs.ids, theirs.num_prompt, at.astype(POSITION).tobytes())

    def targets(self, rows: Sequence[Row]) -> SoftTargets | None:
        """The labels of all supervised tokens of rows, one row after the other; None where no row has any.

        A first token of a row is none of them: nothing predicts it. Raises DataError where a label is
        not that of its token.
        """
        k = max((row.labels.found.k for row in rows if row.labels is not None), default=0)
        if not k:
            return None
        parts = [self._targets(row, k) for row in rows]
        tokens, logprobs, labelled = (np.concatenate(part) for part in zip(*parts, strict=True))
        return SoftTargets(*map(torch.from_numpy, (tokens, logprobs, labelled)))

    def _targets(self, row: Row, k: int) -> tuple[Array, Array, Array]:
        """Tokens, log-probabilities and whether there is a label, of one row."""
        skipped = 1 if row.num_prompt == 0 else 0
        num_tokens = row.num_supervised - skipped
        tokens = np.full((num_tokens, k), -1, np.int32)
        logprobs = np.zeros((num_tokens, k), np.float16)
        if row.labels is None:
            return tokens, logprobs, np.zeros(num_tokens, np.bool_)
        positions = np.frombuffer(row.labels.positions, POSITION)[skipped:]
        labelled: Any = positions >= 0
        at = positions[labelled]
        given = read_labels(Path(), row.labels.found)
        known = self._source(row.labels.found).counterparts
        ids = np.array(row.ids[row.num_prompt + skipped :])[labelled]
        if not np.array_equal(_mapped(known, given.tokens[at]), ids):
            raise DataError(
                f"row {row.id}: the labels in {row.labels.found.file} are not those of its tokens any "
                "more: they were changed since training began; delete the unfinished version and train anew"
            )
        tokens[labelled, : given.k], logprobs[labelled, : given.k] = self._top(given, at, known)
        return tokens, logprobs, np.any(tokens >= 0, axis=-1)

    def _top(self, given: Labels, at: Ids, known: Ids) -> tuple[Array, Array]:
        """The most likely tokens, as the student has them, and their log-probabilities."""
        tokens, logprobs = _mapped(known, given.top_tokens[at]), given.top_logprobs[at]
        lacking = (tokens >= self._num_embeddings) | np.isneginf(logprobs)
        return np.where(lacking, -1, tokens), np.where(lacking, np.float16(0), logprobs)

    def _source(self, found: SoftLabels) -> _Teacher:
        producer = found.file.rpartition("-")[0], found.k
        if producer not in self._teachers:
            source = read_source(Path(), found)
            whose = f"the soft labels in {found.file}, given by {source.teacher}"
            self._teachers[producer] = self._tokens_of(source.vocabulary, whose)
        return self._teachers[producer]

    def _tokens_of(self, vocabulary: Vocabulary, whose: str) -> _Teacher:
        """Its ordinary tokens are the student's, so no tokenizer of it is needed."""
        same = counterparts(vocabulary, self._student, whose)
        ordinary = {
            token: content
            for token, content in self._bytes_of.items()
            if token not in self._student.special
        }
        special = {token: text.encode() for token, text in vocabulary.special.items()}
        return _Teacher(same, ordinary | special)


def _mapped(known: Ids, ids: Array) -> Array:
    """The student's ids of a teacher's, -1 where it has none; padding of the teacher's head has none."""
    inside = ids < len(known)
    return np.where(inside, known[np.where(inside, ids, 0)], -1)


def _other_text(found: SoftLabels) -> str:
    return (
        f"its soft labels in {found.file} are those of another text: the row was edited after it was "
        "labelled; label it again with `distill label`, or set its soft_labels to null"
    )
