"""Scores with standard errors and confidence intervals: means over problems, pass@k, maj@k.

The unit of analysis is the problem. Samples of one problem are correlated, so the standard error comes from the spread of
the problem means (Miller 2024, arXiv 2411.00640, section 2.2), not from the number of samples. All functions are pure;
docs/log.md has the measured coverage of the intervals (scripts/coverage.py).
"""

import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

from distillpipe.base.student_t import Z95, student_quantile

Share = Fraction | float
"in [0, 1]"
Z80 = 0.8416212335729143
# chosen by the coverage of the intervals, see scripts/coverage.py
PRIOR_SHARE, PRIOR_PROBLEMS = 0.8, 1.3
MIN_SHARE = sys.float_info.epsilon  # a float cannot represent a smaller spread


class Score(NamedTuple):
    """A mean over problems, its standard error, and the 95% interval."""

    mean: float
    standard_error: float
    "nan for fewer than two problems"
    low: float
    high: float


class Spread(NamedTuple):
    """The spread of problem means that are not all 0 and not all 1."""

    share: float
    "the variance as a share of that of single Bernoulli trials with the same mean"
    carrying: float
    "Kish's effective number of problems that have the successes, or the failures, whichever are fewer"


class ErrorParts(NamedTuple):
    """The two sources of a standard error: its square is the sum of their squares."""

    sampling: float
    "due to sampling other completions of the same problems"
    problems: float
    "due to drawing other problems of the same kind"


def score(
    problem_means: Sequence[Share],
    num_samples: int | None = None,
    sizes: Sequence[int] | None = None,
) -> Score:
    """The score of a list of problem means, each in [0, 1]; all nan without problems.

    `sizes`: the number of samples behind each mean. The mean is then taken over all samples, so a problem whose samples
    were partly left out counts less, and the standard error is that of a ratio. `num_samples`: the smallest number of
    samples of a problem, if the values are shares of correct samples; None for values such as pass@k. The standard error
    is sd / sqrt(n), with n - 1 in the sd.

    Mean and spread are computed as fractions. Where failures are too rare for a float near 1, the mean is rounded, but
    the inputs of the interval are exact.
    """
    n = len(problem_means)
    if n == 0:
        return Score(math.nan, math.nan, math.nan, math.nan)
    means = [Fraction(value) for value in problem_means]
    weights = _weights(sizes or [1] * n)
    mean = _mean(means, weights)
    p, q = float(mean), float(1 - mean)
    if n == 1:
        return Score(p, math.nan, *_including(p, wilson_interval(p, 1.0, q=q)))
    variance = _variance(means, weights)
    spread = _spread(mean, variance, n)
    return Score(p, math.sqrt(variance / n), *_interval((p, q), spread, n, num_samples))


def interval(
    mean: float, variance: float, num_problems: int, num_samples: int | None = None
) -> tuple[float, float]:
    """The 95% interval for the mean of the population that `num_problems` (two or more) problems were drawn from.

    This is Wilson's (1927) interval with the variance `share * p (1 - p)` at its centre. `share` is the spread of the
    problem means relative to that of single Bernoulli trials. It ranges from 1 / num_samples, if all problems are alike,
    to 1, if each problem is always or never solved. Its estimate is noisy if few problems have the successes (or the
    failures). So we shrink it towards `PRIOR_SHARE` of the way between the two limits. The prior weighs
    `PRIOR_PROBLEMS`, the estimate Kish's effective number `sum(x)**2 / sum(x**2)` of those problems.

    The quantile is Student's, because the spread is estimated. The part of the variance that is due to sampling is known
    from the mean, so it does not count (Satterthwaite's degrees of freedom). For one sample a problem the result is
    Wilson's interval.

    If all problems are right, or all wrong, there is no spread to estimate. Then the interval ranges from Wilson's, for
    one sample a problem, to Student's with `PRIOR_SHARE`, for many. It is never wider than the first, because more
    samples of the same problems cannot reduce what we know.
    """
    spread = _spread(mean, variance, num_problems)
    return _interval((mean, 1 - mean), spread, num_problems, num_samples)


def _spread(mean: Share, variance: Share, n: int) -> Spread | None:
    """The spread of `n` problem means; None without variance, or if the mean is 0 or 1."""
    if not variance or not 0 < mean < 1:
        return None
    carrying = min(n * x**2 / ((n - 1) * variance / n + x**2) for x in (mean, 1 - mean))
    return Spread(float(variance / (mean * (1 - mean))), float(carrying))


