"""`compare`: models on the same problems: their scores, and what each has more than the first."""

from pathlib import Path

import msgspec

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.progress import say
from distillpipe.data.store import dataset, versions
from distillpipe.data.store import manifest as manifests
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
"Options of eval that are no part of a protocol, or are seen in the rows."


class _Read(msgspec.Struct):
    name: str
    folder: Path
    manifest: Manifest
    found: Predictions


def compare(references: list[str], pass_at: list[int]) -> list[Comparison]:
    """Each benchmark that all references hold; the first reference is what the others are held against.

    Raises UsageError for fewer than two, for what holds no predictions, and for predictions of different
    problems; DataError where a file is not as it was written.
    """
    if len(references) < 2:
        raise UsageError("compare takes two datasets of predictions or more: name another one")
    if len(set(references)) < len(references):
        raise UsageError("compare: one dataset is named twice")
    folders = [folders_of(reference) for reference in references]
    names = _names(references)
    if all(len(one) == 1 for one in folders):
        benchmarks = [[next(iter(one.values())) for one in folders]]
    else:
        shared = [name for name in folders[0] if all(name in one for one in folders)]
        if not shared:
            held = "; ".join(
                f"{ref}: {', '.join(one)}" for ref, one in zip(references, folders, strict=True)
            )
            raise UsageError(f"no benchmark is in all of them: {held}")
        if left_out := sorted({name for one in folders for name in one} - set(shared)):
            say(f"compare: not in all of them, left out: {', '.join(left_out)}")
        benchmarks = [[one[name] for one in folders] for name in shared]
    return [_compared(names, paths, pass_at) for paths in benchmarks]


def _compared(names: list[str], folders: list[Path], pass_at: list[int]) -> Comparison:
    read = [_read(name, folder) for name, folder in zip(names, folders, strict=True)]
    for other in read[1:]:
        _check_paired(read[0], other)
    warnings = [line for other in read[1:] for line in _other_protocol(read[0], other)]
    fewest = min(one.found.num_samples[0] for one in read)
    if above := sorted({k for k in pass_at if k > fewest}):
        listed = ", ".join(f"pass@{k}" for k in above)
        warnings.append(
            f"{listed} left out where a problem has fewer samples (the fewest: {fewest})"
        )
    scored = [_scored(one, pass_at) for one in read]
    in_all = set.intersection(*(set(one.found.problems) for one in read))
    if not in_all:
        raise DataError("no problem has a completion in all of them: there is nothing to compare")
    warnings += _left_out(read, len(in_all))
    pairs = comparison.compare([(one.name, one.found.only(in_all)) for one in read])
    return Comparison(scored[0].metrics["benchmark"], scored, pairs, warnings)


def _left_out(read: list[_Read], num_in_all: int) -> list[str]:
    """Lines that say of which completions and problems nothing is known, since requests had failed."""
    lines = []
    for one in read:
        if left_out := one.found.num_left_out:
            asked = sum(one.found.counts.values()) + left_out
            lines.append(
                f"{one.name} was scored over {asked - left_out:,} of {asked:,} completions: the others "
                "failed on the way and were left out (--accept-errors)"
            )
    if num_in_all < (asked := len(read[0].found.asked)):
        lines.append(
            f"the models are compared over {num_in_all:,} of {asked:,} problems, which have a completion of each"
        )
    return lines


def _scored(read: _Read, pass_at: list[int]) -> ScoredModel:
    """Made anew from the rows, so that all models are measured by the same code."""
    before = read.manifest.metrics or {}
    problems = dataset.read_problems(str(read.folder))
    benchmark = before.get("benchmark", read.folder.parent.name)
    found = scoring.measure(benchmark, read.found, scoring.choice_options(problems), pass_at)
    kept = ("protocol", "published", "verifier_version", "budget", "resources")
    found |= {name: before.get(name) for name in kept}
    texts = (one.problem for one in read.found.problems.values())
    return ScoredModel(
        name=read.name,
        path=str(read.folder),
        metrics=found,
        training_overlap=training_overlap(read.folder, read.manifest, texts),
    )


