"""Pack the rows of a step into forward passes.

A step has `--batch-size` rows, as in published settings. Packing only decides how many forward passes they need, so
loss and gradient of a step do not depend on it. No row is cut or split over two passes. Packed rows follow each other in
one line without padding, each with positions from 0 on; `attention` keeps them apart. Models that do not support this
get padded rows.

Shapes: B lines of a pass, T tokens of a line, R rows of a pass.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch

from distillpipe.training.passes import best_fit
from distillpipe.training.rows.attention import bounds
from distillpipe.training.rows.rows import IGNORED, Row

MAX_PADDING = 0.1  # of a padded pass, as a share of its tokens
WORTH_A_PASS = 1024  # tokens that are worth the fixed cost of a pass


class Pass(NamedTuple):
    """The inputs of one forward pass."""

    ids: torch.Tensor
    "(B, T)"
    labels: torch.Tensor
    "(B, T), IGNORED at positions without loss"
    model_inputs: dict[str, Any]
    "keyword arguments of the model that separate packed rows, named as in transformers"
    rows: list[Row]
    "in the order of their tokens"

    @property
    def starts(self) -> list[int]:
        """The index of the first token of each row in the flattened lines."""
        if self.model_inputs:
            return [0, *accumulate(len(row.ids) for row in self.rows)][:-1]
        return [line * self.ids.shape[1] for line in range(len(self.rows))]

    @property
    def num_supervised(self) -> int:
        return int((self.labels[:, 1:] != IGNORED).sum())

    def to(self, device: torch.device) -> "Pass":
        """The same on another device."""
        model_inputs = {
            name: value.to(device, non_blocking=True) if torch.is_tensor(value) else value
            for name, value in self.model_inputs.items()
        }
        return Pass(
            self.ids.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            model_inputs,
            self.rows,
        )


def packed_passes(rows: Sequence[Row], capacity: int) -> Iterator[Pass]:
    """Pack rows into passes of at most `capacity` tokens by best fit, one line a pass."""
    for numbers in best_fit([len(row.ids) for row in rows], capacity):
        yield _packed([rows[number] for number in numbers])


def padded_passes(rows: Sequence[Row], capacity: int) -> Iterator[Pass]:
    """Make passes of one row a line, padded on the right, with rows of similar length together.

    A pass is closed before it exceeds `capacity`. It is also closed before padding exceeds MAX_PADDING, if it has
    WORTH_A_PASS tokens.
    """
    group: list[Row] = []
    num_tokens = 0
    for row in sorted(rows, key=lambda row: len(row.ids)):
        padded = (len(group) + 1) * len(row.ids)
        wasteful = padded > (1 + MAX_PADDING) * (num_tokens + len(row.ids))
        if group and (padded > capacity or (wasteful and num_tokens >= WORTH_A_PASS)):
            yield _padded(group)
            group, num_tokens = [], 0
        group.append(row)
        num_tokens += len(row.ids)
    yield _padded(group)


def _packed(rows: list[Row]) -> Pass:
    lengths = [len(row.ids) for row in rows]
    ids = torch.cat([torch.tensor(row.ids) for row in rows])
    labels = ids.clone()
    starts = [0, *accumulate(lengths)]
    for row, start in zip(rows, starts, strict=False):
        unsupervised = max(1, row.num_prompt)  # nothing predicts a first token
        labels[start : start + unsupervised] = IGNORED
    return Pass(ids[None], labels[None], bounds(lengths), rows)


def _padded(rows: list[Row]) -> Pass:
    """Padding is on the right and has no loss, so causal attention needs no mask for it."""
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    for line, row in enumerate(rows):
        content = torch.tensor(row.ids)
        ids[line, : len(row.ids)] = content
        labels[line, row.num_prompt : len(row.ids)] = content[row.num_prompt :]
    return Pass(ids, labels, {}, rows)
