"""Scores with honest error bars: means over problems, their errors and intervals, pass@k.

Problems are the unit: samples of one problem are alike, so the error comes from the spread of the
problem means (Miller 2024, arXiv 2411.00640, section 2.2), not from the number of samples. Pure
functions of numbers; the table of what the intervals cover is in docs/log.md (scripts/coverage.py).
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
PRIOR_SHARE, PRIOR_PROBLEMS = (
    0.8,
    1.3,
)  # chosen by what the intervals cover, see scripts/coverage.py


MIN_SHARE = sys.float_info.epsilon  # a spread below it is none that a float can say


class Score(NamedTuple):
    """A mean over problems, its standard error, and the 95% interval."""

    mean: float
    standard_error: float
    "nan for fewer than two problems"
    low: float
    high: float


class Spread(NamedTuple):
    """How far problem means lie apart; of several that are not all right or all wrong."""

    share: float
    "of the variance of single coin tosses with the same mean"
    carrying: float
    "problems that carry the successes, or the failures, whichever are fewer: Kish's effective number"


class Parts(NamedTuple):
    """The two sources of a standard error: its square is the sum of their squares."""

    sampling: float
    "what other samples of the same problems would change"
    problems: float
    "what other problems of the same kind would change"


def score(
    problem_means: Sequence[Share],
    num_samples: int | None = None,
    sizes: Sequence[int] | None = None,
) -> Score:
    """The score of a list of problem means, each in [0, 1]; all nan for no problem.

    With `sizes`, how many samples each is a mean of, the mean is that over all samples: where some were left out,
    a problem weighs by what is left of it. The standard error is then that of a ratio.

    Each is the share of right ones among `num_samples`, of the problem that has fewest; null for values of
    another kind, as pass@k is. The standard error is sd / sqrt(n) with n-1 in the sd.

    Means and their spread are added up as fractions: where failures are rarer than a float near 1 can say,
    the mean is rounded, but what the interval is made of is not.
    """
    n = len(problem_means)
    if n == 0:
        return Score(math.nan, math.nan, math.nan, math.nan)
    means = [Fraction(one) for one in problem_means]
    weights = _weights(sizes or [1] * n)
    mean = _mean(means, weights)
    p, q = float(mean), float(1 - mean)
    if n == 1:
        return Score(p, math.nan, *_holding(p, wilson_interval(p, 1.0, q=q)))
    variance = _variance(means, weights)
    spread = None
    if variance:  # then some are above 0 and some below 1, so neither product is 0
        carrying = min(n * one**2 / ((n - 1) * variance / n + one**2) for one in (mean, 1 - mean))
        spread = Spread(float(variance / (mean * (1 - mean))), float(carrying))
    return Score(p, math.sqrt(variance / n), *_interval((p, q), spread, n, num_samples))


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

    Where all problems are right, or all wrong, no spread is measured. Then the interval goes from Wilson's
    for one sample a problem to Student's with `PRIOR_SHARE` for many, and is never wider than the first:
    more samples of the same problems are no less knowledge.
    """
    spread = None
    if variance > 0 and mean * (1 - mean) > 0:
        carrying = min(
            num_problems * one**2 / ((num_problems - 1) / num_problems * variance + one**2)
            for one in (mean, 1 - mean)
        )
        spread = Spread(variance / (mean * (1 - mean)), carrying)
    return _interval((mean, 1 - mean), spread, num_problems, num_samples)


def _interval(
    mean: tuple[float, float], spread: Spread | None, num_problems: int, num_samples: int | None
) -> tuple[float, float]:
    """See `interval`; `mean` is the mean and what it lacks to 1, `spread` null where there is none."""
    least = 0.0 if num_samples is None else 1 / num_samples
    prior = 1.0 if num_samples is None else PRIOR_SHARE
    share, student = least + prior * (1 - least), student_quantile(num_problems - 1)
    if 0.0 in mean:
        most = min(1.0, prior * (student / Z95) ** 2)  # of many samples, in units of Wilson's
        share, quantile = least + most * (1 - least), Z95
    else:
        if spread is not None:
            weight = min(1.0, PRIOR_PROBLEMS / spread.carrying)
            found = min(max(spread.share, MIN_SHARE), 1.0)
            share = found ** (1 - weight) * share**weight
        measured = max(0.0, 1 - least / share)
        degrees = (num_problems - 1) / measured**2 if measured**2 else math.inf
        quantile = student_quantile(degrees)
    return _holding(mean[0], wilson_interval(mean[0], num_problems / share, quantile, q=mean[1]))


