"""Quantiles and histograms of row lengths, with values computed by hand."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.data.store.counts import MAX_BINS, Bin, Distribution, distribution

CASES: dict[str, tuple[list[int], Distribution]] = {
    "one value": (
        [7],
        Distribution(
            rows=1, sum=7, min=7, p5=7, p25=7, p50=7, p75=7, p95=7, p99=7, max=7,
            histogram=[Bin(7, 8, 1)],
        ),
    ),
    "zero": (
        [0],
        Distribution(
            rows=1, sum=0, min=0, p5=0, p25=0, p50=0, p75=0, p95=0, p99=0, max=0,
            histogram=[Bin(0, 1, 1)],
        ),
    ),
    "ties": (
        [5, 5, 5, 5],
        Distribution(
            rows=4, sum=20, min=5, p5=5, p25=5, p50=5, p75=5, p95=5, p99=5, max=5,
            histogram=[Bin(5, 6, 4)],
        ),
    ),
    "four values, each quarter one of them": (
        [40, 10, 30, 20],
        Distribution(
            rows=4, sum=100, min=10, p5=10, p25=10, p50=20, p75=30, p95=40, p99=40, max=40,
            histogram=[
                Bin(10, 15, 1), Bin(15, 20, 0), Bin(20, 25, 1), Bin(25, 30, 0), Bin(30, 35, 1),
                Bin(35, 40, 0), Bin(40, 45, 1),
            ],
        ),
    ),
    "one to a hundred: a quantile is its own percent": (
        list(range(1, 101)),
        Distribution(
            rows=100, sum=5050, min=1, p5=5, p25=25, p50=50, p75=75, p95=95, p99=99, max=100,
            histogram=[Bin(0, 10, 9), *(Bin(low, low + 10, 10) for low in range(10, 90, 10)), Bin(90, 100, 11)],
        ),
    ),
    "a long tail, which the last bin holds": (
        [*range(1, 100), 1_000_000],
        Distribution(
            rows=100, sum=4950 + 1_000_000, min=1, p5=5, p25=25, p50=50, p75=75, p95=95, p99=99,
            max=1_000_000,
            histogram=[
                Bin(0, 10, 9), *(Bin(low, low + 10, 10) for low in range(10, 90, 10)),
                Bin(90, 1_000_000, 11),
            ],
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("values", "expected"), CASES.values(), ids=CASES)
def test_quantiles_are_values_that_are_there_and_bins_have_round_ends(
    values: list[int], expected: Distribution
) -> None:
    assert distribution(values) == expected


def test_no_values_have_no_distribution() -> None:
    assert distribution([]) is None


def test_the_values_are_left_in_their_order() -> None:
    values = [3, 1, 2]
    distribution(values)

    assert values == [3, 1, 2]


@given(st.lists(st.integers(0, 10**7), min_size=1))
def test_each_value_is_in_one_bin_and_quantiles_have_their_share(
    values: list[int],
) -> None:
    found = distribution(values)
    assert found is not None
    assert (found.rows, found.sum) == (len(values), sum(values))
    assert (found.min, found.max) == (min(values), max(values))
    for percent in (5, 25, 50, 75, 95, 99):
        quantile = getattr(found, f"p{percent}")
        assert sum(value <= quantile for value in values) * 100 >= percent * len(values)
        assert sum(value < quantile for value in values) * 100 < percent * len(values)

    bins = found.histogram
    assert 1 <= len(bins) <= MAX_BINS + 1
    assert all(one.high == other.low for one, other in pairwise(bins))
    assert bins[0].low <= found.min
    assert bins[-1].high >= found.max
    for one in bins[:-1]:
        assert one.rows == sum(one.low <= value < one.high for value in values)
    assert bins[-1].rows == sum(value >= bins[-1].low for value in values)
