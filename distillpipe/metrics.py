"""Scores with honest error bars: pass@1, its standard error and an interval.

Problems are the unit: samples of one problem are alike, so the error comes from the spread of the
problem means (Miller 2024, arXiv 2411.00640, section 2.2), not from the number of samples.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

Z95 = 1.959963984540054


class Score(NamedTuple):
    """A mean over problems, its standard error, and the 95% interval."""

    mean: float
    standard_error: float
    "nan for fewer than two problems"
    low: float
    high: float


def score(problem_means: Sequence[float]) -> Score:
    """The score of a list of problem means, each in [0, 1]; all nan for no problem.

    The standard error is sd / sqrt(n) with n-1 in the sd. The interval is Wilson's (1927) with the number
    of problems replaced by the number that would give this standard error, so it stays inside [0, 1] and
    has width where the error is 0.
    """
    n = len(problem_means)
    if n == 0:
        return Score(math.nan, math.nan, math.nan, math.nan)
    mean = math.fsum(problem_means) / n
    if n == 1:
        return Score(mean, math.nan, *wilson_interval(mean, 1.0))
    spread = math.fsum((one - mean) ** 2 for one in problem_means)
    all_equal = min(problem_means) == max(problem_means)  # then rounding of the mean is no spread
    error = 0.0 if all_equal else math.sqrt(spread / (n - 1) / n)
    effective = mean * (1 - mean) / error**2 if error > 0 else float(n)
    return Score(mean, error, *wilson_interval(mean, max(effective, 1.0)))


def wilson_interval(p: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval for a share `p` of `n` draws; `n` may be fractional, but is positive."""
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
