"""Compare the arms of recipes/ablation and recipes/kd-study: Pass@1 over all seeds, and paired differences.

python scripts/ablation.py runs/ablation --arms all correct random --seeds 0 1 2 --against all random

Reads RUNS/eval-ARM-SEED and RUNS/student-ARM-SEED, and prints a table in markdown. A seed that is not finished for
every arm is left out and reported. The pass rate of a problem is its mean over the seeds. So an interval shows how
much the result would change with other problems. It does not show how much it would change with other seeds;
therefore the table also has the result of each seed.
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

Rates = dict[str, Fraction]  # pass rate by problem_id
Arms = dict[str, list[Rates]]  # one for each seed, by the name of the arm


def pooled(of_seeds: Sequence[Rates]) -> Rates:
    """The mean pass rate of each problem over the seeds.

    Raises ValueError if the seeds have different problems.
    """
    if any(rates.keys() != of_seeds[0].keys() for rates in of_seeds):
        raise ValueError("the predictions are for different problems")
    return {
        problem: sum((rates[problem] for rates in of_seeds), Fraction()) / len(of_seeds)
        for problem in of_seeds[0]
    }


def gain(arm: Sequence[Rates], base: Sequence[Rates]) -> str:
    """The paired difference of the pooled rates with its 95% interval, then the difference for each seed."""
    arm_rates, base_rates = pooled(arm), pooled(base)
    if arm_rates.keys() != base_rates.keys():
        raise ValueError("the predictions are for different problems")
    pooled_gain = paired.difference(
        [arm_rates[problem] - base_rates[problem] for problem in base_rates]
    )
    by_seed = [_mean(rates) - _mean(others) for rates, others in zip(arm, base, strict=True)]
    listed = ", ".join(f"{gain_of_seed:+.3f}" for gain_of_seed in by_seed)
    return f"{pooled_gain.mean:+.3f} [{pooled_gain.low:+.3f}, {pooled_gain.high:+.3f}] ({listed})"


def score(arm: Sequence[Rates]) -> str:
    """The pooled Pass@1 with its 95% interval, then that of each seed."""
    pass_at_1 = metrics.score(list(pooled(arm).values()))
    listed = ", ".join(f"{_mean(rates):.3f}" for rates in arm)
    return f"{pass_at_1.mean:.3f} [{pass_at_1.low:.3f}, {pass_at_1.high:.3f}] ({listed})"


class Trained(NamedTuple):
    """The cost of training one student."""

    num_rows: int
    "distinct rows"
    num_tokens: int
    "supervised tokens, over all epochs"
    seconds: float
    peak_bytes: int


def table(arms: Arms, trained: dict[str, list[Trained]], against: Sequence[str]) -> list[str]:
    """The lines of the table. `trained` has the costs of each arm, one for each seed.

    Rows and tokens are those of the first seed, seconds the median, memory the maximum.
    """
    titles = ["arm", "rows", "tokens trained on", "s", "memory", "Pass@1"]
    titles += [f"minus {base}" for base in against]
    lines = [titles, ["---"] * len(titles)]
    for name, of_seeds in arms.items():
        costs = trained[name]
        seconds = statistics.median(cost.seconds for cost in costs)
        memory = max(cost.peak_bytes for cost in costs)
        gains = ["-" if name == base else gain(of_seeds, arms[base]) for base in against]
        cells = [
            f"{costs[0].num_rows:,}",
            f"{costs[0].num_tokens:,}",
            f"{seconds:.0f}",
            size(memory),
        ]
        lines.append([name, *cells, score(of_seeds), *gains])
    return [f"| {' | '.join(cells)} |" for cells in lines]


def read_rates(reference: Path) -> Rates:
    """The pass rate of each problem, from a dataset of predictions."""
    predictions = scoring.read(dataset.find(str(reference)))
    return {problem: judged.rate for problem, judged in predictions.problems.items()}


def read_trained(checkpoint: Path) -> Trained:
    """The data and the cost of the training of a checkpoint."""
    manifest = manifests.read(versions.resolve(str(checkpoint)))
    counts, peak = manifest.counts, (manifest.metrics or {}).get("peak_memory_bytes") or 0
    return Trained(counts.rows_kept, counts.tokens_kept, counts.seconds_working, peak)


def _mean(rates: Rates) -> float:
    return float(sum(rates.values(), Fraction()) / len(rates))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--arms", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, required=True)
    parser.add_argument("--against", nargs="+", required=True, help="arms to compare with")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.against) - set(arguments.arms)):
        parser.error(f"--against {' '.join(unknown)}: not among --arms")

    folders = {
        seed: {name: arguments.runs / f"eval-{name}-{seed}" / BENCHMARK for name in arguments.arms}
        for seed in arguments.seeds
    }
    finished = [seed for seed in folders if all(map(versions.finished, folders[seed].values()))]
    if left_out := sorted(folders.keys() - set(finished)):
        print(f"left out, not finished: seed {', '.join(map(str, left_out))}", file=sys.stderr)
    if not finished:
        sys.exit(
            f"{arguments.runs}: no seed is finished: run make -C recipes/{arguments.runs.name}"
        )
    try:
        arms = {
            name: [read_rates(folders[seed][name]) for seed in finished] for name in arguments.arms
        }
        trained = {
            name: [read_trained(arguments.runs / f"student-{name}-{seed}") for seed in finished]
            for name in arguments.arms
        }
        print("\n".join(table(arms, trained, arguments.against)))
    except (DistillError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