def _interval(
    mean: tuple[float, float], spread: Spread | None, num_problems: int, num_samples: int | None
) -> tuple[float, float]:
    """See `interval`; `mean` holds p and 1 - p; `spread` is None if there is none."""
    low = 0.0 if num_samples is None else 1 / num_samples
    prior = 1.0 if num_samples is None else PRIOR_SHARE
    share, student = low + prior * (1 - low), student_quantile(num_problems - 1)
    if 0.0 in mean:
        high = min(1.0, prior * (student / Z95) ** 2)  # of many samples, in units of Wilson's
        share, quantile = low + high * (1 - low), Z95
    else:
        if spread is not None:
            weight = min(1.0, PRIOR_PROBLEMS / spread.carrying)
            measured_share = min(max(spread.share, MIN_SHARE), 1.0)
            share = measured_share ** (1 - weight) * share**weight
        measured = max(0.0, 1 - low / share)
        degrees = (num_problems - 1) / measured**2 if measured**2 else math.inf
        quantile = student_quantile(degrees)
    return _including(mean[0], wilson_interval(mean[0], num_problems / share, quantile, q=mean[1]))


def _including(mean: float, ends: tuple[float, float]) -> tuple[float, float]:
    """The interval, extended to the mean if rounding left it outside."""
    return min(ends[0], mean), max(ends[1], mean)


def wilson_interval(
    p: float, n: float, z: float = Z95, *, q: float | None = None
) -> tuple[float, float]:
    """Wilson's score interval for a share `p` of `n` draws; `n` is positive and may be fractional.

    `q` is 1 - p; give it if 1 - p would be rounded.
    """
    q = 1 - p if q is None else q
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * q / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def error_parts(corrects: Sequence[tuple[int, int]]) -> ErrorParts | None:
    """How much sampling and the choice of problems contribute to the standard error of pass@1.

    Takes (correct, samples) of each problem. None if a problem has fewer than two samples, or with fewer than two
    problems. Sampling is the mean over problems of the unbiased x (1 - x) / (samples - 1); problems is the rest of the
    variance, at least 0 (Miller 2024, section 3.1).
    """
    n = len(corrects)
    if n < 2 or any(samples < 2 for _, samples in corrects):
        return None
    means = [Fraction(correct, samples) for correct, samples in corrects]
    weights = _weights([samples for _, samples in corrects])
    within = sum(
        (
            weight**2 * mean * (1 - mean) / (samples - 1)
            for mean, weight, (_, samples) in zip(means, weights, corrects, strict=True)
        ),
        Fraction(),
    )
    variance = _variance(means, weights)
    return ErrorParts(math.sqrt(within) / n, math.sqrt(max(Fraction(), variance - within / n) / n))


def _weights(sizes: Sequence[int]) -> list[Fraction]:
    """The weight of each mean by its number of samples; the weights average 1."""
    total = sum(sizes)
    return [Fraction(size * len(sizes), total) for size in sizes]


def _mean(means: Sequence[Fraction], weights: Sequence[Fraction]) -> Fraction:
    pairs = zip(means, weights, strict=True)
    return sum((weight * mean for mean, weight in pairs), Fraction()) / len(means)


def _variance(means: Sequence[Fraction], weights: Sequence[Fraction]) -> Fraction:
    """The weighted variance of the means, with n - 1."""
    centre = _mean(means, weights)
    pairs = zip(means, weights, strict=True)
    return sum(((weight * (mean - centre)) ** 2 for mean, weight in pairs), Fraction()) / (
        len(means) - 1
    )


def pass_at(k: int, correct: int, samples: int) -> Fraction:
    """The probability that at least one of `k` samples is correct: 1 - C(samples - correct, k) / C(samples, k).

    Unbiased (Chen et al. 2021, arXiv 2107.03374, section 2.1), and exact. Raises ValueError for fewer than `k` samples.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs k from 1 to the number of samples, {samples}")
    return 1 - Fraction(math.comb(samples - correct, k), math.comb(samples, k))


def detectable_difference(standard_error: float) -> float:
    """The minimum detectable effect: 80% power at the 5% level, two-sided (Miller 2024, section 5).

    `standard_error` is that of the difference. nan if it is 0: without spread it says nothing about another model.
    """
    return (Z95 + Z80) * standard_error if standard_error > 0 else math.nan


# maj@k: is the most frequent answer of a problem the right one?


def majority(
    answers: Sequence[str | None], corrects: Sequence[bool], same: Callable[[str, str], bool]
) -> float:
    """The probability that a majority vote over the answers of one problem's samples gives the right answer.

    All answers that were judged correct are one answer; other answers are equal if `same` (the verifier) says so. A
    sample without an answer does not vote. A tie is broken at random, so a tie of the right answer with t others gives
    1 / (1 + t). 0 if no answer is right.
    """
    right = sum(corrects)
    wrong = Counter(
        answer
        for answer, correct in zip(answers, corrects, strict=True)
        if answer is not None and not correct
    )
    if not right or max(wrong.values(), default=0) > right:
        return 0.0
    if sum(wrong.values()) < right:
        return 1.0
    votes: dict[str, int] = {}
    for answer, count in wrong.most_common():
        group = next((candidate for candidate in votes if same(answer, candidate)), answer)
        votes[group] = votes.get(group, 0) + count
    if max(votes.values()) > right:
        return 0.0
    return 1 / (1 + sum(count == right for count in votes.values()))
