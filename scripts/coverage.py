"""What the 95% intervals cover and how often the test errs, by simulation: the table of docs/log.md.

python scripts/coverage.py [--runs 20000]           the whole grid, about 20 minutes on one core
python scripts/coverage.py --runs 2000 --only test  a part of it

A run draws the chance of each of n problems from a Beta distribution with mean p (`spread` is 1 / its
concentration: 0 gives every problem the chance p), then k samples a problem. Covered is p, the mean of
what the problems were drawn from.
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

CHANCES = (0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97)
SPREADS = (0.0, 0.01, 0.1, 0.3, 1.0, 3.0)
NUM_PROBLEMS = (30, 200, 500)
NUM_SAMPLES = (1, 4, 64)
PAIR_SAMPLES = ((1, 1), (4, 4), (64, 64), (4, 64))
BLOCK = 1000  # runs drawn at a time
Floats = NDArray[np.float64]


class Cell(NamedTuple):
    """One setting, and what came of its runs."""

    setting: str
    covered: float
    "share of the runs whose interval holds the truth"
    width: float
    "of the interval, over that of Wilson's (one sample) or Student's"
    reference_covered: float
    "share that Wilson's or Student's covers"


def score_cell(n: int, k: int, p: float, spread: float, runs: int) -> Cell:
    """Coverage of the interval of a score."""
    rng = np.random.default_rng([n, k, round(p * 1000), round(spread * 1000)])
    hits = reference_hits = 0
    width = reference_width = 0.0
    drawn = []  # means and variances of each run
    for _ in range(runs // BLOCK):
        rates = rng.binomial(k, _chances(rng, p, spread, n)) / k
        variances = rates.var(1, ddof=1)
        drawn.append(np.stack([rates.mean(1), np.where(variances > 1e-12, variances, 0.0)]))
    found, counts = np.unique(np.hstack(drawn).round(12), axis=1, return_counts=True)
    for mean, variance, times in zip(*found.tolist(), counts.tolist(), strict=True):
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
    """The whole grid; with one sample a problem the spread changes nothing."""
    for n in sizes:
        for k in NUM_SAMPLES:
            for spread in SPREADS if k > 1 else SPREADS[:1]:
                for p in CHANCES:
                    yield n, k, score_cell(n, k, p, spread, runs)


def pair_cell(n: int, ks: tuple[int, int], p: float, spread: float, gain: float, runs: int) -> Cell:
    """Coverage of the interval of a difference; the second model solves `gain` of what the first lacks."""
    rng = np.random.default_rng([n, *ks, round(p * 1000), round(spread * 1000), round(gain * 100)])
    truth, hits, student_hits, width, student_width = gain * (1 - p), 0, 0, 0.0, 0.0
    for _ in range(runs // BLOCK):
        first = _chances(rng, p, spread, n)
        second = first + gain * (1 - first)
        steps = max(ks)  # a multiple of both
        won, lost = (
            rng.binomial(k, one) * (steps // k)
            for k, one in zip(ks[::-1], (second, first), strict=True)
        )
        for counted in won - lost:
            row = counted / steps
            step = float(np.gcd.reduce(counted) or steps) / steps
            low, high = paired.difference_interval(row.tolist(), step)
            hits += low <= truth <= high
            width += high - low
            half = student_quantile(n - 1) * row.std(ddof=1) / math.sqrt(n)
            student_hits += abs(row.mean() - truth) <= half
            student_width += 2 * half
    done = runs // BLOCK * BLOCK
    setting = f"n={n} k={ks} p={p} spread={spread} gain={gain}"
    return Cell(setting, hits / done, width / (student_width or math.nan), student_hits / done)


def size_of_test(  # noqa: PLR0913 - a setting, and how it is drawn
    n: int, k: int, p: float, spread: float, runs: int, *, independent: bool = False, seed: int = 0
) -> float:
    """How often the test finds a difference at 5% where there is none.

    Both models have the same chance on every problem, or (`independent`) chances drawn apart from the same
    distribution.
    """
    rng = np.random.default_rng([n, k, round(p * 1000), round(spread * 1000), independent, seed])
    found = 0
    for _ in range(runs // BLOCK):
        first = _chances(rng, p, spread, n)
        second = _chances(rng, p, spread, n) if independent else first
        for row in (rng.binomial(k, second) - rng.binomial(k, first)).tolist():
            found += paired.p_value(row) <= 0.05
    return found / (runs // BLOCK * BLOCK)


def size_of_tests_under_skew(
    n: int, k: int, p: float, lost: float, runs: int
) -> tuple[float, float]:
    """How often signs alone, and the p-value that is reported, find a difference at 5% where there is none.

    The first model solves each problem with the chance p. The second never solves a share `lost` of them, and
    the others as much more often as makes up for that: few large losses, many small gains.
    """
    rng = np.random.default_rng([n, k, round(p * 1000), round(lost * 1000)])
    signs = reported = 0
    for _ in range(runs // BLOCK):
        second = np.where(rng.random((BLOCK, n)) < lost, 0.0, p / (1 - lost))
        for row in (rng.binomial(k, second) - rng.binomial(k, p, size=(BLOCK, n))).tolist():
            signs += paired.sign_flip_test(row) <= 0.05
            reported += paired.p_value(row) <= 0.05
    return signs / (runs // BLOCK * BLOCK), reported / (runs // BLOCK * BLOCK)


def _chances(rng: np.random.Generator, p: float, spread: float, n: int) -> Floats:
    if not spread:
        return np.full((BLOCK, n), p)
    return np.clip(rng.beta(p / spread, (1 - p) / spread, size=(BLOCK, n)), 0.0, 1.0)


def print_scores(runs: int) -> None:
    """A line for each n and k: means, and the worst cells."""
    print("| n | k | covered, mean | least | width, mean | widest (there the reference covers) |")
    print("|---|---|---|---|---|---|")
    cells: list[Cell] = []
    for (n, k), group in groupby(score_cells(runs), key=lambda found: found[:2]):
        found = [cell for _, _, cell in group]
        _print_line(f"| {n} | {k}", found)
        cells += found
    _print_line("| all | all", cells)


def _print_line(begin: str, found: list[Cell]) -> None:
    least, widest = min(found, key=lambda one: one.covered), max(found, key=lambda one: one.width)
    trusted = [one.width for one in found if one.reference_covered >= 0.93]
    print(
        f"{begin} | {np.mean([one.covered for one in found]):.4f} | {least.covered:.4f} "
        f"({least.setting}) | {np.mean([one.width for one in found]):.3f} | {widest.width:.3f} "
        f"({widest.setting}: {widest.reference_covered:.3f}); where it covers 93%: "
        f"{max(trusted, default=math.nan):.3f} |",
        flush=True,
    )


def print_pairs(runs: int) -> None:
    """Coverage of differences, by n and gain."""
    print("| n | gain | covered, mean | least | width, mean | widest |")
    print("|---|---|---|---|---|---|")
    for n in NUM_PROBLEMS[:2]:
        for gain in (0.0, 0.15, 0.9):
            _print_line(
                f"| {n} | {gain}",
                [
                    pair_cell(n, ks, p, spread, gain, max(BLOCK, runs * 6 // n))
                    for ks in PAIR_SAMPLES
                    for p in CHANCES[::2]
                    for spread in SPREADS[::2]
                ],
            )


def print_sizes(runs: int) -> None:
    """How often the test errs, by n and k.

    The most of many settings is too high by chance, so that setting is drawn again.
    """
    print("| n | k | runs a setting | errs, mean | most | that one again |")
    print("|---|---|---|---|---|---|")
    for n in NUM_PROBLEMS[:2]:
        for k in NUM_SAMPLES:
            each = max(BLOCK, runs * 6 // n // (8 if k == 64 else 1))
            found = [
                (
                    size_of_test(n, k, p, spread, each, independent=independent),
                    p,
                    spread,
                    independent,
                )
                for p in CHANCES[::2]
                for spread in SPREADS[::2]
                for independent in (False, True)
            ]
            most, p, spread, independent = max(found)
            again = size_of_test(n, k, p, spread, runs, independent=independent, seed=1)
            print(
                f"| {n} | {k} | {each} | {np.mean([one[0] for one in found]):.4f} | {most:.4f} "
                f"(p={p}, spread={spread}) | {again:.4f} of {runs:,} |",
                flush=True,
            )


def print_sizes_under_skew(runs: int) -> None:
    """How often the test errs where a few large losses stand beside many small gains."""
    print("| n | k | p | lost | signs alone err | reported p errs |")
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
    given = parser.parse_args()
    parts = {
        "scores": print_scores,
        "pairs": print_pairs,
        "test": print_sizes,
        "skew": print_sizes_under_skew,
    }
    for name, part in parts.items():
        if given.only in (None, name):
            started = time.monotonic()
            part(given.runs)
            print(f"\n{name}: {time.monotonic() - started:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
