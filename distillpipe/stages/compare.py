"""`compare`: the scores of models on the same problems, and the difference of each to the first."""

from itertools import chain
from pathlib import Path

import msgspec

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.progress import say
from distillpipe.data.store import dataset
from distillpipe.data.store.dataset import Dataset
from distillpipe.data.store.manifest import Manifest
from distillpipe.reports import comparison, scoring
from distillpipe.reports.comparison_text import Comparison, ScoredModel, markdown_lines
from distillpipe.reports.lineage import training_overlap
from distillpipe.reports.scoring import Predictions

WHERE_IT_RAN = {
    "model", "benchmark", "out", "limit", "seed", "fresh", "accept_errors", "engine", "concurrency",
    "tensor_parallel_size", "replicas", "base_url", "api_key_env", "price_input", "price_output",
    "max_cost", "adapter", "tokenizer", "num_workers", "unsafe_run_model_code_without_sandbox",
    "problem_field", "answer_field", "num_samples", "min_date", "max_date", "protocol",
}  # fmt: skip
"Options of eval that do not belong to a protocol, or whose effect the rows show."


class _Model(msgspec.Struct):
    """The predictions of a model on a benchmark."""

    name: str
    source: Dataset
    manifest: Manifest
    predictions: Predictions


def compare(references: list[str], pass_at: list[int]) -> list[Comparison]:
    """A comparison for each benchmark that all references hold, of all models with that of the first reference.

    Raises UsageError for fewer than two, for what holds no predictions, and for predictions of different
    problems; DataError where a file is not as it was written.
    """
    if len(references) < 2:
        raise UsageError("compare takes two datasets of predictions or more: name another one")
    if len(set(references)) < len(references):
        raise UsageError("compare: one dataset is named twice")
    by_benchmark = [dataset.find_versions(reference) for reference in references]
    names = _names(references)
    if all(len(datasets) == 1 for datasets in by_benchmark):
        benchmarks = [[next(iter(datasets.values())) for datasets in by_benchmark]]
    else:
        first, *others = by_benchmark
        shared = [name for name in first if all(name in datasets for datasets in others)]
        if not shared:
            pairs = zip(references, by_benchmark, strict=True)
            lists = (f"{reference}: {', '.join(datasets)}" for reference, datasets in pairs)
            raise UsageError(f"no benchmark is in all of them: {'; '.join(lists)}")
        if left_out := sorted({*chain(*by_benchmark)} - {*shared}):
            say(f"compare: not in all of them, left out: {', '.join(left_out)}")
        benchmarks = [[datasets[name] for datasets in by_benchmark] for name in shared]
    return [_compared(names, datasets, pass_at) for datasets in benchmarks]


def _compared(names: list[str], datasets: list[Dataset], pass_at: list[int]) -> Comparison:
    models = [_read(name, source) for name, source in zip(names, datasets, strict=True)]
    first, *others = models
    for other in others:
        _check_paired(first, other)
    warnings = [line for other in others for line in _other_protocol(first, other)]
    fewest = min(model.predictions.num_samples[0] for model in models)
    if above := sorted({k for k in pass_at if k > fewest}):
        listed = ", ".join(f"pass@{k}" for k in above)
        warnings.append(
            f"{listed} left out where a problem has fewer samples (the fewest: {fewest})"
        )
    scored = [_scored(model, pass_at) for model in models]
    in_all = set.intersection(*(set(model.predictions.problems) for model in models))
    if not in_all:
        raise DataError("no problem has a completion in all of them: there is nothing to compare")
    warnings += _left_out(models, len(in_all))
    pairs = comparison.compare([(model.name, model.predictions.only(in_all)) for model in models])
    return Comparison(scored[0].metrics["benchmark"], scored, pairs, warnings)


def _left_out(models: list[_Model], num_in_all: int) -> list[str]:
    """A line for each model with completions that are left out because requests failed, and one for problems."""
    lines = []
    for model in models:
        if left_out := model.predictions.num_left_out:
            asked = sum(model.predictions.counts.values()) + left_out
            lines.append(
                f"{model.name} was scored over {asked - left_out:,} of {asked:,} completions: the others "
                "failed on the way and were left out (--accept-errors)"
            )
    if num_in_all < (asked := len(models[0].predictions.asked)):
        lines.append(
            f"the models are compared over {num_in_all:,} of {asked:,} problems, which have a completion of each"
        )
    return lines


