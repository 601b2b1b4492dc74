"""What thinking longer is worth: s1's Control, Scaling and Performance of one model, from finished evals.

python scripts/budget_curve.py runs/budget-curve/eval-* --out runs/budget-curve/curve

Each folder is the OUT of a `distill eval` of the same model on the same problems under another budget (one
without a budget may be among them). Writes budget-curve.json, .md and, with the extra `report`, .png to --out,
over those of an earlier call. The three figures are those of Muennighoff et al. 2025 (arXiv 2501.19393, section
3.2), with what may be known of their errors:

control      share of the completions under a budget whose reasoning is as long as was asked for: a count
scaling      mean slope over all pairs of budgets, in points (percent) of accuracy per 1,000 tokens that were
             thought on average; its interval says what other problems would change, lengths taken as they are.
             Pairs nearly as long as each other are left out and counted: their slope is noise over nothing
performance  the best accuracy, with its interval; being the best of several it is too high, so beside it
             stands what the budget that is best on one half of the problems has on the other
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from distillpipe.base.errors import DistillError, MissingDependencyError, UsageError
from distillpipe.base.hashing import uniform
from distillpipe.base.requirements import install_command
from distillpipe.base.student_t import student_quantile
from distillpipe.data.store import dataset, versions
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.manifest import Manifest
from distillpipe.reports import metrics, paired, scoring
from distillpipe.reports.comparison_text import MIN_P
from distillpipe.reports.tables import left_out_note, markdown, share, with_interval
from distillpipe.stages.compare import WHERE_IT_RAN

BUDGET = ("num_waits", "min_reasoning_tokens", "max_reasoning_tokens")
MIN_APART = 0.01  # of the longest mean thought: pairs that are nearer to each other have no slope
Rates = dict[str, Fraction]  # share of right answers by problem_id


class Point(NamedTuple):
    """One budget, and what came of it."""

    num_waits: int
    min_reasoning_tokens: int
    max_reasoning_tokens: int | None
    tokens: float
    "of reasoning, mean over the completions"
    rates: Rates
    kept: dict[str, Any] | None
    "the part `budget` of metrics.json; null without a budget"
    num_completions: int
    num_samples: int
    "of the problem that has fewest"
    num_asked: int = 0
    num_left_out: int = 0
    "completions that failed on the way and are no part of the rates"

    @property
    def accuracy(self) -> float:
        return float(sum(self.rates.values()) / len(self.rates))

    @property
    def name(self) -> str:
        most, least, waits = self.max_reasoning_tokens, self.min_reasoning_tokens, self.num_waits
        parts = [] if most is None else [f"at most {most:,}"]
        parts += [f"at least {least:,}"] if least else []
        parts += [f"{waits} wait{'s' * (waits > 1)}"] if waits else []
        return ", ".join(parts) or "no budget"


def control(points: Sequence[Point]) -> float | None:
    """The share of completions within their budget; null where no point has one."""
    kept = [(one.kept["num_within"], one.num_completions) for one in points if one.kept]
    return sum(within for within, _ in kept) / sum(total for _, total in kept) if kept else None


def scaling(points: Sequence[Point]) -> dict[str, Any] | None:
    """The mean slope of accuracy over pairs of budgets, in points per 1,000 tokens, and its 95% interval.

    Null where no two budgets made thoughts of different lengths. The mean slope is a weighted sum of the
    accuracies, so it is a mean over problems of the same sum of their rates: its error is that of a mean,
    with budgets paired by problem.
    """
    least = MIN_APART * max(one.tokens for one in points)
    pairs = list(combinations(points, 2))
    apart = [(a, b) for a, b in pairs if abs(b.tokens - a.tokens) > least]
    if not apart:
        return None
    slopes = [
        math.fsum(float(b.rates[each] - a.rates[each]) / (b.tokens - a.tokens) for a, b in apart)
        * (100_000 / len(apart))
        for each in points[0].rates
    ]
    n, mean = len(slopes), statistics.fmean(slopes)
    interval: list[float | None] = [None, None]
    if n > 1:
        half = student_quantile(n - 1) * statistics.stdev(slopes) / math.sqrt(n)
        interval = [mean - half, mean + half]
    return {
        "points_per_1000_tokens": mean, "interval": interval, "num_pairs": len(apart),
        "num_pairs_left_out": len(pairs) - len(apart),
    }  # fmt: skip


def best(points: Sequence[Point], problems: Sequence[str]) -> Point:
    """The budget with most right answers to `problems`; of equal ones that with shorter thoughts."""
    return max(points, key=lambda one: (sum(one.rates[each] for each in problems), -one.tokens))


def held_out(points: Sequence[Point]) -> float | None:
    """The accuracy of the budget that is best on one half of the problems, on the other, both ways.

    Null where a half has no problem.
    """
    halves: tuple[list[str], list[str]] = ([], [])
    for problem in points[0].rates:
        halves[uniform(0, problem) < 0.5].append(problem)
    if not all(halves):
        return None
    right = sum(
        best(points, chosen_on).rates[problem]
        for chosen_on, others in (halves, halves[::-1])
        for problem in others
    )
    return float(right / len(points[0].rates))


def of_waits(points: Sequence[Point]) -> list[dict[str, Any]]:
    """What waiting adds: each point with waits minus that without, under the same minimum and maximum."""
    without = {one[1:3]: one for one in points if not one.num_waits}
    found = []
    for one in points:
        base = without.get(one[1:3])
        if one.num_waits and base is not None:
            by_problem = [one.rates[each] - base.rates[each] for each in one.rates]
            difference = paired.difference(by_problem)
            found.append({
                "budget": one.name, "against": base.name, "difference": difference.mean,
                "interval": [difference.low, difference.high], "num_wins": difference.num_wins,
                "num_losses": difference.num_losses, "p_value": paired.p_value(by_problem),
                "more_tokens": one.tokens - base.tokens,
            })  # fmt: skip
    adjusted = paired.holm([one["p_value"] for one in found])
    return [one | {"p_value_holm": value} for one, value in zip(found, adjusted, strict=True)]


def read(folders: Sequence[Path]) -> tuple[Manifest, list[Point]]:
    """The points in the order of their lengths, and the first manifest.

    Raises UsageError for fewer than two, for other models, problems or options than those of a budget, and
    for one budget named twice.
    """
    found = [_read(folder) for folder in folders]
    if len(found) < 2:
        raise UsageError("a curve takes two budgets or more: name another folder of `distill eval`")
    first, point = found[0]
    for folder, (manifest, other) in zip(folders[1:], found[1:], strict=True):
        if manifest.models != first.models:
            raise UsageError(f"{folder} is of another model than {folders[0]}")
        if other.rates.keys() != point.rates.keys():
            raise UsageError(f"{folder} is of other problems than {folders[0]}")
        for name in first.options.keys() - WHERE_IT_RAN - set(BUDGET):
            mine, theirs = first.options[name].value, manifest.options[name].value
            if mine != theirs:
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"{flag}: {theirs!r} in {folder}, {mine!r} in {folders[0]}")
    points = sorted((one for _, one in found), key=lambda one: one.tokens)
    if len({one[:3] for one in points}) < len(points):
        raise UsageError("one budget is named twice")
    return first, points


def _read(folder: Path) -> tuple[Manifest, Point]:
    inside = [folder] if versions.holds_versions(folder) else sorted(folder.glob("*/"))
    inside = [one for one in inside if versions.finished(one)]
    if len(inside) != 1:
        held = ", ".join(one.name for one in inside) or "nothing finished"
        raise UsageError(f"{folder} holds {held}: name a folder with one finished benchmark")
    version = versions.resolve(str(inside[0]))
    manifest = manifests.read(version)
    found = scoring.read(dataset.find(str(version)))
    num_waits, least, most = (manifest.options[name].value for name in BUDGET)
    if not found.reasoning_tokens:
        raise UsageError(f"{version}: its completions have no token counts, so there is no curve")
    tokens = sum(found.reasoning_tokens) / len(found.reasoning_tokens)
    rates = {problem: one.rate for problem, one in found.problems.items()}
    kept = scoring.budget_metrics(manifest.counts)
    asked = sum(found.counts.values()) + found.num_left_out
    total, fewest = sum(found.counts.values()) - found.counts["not_run"], found.num_samples[0]
    left_out = found.num_left_out
    return manifest, Point(
        num_waits, least, most, tokens, rates, kept, total, fewest, asked, left_out
    )


def measured(manifest: Manifest, points: Sequence[Point]) -> dict[str, Any]:
    """The content of budget-curve.json."""
    top = best(points, list(points[0].rates))
    return {
        "model": manifest.models[0].name,
        "benchmark": (manifest.metrics or {})["benchmark"],
        "num_problems": len(points[0].rates),
        "control": control(points),
        "scaling": scaling(points),
        "performance": {
            "budget": top.name, "accuracy": top.accuracy, "interval": _interval(top),
            "held_out": held_out(points),
        },
        "points": [
            {
                "budget": one.name, **{name: getattr(one, name) for name in BUDGET},
                "mean_reasoning_tokens": one.tokens, "accuracy": one.accuracy,
                "interval": _interval(one), "kept": one.kept, "num_asked": one.num_asked,
                "num_left_out": one.num_left_out,
            }
            for one in points
        ],
        "waits": of_waits(points),
    }  # fmt: skip


def _interval(point: Point) -> list[float]:
    found = metrics.score(list(point.rates.values()), point.num_samples)
    return [found.low, found.high]


def document(found: dict[str, Any]) -> list[str]:
    """The lines of budget-curve.md."""
    slope, top = found["scaling"], found["performance"]
    lines = [f"# {found['model']} on {found['benchmark']}, {found['num_problems']:,} problems", ""]
    if found["control"] is not None:
        lines += [f"**Control** {found['control']:.1%} of the completions under a budget", ""]
    if slope is None:
        lines += ["**Scaling** not known: no two budgets made thoughts of different lengths", ""]
    else:
        low, high = (share(one, 1, signed=True) for one in slope["interval"])
        left_out = slope["num_pairs_left_out"]
        said = f"; {left_out} pairs of nearly the same length left out" if left_out else ""
        lines += [
            f"**Scaling** {slope['points_per_1000_tokens']:+.1f} [{low}, {high}] points of accuracy per "
            f"1,000 tokens, mean over {slope['num_pairs']} pairs{said}", "",
        ]  # fmt: skip
    lines += [
        f"**Performance** {with_interval(top['accuracy'], top['interval'])}, {top['budget']}; chosen on one "
        f"half of the problems and scored on the other: {share(top['held_out'])}", "",
    ]  # fmt: skip
    table = [["budget", "reasoning tokens", "Pass@1", "control", "waits", "ends forced"]]
    for one in found["points"]:
        said = ["-"] * 3
        if (kept := one["kept"]) is not None:
            counts = (f"{kept[name]:,}" for name in ("num_waits", "num_forced_ends"))
            said = [f"{kept['control']:.1%}", *counts]
        score = with_interval(one["accuracy"], one["interval"]) + left_out_note(one)
        table.append([one["budget"], f"{one['mean_reasoning_tokens']:,.1f}", score, *said])
    lines += [*markdown(table), ""]
    if found["waits"]:
        lines += [
            f"What waiting adds, paired by problem (sign-flip test, exact down to {MIN_P:.0e}):",
            "",
        ]
        heading = ["budget", "against", "difference", "p", "p (Holm)", "won", "lost", "tokens more"]
        rows = [
            [
                one["budget"], one["against"],
                with_interval(one["difference"], one["interval"], signed=True),
                *(f"{max(one[name], MIN_P):.2g}" for name in ("p_value", "p_value_holm")),
                *(f"{one[name]:,}" for name in ("num_wins", "num_losses")),
                f"{one['more_tokens']:+,.1f}",
            ]
            for one in found["waits"]
        ]  # fmt: skip
        lines += [*markdown([heading, *rows]), ""]
    return lines


def draw(found: dict[str, Any], path: Path) -> None:
    """Accuracy over the tokens that were thought, a line for each number of waits."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            f"{path.name} was not drawn, the figures stand beside it: {install_command('matplotlib')}"
        ) from error
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for num_waits in sorted({one["num_waits"] for one in found["points"]}):
        line = [one for one in found["points"] if one["num_waits"] == num_waits]
        tokens = [one["mean_reasoning_tokens"] for one in line]
        accuracy = [100 * one["accuracy"] for one in line]
        ends = zip(*(one["interval"] for one in line), strict=True)
        errors = [[abs(100 * x - y) for x, y in zip(one, accuracy, strict=True)] for one in ends]
        label = f"{num_waits or 'no'} wait{'s' * (num_waits > 1)}"
        axes.errorbar(tokens, accuracy, errors, marker="o", capsize=3, label=label)
        for one, x, y in zip(line, tokens, accuracy, strict=True):
            most = one["max_reasoning_tokens"]
            text = "no maximum" if most is None else f"{most:,}"
            axes.annotate(text, (x, y), (4, 4), textcoords="offset points", fontsize=7)
    axes.set_xlabel("reasoning tokens, mean")
    axes.set_ylabel("Pass@1, %, with 95% intervals")
    axes.set_title(f"{found['benchmark']}, by --max-reasoning-tokens", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    """Write the three files and print the second."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("evals", type=Path, nargs="+", help="OUT folders of distill eval")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    try:
        found = measured(*read(asked.evals))
        lines = document(found)
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "budget-curve.json").write_text(
            json.dumps(found, indent=1) + "\n", encoding="utf-8"
        )
        (asked.out / "budget-curve.md").write_text("\n".join(lines), encoding="utf-8")
        print("\n".join(lines))
        draw(found, asked.out / "budget-curve.png")
    except DistillError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
