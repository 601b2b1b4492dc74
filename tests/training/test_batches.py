"""Which rows make which step."""

from collections.abc import Callable
from itertools import islice

import pytest

from distillpipe.training.batches import num_steps, step_rows
from distillpipe.training.rows import Row
from distillpipe.training.stored_rows import StoredRows


@pytest.mark.parametrize(
    ("num_rows", "batch_size", "epochs", "max_steps", "steps"),
    [
        (8, 4, 1, None, 2),
        (9, 4, 1, None, 3),
        (9, 4, 2, None, 6),  # the last step of each epoch holds one row
        (3, 4, 5, None, 5),
        (1, 1, 1, None, 1),
        (0, 4, 2, None, 0),
        (9, 4, 2, 4, 4),
        (9, 4, 2, 100, 6),
        (9, 4, 2, 0, 0),
    ],
)
def test_steps_are_counted_with_the_smaller_last_one(
    num_rows, batch_size, epochs, max_steps, steps
) -> None:
    assert num_steps(num_rows, batch_size, epochs, max_steps) == steps


def rows_of_lengths(*lengths: int) -> list[Row]:
    return [Row(f"row{at}", [at + 1] * length, 1) for at, length in enumerate(lengths)]


def steps(
    rows: StoredRows, batch_size: int, seed: int, number: int, done: int = 0
) -> list[list[str]]:
    taken = islice(step_rows(rows, batch_size, seed, done), number)
    return [[row.id for row in step] for step in taken]


def joined(taken: list[list[str]]) -> list[str]:
    return [row_id for step in taken for row_id in step]


@pytest.fixture
def nine(stored: Callable[..., StoredRows]) -> StoredRows:
    return stored(rows_of_lengths(*[2] * 9))


def test_every_epoch_has_every_row_once_in_an_order_of_its_own(nine: StoredRows) -> None:
    taken = steps(nine, 4, seed=0, number=6)
    assert [len(step) for step in taken] == [4, 4, 1, 4, 4, 1]
    first, second = joined(taken[:3]), joined(taken[3:])
    assert sorted(first) == sorted(second) == sorted(nine.names())
    assert first != second


def test_the_order_hangs_on_the_seed_and_not_on_the_order_of_the_input(
    nine: StoredRows, stored: Callable[..., StoredRows]
) -> None:
    assert steps(stored(list(nine)[::-1]), 4, 0, number=6) == steps(nine, 4, 0, number=6)
    assert steps(nine, 4, seed=1, number=6) != steps(nine, 4, seed=0, number=6)


def test_the_order_of_rows_does_not_change_with_the_batch_size(nine: StoredRows) -> None:
    by_two, by_five = steps(nine, 2, seed=0, number=5), steps(nine, 5, seed=0, number=2)
    assert joined(by_two) == joined(by_five)


@pytest.mark.parametrize("done", range(8))
def test_a_run_goes_on_in_the_midst_of_an_epoch_with_the_rows_that_would_have_come(
    nine: StoredRows, done: int
) -> None:
    whole = steps(nine, 4, seed=0, number=9)
    assert steps(nine, 4, seed=0, number=9 - done, done=done) == whole[done:]


def test_one_row_is_every_step(stored: Callable[..., StoredRows]) -> None:
    assert steps(stored(rows_of_lengths(2)), 4, seed=0, number=3) == [["row0"]] * 3
