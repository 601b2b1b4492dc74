"""Which rows make which step: a pure function of seed, epoch and row ids, so a resumed run is the same."""

from collections.abc import Iterator

import numpy as np
import torch

from distillpipe.hashing import uniform
from distillpipe.training.losses import IGNORED
from distillpipe.training.rows import Row
from distillpipe.training.stored_rows import StoredRows

FORWARD_TOKENS = 16384  # padded tokens of one forward pass
MAX_PADDING = 0.1  # padding of a pass, as a share of its tokens
WORTH_A_PASS = 1024  # tokens that are worth the fixed cost of a forward pass


def num_steps(num_rows: int, batch_size: int, epochs: int, max_steps: int | None) -> int:
    """Optimizer steps of a run; the last step of an epoch may be smaller than the others."""
    steps = -(-num_rows // batch_size) * epochs
    return steps if max_steps is None else min(steps, max_steps)


def step_rows(rows: StoredRows, batch_size: int, seed: int, done: int = 0) -> Iterator[list[Row]]:
    """The rows of each step after the first `done`, for ever: every epoch all rows in its own order."""
    epoch, start = divmod(done, num_steps(len(rows), batch_size, 1, None))
    while True:
        keys = np.fromiter((uniform(seed, epoch, name) for name in rows.names()), float, len(rows))
        order = np.argsort(keys, kind="stable")
        for first in range(start * batch_size, len(rows), batch_size):
            yield [rows[int(at)] for at in order[first : first + batch_size]]
        epoch, start = epoch + 1, 0


def forward_batches(rows: list[Row]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids and labels, each (rows, tokens) and right-padded, of the forward passes of one step.

    Rows of like length go together: a pass is closed before it outgrows FORWARD_TOKENS, or before its
    padding outgrows MAX_PADDING where it is worth a pass of its own.
    """
    group: list[Row] = []
    num_tokens = 0
    for row in sorted(rows, key=lambda row: len(row.ids)):
        padded = (len(group) + 1) * len(row.ids)
        wasteful = padded > (1 + MAX_PADDING) * (num_tokens + len(row.ids))
        if group and (padded > FORWARD_TOKENS or (wasteful and num_tokens >= WORTH_A_PASS)):
            yield _padded(group)
            group, num_tokens = [], 0
        group.append(row)
        num_tokens += len(row.ids)
    yield _padded(group)


def _padded(rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Padding stands on the right and carries no loss, so causal attention needs no mask for it."""
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    for at, row in enumerate(rows):
        content = torch.tensor(row.ids)
        ids[at, : len(row.ids)] = content
        labels[at, row.num_prompt : len(row.ids)] = content[row.num_prompt :]
    return ids, labels
