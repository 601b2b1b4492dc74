"""The labels of what is drawn, kept beside the sequences in flight.

Shapes: A rows of logits, V vocabulary, K labels a token.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from distillpipe.data.store.labels import SAMPLED, Labels

FIRST_LENGTH = 64  # tokens that there is room for at first; doubled as often as needed

Array = np.ndarray[Any, np.dtype[Any]]


class Likely(NamedTuple):
    """What a model says of one token each."""

    tokens: Array  # (A, K) uint32, the most likely first
    logprobs: Array  # (A, K) float16
    own: Array  # (A,) float16, of the token that was drawn


def likely(logits: torch.Tensor, drawn: torch.Tensor, k: int) -> Likely:
    """The `k` most likely tokens under the whole vocabulary at temperature 1.

    `logits` (A, V) are float32, as the model gave them; `drawn` (A,) are tokens.
    """
    total = logits.logsumexp(-1, keepdim=True)
    largest = logits.topk(k)
    own = logits.gather(-1, drawn[:, None]) - total
    return Likely(
        largest.indices.cpu().numpy().astype(np.uint32),
        (largest.values - total).half().cpu().numpy(),
        own[:, 0].half().cpu().numpy(),
    )


class Capture:
    """Labels of the sequences in some slots, as long as they are in flight."""

    def __init__(self, num_slots: int, k: int) -> None:
        self.k = k
        self._rows = np.arange(num_slots)
        "where the labels of each slot are"
        self._labels = _empty(num_slots, FIRST_LENGTH, k)

    def write(self, slots: Sequence[int], positions: Sequence[int], found: Likely) -> None:
        """Note the labels of one more token of several slots, each at its position."""
        length = self._labels.own.shape[1]
        if positions and max(positions) >= length:
            longer = _empty(len(self._rows), 2 * length, self.k)
            for old, new in zip(self._labels, longer, strict=True):
                new[:, :length] = old
            self._labels = longer
        rows = self._rows[slots]
        for kept, values in zip(self._labels, found, strict=True):
            kept[rows, positions] = values

    def exchange(self, slot: int, other: int) -> None:
        """Let two slots change places."""
        self._rows[[slot, other]] = self._rows[[other, slot]]

    def take(self, slot: int, tokens: Sequence[int]) -> Labels:
        """The labels of a slot, which has drawn these tokens."""
        row, length = self._rows[slot], len(tokens)
        return Labels(
            np.array(tokens, np.uint32),
            np.full(length, SAMPLED, np.uint8),
            *(kept[row, :length].copy() for kept in self._labels),
        )


def _empty(num_slots: int, length: int, k: int) -> Likely:
    return Likely(
        np.empty((num_slots, length, k), np.uint32),
        np.empty((num_slots, length, k), np.float16),
        np.empty((num_slots, length), np.float16),
    )
