"""Which rows make which step: a pure function of seed, epoch and row ids, so a resumed run is the same.

A row of an input of weight W comes W times an epoch. Where W is no whole number, the rows of the input take turns:
they stand in an order drawn once, each epoch takes the next W x rows of them, and behind the last the first comes
again. So no row comes more than once more often than another of its input, over all epochs. Within an epoch all
rows stand in an order of that epoch.

Held out are all rows of a share of the problems, drawn by their ids: no trace of a problem is trained on
while another one measures.
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
    """The rows of every step, by their numbers, and those that no step has."""

    def __init__(
        self, rows: StoredRows, options: TrainingOptions, rows_by_input: Sequence[int] = ()
    ) -> None:
        """`rows_by_input`: how many rows each input gave, one input behind the other; for weights only.

        Raises DataError where nothing is left to train on, or nothing to measure on.
        """
        self._rows, self._seed, self._size = rows, options.seed, options.batch_size
        is_held_out = _is_held_out(rows, options)
        self.held_out: Numbers = np.flatnonzero(is_held_out)
        groups = np.split(np.arange(len(rows)), np.cumsum(rows_by_input)[:-1])
        groups = groups if options.weight else [np.arange(len(rows))]
        self._turns = [
            _Turns(rows, group[~is_held_out[group]], weight, options.seed, place)
            for place, (group, weight) in enumerate(
                zip(groups, options.weight or (1.0,), strict=True), start=1
            )
        ]
        self.rows_by_input = [one.size for one in self._turns]
        "that an epoch has"
        self.num_rows = sum(self.rows_by_input)
        self.num_steps = num_steps(self.num_rows, self._size, options.epochs, options.max_steps)

    def steps(self, done: int = 0) -> Iterator[Numbers]:
        """The rows of each step after the first `done`, for ever."""
        epoch, start = divmod(done, num_steps(self.num_rows, self._size, 1, None))
        while True:
            order = self._epoch(epoch)
            for first in range(start * self._size, len(order), self._size):
                yield order[first : first + self._size]
            epoch, start = epoch + 1, 0

    def _epoch(self, epoch: int) -> Numbers:
        times = np.zeros(len(self._rows), dtype=np.int64)
        for one in self._turns:
            np.add.at(times, one.of_epoch(epoch), 1)
        numbers, keys = [], []
        for copy in range(times.max(initial=0)):
            more = (copy,) if copy else ()
            drawn = np.fromiter(
                (uniform(self._seed, epoch, name, *more) for name in self._rows.names()), float
            )
            numbers.append(np.flatnonzero(times > copy))
            keys.append(drawn[numbers[-1]])
        order = np.argsort(np.concatenate(keys), kind="stable")
        return np.concatenate(numbers)[order]


class _Turns:
    """The rows of one input, which come `weight` times an epoch."""

    def __init__(
        self, rows: StoredRows, numbers: Numbers, weight: float, seed: int, place: int
    ) -> None:
        self.size = round(weight * len(numbers))
        if not self.size:
            raise DataError(
                f"--weight {weight:g}: of the {len(numbers):,} rows of input {place} to train on an epoch "
                "has none: give a larger weight, or leave the input out"
            )
        if weight != int(weight):
            wanted = set(numbers.tolist())
            keys = [
                uniform(seed, "turn", name) for at, name in enumerate(rows.names()) if at in wanted
            ]
            numbers = numbers[np.argsort(keys, kind="stable")]
        self._order = numbers

    def of_epoch(self, epoch: int) -> Numbers:
        places = np.arange(epoch * self.size, (epoch + 1) * self.size)
        order: Numbers = self._order[places % len(self._order)]
        return order


def _is_held_out(
    rows: StoredRows, options: TrainingOptions
) -> "np.ndarray[Any, np.dtype[np.bool]]":
    share = options.eval_split
    if not share:
        return np.zeros(len(rows), dtype=bool)
    found = np.fromiter(
        (
            uniform(options.seed, "held out", name.partition("/")[0]) < share
            for name in rows.names()
        ),
        bool,
    )
    if found.all() or not found.any():
        left = "to train on" if found.all() else "to measure on"
        raise DataError(
            f"--eval-split {share:g} leaves no row {left}: the problems of the {len(rows):,} rows all fall "
            "on one side; give another share or --seed, or more problems"
        )
    return found


def num_steps(num_rows: int, batch_size: int, epochs: int, max_steps: int | None) -> int:
    """Optimizer steps of a run; the last step of an epoch may be smaller than the others."""
    steps = -(-num_rows // batch_size) * epochs
    return steps if max_steps is None else min(steps, max_steps)


def share_of(lengths: Sequence[int], num_shares: int, number: int) -> list[int]:
    """Which of a step's rows process `number` takes: the longest first, each to who has the fewest tokens so far."""
    tokens, mine = [0] * num_shares, []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        least = tokens.index(min(tokens))
        tokens[least] += lengths[row]
        if least == number:
            mine.append(row)
    return sorted(mine)
