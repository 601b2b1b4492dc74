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

from distillpipe.chat import Chat
from distillpipe.errors import DataError
from distillpipe.labels import SAMPLED, Labels, read_labels, read_vocabulary
from distillpipe.records import SoftLabels, Trace
from distillpipe.training.alignment import NO_LABEL, Ids, label_positions, spelled
from distillpipe.training.rows import Row, StoredLabels
from distillpipe.training.soft_losses import SoftTargets
from distillpipe.vocabulary import counterparts, token_bytes, vocabulary_of

POSITION = np.dtype("<i4")
Array = npt.NDArray[Any]


class _Teacher(NamedTuple):
    """What has to be known of the model that gave labels."""

    counterparts: Ids  # (V,) the student's ids of its tokens
    bytes_of: dict[int, bytes]


class SoftRows:
    """The soft labels of rows, as one student has their tokens."""

    def __init__(self, chat: Chat, num_embeddings: int) -> None:
        """`num_embeddings`: the student predicts ids below it."""
        self._student = vocabulary_of(chat)
        self._bytes_of = token_bytes(chat.tokenizer)
        self._num_embeddings = num_embeddings
        self._teachers: dict[str, _Teacher] = {}

    def align(self, trace: Trace, row: Row) -> StoredLabels | None:
        """Where the labels of a trace lie and which belongs to which token of its row; None: there are none.

        Raises UsageError for labels of another vocabulary, DataError for those of another text and where
        their files are missing or too short.
        """
        found = trace.soft_labels
        if found is None:
            return None
        teacher = self._teacher(found)
        given = read_labels(Path(), found)
        tokens = np.asarray(given.tokens, np.int64)
        if not teacher.bytes_of.keys() >= set(tokens.tolist()):
            raise DataError(f"row {trace.id}: {_other_text(found)}")
        theirs = spelled(tokens, teacher.bytes_of)
        ours = spelled(np.array(row.ids[row.num_prompt :]), self._bytes_of)
        parts = trace.reasoning.strip(), trace.response.strip()
        if not all(part.encode() in theirs.content for part in parts):
            raise DataError(f"row {trace.id}: {_other_text(found)}")
        at = label_positions(ours, theirs, teacher.counterparts, *parts)
        if at is None:  # the student's tokenizer writes the text in another form
            return None
        at = np.where(np.append(given.flags == SAMPLED, False)[at], at, NO_LABEL)
        return StoredLabels(found, at.astype(POSITION).tobytes()) if (at >= 0).any() else None

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
        known = self._teacher(row.labels.found).counterparts
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

    def _teacher(self, found: SoftLabels) -> _Teacher:
        producer = found.file.rpartition("-")[0]
        known = self._teachers.get(producer)
        if known is None:
            vocabulary = read_vocabulary(Path(), found)
            same = counterparts(vocabulary, self._student)
            ordinary = {
                token: content
                for token, content in self._bytes_of.items()
                if token not in self._student.special
            }
            special = {token: text.encode() for token, text in vocabulary.special.items()}
            known = self._teachers[producer] = _Teacher(same, ordinary | special)
        return known


def _mapped(known: Ids, ids: Array) -> Array:
    """The student's ids of a teacher's, -1 where it has none; padding of the teacher's head has none."""
    inside = ids < len(known)
    return np.where(inside, known[np.where(inside, ids, 0)], -1)


def _other_text(found: SoftLabels) -> str:
    return (
        f"its soft labels in {found.file} are those of another text: the row was edited after it was "
        "labelled; label it again with `distill label`, or set its soft_labels to null"
    )
