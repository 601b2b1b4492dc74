"""The difficulty of problems: the pass rate of a model on each problem.

    runs/eval-7b/train/v1      {"problem_id": "3f9a...", "teacher": "Qwen2.5-7B", "verdict": "correct", ...}
    pass rates                 {"Qwen2.5-7B": {"3f9a...": 0.25}}

With several models the best one counts: a problem that one of them solves is not hard.
"""

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.records import Trace
from distillpipe.data.store import dataset
from distillpipe.data.store.dataset import Dataset
from distillpipe.filters.rules import Drop

PassRates = dict[str, dict[str, float]]  # by model, by problem_id

HOW_TO_EVALUATE = "distill eval MODEL --benchmark PROBLEMS --out FOLDER"


def find_predictions(references: Collection[str]) -> list[Dataset]:
    """The datasets of predictions; a folder of several evaluations gives one for each evaluation.

    Raises UsageError for a dataset that holds no predictions.
    """
    datasets: list[Dataset] = []
    for reference in references:
        is_folder = Path(reference).is_dir()
        datasets += (
            dataset.find_versions(reference).values() if is_folder else [dataset.find(reference)]
        )
    for source in datasets:
        if source.manifest is not None and source.manifest.kind != "predictions":
            raise UsageError(
                f"--difficulty {source.name} holds {source.manifest.kind}, not predictions: make some with "
                f"`{HOW_TO_EVALUATE}`"
            )
    return datasets


def read_pass_rates(predictions: Collection[Dataset]) -> PassRates:
    """The pass rate of each problem for each model, from datasets or files of predictions.

    A row in several datasets counts once. Unverifiable answers do not count, and a problem without other answers has no
    rate. Raises DataError for a row without a verdict.
    """
    seen: set[str] = set()
    num_judged: dict[str, Counter[str]] = {}
    num_correct: dict[str, Counter[str]] = {}
    rows = ((source.name, row) for source in predictions for row in dataset.scan(source, Trace))
    for name, row in rows:
        if row.id in seen:
            continue
        seen.add(row.id)
        if row.verdict is None:
            raise DataError(
                f"--difficulty {name}: row {row.id} has no verdict: make predictions with "
                f"`{HOW_TO_EVALUATE}`"
            )
        model = row.teacher or name
        judged = num_judged.setdefault(model, Counter())
        judged[row.problem_id] += row.verdict != "unverifiable"
        num_correct.setdefault(model, Counter())[row.problem_id] += row.verdict == "correct"
    return {
        model: {
            problem: num_correct[model][problem] / number
            for problem, number in judged.items()
            if number
        }
        for model, judged in num_judged.items()
    }


def check_in_common(rates: PassRates, problem_ids: Collection[str]) -> None:
    """Raise UsageError if a model answered none of the problems."""
    for model, of_problem in rates.items():
        if of_problem.keys().isdisjoint(problem_ids):
            raise UsageError(
                f"--difficulty: {model} answered {len(of_problem):,} problems, none of which is among "
                f"the {len(problem_ids):,} of the traces: run `{HOW_TO_EVALUATE}` on the problems of "
                "the traces, with the same reference answers and verifier"
            )


def bounds(options: FilterOptions) -> tuple[float, float]:
    """The lowest and the highest pass rate to keep; --strategy s1 keeps problems that no model solves by default."""
    lowest, highest = options.min_pass_rate, options.max_pass_rate
    if lowest is None and highest is None and options.strategy == "s1":
        highest = 0.0
    return (0.0 if lowest is None else lowest), (1.0 if highest is None else highest)


def unwanted_difficulty(problem_id: str, rates: PassRates, options: FilterOptions) -> Drop | None:
    """Drop a problem if the pass rate of the best model is out of bounds, or if a model was not asked.

    One model that solves a problem often shows that it is too easy. Only the rates of all models show that it is too
    hard.
    """
    if not rates:
        return None
    lowest, highest = bounds(options)
    rates_of_problem = [
        of_problem[problem_id] for of_problem in rates.values() if problem_id in of_problem
    ]
    best = max(rates_of_problem, default=0.0)
    if best > highest:
        return Drop("too_easy", f"{best:.4g}")
    if len(rates_of_problem) < len(rates):
        missing = [model for model, of_problem in rates.items() if problem_id not in of_problem]
        return Drop("unknown_difficulty", ", ".join(missing))
    if best < lowest:
        return Drop("too_hard", f"{best:.4g}")
    return None
