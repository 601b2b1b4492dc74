"""Scores by hand. z = 1.959963984540054, z*z = 3.8414588; t3 = 3.1786170 and t1 = 11.3001176 as
`student_quantile` gives them, t3*t3 = 10.1036100, t1*t1 = 127.6926577.
"""

import math
from fractions import Fraction
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.base.student_t import student_quantile
from distillpipe.reports.metrics import (
    Score,
    detectable_difference,
    error_parts,
    interval,
    pass_at,
    score,
    wilson_interval,
)

NAN = math.nan

SCORES = {
    # mean 3/4; sum of squares 3 * (1/4)^2 + (3/4)^2 = 3/4; variance (3/4)/3 = 1/4; error sqrt(1/4/4)
    # variance above 3/4 * 1/4, so the share is 1; centre (0.75 + t3*t3/8) / (1 + t3*t3/4) = 0.5709039
    # half t3 / (1 + t3*t3/4) * sqrt(0.1875/4 + t3*t3/64) = 0.4079185
    "three of four": ([1.0, 0.0, 1.0, 1.0], 0.75, 0.25, 0.1629853, 0.9788224),
    # mean 1/2; squares 2 * (1/4)^2 = 1/8; variance 1/8; error sqrt(1/8/2) = 1/4; share (1/8)/(1/4) = 1/2
    # carrying 2 * 1/4 / (1/16 + 1/4) = 1.6; share (1/2)^(1 - 1.3/1.6) = 0.8781260; n 2/0.8781260 = 2.2775774
    # half t1 / (1 + t1*t1/n) * sqrt(1/4/n + t1*t1/(4*n*n)) = 0.4955997
    "two problems, a half": ([0.25, 0.75], 0.5, 0.25, 0.0044003, 0.9955997),
    # mean 1/2; variance 1/2; error sqrt(1/2/2) = 1/2; share 1
    # half t1 / (1 + t1*t1/2) * sqrt(1/8 + t1*t1/16) = 0.4961298
    "one of two": ([0.0, 1.0], 0.5, 0.5, 0.0038702, 0.9961298),
    # nothing measured: no wider than Wilson's; high (z*z/4) / (1 + z*z/4) = 0.4898908
    "none of four": ([0.0] * 4, 0.0, 0.0, 0.0, 0.4898908),
    # low 1 - 0.4898908
    "all of four": ([1.0] * 4, 1.0, 0.0, 0.5101092, 1.0),
    # half t3 / (1 + t3*t3/4) * sqrt(1/16 + t3*t3/64) = 0.4231975
    "every problem half": ([0.5] * 4, 0.5, 0.0, 0.0768025, 0.9231975),
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


def test_of_how_many_samples_the_means_are_says_what_spread_they_have_at_least() -> None:
    # as "two problems, a half", but drawn towards 1/4 + 0.8 * 3/4 = 0.85: share 0.8781260 * 0.85^0.8125 =
    # 0.7695017, of which sampling is 1/4 / 0.7695017; degrees (1 - 0.3248856)^-2 = 2.1940646
    quantile = student_quantile(2.1940646)
    result = score([0.25, 0.75], num_samples=4)
    assert result[2:] == pytest.approx(wilson_interval(0.5, 2 / 0.7695017, quantile), abs=1e-6)
    # no spread says nothing of it: 0.85 of that of tosses for three problems; two degrees, (1 - 1/4/0.85)^-2 each
    quantile = student_quantile(2 / (1 - 0.25 / 0.85) ** 2)
    result = score([0.5, 0.5, 0.5], num_samples=4)
    assert result[2:] == pytest.approx(wilson_interval(0.5, 3 / 0.85, quantile))


def test_at_an_edge_many_samples_lead_from_wilsons_interval_to_students() -> None:
    # thirty problems: t29 = 2.0452, so 0.8 * (2.0452 / 1.96)^2 = 0.8711 of Wilson's variance for very many samples,
    # and a quarter of the rest more for four
    share = 0.8 * (student_quantile(29) / 1.959963984540054) ** 2
    assert score([1.0] * 30, num_samples=1)[2:] == pytest.approx(wilson_interval(1.0, 30))
    assert score([1.0] * 30, num_samples=4)[2:] == pytest.approx(
        wilson_interval(1.0, 30 / (share + (1 - share) / 4))
    )


@pytest.mark.parametrize("num_problems", [1, 2, 3, 4, 5, 8, 10, 11, 15, 30, 200])
def test_more_samples_never_widen_an_interval_at_an_edge(num_problems: int) -> None:
    for edge in (Fraction(0), Fraction(1)):
        found = [
            score([edge] * num_problems, samples) for samples in (1, 2, 3, 4, 8, 16, 64, 256, 4096)
        ]
        widths = [one.high - one.low for one in found]
        assert widths == sorted(widths, reverse=True)
        assert all((one.high if edge else 1 - one.low) == 1.0 for one in found)


def _check(found: Score) -> None:
    assert 0.0 <= found.low <= found.mean <= found.high <= 1.0
    assert found.high - found.low > 0.0 or found.mean in (0.0, 1.0)


def test_every_count_of_a_few_samples_has_a_score() -> None:
    for num_problems in (1, 2, 3):
        for samples in (1, 2, 3, 4):
            for corrects in product(range(samples + 1), repeat=num_problems):
                _check(score([Fraction(one, samples) for one in corrects], samples))
                for k in range(1, samples + 1):
                    _check(score([pass_at(k, one, samples) for one in corrects]))
                error_parts([(one, samples) for one in corrects])


COUNTS = st.integers(1, 3000).flatmap(
    lambda most: st.lists(
        st.integers(1, most).flatmap(
            lambda samples: st.tuples(
                st.one_of(
                    st.sampled_from(sorted({0, 1, samples // 2, samples - 1, samples})),
                    st.integers(0, samples),
                ),
                st.just(samples),
            )
        ),
        min_size=1,
        max_size=40,
    )
)


@given(COUNTS, st.floats(0, 1))
def test_all_reachable_counts_have_a_score(counts: list[tuple[int, int]], share: float) -> None:
    fewest = min(samples for _, samples in counts)
    k = max(1, round(share * fewest))  # k = samples too
    for means, num_samples in (
        ([Fraction(*one) for one in counts], fewest),
        ([pass_at(k, *one) for one in counts], None),
        ([float(pass_at(k, *one)) for one in counts], None),
    ):
        found = score(means, num_samples)
        _check(found)
        assert math.isnan(found.standard_error) == (len(counts) == 1)
        assert not found.standard_error < 0
        assert not detectable_difference(found.standard_error) <= 0
    parts = error_parts(counts)
    assert (parts is None) == (len(counts) < 2 or fewest < 2)
    assert parts is None or (parts.sampling >= 0 and parts.problems >= 0)


@pytest.mark.parametrize(
    ("samples", "k", "corrects"),
    [
        (64, 32, [64] * 29 + [30]),  # the mean rounds to 1.0, and its spread is not 0
        (64, 32, [64] * 28 + [31, 30]),
        (2000, 1000, [1000, 999] * 15),  # what is lacking to 1 is below the least float
        (2000, 1000, [2000] * 29 + [1000]),
        (4096, 4096, [1] * 3 + [0]),
        (10**6, 1, [1] * 29 + [0]),
    ],
)
def test_a_mean_that_rounds_to_an_edge_has_a_score(samples, k, corrects) -> None:
    _check(score([pass_at(k, correct, samples) for correct in corrects]))
    _check(score([1 - pass_at(k, correct, samples) for correct in corrects]))


def test_an_interval_of_rounded_figures_exists() -> None:
    # what a simulation hands over: a mean that was rounded to an edge with a spread that was not
    for mean in (0.0, 1.0):
        low, high = interval(mean, 1e-30, 30, 4)
        assert 0.0 <= low <= mean <= high <= 1.0


def test_pass_at_k_is_exact() -> None:
    assert pass_at(32, 33, 64) == 1
    assert pass_at(32, 30, 64) == 1 - Fraction(math.comb(34, 32), math.comb(64, 32))
    assert pass_at(1, 1, 3) == Fraction(1, 3)


def test_an_interval_of_one_sample_a_problem_is_wilsons() -> None:
    answers = [1.0] * 24 + [0.0] * 6
    assert score(answers, num_samples=1)[2:] == pytest.approx(wilson_interval(0.8, 30))
    assert score([0.0] * 4, num_samples=1)[2:] == pytest.approx(wilson_interval(0.0, 4))


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
    quantile = student_quantile(num_problems - 1)
    assert (result.low, result.high) == pytest.approx(
        wilson_interval(share, num_problems, quantile)
    )


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


def test_an_interval_of_values_of_unknown_kind_is_a_little_wider_than_wilsons() -> None:
    answers = [1.0] * 24 + [0.0] * 6
    low, high = wilson_interval(0.8, 30)
    result = score(answers)
    assert 1.0 < (result.high - result.low) / (high - low) < 1.05


def test_few_problems_that_carry_the_successes_make_an_interval_wide() -> None:
    # one success in 64 samples of one of 30 problems: were all samples tosses of one coin, 1/1920
    # with z*z/1920 would end at 0.0029; the only problem that carries anything leaves share = 1
    result = score([1 / 64] + [0.0] * 29)
    low, high = wilson_interval(result.mean, 30, student_quantile(29))
    assert (result.low, result.high) == pytest.approx((low, high))


def test_the_error_is_parted_into_sampling_and_problems() -> None:
    # means 1/4, 3/4: variance 1/8, error^2 1/16; within each 3/16 / 3 = 1/16, so sampling (1/16)/2 = 1/32
    parts = error_parts([(1, 4), (3, 4)])
    assert parts is not None
    assert parts.sampling**2 == pytest.approx(1 / 32)
    assert parts.problems**2 == pytest.approx(1 / 32)


def test_without_spread_between_problems_all_error_is_of_sampling() -> None:
    parts = error_parts([(2, 4)] * 9)
    assert parts == pytest.approx((math.sqrt(1 / 12 / 9), 0.0))


def test_problems_that_are_never_or_always_solved_have_no_error_of_sampling() -> None:
    assert error_parts([(0, 4), (4, 4)]) == pytest.approx((0.0, 0.5))


@pytest.mark.parametrize("corrects", [[], [(1, 4)], [(1, 1), (0, 1)], [(3, 4), (1, 1)]])
def test_the_parts_of_the_error_are_unknown_without_two_samples_of_two_problems(corrects) -> None:
    assert error_parts(corrects) is None


@pytest.mark.parametrize("samples", [1, 2, 5, 8])
def test_pass_at_k_is_the_share_of_all_draws_of_k_that_hold_a_correct_one(samples: int) -> None:
    for correct in range(samples + 1):
        answers = [True] * correct + [False] * (samples - correct)
        for k in range(1, samples + 1):
            draws = list(combinations(answers, k))
            assert pass_at(k, correct, samples) == pytest.approx(
                float(Fraction(sum(map(any, draws)), len(draws)))
            )


@pytest.mark.parametrize("k", [0, 5])
def test_pass_at_k_of_fewer_samples_is_undefined(k: int) -> None:
    with pytest.raises(ValueError, match=f"pass@{k} needs k from 1 to the number of samples, 4"):
        pass_at(k, 4, 4)


def test_the_difference_that_can_be_detected_is_2_8_standard_errors() -> None:
    assert detectable_difference(0.01) == pytest.approx(0.0280158522)
    assert math.isnan(detectable_difference(0.0))
