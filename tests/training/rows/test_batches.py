"""Which rows make which step."""

from collections import Counter
from collections.abc import Callable
from itertools import islice

import msgspec
import pytest

from distillpipe.base.errors import DataError
from distillpipe.base.training_options import TrainingOptions
from distillpipe.training.rows.batches import Batches, num_steps
from distillpipe.training.rows.rows import Row
from distillpipe.training.rows.stored_rows import StoredRows

OPTIONS = TrainingOptions(
    method="full", rank=4, alpha=4, learning_rate=1e-3, scheduler="cosine", warmup=0.1,
    weight_decay=1e-4, max_grad_norm=1.0, epochs=3, max_steps=None, batch_size=4, max_length=512,
    dtype="fp32", chat_template=None, seed=0,
)  # fmt: skip


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
    options = msgspec.structs.replace(OPTIONS, batch_size=batch_size, seed=seed)
    return ids_of(rows, Batches(rows, options), number, done)


def ids_of(rows: StoredRows, batches: Batches, number: int, done: int = 0) -> list[list[str]]:
    names = list(rows.names())
    return [[names[at] for at in step] for step in islice(batches.steps(done), number)]


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


@pytest.fixture
def two_inputs(stored: Callable[..., StoredRows]) -> StoredRows:
    """Five rows of one input, a0 to a4, and three of another, b0 to b2."""
    names = [f"a{at}/x" for at in range(5)] + [f"b{at}/x" for at in range(3)]
    return stored(Row(name, [1, 2], 1) for name in names)


def weighted(rows: StoredRows, *weights: float, **changes: object) -> Batches:
    options = msgspec.structs.replace(OPTIONS, weight=weights, **{"batch_size": 100, **changes})
    return Batches(rows, options, (5, 3))


def test_a_row_of_weight_two_comes_twice_an_epoch_and_of_weight_one_as_without_weights(
    two_inputs: StoredRows,
) -> None:
    batches = weighted(two_inputs, 1, 2)
    assert (batches.rows_by_input, batches.num_rows, batches.num_steps) == ([5, 6], 11, 3)
    for epoch in ids_of(two_inputs, batches, 3):
        names = list(two_inputs.names())
        assert Counter(epoch) == Counter(names[:5] + 2 * names[5:])
    ones, none = weighted(two_inputs, 1, 1), Batches(two_inputs, OPTIONS)
    assert ids_of(two_inputs, ones, 2) == [
        joined(ids_of(two_inputs, none, 4)[:2]),
        joined(ids_of(two_inputs, none, 4)[2:]),
    ]


def test_rows_of_a_broken_weight_take_turns_so_that_all_come_equally_often(
    two_inputs: StoredRows,
) -> None:
    batches = weighted(two_inputs, 0.4, 4 / 3)  # 2 of 5 and 4 of 3 rows an epoch
    assert batches.rows_by_input == [2, 4]
    epochs = ids_of(two_inputs, batches, 5)
    assert [len(epoch) for epoch in epochs] == [6] * 5
    seen = Counter(joined(epochs))
    assert [seen[f"a{at}/x"] for at in range(5)] == [2] * 5
    assert sorted(seen[f"b{at}/x"] for at in range(3)) == [6, 7, 7]
    assert weighted(two_inputs, 0.4, 4 / 3, seed=9).num_rows == 6
    assert ids_of(two_inputs, weighted(two_inputs, 0.4, 4 / 3, seed=9), 5) != epochs


@pytest.mark.parametrize("done", range(9))
def test_weighted_epochs_go_on_where_they_would_have(two_inputs: StoredRows, done: int) -> None:
    batches = weighted(two_inputs, 0.6, 1.5, batch_size=3)
    whole = ids_of(two_inputs, batches, 10)
    assert ids_of(two_inputs, batches, 10 - done, done) == whole[done:]


def test_a_weight_that_leaves_no_row_of_an_input_is_refused(two_inputs: StoredRows) -> None:
    with pytest.raises(DataError, match="an epoch has none of the 3 rows of input 2 that are"):
        weighted(two_inputs, 1, 0.1)


def test_all_traces_of_a_problem_are_held_out_or_none_and_no_step_has_one_that_is(
    stored: Callable[..., StoredRows],
) -> None:
    rows = stored(
        Row(f"p{problem}/{trace}", [1, 2], 1) for problem in range(200) for trace in range(3)
    )
    batches = Batches(rows, msgspec.structs.replace(OPTIONS, eval_split=0.25))
    names = list(rows.names())
    held_out = Counter(names[at].partition("/")[0] for at in batches.held_out)
    assert set(held_out.values()) == {3}
    assert 30 <= len(held_out) <= 70  # of 200 by chance: 50, give or take three standard deviations
    trained = joined(ids_of(rows, batches, batches.num_steps))
    assert Counter(trained) == {name: 3 for name in names if name.partition("/")[0] not in held_out}
    more = Batches(rows, msgspec.structs.replace(OPTIONS, eval_split=0.5))
    assert set(batches.held_out) < set(more.held_out)
    other = Batches(rows, msgspec.structs.replace(OPTIONS, eval_split=0.25, seed=1))
    assert set(batches.held_out) != set(other.held_out)


@pytest.mark.parametrize(("share", "left"), [(0.999999, "to train on"), (1e-6, "to measure on")])
def test_a_share_that_leaves_one_side_empty_is_refused(
    nine: StoredRows, share: float, left: str
) -> None:
    with pytest.raises(DataError, match=f"leaves no row {left}"):
        Batches(nine, msgspec.structs.replace(OPTIONS, eval_split=share))
