"""Compare models with the first of them on the same problems: overall, by domain and by difficulty."""

import math
from collections.abc import Sequence
from fractions import Fraction

import msgspec

from distillpipe.reports import metrics, paired
from distillpipe.reports.scoring import Judged, Predictions

HARD, EASY = Fraction(1, 3), Fraction(2, 3)
DIFFICULTIES = ("hard", "medium", "easy")
NO_NAME = "(none)"
FEW_PROBLEMS = 50  # fewer may hold no problem of a rare kind: see scripts/coverage.py --only skew
MIN_SAMPLES = 3  # over all models: with two samples, the mean rate only tells which model won


class Group(msgspec.Struct):
    """A model compared with the first model on some of the problems."""

    num_problems: int
    first: float
    "pass@1 of the first model"
    other: float
    difference: float
    "other - first"
    interval: tuple[float, float]
    "95%, of the difference"
    num_wins: int
    "problems on which the other model has the higher share of correct samples"
    num_losses: int
    num_ties: int


class Pair(msgspec.Struct):
    """A model compared with the first model on all problems; null for figures that need more problems."""

    model: str
    first_model: str
    overall: Group
    standard_error: float
    p_value: float
    "two-sided: see `paired.p_value`"
    p_value_holm: float
    "adjusted for the number of models that are compared with the first (Holm 1979)"
    p_value_caution: str | None
    "why false positives may be more frequent than p says; null if there is no reason"
    num_samples_tested: int
    "samples a problem and model: the test needs equally many from both models"
    minimum_detectable_effect: dict[str, float | None]
    "80% power at 5%: `paired` on the same problems, as here; `unpaired` on different problems"
    by_domain: dict[str, Group]
    by_difficulty: dict[str, Group]
    "by the mean share of correct samples over all models compared: hard < 1/3, easy > 2/3"


def compare(named: Sequence[tuple[str, Predictions]]) -> list[Pair]:
    """Compare each model with the first; all have the same problems (see `stages.compare`)."""
    first_name, first = named[0]
    difficulty = difficulties([predictions for _, predictions in named])
    pairs = [_pair(first_name, first, name, other, difficulty) for name, other in named[1:]]
    adjusted = paired.holm([pair.p_value for pair in pairs])
    for pair, p_value in zip(pairs, adjusted, strict=True):
        pair.p_value_holm = p_value
    return pairs


def difficulties(models: Sequence[Predictions]) -> dict[str, str]:
    """`hard`, `medium` or `easy` by problem id; {} with too few samples.

    The rate is the mean over all models. With the rate of one model, a problem that this model failed by bad luck would
    count as hard, and the other models would seem to gain on hard problems.
    """
    levels = {}
    for problem_id in models[0].problems:
        judged = [model.problems[problem_id] for model in models]
        if sum(len(item.samples) for item in judged) < MIN_SAMPLES:
            return {}
        rate = sum((_rate(item) for item in judged), Fraction()) / len(judged)
        levels[problem_id] = "hard" if rate < HARD else "easy" if rate > EASY else "medium"
    return levels


def _pair(
    first_name: str, first: Predictions, name: str, other: Predictions, difficulty: dict[str, str]
) -> Pair:
    ids = list(first.problems)
    difference = paired.difference(_differences(first, other, ids))
    tested = min(first.num_samples[0], other.num_samples[0])
    p_value = paired.p_value(_differences(first, other, ids, tested))
    alone = [
        metrics.score([samples.rate for samples in model.problems.values()]).standard_error
        for model in (first, other)
    ]
    errors = {"paired": difference.standard_error, "unpaired": math.hypot(*alone)}
    return Pair(
        model=name,
        first_model=first_name,
        overall=_group(first, other, ids),
        standard_error=difference.standard_error,
        p_value=p_value,
        p_value_holm=p_value,
        p_value_caution=_caution(len(ids), tested),
        num_samples_tested=tested,
        minimum_detectable_effect={
            name: None if math.isnan(effect := metrics.detectable_difference(error)) else effect
            for name, error in errors.items()
        },
        by_domain=_grouped(
            first, other, {problem_id: first.problems[problem_id].domain for problem_id in ids}
        ),
        by_difficulty=_grouped(
            first, other, {problem_id: difficulty.get(problem_id) for problem_id in ids}
        ),
    )


def _grouped(
    first: Predictions, other: Predictions, names: dict[str, str | None]
) -> dict[str, Group]:
    """A group for each name; {} if there are fewer than two names."""
    ids: dict[str, list[str]] = {}
    for problem_id, name in names.items():
        ids.setdefault(name or NO_NAME, []).append(problem_id)
    if len(ids) < 2:
        return {}
    return {name: _group(first, other, ids[name]) for name in sorted(ids, key=_order)}


def _order(name: str) -> tuple[int, str]:
    return (DIFFICULTIES.index(name) if name in DIFFICULTIES else 0, name)


def _group(first: Predictions, other: Predictions, ids: Sequence[str]) -> Group:
    difference = paired.difference(_differences(first, other, ids))
    return Group(
        num_problems=len(ids),
        first=_mean(first, ids),
        other=_mean(other, ids),
        difference=difference.mean,
        interval=(difference.low, difference.high),
        num_wins=difference.num_wins,
        num_losses=difference.num_losses,
        num_ties=len(ids) - difference.num_wins - difference.num_losses,
    )


def _mean(model: Predictions, ids: Sequence[str]) -> float:
    return float(
        sum((model.problems[problem_id].rate for problem_id in ids), Fraction()) / len(ids)
    )


def _caution(num_problems: int, num_samples: int) -> str | None:
    """With one sample a problem all differences have the same size, so no rare large difference can be missing."""
    if num_problems >= FEW_PROBLEMS or num_samples == 1:
        return None
    return (
        f"comes from {num_problems} problems only: where the models differ on a rare kind of problem that "
        "these may not hold (one in twenty), p < 0.05 comes in up to 1 of 3 comparisons of equal models"
    )


def _differences(
    first: Predictions, other: Predictions, ids: Sequence[str], num_samples: int | None = None
) -> list[Fraction]:
    return [
        _rate(other.problems[problem_id], num_samples)
        - _rate(first.problems[problem_id], num_samples)
        for problem_id in ids
    ]


def _rate(judged: Judged, num_samples: int | None = None) -> Fraction:
    """The share of correct samples, among all or among the first `num_samples` by index."""
    samples = sorted(judged.samples)[:num_samples]
    return Fraction(sum(correct for _, correct in samples), len(samples))
