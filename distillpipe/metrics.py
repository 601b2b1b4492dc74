"""Scores with honest error bars: means over problems, their errors and intervals, pass@k.

Problems are the unit: samples of one problem are alike, so the error comes from the spread of the
problem means (Miller 2024, arXiv 2411.00640, section 2.2), not from the number of samples. Pure
functions of numbers; the table of what the intervals cover is in docs/log.md (scripts/coverage.py).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

Z95 = 1.959963984540054
Z80 = 0.8416212335729143
PRIOR_SHARE, PRIOR_PROBLEMS = (
    0.8,
    1.3,
)  # chosen by what the intervals cover, see scripts/coverage.py


class Score(NamedTuple):
    """A mean over problems, its standard error, and the 95% interval."""

    mean: float
    standard_error: float
    "nan for fewer than two problems"
    low: float
    high: float


class Parts(NamedTuple):
    """The two sources of a standard error: its square is the sum of their squares."""

    sampling: float
    "what other samples of the same problems would change"
    problems: float
    "what other problems of the same kind would change"


def score(problem_means: Sequence[float], num_samples: int | None = None) -> Score:
    """The score of a list of problem means, each in [0, 1]; all nan for no problem.

    Each is the share of right ones among `num_samples`, of the problem that has fewest; null for values of
    another kind, as pass@k is. The standard error is sd / sqrt(n) with n-1 in the sd.
    """
    n = len(problem_means)
    if n == 0:
        return Score(math.nan, math.nan, math.nan, math.nan)
    mean, variance = _mean_and_variance(problem_means)
    if n == 1:
        return Score(mean, math.nan, *wilson_interval(mean, 1.0))
    return Score(mean, math.sqrt(variance / n), *interval(mean, variance, n, num_samples))


def interval(
    mean: float, variance: float, num_problems: int, num_samples: int | None = None
) -> tuple[float, float]:
    """The 95% interval for the mean of what `num_problems` (two or more) were drawn from.

    Wilson's (1927) interval with the variance `share * p (1 - p)` at its centre. `share` is what the
    spread of the problem means is of that of single coin tosses: from 1 / num_samples, where all problems
    are alike, to 1, where each is always or never solved. It is a noisy figure where few problems carry the
    successes (or the failures), so it is drawn towards `PRIOR_SHARE` of the way from one to the other, by
    `PRIOR_PROBLEMS` against as many as carry them, Kish's effective number `sum(x)**2 / sum(x**2)`.

    The quantile is Student's, as the spread is measured; but not what sampling adds to it, which follows
    from the mean: Satterthwaite's degrees of freedom. For one sample a problem it is Wilson's interval.
    """
    least = 0.0 if num_samples is None else 1 / num_samples
    share = 1.0 if num_samples is None else least + PRIOR_SHARE * (1 - least)
    if variance > 0:
        carrying = min(
            num_problems * one**2 / ((num_problems - 1) / num_problems * variance + one**2)
            for one in (mean, 1 - mean)
        )
        weight = min(1.0, PRIOR_PROBLEMS / carrying)
        share = min(variance / (mean * (1 - mean)), 1.0) ** (1 - weight) * share**weight
    measured = max(0.0, 1 - least / share)
    degrees = (num_problems - 1) / measured**2 if measured else math.inf
    return wilson_interval(mean, num_problems / share, student_quantile(degrees))


def wilson_interval(p: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval for a share `p` of `n` draws; `n` may be fractional, but is positive."""
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def student_quantile(degrees: float, z: float = Z95) -> float:
    """Student's quantile from the normal one (Abramowitz and Stegun 26.7.5): 0.1% low at 3 degrees of
    freedom, 1% at 2, 11% at 1.
    """
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, start=1))


def error_parts(corrects: Sequence[tuple[int, int]]) -> Parts | None:
    """What sampling and what the choice of problems adds to the standard error of pass@1.

    Takes (correct, samples) of each problem; None where that cannot be told: a problem with one sample,
    or fewer than two problems. Sampling is the mean over problems of the unbiased x (1 - x) / (samples - 1);
    problems is the rest of the variance, 0 where there is none (Miller 2024, section 3.1).
    """
    n = len(corrects)
    if n < 2 or any(samples < 2 for _, samples in corrects):
        return None
    means = [correct / samples for correct, samples in corrects]
    within = math.fsum(
        mean * (1 - mean) / (samples - 1)
        for mean, (_, samples) in zip(means, corrects, strict=True)
    )
    variance = _mean_and_variance(means)[1]
    return Parts(math.sqrt(within) / n, math.sqrt(max(0.0, variance - within / n) / n))


def pass_at(k: int, correct: int, samples: int) -> float:
    """The chance that one of `k` of the samples is correct: 1 - C(samples - correct, k) / C(samples, k).

    Unbiased (Chen et al. 2021, arXiv 2107.03374, section 2.1); nan where there are fewer than `k` samples.
    """
    if k > samples:
        return math.nan
    return 1 - math.comb(samples - correct, k) / math.comb(samples, k)


def detectable_difference(standard_error: float) -> float:
    """The smallest true difference that a two-sided test at 5% finds with a power of 80%, from the
    standard error of the difference (Miller 2024, section 5); nan for an error of 0, which no spread
    measured and says nothing of another model's.
    """
    return (Z95 + Z80) * standard_error if standard_error > 0 else math.nan


def _mean_and_variance(values: Sequence[float]) -> tuple[float, float]:
    """With n - 1 in the variance, 0 for a single value; rounding of the mean is no spread."""
    mean = math.fsum(values) / len(values)
    if min(values) == max(values):
        return mean, 0.0
    return mean, math.fsum((one - mean) ** 2 for one in values) / (len(values) - 1)