def _holding(mean: float, ends: tuple[float, float]) -> tuple[float, float]:
    """Ends that rounding left on the wrong side of the mean."""
    return min(ends[0], mean), max(ends[1], mean)


def wilson_interval(
    p: float, n: float, z: float = Z95, *, q: float | None = None
) -> tuple[float, float]:
    """Wilson's score interval for a share `p` of `n` draws; `n` may be fractional, but is positive.

    `q` is 1 - p, given where that would be rounded.
    """
    q = 1 - p if q is None else q
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * q / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def error_parts(corrects: Sequence[tuple[int, int]]) -> Parts | None:
    """What sampling and what the choice of problems adds to the standard error of pass@1.

    Takes (correct, samples) of each problem; None where that cannot be told: a problem with one sample,
    or fewer than two problems. Sampling is the mean over problems of the unbiased x (1 - x) / (samples - 1);
    problems is the rest of the variance, 0 where there is none (Miller 2024, section 3.1).
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
    return Parts(math.sqrt(within) / n, math.sqrt(max(Fraction(), variance - within / n) / n))


def _weights(sizes: Sequence[int]) -> list[Fraction]:
    """What each mean weighs by its samples, 1 on average."""
    total = sum(sizes)
    return [Fraction(one * len(sizes), total) for one in sizes]


def _mean(means: Sequence[Fraction], weights: Sequence[Fraction]) -> Fraction:
    pairs = zip(means, weights, strict=True)
    return sum((weight * one for one, weight in pairs), Fraction()) / len(means)


def _variance(means: Sequence[Fraction], weights: Sequence[Fraction]) -> Fraction:
    """Of the means around theirs, with n - 1."""
    middle = _mean(means, weights)
    pairs = zip(means, weights, strict=True)
    return sum(((weight * (one - middle)) ** 2 for one, weight in pairs), Fraction()) / (
        len(means) - 1
    )


def pass_at(k: int, correct: int, samples: int) -> Fraction:
    """The chance that one of `k` of the samples is correct: 1 - C(samples - correct, k) / C(samples, k).

    Unbiased (Chen et al. 2021, arXiv 2107.03374, section 2.1), and exact. Raises ValueError where there are
    fewer than `k` samples.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {samples} samples is not known")
    return 1 - Fraction(math.comb(samples - correct, k), math.comb(samples, k))


def detectable_difference(standard_error: float) -> float:
    """The smallest true difference that a two-sided test at 5% finds with a power of 80%, from the
    standard error of the difference (Miller 2024, section 5); nan for an error of 0, which no spread
    measured and says nothing of another model's.
    """
    return (Z95 + Z80) * standard_error if standard_error > 0 else math.nan


# maj@k: whether the answer that most samples of a problem give is the right one.


def majority(
    answers: Sequence[str | None], corrects: Sequence[bool], same: Callable[[str, str], bool]
) -> float:
    """The chance that the vote is won by the right answer, for the answers of one problem's samples.

    All that was judged correct is one answer; others are one where `same` (the verifier) says so. A
    sample without an answer does not vote. Of several answers with the most votes one is drawn, so a tie
    of the right one with t others gives 1 / (1 + t). 0 where no answer is right.
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
        known = next((one for one in votes if same(answer, one)), answer)
        votes[known] = votes.get(known, 0) + count
    if max(votes.values()) > right:
        return 0.0
    return 1 / (1 + sum(count == right for count in votes.values()))
