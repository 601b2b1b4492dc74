"""Which rows make which step: a pure function of seed, epoch and row ids, so a resumed run is the same."""

from collections.abc import Iterator

import numpy as np

from distillpipe.hashing import uniform
from distillpipe.training.rows import Row
from distillpipe.training.stored_rows import StoredRows


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
