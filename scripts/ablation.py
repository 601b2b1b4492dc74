"""What the arms of recipes/ablation and recipes/kd-study are worth: Pass@1 over the seeds, and paired differences.

python scripts/ablation.py runs/ablation --arms all correct random --seeds 0 1 2 --against all random

Reads RUNS/eval-ARM-SEED and RUNS/student-ARM-SEED and writes a table in markdown; seeds that are not
finished for every arm are left out and named. The share of right answers to a problem is its mean over
the seeds, so an interval says what other problems would change. What another seed would change it does
not say: for that the figures of each seed stand beside it.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from distillpipe.base.errors import DistillError
from distillpipe.data.forecast import size
from distillpipe.data.store import dataset, versions
from distillpipe.data.store import manifest as manifests
from distillpipe.reports import metrics, paired, scoring

BENCHMARK = "problems-test"

Rates = dict[str, Fraction]  # share of right answers by problem_id
Arms = dict[str, list[Rates]]  # of each seed, by the name of the arm


def pooled(of_seeds: Sequence[Rates]) -> Rates:
    """The mean over seeds of the rate of each problem.

    Raises ValueError where the seeds are of different problems.
    """
    if any(one.keys() != of_seeds[0].keys() for one in of_seeds):
        raise ValueError("the predictions are of different problems")
    return {
        problem: sum((one[problem] for one in of_seeds), Fraction()) / len(of_seeds)
        for problem in of_seeds[0]
    }


def gain(arm: Sequence[Rates], base: Sequence[Rates]) -> str:
    """The paired difference of the pooled rates with its 95% interval, then that of each seed."""
    mine, theirs = pooled(arm), pooled(base)
    if mine.keys() != theirs.keys():
        raise ValueError("the predictions are of different problems")
    found = paired.difference([mine[problem] - theirs[problem] for problem in theirs])
    by_seed = [_mean(one) - _mean(other) for one, other in zip(arm, base, strict=True)]
    listed = ", ".join(f"{one:+.3f}" for one in by_seed)
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}] ({listed})"


def score(arm: Sequence[Rates]) -> str:
    """The pooled Pass@1 with its 95% interval, then that of each seed."""
    found = metrics.score(list(pooled(arm).values()))
    listed = ", ".join(f"{_mean(one):.3f}" for one in arm)
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}] ({listed})"


class Trained(NamedTuple):
    """What training one student took."""

    num_rows: int
    "each once"
    num_tokens: int
    "supervised ones, each time"
    seconds: float
    peak_bytes: int


def table(arms: Arms, trained: dict[str, list[Trained]], against: Sequence[str]) -> list[str]:
    """The lines of the table; `trained` is by arm and seed: rows and tokens are the first seed's, seconds the
    median, memory the largest.
    """
    titles = ["arm", "rows", "tokens trained on", "s", "memory", "Pass@1"]
    titles += [f"minus {base}" for base in against]
    lines = [titles, ["---"] * len(titles)]
    for name, of_seeds in arms.items():
        first, seconds = trained[name][0], statistics.median(one.seconds for one in trained[name])
        memory = max(one.peak_bytes for one in trained[name])
        gains = ["-" if name == base else gain(of_seeds, arms[base]) for base in against]
        took = [f"{first.num_rows:,}", f"{first.num_tokens:,}", f"{seconds:.0f}", size(memory)]
        lines.append([name, *took, score(of_seeds), *gains])
    return [f"| {' | '.join(cells)} |" for cells in lines]


def read_rates(reference: Path) -> Rates:
    """The share of right answers to each problem, from a dataset of predictions."""
    predictions = scoring.read(dataset.find(str(reference)))
    return {problem: judged.rate for problem, judged in predictions.problems.items()}


def read_trained(checkpoint: Path) -> Trained:
    """What a checkpoint was trained on, and what that took."""
    found = manifests.read(versions.resolve(str(checkpoint)))
    counts, peak = found.counts, (found.metrics or {}).get("peak_memory_bytes") or 0
    return Trained(counts.rows_kept, counts.tokens_kept, counts.seconds_working, peak)


def _mean(rates: Rates) -> float:
    return float(sum(rates.values(), Fraction()) / len(rates))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--arms", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, required=True)
    parser.add_argument("--against", nargs="+", required=True, help="arms to subtract")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.against) - set(asked.arms)):
        parser.error(f"--against {' '.join(unknown)}: not among --arms")

    folders = {
        seed: {name: asked.runs / f"eval-{name}-{seed}" / BENCHMARK for name in asked.arms}
        for seed in asked.seeds
    }
    whole = [one for one in folders if all(map(versions.finished, folders[one].values()))]
    if left_out := sorted(folders.keys() - set(whole)):
        print(f"left out, not finished: seed {', '.join(map(str, left_out))}", file=sys.stderr)
    if not whole:
        sys.exit(f"{asked.runs}: no seed is finished: run make -C recipes/{asked.runs.name}")
    try:
        arms = {name: [read_rates(folders[seed][name]) for seed in whole] for name in asked.arms}
        trained = {
            name: [read_trained(asked.runs / f"student-{name}-{seed}") for seed in whole]
            for name in asked.arms
        }
        print("\n".join(table(arms, trained, asked.against)))
    except (DistillError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