def folders_of(reference: str) -> dict[str, Path]:
    """The versions that a reference stands for, by benchmark; eval's OUT stands for all in it."""
    path = Path(reference)
    if path.is_dir() and not versions.holds_versions(path):
        inside = [child for child in sorted(path.iterdir()) if versions.finished(child)]
        if inside:
            return {child.name: versions.resolve(str(child)) for child in inside}
    folder = versions.resolve(reference)
    return {folder.parent.name: folder}


def _names(references: list[str]) -> list[str]:
    """The last part of each reference, or more of them where these are not all different."""
    parts = [Path(reference).parts for reference in references]
    for length in range(1, max(map(len, parts))):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return references


def _read(name: str, folder: Path) -> _Read:
    manifest = manifests.read(folder)
    if manifest.kind != "predictions":
        raise UsageError(
            f"{folder} holds {manifest.kind}, not predictions: `distill eval` makes them"
        )
    if manifest.finished is None:
        raise UsageError(f"{folder} is unfinished: run the command that makes it again")
    found = scoring.read(folder)
    if not found.problems:
        raise DataError(f"{folder} holds no predictions: there is nothing to compare")
    return _Read(name, folder, manifest, found)


def _check_paired(first: _Read, other: _Read) -> None:
    mine, theirs = first.found.asked, other.found.asked
    missing, added = mine - theirs, theirs - mine
    if not missing and not added:
        return
    same_text = _texts(first, missing) & _texts(other, added)
    said = (
        f"{first.name} and {other.name} are predictions of different problems: {len(missing):,} of "
        f"{len(mine):,} are in the first alone, {len(added):,} of {len(theirs):,} in the second alone"
    )
    if same_text:
        said += f"; {len(same_text):,} have the same text, but another reference answer or verifier"
    for one in (first, other):
        if one.manifest.counts.dropped:
            said += f"; {one.manifest.counts.rows_rejected:,} rows of {one.name} were rejected ("
            said += f"{', '.join(one.manifest.counts.dropped)})"
    raise UsageError(
        f"{said}: run `distill eval` of both with the same --benchmark, --limit and --verifier, which "
        "takes over what was sampled"
    )


def _texts(read: _Read, problem_ids: set[str]) -> set[str]:
    found = read.found.problems
    return {found[one].problem for one in problem_ids if one in found}


def _other_protocol(first: _Read, other: _Read) -> list[str]:
    """A line for what makes the two scores no fair comparison."""
    lines = []
    mine, theirs = first.manifest.options, other.manifest.options
    for name in sorted((mine.keys() & theirs.keys()) - WHERE_IT_RAN):
        if mine[name].value != theirs[name].value:
            flag = f"--{name.replace('_', '-')}"
            lines.append(
                f"{flag} differs: {mine[name].value!r} for {first.name}, "
                f"{theirs[name].value!r} for {other.name}"
            )
    judged_by = [(one.manifest.metrics or {}).get("verifier_version") for one in (first, other)]
    if judged_by[0] != judged_by[1] or first.manifest.user_code != other.manifest.user_code:
        lines.append(
            f"{first.name} and {other.name} were judged by different versions of the verifiers: run "
            "`distill eval` again, which takes over what was sampled"
        )
    samples = {first.found.num_samples, other.found.num_samples}
    if len(samples) > 1 or any(fewest != most for fewest, most in samples):
        tested = min(fewest for fewest, _ in samples)
        lines.append(
            f"{first.name} and {other.name} have different numbers of samples: the test looks at the "
            f"first {tested} of each problem"
        )
    return lines


def write(out: Path, comparisons: list[Comparison]) -> None:
    """Write comparisons as markdown; a UsageError where the file holds something else."""
    content = "\n".join(line for one in comparisons for line in markdown_lines(one))
    if out.suffix != ".md":
        raise UsageError(f"--out {out}: name a .md file")
    if out.exists() and (not out.is_file() or out.read_text(encoding="utf-8") != content):
        raise UsageError(f"--out {out} holds something else: name another file, or move it away")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(content, encoding="utf-8")
    say(f"compare: {out}")
