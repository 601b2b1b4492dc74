"""Coverage of the 95% intervals and error rates of the tests, by simulation: the table of docs/log.md.

python scripts/coverage.py [--runs 20000]           the whole grid, about 20 minutes on one core
python scripts/coverage.py --runs 2000 --only test  a part of it

A run draws the success probability of each of n problems from a Beta distribution with mean p (`spread` is 1 / its
concentration; with 0 every problem has the probability p), then k samples per problem. An interval covers if it
contains p, the mean of the distribution that the problems were drawn from.
"""

import argparse
import math
import time
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distillpipe.base.student_t import student_quantile
from distillpipe.reports import metrics, paired

PROBABILITIES = (0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97)
SPREADS = (0.0, 0.01, 0.1, 0.3, 1.0, 3.0)
NUM_PROBLEMS = (30, 200, 500)
NUM_SAMPLES = (1, 4, 64)
PAIR_SAMPLES = ((1, 1), (4, 4), (64, 64), (4, 64))
BLOCK = 1000  # runs drawn at a time
Floats = NDArray[np.float64]


class Cell(NamedTuple):
    """The results of one setting."""

    setting: str
    covered: float
    "share of the runs whose interval contains the true value"
    width: float
    "of the interval, divided by that of Wilson's (one sample) or Student's"
    reference_covered: float
    "coverage of Wilson's or Student's interval"


