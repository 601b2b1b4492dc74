"""Which rows of a step share a forward pass, and how they lie in it.

A step is its rows, `--batch-size` of them, as in the settings that others publish: packing only decides in
how few forward passes they go, so loss and gradient of a step do not depend on it. No row is cut or split
over two passes. Packed rows lie one behind the other in one line without padding, each with positions of
its own from 0 on; `attention` keeps them apart. Where a model cannot take that, rows are padded.

Shapes: B lines of a pass, T tokens of a line, R rows in it.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch

from distillpipe.training.passes import best_fit
from distillpipe.training.rows.rows import IGNORED, Row

MAX_PADDING = 0.1  # padding of a padded pass, as a share of its tokens
WORTH_A_PASS = 1024  # tokens that are worth the fixed cost of a forward pass


class Pass(NamedTuple):
    """What one forward pass takes."""

    ids: torch.Tensor
    "(B, T)"
    labels: torch.Tensor
    "(B, T), IGNORED where there is no loss"
    places: dict[str, Any]
    "arguments of the model that tell packed rows apart, named as transformers names them"
    rows: list[Row]
    "in the order in which their tokens lie"

    @property
    def starts(self) -> list[int]:
        """Where each row begins, counted through all lines."""
        if self.places:
            return [0, *accumulate(len(row.ids) for row in self.rows)][:-1]
        return [line * self.ids.shape[1] for line in range(len(self.rows))]

    @property
    def num_supervised(self) -> int:
        return int((self.labels[:, 1:] != IGNORED).sum())

    def to(self, device: torch.device) -> "Pass":
        """The same on another device."""
        places = {
            name: value.to(device, non_blocking=True) if torch.is_tensor(value) else value
            for name, value in self.places.items()
        }
        return Pass(
            self.ids.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            places,
            self.rows,
        )


def packed_passes(rows: Sequence[Row], capacity: int) -> Iterator[Pass]:
    """The rows in as few passes of at most `capacity` tokens as best-fit finds, one line each."""
    for numbers in best_fit([len(row.ids) for row in rows], capacity):
        yield _packed([rows[number] for number in numbers])


def padded_passes(rows: Sequence[Row], capacity: int) -> Iterator[Pass]:
    """The same with a line a row, right-padded, rows of like length together.

    A pass is closed before it outgrows `capacity`, or before its padding outgrows MAX_PADDING where it
    is worth a pass of its own.
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
        unsupervised = max(1, row.num_prompt)  # nothing stands before a first token
        labels[start : start + unsupervised] = IGNORED
    positions = torch.cat([torch.arange(length) for length in lengths])
    bounds = torch.tensor(starts, dtype=torch.int32)  # (R + 1)
    longest = max(lengths)
    places = {
        "position_ids": positions[None],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
    }
    return Pass(ids[None], labels[None], places, rows)


def _padded(rows: list[Row]) -> Pass:
    """Padding stands on the right and carries no loss, so causal attention needs no mask for it."""
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    for at, row in enumerate(rows):
        content = torch.tensor(row.ids)
        ids[at, : len(row.ids)] = content
        labels[at, row.num_prompt : len(row.ids)] = content[row.num_prompt :]
    return Pass(ids, labels, {}, rows)
