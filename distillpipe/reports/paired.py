"""Paired comparison of two models on the same problems: mean difference, confidence interval, and tests.

Pairing removes the variance that hard problems cause in both models (Miller 2024, arXiv 2411.00640, section 4.2).
docs/log.md has the measured coverage of the intervals and error rates of the tests (scripts/coverage.py).
"""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from distillpipe.base.student_t import student_quantile, student_tail

MAX_STEPS = 2**20  # grid points for the sum of all differences; beyond, the grid is coarser


class Difference(NamedTuple):
    """The mean over problems of the difference of two models, in [-1, 1]."""

    mean: float
    standard_error: float
    "sd of the differences / sqrt(problems); nan for fewer than two problems"
    low: float
    high: float
    "`low` and `high`: the 95% interval"
    num_wins: int
    "problems on which the difference is above 0"
    num_losses: int


def difference(differences: Sequence[Fraction]) -> Difference:
    """The mean difference with its interval, from the differences on one or more problems."""
    n = len(differences)
    mean = sum(differences, Fraction()) / n
    error = math.nan
    if n > 1:
        error = math.sqrt(statistics.variance(differences, mean) / n)
    low, high = difference_interval([float(value) for value in differences], _step(differences))
    low, high = min(low, float(mean)), max(high, float(mean))  # in case of rounding
    wins, losses = sum(value > 0 for value in differences), sum(value < 0 for value in differences)
    return Difference(float(mean), error, low, high, wins, losses)


def difference_interval(differences: Sequence[float], step: float) -> tuple[float, float]:
    """The 95% interval for the mean difference, [-1, 1] for fewer than two problems.

    This is Student's interval after adding two pseudo-problems, one above and one below the mean by a typical
    deviation. The deviation is at least the `step` that all differences are multiples of, and is limited by [-1, 1].
    For one sample a problem the two are one win and one loss: the interval of Bonett and Price (2012), Journal of
    Educational and Behavioral Statistics 37, for paired proportions.
    """
    n = len(differences)
    if n < 2:
        return -1.0, 1.0
    mean = math.fsum(differences) / n
    unequal = sum(value != 0 for value in differences)
    squares = math.fsum((value - mean) ** 2 for value in differences)
    typical = max(math.sqrt(squares / unequal), step) if unequal else 1.0
    added = min(max(mean, typical - 1), 1 - typical)
    centre = mean + 2 * (added - mean) / (n + 2)
    about = squares + n * (mean - centre) ** 2 + 2 * ((added - centre) ** 2 + typical**2)
    half = student_quantile(n - 1) * math.sqrt(about) / (n + 2)
    return max(-1.0, centre - half), min(1.0, centre + half)


def _step(differences: Sequence[Fraction]) -> float:
    """The largest number that all differences are multiples of; 1 if all are 0."""
    denominator = math.lcm(*(value.denominator for value in differences))
    return (
        math.gcd(*(int(value * denominator) for value in differences)) or denominator
    ) / denominator


def sign_flip_test(differences: Sequence[Fraction]) -> float:
    """The p-value of the sign-flip test: a sum at least as far from 0 under random signs; 1 without differences.

    The result is exact up to 1e-12, the precision of the distribution. The sum of `a_1 s_1 + ... + a_n s_n` with random
    signs s has the characteristic function `cos(a_1 t) ... cos(a_n t)`, which we invert on the grid of the common
    denominator. For one sample a problem this is McNemar's exact test.
    """
    unequal = [abs(value) for value in differences if value]
    if not unequal:
        return 1.0
    denominator = math.lcm(*(value.denominator for value in unequal))
    denominator = min(denominator, max(1, int(MAX_STEPS / float(sum(unequal)))))
    steps = Counter(round(value * denominator) for value in unequal)
    total = sum(size * count for size, count in steps.items())
    observed = abs(sum(round(value * denominator) for value in differences if value))
    num_points = 2 ** (2 * total + 1).bit_length()  # a grid point for each sum from -total to total
    turns = np.arange(num_points // 2 + 1)
    cosines = np.cos(2 * np.pi / num_points * np.arange(num_points))
    transform = np.ones(len(turns))
    for size, count in steps.items():
        transform *= cosines[turns * size % num_points] ** count
    probabilities = np.fft.irfft(transform, num_points)[: total + 1]  # of the sums 0 ... total
    tail = 2 * float(probabilities[max(observed, 1) :].sum())
    return min(1.0, max(0.0, tail if observed else 1.0))


def p_value(differences: Sequence[Fraction]) -> float:
    """The two-sided p-value of no difference: the larger one of two tests.

    The sign-flip test assumes symmetric differences. That holds if both models have the same probabilities, and if all
    nonzero differences have one size. A few large losses beside many small gains are skewed, and the sign-flip test alone
    then errs in up to one case of six. Dividing by the spread does not help, because random signs do not change the sum
    of squares. So if sizes differ, Hall's test, which corrects for skewness, has to agree.
    """
    symmetric = sign_flip_test(differences)
    if len({abs(value) for value in differences if value}) < 2:
        return symmetric
    return max(symmetric, _skewed_t_test([float(value) for value in differences]))


def _skewed_t_test(differences: Sequence[float]) -> float:
    """Student's t-test after a transformation that removes skewness; 0 without spread.

    Hall 1992, "On the removal of skewness by transformation", Journal of the Royal Statistical Society B 54, T3.
    """
    n = len(differences)
    mean = math.fsum(differences) / n
    deviation = statistics.stdev(differences, mean)
    if not deviation:
        return 0.0
    skew = math.fsum(((value - mean) / deviation) ** 3 for value in differences) / n
    ratio = mean / deviation
    t = ratio + skew * ratio**2 / 3 + skew**2 * ratio**3 / 27 + skew / (6 * n)
    return student_tail(abs(t) * math.sqrt(n), n - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjustment for multiple tests: the family-wise error rate stays below 5%."""
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[number]))
        adjusted[number] = largest
    return adjusted
