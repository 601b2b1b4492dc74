"""The effect of longer reasoning: s1's Control, Scaling and Performance of one model, from finished evaluations.

python scripts/budget_curve.py runs/budget-curve/eval-* --out runs/budget-curve/curve

Each folder is the OUT of a `distill eval` of the same model on the same problems with another budget (one may have no
budget). Writes budget-curve.json, .md and, with the extra `report`, .png to --out, and replaces those of an earlier
call. The three figures are those of Muennighoff et al. 2025 (arXiv 2501.19393, section 3.2), with their errors as far
as they are known:

control      share of the completions with a budget whose reasoning has the requested length
scaling      mean slope over all pairs of budgets, in percentage points of accuracy per 1,000 reasoning tokens. Its
             interval shows how much it would change with other problems; lengths are taken as fixed. Pairs of nearly
             the same length are left out and counted, because their slope is mostly noise
performance  the best accuracy, with its interval. The best of several is biased upwards. So we also report the
             accuracy, on one half of the problems, of the budget that is best on the other half
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
MIN_APART = 0.01  # of the longest mean reasoning; pairs that differ by less have no slope
Rates = dict[str, Fraction]  # pass rate by problem_id


class Point(NamedTuple):
    """The results with one budget."""

    num_waits: int
    min_reasoning_tokens: int
    max_reasoning_tokens: int | None
    tokens: float
    "mean reasoning tokens of the completions"
    rates: Rates
    kept: dict[str, Any] | None
    "the part `budget` of metrics.json; null without a budget"
    num_completions: int
    num_samples: int
    "the smallest number of samples of a problem"
    num_asked: int = 0
    num_left_out: int = 0
    "requests that failed, which the rates do not include"

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
    """The share of completions within their budget; None if no point has a budget."""
    counts = [(point.kept["num_within"], point.num_completions) for point in points if point.kept]
    return (
        sum(within for within, _ in counts) / sum(total for _, total in counts) if counts else None
    )


def scaling(points: Sequence[Point]) -> dict[str, Any] | None:
    """The mean slope of accuracy over pairs of budgets, in points per 1,000 tokens, and its 95% interval.

    None if all budgets gave reasoning of nearly the same length. The mean slope is a weighted sum of the accuracies, so
    it is the mean over problems of the same weighted sum of their rates. Therefore its error is that of a mean, with
    budgets paired by problem.
    """
    least = MIN_APART * max(point.tokens for point in points)
    pairs = list(combinations(points, 2))
    apart = [(a, b) for a, b in pairs if abs(b.tokens - a.tokens) > least]
    if not apart:
        return None
    slopes = [
        math.fsum(
            float(b.rates[problem] - a.rates[problem]) / (b.tokens - a.tokens) for a, b in apart
        )
        * (100_000 / len(apart))
        for problem in points[0].rates
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
    """The budget with the best accuracy on `problems`; of equal ones the one with shorter reasoning."""
    return max(
        points, key=lambda point: (sum(map(point.rates.__getitem__, problems)), -point.tokens)
    )


def held_out(points: Sequence[Point]) -> float | None:
    """The accuracy, on each half of the problems, of the budget that is best on the other half.

    None if a half has no problem.
    """
    halves: tuple[list[str], list[str]] = ([], [])
    for problem in points[0].rates:
        halves[uniform(0, problem) < 0.5].append(problem)
    if not all(halves):
        return None
    rates = [
        best(points, chosen_on).rates[problem]
        for chosen_on, others in (halves, halves[::-1])
        for problem in others
    ]
    return float(sum(rates) / len(rates))


def of_waits(points: Sequence[Point]) -> list[dict[str, Any]]:
    """The gain by waiting: each point with waits minus the one without, with the same minimum and maximum."""
    without = {point[1:3]: point for point in points if not point.num_waits}
    gains = []
    for point in points:
        base = without.get(point[1:3])
        if point.num_waits and base is not None:
            by_problem = [rate - base.rates[problem] for problem, rate in point.rates.items()]
            difference = paired.difference(by_problem)
            gains.append({
                "budget": point.name, "against": base.name, "difference": difference.mean,
                "interval": [difference.low, difference.high], "num_wins": difference.num_wins,
                "num_losses": difference.num_losses, "p_value": paired.p_value(by_problem),
                "more_tokens": point.tokens - base.tokens,
            })  # fmt: skip
    adjusted = paired.holm([gain["p_value"] for gain in gains])
    return [gain | {"p_value_holm": p_value} for gain, p_value in zip(gains, adjusted, strict=True)]


def read(folders: Sequence[Path]) -> tuple[Manifest, list[Point]]:
    """The points in order of their lengths, and the first manifest.

    Raises UsageError for fewer than two folders, for different models, problems or options other than the budget, and
    for two folders with the same budget.
    """
    evaluations = [_read(folder) for folder in folders]
    if len(evaluations) < 2:
        raise UsageError("a curve needs two budgets or more: name another folder of `distill eval`")
    first, first_point = evaluations[0]
    for folder, (manifest, point) in zip(folders[1:], evaluations[1:], strict=True):
        if manifest.models != first.models:
            raise UsageError(f"{folder} is for another model than {folders[0]}")
        if point.rates.keys() != first_point.rates.keys():
            raise UsageError(f"{folder} is for other problems than {folders[0]}")
        for name in first.options.keys() - WHERE_IT_RAN - set(BUDGET):
            expected, value = first.options[name].value, manifest.options[name].value
            if value != expected:
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"{flag}: {value!r} in {folder}, {expected!r} in {folders[0]}")
    points = sorted((point for _, point in evaluations), key=lambda point: point.tokens)
    if len({point[:3] for point in points}) < len(points):
        raise UsageError("two folders have the same budget")
    return first, points


def _read(folder: Path) -> tuple[Manifest, Point]:
    datasets = [folder] if versions.holds_versions(folder) else sorted(folder.glob("*/"))
    datasets = [dataset for dataset in datasets if versions.finished(dataset)]
    if len(datasets) != 1:
        names = ", ".join(dataset.name for dataset in datasets) or "nothing finished"
        raise UsageError(f"{folder} has {names}: name a folder with one finished benchmark")
    version = versions.resolve(str(datasets[0]))
    manifest = manifests.read(version)
    predictions = scoring.read(dataset.find(str(version)))
    lengths = predictions.reasoning_tokens
    if not lengths:
        raise UsageError(f"{version}: its completions have no token counts, so there is no curve")
    num_waits, least, most = (manifest.options[name].value for name in BUDGET)
    num_counted = sum(predictions.counts.values())
    return manifest, Point(
        num_waits,
        least,
        most,
        tokens=sum(lengths) / len(lengths),
        rates={problem: judged.rate for problem, judged in predictions.problems.items()},
        kept=scoring.budget_metrics(manifest.counts),
        num_completions=num_counted - predictions.counts["not_run"],
        num_samples=predictions.num_samples[0],
        num_asked=num_counted + predictions.num_left_out,
        num_left_out=predictions.num_left_out,
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
                "budget": point.name, **{name: getattr(point, name) for name in BUDGET},
                "mean_reasoning_tokens": point.tokens, "accuracy": point.accuracy,
                "interval": _interval(point), "kept": point.kept, "num_asked": point.num_asked,
                "num_left_out": point.num_left_out,
            }
            for point in points
        ],
        "waits": of_waits(points),
    }  # fmt: skip


def _interval(point: Point) -> list[float]:
    score = metrics.score(list(point.rates.values()), point.num_samples)
    return [score.low, score.high]


def document(curve: dict[str, Any]) -> list[str]:
    """The lines of budget-curve.md."""
    slope, top = curve["scaling"], curve["performance"]
    lines = [f"# {curve['model']} on {curve['benchmark']}, {curve['num_problems']:,} problems", ""]
    if curve["control"] is not None:
        lines += [f"**Control** {curve['control']:.1%} of the completions with a budget", ""]
    if slope is None:
        lines += ["**Scaling** unknown: all budgets gave reasoning of nearly the same length", ""]
    else:
        low, high = (share(end, 1, signed=True) for end in slope["interval"])
        num_left_out = slope["num_pairs_left_out"]
        note = f"; {num_left_out} pairs of nearly the same length left out" if num_left_out else ""
        lines += [
            f"**Scaling** {slope['points_per_1000_tokens']:+.1f} [{low}, {high}] points of accuracy per "
            f"1,000 tokens, mean over {slope['num_pairs']} pairs{note}", "",
        ]  # fmt: skip
    lines += [
        f"**Performance** {with_interval(top['accuracy'], top['interval'])}, {top['budget']}; if it is "
        f"chosen on one half of the problems and scored on the other: {share(top['held_out'])}", "",
    ]  # fmt: skip
    table = [["budget", "reasoning tokens", "Pass@1", "control", "waits", "ends forced"]]
    for point in curve["points"]:
        cells = ["-"] * 3
        if (kept := point["kept"]) is not None:
            cells = [
                f"{kept['control']:.1%}",
                f"{kept['num_waits']:,}",
                f"{kept['num_forced_ends']:,}",
            ]
        score = with_interval(point["accuracy"], point["interval"]) + left_out_note(point)
        table.append([point["budget"], f"{point['mean_reasoning_tokens']:,.1f}", score, *cells])
    lines += [*markdown(table), ""]
    if curve["waits"]:
        lines += [
            f"The gain by waiting, paired by problem (sign-flip test, exact down to {MIN_P:.0e}):",
            "",
        ]
        heading = ["budget", "against", "difference", "p", "p (Holm)", "won", "lost", "tokens more"]
        rows = [
            [
                gain["budget"], gain["against"],
                with_interval(gain["difference"], gain["interval"], signed=True),
                *(f"{max(gain[name], MIN_P):.2g}" for name in ("p_value", "p_value_holm")),
                *(f"{gain[name]:,}" for name in ("num_wins", "num_losses")),
                f"{gain['more_tokens']:+,.1f}",
            ]
            for gain in curve["waits"]
        ]  # fmt: skip
        lines += [*markdown([heading, *rows]), ""]
    return lines


def draw(curve: dict[str, Any], path: Path) -> None:
    """Plot accuracy over reasoning tokens, with a line for each number of waits."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            f"{path.name} needs matplotlib (the other files are written): {install_command('matplotlib')}"
        ) from error
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for num_waits in sorted({point["num_waits"] for point in curve["points"]}):
        line = [point for point in curve["points"] if point["num_waits"] == num_waits]
        tokens = [point["mean_reasoning_tokens"] for point in line]
        accuracy = [100 * point["accuracy"] for point in line]
        ends = zip(*(point["interval"] for point in line), strict=True)
        errors = [[abs(100 * x - y) for x, y in zip(end, accuracy, strict=True)] for end in ends]
        label = f"{num_waits or 'no'} wait{'s' * (num_waits > 1)}"
        axes.errorbar(tokens, accuracy, errors, marker="o", capsize=3, label=label)
        for point, x, y in zip(line, tokens, accuracy, strict=True):
            most = point["max_reasoning_tokens"]
            text = "no maximum" if most is None else f"{most:,}"
            axes.annotate(text, (x, y), (4, 4), textcoords="offset points", fontsize=7)
    axes.set_xlabel("reasoning tokens, mean")
    axes.set_ylabel("Pass@1, %, with 95% intervals")
    axes.set_title(f"{curve['benchmark']}, by --max-reasoning-tokens", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    """Write the files, and print the text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("evals", type=Path, nargs="+", help="OUT folders of distill eval")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        curve = measured(*read(arguments.evals))
        lines, out = document(curve), arguments.out
        out.mkdir(parents=True, exist_ok=True)
        (out / "budget-curve.json").write_text(json.dumps(curve, indent=1) + "\n", encoding="utf-8")
        (out / "budget-curve.md").write_text("\n".join(lines), encoding="utf-8")
        print("\n".join(lines))
        draw(curve, out / "budget-curve.png")
    except DistillError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