def _scored(model: _Model, pass_at: list[int]) -> ScoredModel:
    """The scores, computed again from the rows, so that all models are measured by the same code."""
    folder, predictions = model.source.path, model.predictions
    stored = model.manifest.metrics or {}
    benchmark = stored.get("benchmark", folder.parent.name)
    options = scoring.choice_options(dataset.read_problems(model.source))
    metrics = scoring.measure(benchmark, predictions, options, pass_at)
    kept = ("protocol", "published", "verifier_version", "budget", "resources")
    metrics |= {name: stored.get(name) for name in kept}
    texts = (problem.problem for problem in predictions.problems.values())
    overlap = training_overlap(folder, model.manifest, texts)
    return ScoredModel(name=model.name, path=str(folder), metrics=metrics, training_overlap=overlap)


def _names(references: list[str]) -> list[str]:
    """The last part of each reference, or more of them where these are not all different."""
    parts = [Path(reference).parts for reference in references]
    for length in range(1, max(map(len, parts))):
        names = ["/".join(own_parts[-length:]) for own_parts in parts]
        if len(set(names)) == len(names):
            return names
    return references


def _read(name: str, source: Dataset) -> _Model:
    manifest = scoring.manifest_of(source)
    predictions = scoring.read(source)
    if not predictions.problems:
        raise DataError(f"{source.path} holds no predictions: there is nothing to compare")
    return _Model(name, source, manifest, predictions)


def _check_paired(first: _Model, other: _Model) -> None:
    """Raise UsageError for predictions of different problems."""
    mine, theirs = first.predictions.asked, other.predictions.asked
    missing, added = mine - theirs, theirs - mine
    if not missing and not added:
        return
    same_text = _texts(first, missing) & _texts(other, added)
    message = (
        f"{first.name} and {other.name} are predictions of different problems: {len(missing):,} of "
        f"{len(mine):,} are in the first alone, {len(added):,} of {len(theirs):,} in the second alone"
    )
    if same_text:
        message += (
            f"; {len(same_text):,} have the same text, but another reference answer or verifier"
        )
    for model in (first, other):
        counts = model.manifest.counts
        if counts.dropped:
            reasons = ", ".join(counts.dropped)
            message += f"; {counts.rows_rejected:,} rows of {model.name} were rejected ({reasons})"
    raise UsageError(
        f"{message}: run `distill eval` of both with the same --benchmark, --limit and --verifier, which "
        "takes over what was sampled"
    )


def _texts(model: _Model, problem_ids: set[str]) -> set[str]:
    problems = model.predictions.problems
    return {problems[key].problem for key in problem_ids if key in problems}


def _other_protocol(first: _Model, other: _Model) -> list[str]:
    """A line for each difference that makes the comparison of two scores unfair."""
    lines = []
    mine, theirs = first.manifest.options, other.manifest.options
    for name in sorted((mine.keys() & theirs.keys()) - WHERE_IT_RAN):
        if mine[name].value != theirs[name].value:
            flag = f"--{name.replace('_', '-')}"
            lines.append(
                f"{flag} differs: {mine[name].value!r} for {first.name}, "
                f"{theirs[name].value!r} for {other.name}"
            )
    models = (first, other)
    judged_by = [(model.manifest.metrics or {}).get("verifier_version") for model in models]
    if judged_by[0] != judged_by[1] or first.manifest.user_code != other.manifest.user_code:
        lines.append(
            f"{first.name} and {other.name} were judged by different versions of the verifiers: run "
            "`distill eval` again, which takes over what was sampled"
        )
    samples = {model.predictions.num_samples for model in models}
    if len(samples) > 1 or any(fewest != most for fewest, most in samples):
        tested = min(fewest for fewest, _ in samples)
        lines.append(
            f"{first.name} and {other.name} have different numbers of samples: the test looks at the "
            f"first {tested} of each problem"
        )
    return lines


def write(out: Path, comparisons: list[Comparison]) -> None:
    """Write comparisons as markdown. Raises UsageError if the file holds something else."""
    content = "\n".join(line for item in comparisons for line in markdown_lines(item))
    if out.suffix != ".md":
        raise UsageError(f"--out {out}: name a .md file")
    if out.exists() and (not out.is_file() or out.read_text(encoding="utf-8") != content):
        raise UsageError(f"--out {out} holds something else: name another file, or move it away")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(content, encoding="utf-8")
    say(f"compare: {out}")