def score_cell(n: int, k: int, p: float, spread: float, runs: int) -> Cell:
    """Coverage of the interval of a score."""
    rng = np.random.default_rng([n, k, round(p * 1000), round(spread * 1000)])
    hits = reference_hits = 0
    width = reference_width = 0.0
    drawn = []  # means and variances of each run
    for _ in range(runs // BLOCK):
        rates = rng.binomial(k, _probabilities(rng, p, spread, n)) / k
        variances = rates.var(1, ddof=1)
        drawn.append(np.stack([rates.mean(1), np.where(variances > 1e-12, variances, 0.0)]))
    moments, counts = np.unique(np.hstack(drawn).round(12), axis=1, return_counts=True)
    for mean, variance, times in zip(*moments.tolist(), counts.tolist(), strict=True):
        low, high = metrics.interval(mean, variance, n, k)
        hits += times * (low <= p <= high)
        width += times * (high - low)
        if k == 1:
            low, high = metrics.wilson_interval(mean, n)
        else:
            half = student_quantile(n - 1) * math.sqrt(variance / n)
            low, high = mean - half, mean + half
        reference_hits += times * (low <= p <= high)
        reference_width += times * (high - low)
    done = runs // BLOCK * BLOCK
    return Cell(
        f"n={n} k={k} p={p} spread={spread}",
        hits / done,
        width / reference_width,
        reference_hits / done,
    )


def score_cells(
    runs: int, sizes: tuple[int, ...] = NUM_PROBLEMS
) -> Iterator[tuple[int, int, Cell]]:
    """The whole grid; with one sample per problem the spread has no effect."""
    for n in sizes:
        for k in NUM_SAMPLES:
            for spread in SPREADS if k > 1 else SPREADS[:1]:
                for p in PROBABILITIES:
                    yield n, k, score_cell(n, k, p, spread, runs)


def pair_cell(n: int, ks: tuple[int, int], p: float, spread: float, gain: float, runs: int) -> Cell:
    """Coverage of the interval of a difference; the second model solves the share `gain` of the problems that the first fails."""
    rng = np.random.default_rng([n, *ks, round(p * 1000), round(spread * 1000), round(gain * 100)])
    truth, hits, student_hits, width, student_width = gain * (1 - p), 0, 0, 0.0, 0.0
    for _ in range(runs // BLOCK):
        first = _probabilities(rng, p, spread, n)
        second = first + gain * (1 - first)
        steps = max(ks)  # a multiple of both
        won, lost = (
            rng.binomial(k, probabilities) * (steps // k)
            for k, probabilities in zip(ks[::-1], (second, first), strict=True)
        )
        for counts in won - lost:
            row = counts / steps
            step = float(np.gcd.reduce(counts) or steps) / steps
            low, high = paired.difference_interval(row.tolist(), step)
            hits += low <= truth <= high
            width += high - low
            half = student_quantile(n - 1) * row.std(ddof=1) / math.sqrt(n)
            student_hits += abs(row.mean() - truth) <= half
            student_width += 2 * half
    done = runs // BLOCK * BLOCK
    setting = f"n={n} k={ks} p={p} spread={spread} gain={gain}"
    return Cell(setting, hits / done, width / (student_width or math.nan), student_hits / done)


def size_of_test(  # noqa: PLR0913 - a setting, and options of the drawing
    n: int, k: int, p: float, spread: float, runs: int, *, independent: bool = False, seed: int = 0
) -> float:
    """The rate of false positives of the test at the 5% level, for two equal models.

    Both models have the same probability on every problem, or (`independent`) probabilities drawn independently from
    the same distribution.
    """
    rng = np.random.default_rng([n, k, round(p * 1000), round(spread * 1000), independent, seed])
    num_positives = 0
    for _ in range(runs // BLOCK):
        first = _probabilities(rng, p, spread, n)
        second = _probabilities(rng, p, spread, n) if independent else first
        for row in (rng.binomial(k, second) - rng.binomial(k, first)).tolist():
            num_positives += paired.p_value(row) <= 0.05
    return num_positives / (runs // BLOCK * BLOCK)


def size_of_tests_under_skew(
    n: int, k: int, p: float, lost: float, runs: int
) -> tuple[float, float]:
    """The rates of false positives, at the 5% level, of the sign-flip test and of the reported p-value.

    The first model solves each problem with probability p. The second never solves a share `lost` of the problems, and
    solves the others more often, so that the means are equal: few large losses, many small gains.
    """
    rng = np.random.default_rng([n, k, round(p * 1000), round(lost * 1000)])
    signs = reported = 0
    for _ in range(runs // BLOCK):
        second = np.where(rng.random((BLOCK, n)) < lost, 0.0, p / (1 - lost))
        for row in (rng.binomial(k, second) - rng.binomial(k, p, size=(BLOCK, n))).tolist():
            signs += paired.sign_flip_test(row) <= 0.05
            reported += paired.p_value(row) <= 0.05
    return signs / (runs // BLOCK * BLOCK), reported / (runs // BLOCK * BLOCK)


def _probabilities(rng: np.random.Generator, p: float, spread: float, n: int) -> Floats:
    if not spread:
        return np.full((BLOCK, n), p)
    return np.clip(rng.beta(p / spread, (1 - p) / spread, size=(BLOCK, n)), 0.0, 1.0)


def print_scores(runs: int) -> None:
    """Print a line for each n and k: means, and the worst cells."""
    print("| n | k | covered, mean | least | width, mean | widest (there the reference covers) |")
    print("|---|---|---|---|---|---|")
    cells: list[Cell] = []
    for (n, k), group in groupby(score_cells(runs), key=lambda item: item[:2]):
        of_group = [cell for _, _, cell in group]
        _print_line(f"| {n} | {k}", of_group)
        cells += of_group
    _print_line("| all | all", cells)


def _print_line(begin: str, cells: list[Cell]) -> None:
    least = min(cells, key=lambda cell: cell.covered)
    widest = max(cells, key=lambda cell: cell.width)
    trusted = [cell.width for cell in cells if cell.reference_covered >= 0.93]
    print(
        f"{begin} | {np.mean([cell.covered for cell in cells]):.4f} | {least.covered:.4f} "
        f"({least.setting}) | {np.mean([cell.width for cell in cells]):.3f} | {widest.width:.3f} "
        f"({widest.setting}: {widest.reference_covered:.3f}); where it covers 93%: "
        f"{max(trusted, default=math.nan):.3f} |",
        flush=True,
    )


def print_pairs(runs: int) -> None:
    """Print the coverage of differences, by n and gain."""
    print("| n | gain | covered, mean | least | width, mean | widest |")
    print("|---|---|---|---|---|---|")
    for n in NUM_PROBLEMS[:2]:
        for gain in (0.0, 0.15, 0.9):
            _print_line(
                f"| {n} | {gain}",
                [
                    pair_cell(n, ks, p, spread, gain, max(BLOCK, runs * 6 // n))
                    for ks in PAIR_SAMPLES
                    for p in PROBABILITIES[::2]
                    for spread in SPREADS[::2]
                ],
            )


def print_sizes(runs: int) -> None:
    """Print the rate of false positives, by n and k.

    The maximum over many settings is too high by chance, so that setting is drawn again.
    """
    print("| n | k | runs per setting | false positives, mean | maximum | the same setting again |")
    print("|---|---|---|---|---|---|")
    for n in NUM_PROBLEMS[:2]:
        for k in NUM_SAMPLES:
            each = max(BLOCK, runs * 6 // n // (8 if k == 64 else 1))
            sizes = [
                (
                    size_of_test(n, k, p, spread, each, independent=independent),
                    p,
                    spread,
                    independent,
                )
                for p in PROBABILITIES[::2]
                for spread in SPREADS[::2]
                for independent in (False, True)
            ]
            most, p, spread, independent = max(sizes)
            again = size_of_test(n, k, p, spread, runs, independent=independent, seed=1)
            print(
                f"| {n} | {k} | {each} | {np.mean([size for size, *_ in sizes]):.4f} | {most:.4f} "
                f"(p={p}, spread={spread}) | {again:.4f} of {runs:,} |",
                flush=True,
            )


def print_sizes_under_skew(runs: int) -> None:
    """Print the rate of false positives with few large losses and many small gains."""
    print("| n | k | p | lost | false positives of signs alone | of the reported p |")
    print("|---|---|---|---|---|---|")
    for n in (10, 20, 30, 50, 100):
        for k in (1, 4, 16, 64):
            for p, lost in ((0.9, 0.1), (0.5, 0.1), (0.85, 0.05)):
                signs, reported = size_of_tests_under_skew(n, k, p, lost, runs)
                print(f"| {n} | {k} | {p} | {lost} | {signs:.3f} | {reported:.3f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--only", choices=("scores", "pairs", "test", "skew"))
    arguments = parser.parse_args()
    parts = {
        "scores": print_scores,
        "pairs": print_pairs,
        "test": print_sizes,
        "skew": print_sizes_under_skew,
    }
    for name, part in parts.items():
        if arguments.only in (None, name):
            started = time.monotonic()
            part(arguments.runs)
            print(f"\n{name}: {time.monotonic() - started:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
