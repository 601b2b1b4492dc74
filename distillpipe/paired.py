"""Two models on the same problems: the difference by problem, its interval, and an exact test.

Pairing by problem takes out what hard problems cost both models alike (Miller 2024, arXiv 2411.00640,
section 4.2). What the intervals cover and how often the test errs stands in docs/log.md
(scripts/coverage.py).
"""

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from distillpipe.metrics import student_quantile

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
    values = [float(one) for one in differences]
    mean = math.fsum(values) / n
    error = math.nan
    if n > 1:
        error = math.sqrt(math.fsum((one - mean) ** 2 for one in values) / (n - 1) / n)
    wins, losses = sum(one > 0 for one in differences), sum(one < 0 for one in differences)
    return Difference(mean, error, *difference_interval(values, _step(differences)), wins, losses)


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


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being several (Holm 1979): the chance of one false find stays under 5%."""
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[number]))
        adjusted[number] = largest
    return adjusted
