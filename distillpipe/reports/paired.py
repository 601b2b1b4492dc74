"""Two models on the same problems: the difference by problem, its interval, and an exact test.

Pairing by problem takes out what hard problems cost both models alike (Miller 2024, arXiv 2411.00640,
section 4.2). What the intervals cover and how often the test errs stands in docs/log.md
(scripts/coverage.py).
"""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from distillpipe.base.student_t import student_quantile, student_tail

MAX_STEPS = 2**20  # of the sum of all differences: beyond, it is counted in coarser steps


class Difference(NamedTuple):
    """The mean over problems of what one model has more than the other, in [-1, 1]."""

    mean: float
    standard_error: float
    "sd of the differences / sqrt(problems); nan for fewer than two problems"
    low: float
    high: float
    "of the 95% interval"
    num_wins: int
    "problems on which the difference is above 0"
    num_losses: int


def difference(differences: Sequence[Fraction]) -> Difference:
    """What is known of the difference of two models from their differences on one problem or more."""
    n = len(differences)
    mean = sum(differences, Fraction()) / n
    error = math.nan
    if n > 1:
        error = math.sqrt(statistics.variance(differences, mean) / n)
    low, high = difference_interval([float(one) for one in differences], _step(differences))
    low, high = min(low, float(mean)), max(high, float(mean))  # rounding aside, as they are
    wins, losses = sum(one > 0 for one in differences), sum(one < 0 for one in differences)
    return Difference(float(mean), error, low, high, wins, losses)


def difference_interval(differences: Sequence[float], step: float) -> tuple[float, float]:
    """The 95% interval for the mean difference, [-1, 1] for fewer than two problems.

    Student's, after two problems more: one above and one below the mean by a typical deviation, which is
    at least the `step` that all differences are multiples of, as near to the mean as [-1, 1] allows.
    For one sample a problem that is one win and one loss: the interval of Bonett and Price (2012),
    Journal of Educational and Behavioral Statistics 37, for paired shares.
    """
    n = len(differences)
    if n < 2:
        return -1.0, 1.0
    mean = math.fsum(differences) / n
    unequal = sum(one != 0 for one in differences)
    squares = math.fsum((one - mean) ** 2 for one in differences)
    typical = max(math.sqrt(squares / unequal), step) if unequal else 1.0
    added = min(max(mean, typical - 1), 1 - typical)
    centre = mean + 2 * (added - mean) / (n + 2)
    about = squares + n * (mean - centre) ** 2 + 2 * ((added - centre) ** 2 + typical**2)
    half = student_quantile(n - 1) * math.sqrt(about) / (n + 2)
    return max(-1.0, centre - half), min(1.0, centre + half)


def _step(differences: Sequence[Fraction]) -> float:
    """The largest number that all differences are multiples of, 1 where none is unequal to 0."""
    denominator = math.lcm(*(one.denominator for one in differences))
    return (math.gcd(*(int(one * denominator) for one in differences)) or denominator) / denominator


def sign_flip_test(differences: Sequence[Fraction]) -> float:
    """The chance of a sum at least as far from 0 if each difference had a random sign; 1 for no difference.

    Exact, up to the 1e-12 to which the distribution is computed: the sum of `a_1 s_1 + ... + a_n s_n`
    with signs s has the characteristic function `cos(a_1 t) ... cos(a_n t)`, inverted on the grid of
    the differences' common denominator. For one sample a problem it is McNemar's exact test.
    """
    unequal = [abs(one) for one in differences if one]
    if not unequal:
        return 1.0
    denominator = math.lcm(*(one.denominator for one in unequal))
    denominator = min(denominator, max(1, int(MAX_STEPS / float(sum(unequal)))))
    steps = Counter(round(one * denominator) for one in unequal)
    total = sum(size * count for size, count in steps.items())
    observed = abs(sum(round(one * denominator) for one in differences if one))
    num_points = 2 ** (2 * total + 1).bit_length()  # a place for each sum from -total to total
    turns = np.arange(num_points // 2 + 1)
    cosines = np.cos(2 * np.pi / num_points * np.arange(num_points))
    transform = np.ones(len(turns))
    for size, count in steps.items():
        transform *= cosines[turns * size % num_points] ** count
    chances = np.fft.irfft(transform, num_points)[: total + 1]  # of the sums 0 ... total
    tail = 2 * float(chances[max(observed, 1) :].sum())
    return min(1.0, max(0.0, tail if observed else 1.0))


def p_value(differences: Sequence[Fraction]) -> float:
    """The chance of a mean as far from 0 if there were no difference; by two tests, of which the larger counts.

    Random signs take the differences for symmetric. They are where both models have the same chances, and
    where all unequal differences are of one size; but a few large losses beside many small gains are not, and
    then signs alone err in up to one case of six. Dividing by the spread does not help: random signs leave the
    sum of squares as it is. So where sizes differ, Hall's test has to agree, which knows of the skew.
    """
    found = sign_flip_test(differences)
    if len({abs(one) for one in differences if one}) < 2:
        return found
    return max(found, _skewed_t_test([float(one) for one in differences]))


def _skewed_t_test(differences: Sequence[float]) -> float:
    """Student's t-test after the transformation that takes the skew out of t (Hall 1992, "On the removal of
    skewness by transformation", Journal of the Royal Statistical Society B 54, T3); 0 without a spread.
    """
    n = len(differences)
    mean = math.fsum(differences) / n
    deviation = statistics.stdev(differences, mean)
    if not deviation:
        return 0.0
    skew = math.fsum(((one - mean) / deviation) ** 3 for one in differences) / n
    ratio = mean / deviation
    t = ratio + skew * ratio**2 / 3 + skew**2 * ratio**3 / 27 + skew / (6 * n)
    return student_tail(abs(t) * math.sqrt(n), n - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being several (Holm 1979): the chance of one false find stays under 5%."""
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[number]))
        adjusted[number] = largest
    return adjusted
