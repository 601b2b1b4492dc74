"""Scores by hand. z = 1.959963984540054, z*z = 3.8414588."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.metrics import score, wilson_interval

NAN = math.nan

SCORES = {
    # mean 3/4; sum of squares 3 * (1/4)^2 + (3/4)^2 = 3/4; variance (3/4)/3 = 1/4; error sqrt(1/4/4)
    # effective problems (3/4 * 1/4) / (1/4)^2 = 3; centre (0.75 + z*z/6) / (1 + z*z/3) = 0.6096257
    # half z / (1 + z*z/3) * sqrt(0.1875/3 + z*z/36) = 0.3535331
    "three of four": ([1.0, 0.0, 1.0, 1.0], 0.75, 0.25, 0.2560927, 0.9631588),
    # mean 1/2; squares 2 * (1/4)^2 = 1/8; variance 1/8; error sqrt(1/8/2) = 1/4
    # effective (1/4) / (1/16) = 4; centre 1/2; half z / (1 + z*z/4) * sqrt(1/16 + z*z/64) = 0.3499610
    "two problems of four samples": ([0.25, 0.75], 0.5, 0.25, 0.1500390, 0.8499610),
    # mean 1/2; variance 1/2; error sqrt(1/2/2) = 1/2; effective (1/4)/(1/4) = 1
    # half z / (1 + z*z) * sqrt(1/4 + z*z/4) = z / (2 * sqrt(1 + z*z)) = 0.4453792
    "one of two": ([0.0, 1.0], 0.5, 0.5, 0.0546208, 0.9453792),
    # no spread: as many problems as there are; high z*z / (4 + z*z) = 0.4898908
    "none of four": ([0.0] * 4, 0.0, 0.0, 0.0, 0.4898908),
    # low 1 - 0.4898908
    "all of four": ([1.0] * 4, 1.0, 0.0, 0.5101092, 1.0),
    # n = 4 in half = z / (1 + z*z/4) * sqrt(1/16 + z*z/64) = 0.3499610
    "every problem half": ([0.5] * 4, 0.5, 0.0, 0.1500390, 0.8499610),
    # one problem says nothing about the spread; high z*z / (1 + z*z) = 0.7934507
    "the only problem wrong": ([0.0], 0.0, NAN, 0.0, 0.7934507),
    "the only problem right": ([1.0], 1.0, NAN, 0.2065493, 1.0),
    "the only problem half": ([0.5], 0.5, NAN, 0.0546208, 0.9453792),
    "no problem": ([], NAN, NAN, NAN, NAN),
}


@pytest.mark.parametrize(
    ("means", "mean", "error", "low", "high"), SCORES.values(), ids=SCORES.keys()
)
def test_scores_are_what_the_arithmetic_gives(means, mean, error, low, high) -> None:
    assert score(means) == pytest.approx((mean, error, low, high), abs=1e-7, nan_ok=True)


# Newcombe (1998), Statistics in Medicine 17, table I, method 3; and z*z / (10 + z*z) by hand
@pytest.mark.parametrize(
    ("p", "n", "low", "high"),
    [
        (81 / 263, 263, 0.2553, 0.3662),
        (15 / 148, 148, 0.0624, 0.1605),
        (0 / 20, 20, 0.0000, 0.1611),
        (1 / 29, 29, 0.0061, 0.1718),
        (0.0, 10, 0.0000, 0.2775),
        (1.0, 10, 0.7225, 1.0000),
    ],
)
def test_intervals_are_those_of_the_published_table(p, n, low, high) -> None:
    assert wilson_interval(p, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("n", [1, 2, 10, 1319, 0.5, 1e9])
def test_intervals_at_zero_and_one_touch_the_end_and_have_width(n: float) -> None:
    # one end lies at p itself, the other z*z / (n + z*z) from it
    width = 3.8414588206941254 / (n + 3.8414588206941254)
    assert wilson_interval(0.0, n) == pytest.approx((0.0, width), abs=1e-12)
    assert wilson_interval(1.0, n) == pytest.approx((1.0 - width, 1.0), abs=1e-12)


@pytest.mark.parametrize(
    ("share", "num_problems"), [(1 / 3, 25), (2 / 3, 25), (1 / 5, 3), (1 / 10, 3), (7 / 10, 10)]
)
def test_rounding_of_the_mean_is_no_spread(share: float, num_problems: int) -> None:
    # with an error of 1e-17 in place of 0 the interval would have no width
    result = score([share] * num_problems)
    assert result.standard_error == 0.0
    assert (result.low, result.high) == pytest.approx(wilson_interval(share, num_problems))


MEANS = st.lists(st.integers(0, 8).map(lambda correct: correct / 8), min_size=1, max_size=40)


@given(MEANS)
def test_an_interval_holds_the_mean_stays_in_zero_to_one_and_has_width(means: list[float]) -> None:
    result = score(means)
    assert 0.0 <= result.low <= result.mean + 1e-12
    assert result.mean - 1e-12 <= result.high <= 1.0
    assert result.high - result.low > 0.01


@given(MEANS)
def test_the_order_of_the_problems_does_not_matter(means: list[float]) -> None:
    expected = pytest.approx(score(means), abs=1e-12, nan_ok=True)
    assert score(sorted(means)) == expected


@given(st.lists(st.booleans(), min_size=2, max_size=40))
def test_right_and_wrong_swapped_mirror_the_score(right: list[bool]) -> None:
    one = score([float(answer) for answer in right])
    other = score([float(not answer) for answer in right])
    assert other == pytest.approx((1 - one.mean, one.standard_error, 1 - one.high, 1 - one.low))


def test_more_problems_of_the_same_kind_narrow_the_interval() -> None:
    widths = [score([0.0, 1.0] * n).high - score([0.0, 1.0] * n).low for n in (1, 4, 16, 64, 256)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.09
