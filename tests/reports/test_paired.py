"""Paired differences: intervals by hand, the test against every way to set the signs."""

from fractions import Fraction
from itertools import product
from math import comb, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillpipe.base.student_t import student_quantile
from distillpipe.reports.paired import (
    difference,
    difference_interval,
    holm,
    p_value,
    sign_flip_test,
)

QUARTERS = st.lists(st.integers(-4, 4).map(lambda one: Fraction(one, 4)), min_size=1, max_size=9)


@given(QUARTERS)
def test_the_test_is_the_share_of_all_signs_that_lie_as_far_from_zero(differences) -> None:
    observed = abs(sum(differences))
    signs = list(product((-1, 1), repeat=len(differences)))
    far = [
        abs(sum(sign * one for sign, one in zip(row, differences, strict=True))) >= observed
        for row in signs
    ]
    assert sign_flip_test(differences) == pytest.approx(sum(far) / len(signs), abs=1e-12)


@pytest.mark.parametrize(("won", "lost"), [(8, 1), (5, 5), (30, 12), (0, 6), (200, 150)])
def test_with_one_sample_a_problem_the_test_is_mcnemars_exact_one(won: int, lost: int) -> None:
    total, fewer = won + lost, min(won, lost)
    expected = min(1.0, 2 * sum(comb(total, one) for one in range(fewer + 1)) / 2**total)
    row = [Fraction(1)] * won + [Fraction(-1)] * lost + [Fraction(0)] * 40
    assert sign_flip_test(row) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("row", [[], [Fraction(0)] * 5, [Fraction(1, 4), Fraction(-1, 4)]])
def test_no_difference_gives_a_p_value_of_one(row: list[Fraction]) -> None:
    assert sign_flip_test(row) == 1.0


def test_the_interval_is_that_of_bonett_and_price_for_one_sample_a_problem() -> None:
    # 6 won, 2 lost of 20: one more of each, so 7/22 and 3/22; difference 4/22
    # variance (7/22 + 3/22 - (4/22)^2) / 22 = 0.0191585; half t19 * 0.1384142
    low, high = difference_interval([1.0] * 6 + [-1.0] * 2 + [0.0] * 12, 1.0)
    half = student_quantile(19) * 0.1384142
    assert (low, high) == pytest.approx((4 / 22 - half, 4 / 22 + half), abs=1e-6)


def test_equal_models_have_an_interval_with_width() -> None:
    # nothing differs, so a typical difference is taken for 1: variance (2/32) / 32
    half = student_quantile(29) * (2 / 32 / 32) ** 0.5
    assert difference_interval([0.0] * 30, 1.0) == pytest.approx((-half, half))


def test_a_large_difference_that_all_problems_share_has_a_narrow_interval() -> None:
    # deviations of 1/64 from 0.75: typical 1/64, so squares 32 / 64^2 of 32, and the centre stays
    row = [Fraction(49, 64), Fraction(47, 64)] * 15
    found = difference(row)
    half = student_quantile(29) * (32 / 64**2) ** 0.5 / 32
    assert (found.low, found.high) == pytest.approx((0.75 - half, 0.75 + half))


def test_all_problems_won_by_all_samples_leave_room_for_others() -> None:
    found = difference([Fraction(1)] * 30)
    half = student_quantile(29) * (1 - (30 / 32) ** 2) ** 0.5 / 32**0.5
    assert (found.low, found.high) == pytest.approx((30 / 32 - half, 1.0))


@pytest.mark.parametrize("row", [[], [0.5]])
def test_one_problem_says_nothing_about_a_difference(row: list[float]) -> None:
    assert difference_interval(row, 0.5) == (-1.0, 1.0)


@given(QUARTERS.filter(lambda row: len(row) > 1))
def test_swapping_the_models_mirrors_the_difference(row: list[Fraction]) -> None:
    one, other = difference(row), difference([-value for value in row])
    assert one.mean == pytest.approx(-other.mean)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert (one.num_wins, one.num_losses) == (other.num_losses, other.num_wins)
    assert -1 <= one.low <= one.high <= 1


def test_a_difference_counts_wins_and_losses_and_has_the_error_of_the_differences() -> None:
    # mean 1/4; squares (1/4)^2 + (3/4)^2 + (1/4)^2 + (1/4)^2 -> 0.6875 with values 1/2, -1/2, 1/2, 1/2
    found = difference([Fraction(1, 2), Fraction(-1, 2), Fraction(1, 2), Fraction(1, 2)])
    assert (found.mean, found.num_wins, found.num_losses) == (0.25, 3, 1)
    assert found.standard_error == pytest.approx(0.25)  # sd sqrt((3/16 + 9/16) / 3) = 1/2, of 4
    assert difference([Fraction(1)]).standard_error == pytest.approx(nan, nan_ok=True)


def test_a_fine_grid_is_coarsened_and_stays_near_the_exact_test() -> None:
    fine = [Fraction(100, 99991), Fraction(130, 99989)] * 30 + [Fraction(-120, 99971)] * 45
    coarse = [Fraction(round(one * 99990)) for one in fine]
    assert sign_flip_test(fine) == pytest.approx(sign_flip_test(coarse), abs=0.01)


def test_signs_alone_are_believed_where_all_differences_have_one_size() -> None:
    for won, lost in ((8, 1), (30, 12), (0, 6)):
        row = [Fraction(1, 4)] * won + [Fraction(-1, 4)] * lost + [Fraction(0)] * 20
        assert p_value(row) == sign_flip_test(row)


def test_a_few_large_losses_are_not_outweighed_by_many_small_gains() -> None:
    # 29 of 30 gain a tenth, one loses nine tenths: signs see 29 against 1, and 3e-2; but one more such loss
    # among 30 would turn the mean, and Hall's t knows that
    row = [Fraction(1, 10)] * 28 + [Fraction(9, 80), Fraction(-9, 10)]
    assert sign_flip_test(row) < 0.05
    assert p_value(row) > 0.3
    assert p_value([-one for one in row]) == pytest.approx(p_value(row))


FRACTIONS = st.tuples(st.integers(-300, 300), st.integers(1, 300)).map(
    lambda one: max(min(Fraction(*one), Fraction(1)), Fraction(-1))
)


@settings(max_examples=15)  # a tenth of a second each
@given(st.lists(FRACTIONS, min_size=1, max_size=30))
def test_all_differences_have_figures(differences: list[Fraction]) -> None:
    found = difference(differences)
    assert -1 <= found.low <= found.mean <= found.high <= 1
    assert 0 <= p_value(differences) <= 1
    assert found.num_wins + found.num_losses <= len(differences)


def test_holm_adjusts_for_several_models() -> None:
    # sorted 0.01 * 3, then max(0.03, 0.02 * 2), then max(0.04, 0.04 * 1)
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
