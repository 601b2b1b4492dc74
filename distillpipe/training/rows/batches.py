"""Assign rows to steps: a pure function of seed, epoch and row ids, so a resumed run trains on the same steps.

A row of an input with weight W is repeated W times an epoch. If W is not an integer, the rows of the input have an order
that is drawn once. Each epoch takes the next W x rows of this order, and starts again at its end. So over all epochs no
row is repeated more than once more often than another row of its input. Each epoch shuffles its rows.

The held-out rows are all rows of a share of the problems, drawn by problem id: training never sees a problem of the
held-out loss.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from distillpipe.base.errors import DataError
from distillpipe.base.hashing import uniform
from distillpipe.base.training_options import TrainingOptions
from distillpipe.training.rows.stored_rows import StoredRows

Numbers = np.ndarray[Any, np.dtype[np.int64]]


class Batches:
    """The row indices of every step, and those of the held-out rows."""

    def __init__(
        self, rows: StoredRows, options: TrainingOptions, rows_by_input: Sequence[int] = ()
    ) -> None:
        """`rows_by_input`: the number of rows of each input, in order; used with --weight only.

        Raises DataError if no row is left to train on or to measure on.
        """
        self._rows, self._seed, self._size = rows, options.seed, options.batch_size
        is_held_out = _is_held_out(rows, options)
        self.held_out: Numbers = np.flatnonzero(is_held_out)
        groups = np.split(np.arange(len(rows)), np.cumsum(rows_by_input)[:-1])
        groups = groups if options.weight else [np.arange(len(rows))]
        self._turns = [
            _InputRows(rows, group[~is_held_out[group]], weight, options.seed, input_number)
            for input_number, (group, weight) in enumerate(
                zip(groups, options.weight or (1.0,), strict=True), start=1
            )
        ]
        self.rows_by_input = [input_rows.size for input_rows in self._turns]
        "rows of each input in an epoch"
        self.num_rows = sum(self.rows_by_input)
        self.num_steps = num_steps(self.num_rows, self._size, options.epochs, options.max_steps)

    def steps(self, done: int = 0) -> Iterator[Numbers]:
        """The row indices of each step after the first `done`, without end."""
        epoch, start = divmod(done, num_steps(self.num_rows, self._size, 1, None))
        while True:
            order = self._epoch(epoch)
            for first in range(start * self._size, len(order), self._size):
                yield order[first : first + self._size]
            epoch, start = epoch + 1, 0

    def _epoch(self, epoch: int) -> Numbers:
        repeats = np.zeros(len(self._rows), dtype=np.int64)
        for input_rows in self._turns:
            np.add.at(repeats, input_rows.of_epoch(epoch), 1)
        numbers, keys = [], []
        for copy in range(repeats.max(initial=0)):
            copy_key = (copy,) if copy else ()
            random_keys = np.fromiter(
                (uniform(self._seed, epoch, name, *copy_key) for name in self._rows.names()), float
            )
            numbers.append(np.flatnonzero(repeats > copy))
            keys.append(random_keys[numbers[-1]])
        order = np.argsort(np.concatenate(keys), kind="stable")
        return np.concatenate(numbers)[order]


class _InputRows:
    """The rows of one input, repeated `weight` times an epoch."""

    def __init__(
        self, rows: StoredRows, numbers: Numbers, weight: float, seed: int, input_number: int
    ) -> None:
        self.size = round(weight * len(numbers))
        if not self.size:
            raise DataError(
                f"--weight {weight:g}: an epoch has none of the {len(numbers):,} rows of input {input_number} that are "
                "not held out: give a larger weight, or leave the input out"
            )
        if weight != int(weight):
            selected = set(numbers.tolist())
            keys = [
                uniform(seed, "turn", name)
                for index, name in enumerate(rows.names())
                if index in selected
            ]
            numbers = numbers[np.argsort(keys, kind="stable")]
        self._order = numbers

    def of_epoch(self, epoch: int) -> Numbers:
        indices = np.arange(epoch * self.size, (epoch + 1) * self.size)
        order: Numbers = self._order[indices % len(self._order)]
        return order


def _is_held_out(
    rows: StoredRows, options: TrainingOptions
) -> "np.ndarray[Any, np.dtype[np.bool]]":
    share = options.eval_split
    if not share:
        return np.zeros(len(rows), dtype=bool)
    is_held_out = np.fromiter(
        (
            uniform(options.seed, "held out", name.partition("/")[0]) < share
            for name in rows.names()
        ),
        bool,
    )
    if is_held_out.all() or not is_held_out.any():
        purpose = "to train on" if is_held_out.all() else "to measure on"
        raise DataError(
            f"--eval-split {share:g} leaves no row {purpose}: the problems of the {len(rows):,} rows are all "
            "on one side; give another share or another --seed, or more problems"
        )
    return is_held_out


def num_steps(num_rows: int, batch_size: int, epochs: int, max_steps: int | None) -> int:
    """Optimizer steps of a run; the last step of an epoch may have fewer rows."""
    steps = -(-num_rows // batch_size) * epochs
    return steps if max_steps is None else min(steps, max_steps)


def share_of(lengths: Sequence[int], num_shares: int, number: int) -> list[int]:
    """Indices of the rows of a step that process `number` takes: longest first, each to the process with fewest tokens."""
    tokens, own_rows = [0] * num_shares, []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        least = tokens.index(min(tokens))
        tokens[least] += lengths[row]
        if least == number:
            own_rows.append(row)
    return sorted(own_rows)
