"""Which rows make which step, and how they lie in a forward pass."""

from collections.abc import Callable
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.training.batches import FORWARD_TOKENS, forward_batches, num_steps, step_rows
from distillpipe.training.losses import IGNORED
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


def test_rows_are_padded_on_the_right_and_labels_begin_after_the_prompt() -> None:
    rows = [Row("a", [11, 12, 13, 14], 1), Row("b", [21, 22], 1), Row("c", [31, 32, 33], 3)]
    ((ids, labels),) = forward_batches(rows)
    assert ids.tolist() == [[21, 22, 0, 0], [31, 32, 33, 0], [11, 12, 13, 14]]
    assert labels.tolist() == [
        [IGNORED, 22, IGNORED, IGNORED],
        [IGNORED, IGNORED, IGNORED, IGNORED],  # all prompt
        [IGNORED, 12, 13, 14],
    ]
    assert ids.dtype == labels.dtype == torch.int64


def test_a_token_with_the_id_of_the_padding_keeps_its_label() -> None:
    ((ids, labels),) = forward_batches([Row("a", [5, 0, 0], 1)])
    assert ids.tolist() == [[5, 0, 0]]
    assert labels.tolist() == [[IGNORED, 0, 0]]


@pytest.mark.parametrize(
    ("lengths", "shapes"),
    [
        ([5000] * 4, [(3, 5000), (1, 5000)]),
        ([1, 5000, 1, 5000, 5000], [(3, 5000), (2, 5000)]),
        ([FORWARD_TOKENS // 2] * 2, [(2, FORWARD_TOKENS // 2)]),
        ([FORWARD_TOKENS // 2 + 1] * 2, [(1, FORWARD_TOKENS // 2 + 1)] * 2),
        ([FORWARD_TOKENS + 1], [(1, FORWARD_TOKENS + 1)]),
        ([3, FORWARD_TOKENS + 1], [(1, 3), (1, FORWARD_TOKENS + 1)]),
        ([7], [(1, 7)]),
    ],
)
def test_forward_passes_stay_within_their_tokens_unless_one_row_is_longer(lengths, shapes) -> None:
    batches = list(forward_batches(rows_of_lengths(*lengths)))
    assert [tuple(ids.shape) for ids, _ in batches] == shapes
    assert [tuple(labels.shape) for _, labels in batches] == shapes


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=8))
def test_no_row_and_no_label_is_lost_in_the_forward_passes(lengths: list[int]) -> None:
    rows = rows_of_lengths(*lengths)
    found = {}
    for ids, labels in forward_batches(rows):
        for line, label in zip(ids, labels, strict=True):
            number = int(line[0])
            found[number] = (int((line == number).sum()), int((label == number).sum()))
            assert int((label != IGNORED).sum()) == found[number][1]
    assert found == {at + 1: (length, length - 1) for at, length in enumerate(lengths)}
