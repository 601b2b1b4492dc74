"""The width of the prediction interval of a cost forecast."""

import random
import statistics

import pytest

from distillpipe.sampling.estimate import MIN_ROWS, total_range


def test_the_range_is_the_prediction_interval_of_the_sum() -> None:
    seen = [100.0, 200.0, 300.0, 400.0, 500.0]
    spread = statistics.stdev(seen) * (10**2 / 5 + 10) ** 0.5
    low, high = total_range(seen, 10, 1000.0) or (0.0, 0.0)

    assert (low + high) / 2 == pytest.approx(3000)
    assert (high - low) / 2 == pytest.approx(2.132 * spread, rel=0.01)


def test_the_range_stays_within_what_can_be() -> None:
    assert total_range([0.0, 0.0, 0.0, 0.0, 50.0], 1, 60.0) == (0.0, pytest.approx(60.0))


def test_equal_rows_leave_no_doubt_and_few_rows_or_none_to_come_no_range() -> None:
    assert total_range([7.0] * MIN_ROWS, 100, 64.0) == (700.0, 700.0)
    assert total_range([7.0] * (MIN_ROWS - 1), 100, 64.0) is None
    assert total_range([7.0] * 50, 0, 64.0) is None


def test_nine_of_ten_ranges_hold_the_sum() -> None:
    rng = random.Random(0)
    held = 0
    for _ in range(1000):
        drawn = [rng.gauss(800, 250) for _ in range(60)]
        low, high = total_range(drawn[:20], 40, 1e6) or (0.0, 0.0)
        held += low <= sum(drawn[20:]) <= high
    assert 870 <= held <= 930
