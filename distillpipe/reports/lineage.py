"""The lineage of a version: all versions and files it was made from, followed from manifest to manifest.

A manifest names its inputs by path, version and id. An ancestor counts as found only if a manifest with the same id is
there. For a missing or changed ancestor, we use what the manifest of its reader recorded.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from distillpipe.base.errors import DataError
from distillpipe.base.hashing import bytes_hash, cached_sha256
from distillpipe.data.store import dataset, versions
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.manifest import InputDataset, Manifest, ModelUsed
from distillpipe.models.lookup import MERGED

READS_PROBLEMS = ("generate", "eval")
CHECKPOINT = "checkpoint:"  # prefix of the identity of a checkpoint made by distillpipe
State = Literal["found", "gone", "changed", "remote"]


class FunnelStep(msgspec.Struct):
    """A version or file in the funnel of `distill show`."""

    name: str
    version: str | None
    "null for a file"
    path: str
    state: State
    "changed: the path holds another id now; remote: on the hub, not looked up"
    kind: Literal["problems", "traces", "predictions", "checkpoint"]
    stage: str | None = None
    "the stage that made it, null if its manifest is unknown"
    rows: int | None = None
    "rows kept; without a manifest, the rows that its only reader has read"
    rows_read: int | None = None
    dropped: dict[str, int] = {}
    "rows by reason, most first"
    inputs: list[int] = []
    "positions of its inputs in the funnel"


def ancestry(folder: Path, manifest: Manifest) -> list[FunnelStep]:
    """The funnel that ends with the version in `folder`; each step follows its inputs."""
    steps: list[FunnelStep] = []
    _follow(folder, manifest, steps, {})
    return steps


class _Location(NamedTuple):
    path: Path
    state: State
    manifest: Manifest | None


def _follow(
    folder: Path, manifest: Manifest, steps: list[FunnelStep], positions: dict[Path, int | None]
) -> int:
    """Add a version after all its ancestors and return its position.

    `positions` maps paths to positions; None while the ancestors of a path are being followed.
    """
    resolved = folder.resolve()
    positions[resolved] = None
    inputs = [_add(parent, folder, manifest, steps, positions) for parent in _parents(manifest)]
    counts = manifest.counts
    by_rows = sorted(counts.dropped.items(), key=lambda item: -item[1].rows)
    step = FunnelStep(
        name=folder.parent.name,
        version=manifest.version,
        path=str(folder),
        state="found",
        kind=manifest.kind,
        stage=manifest.stage,
        rows=counts.rows_kept,
        rows_read=counts.rows_read,
        dropped={reason: dropped.rows for reason, dropped in by_rows},
        inputs=inputs,
    )
    positions[resolved] = len(steps)
    steps.append(step)
    return len(steps) - 1


def _add(
    source: InputDataset,
    reader: Path,
    reading: Manifest,
    steps: list[FunnelStep],
    positions: dict[Path, int | None],
) -> int:
    """Add an input of the version in the folder `reader`, with its ancestors, and return its position."""
    path, state, manifest = _find(source, reader.parent)
    resolved = path.resolve()
    if (position := positions.get(resolved)) is not None:
        if manifest is None:  # several stages may have read different parts of a file
            read = [steps[position].rows, _unread_step(source, path, state, reading).rows]
            steps[position].rows = max((rows for rows in read if rows is not None), default=None)
        return position
    if manifest is not None and resolved not in positions:
        return _follow(path, manifest, steps, positions)
    if manifest is not None:
        # a version cannot be its own ancestor, so the path holds another version now
        state = "changed"
    if state in ("found", "remote"):
        positions[resolved] = len(steps)
    steps.append(_unread_step(source, path, state, reading))
    return len(steps) - 1


def _parents(manifest: Manifest) -> Iterator[InputDataset]:
    """The inputs of a stage, including its models if they are checkpoints of distillpipe."""
    for model in manifest.models:
        checkpoint_id = _checkpoint_id(model)
        if checkpoint_id is not None:
            path, version = _version_named(model.name)
            yield InputDataset(path, version, checkpoint_id, model.relative_path)
    yield from manifest.inputs


def _checkpoint_id(model: ModelUsed) -> str | None:
    """The id of the distillpipe checkpoint that a model is or was made from; None for other models.

    For an adapter of ours it is the adapter's id, whose manifest names the base. For a foreign adapter on a base of
    ours it is the base's id.
    """
    if model.checkpoint_id is not None:
        return model.checkpoint_id
    parts = (part for part in model.identity.split(" on ") if part.startswith(CHECKPOINT))
    first = next(parts, None)
    return None if first is None else first.removeprefix(CHECKPOINT)


def _version_named(reference: str) -> tuple[str, str]:
    """Split `OUT`, `OUT@v1`, `OUT/v1` or `OUT/latest/merged` into the folder of versions and the version."""
    path, version = versions.split_reference(reference)
    if path.name == MERGED:
        path = path.parent
    if path.name == "latest" or versions.FINISHED.fullmatch(path.name):
        return str(path.parent), path.name
    return str(path), version or "latest"


def _find(source: InputDataset, base: Path) -> _Location:
    """Locate an input: relative to `base`, the folder of its reader, else by the path the user gave.

    The given path may be relative to a working directory that we no longer know, so only an input with the recorded
    content counts.
    """
    if source.path.startswith("hub:"):
        return _Location(Path(source.path), "remote", None)
    as_given = Path(source.path)
    candidates = [as_given]
    if source.relative_path is not None:
        candidates.insert(0, Path(os.path.normpath(base.resolve() / source.relative_path)))
    state: State = "gone"
    for candidate in candidates:
        if source.version is None:
            if candidate.is_file():
                if cached_sha256(candidate) == source.id:
                    return _Location(_shortest(candidate, as_given), "found", None)
                state = "changed"
            continue
        for folder in _folders(candidate, source.version):
            if (manifest := _read(folder)) is not None and manifest.id == source.id:
                return _Location(_shortest(folder, as_given / folder.name), "found", manifest)
            if folder == candidate / source.version and folder.exists():
                state = "changed"
    return _Location(as_given / (source.version or ""), state, None)


def _folders(path: Path, version: str) -> Iterator[Path]:
    """Candidate folders of a version: in its folder of versions, or `path` or its parent itself."""
    path = versions.follow_latest(path)
    yield path / version
    yield from reversed(versions.finished(path))
    yield path
    if path.name == MERGED:
        yield path.parent


def _shortest(path: Path, as_given: Path) -> Path:
    """The path as the user wrote it, if it leads to the same place from the working directory."""
    same = as_given.exists() and as_given.resolve() == path.resolve()
    return as_given if same else path


def _read(folder: Path) -> Manifest | None:
    with suppress(DataError):
        return manifests.read(folder)
    return None


def _unread_step(source: InputDataset, path: Path, state: State, reading: Manifest) -> FunnelStep:
    """The step of a file, or of a version without a matching manifest, from the manifest of its reader."""
    is_model = source.id in {_checkpoint_id(model) for model in reading.models}
    is_only = len(reading.inputs) == 1
    rows: int | None = reading.counts.rows_read if is_only and not is_model else None
    kind: Literal["problems", "traces", "checkpoint"] = "checkpoint" if is_model else "traces"
    if reading.stage in READS_PROBLEMS and not is_model:
        kind = "problems"
        listed = [entry.rows for entry in reading.files if entry.name == "problems.jsonl"]
        rows = listed[0] if listed and is_only else None
    return FunnelStep(
        name=source.path if state == "remote" else Path(source.path).name,
        version=source.version,
        path=str(path),
        state=state,
        kind=kind,
        rows=rows,
    )


# Train-test overlap: was a model trained on the benchmark? We compare the problem texts in its lineage.
#
# This works for checkpoints of distillpipe only: predictions name the checkpoint, the manifest of the checkpoint names its
# training traces, and these name the teacher, which may be a checkpoint of distillpipe too.


class Overlap(msgspec.Struct):
    """Benchmark problems in the training data of a model."""

    num_problems: int
    "problems found in the training data; case and white space are ignored"
    found_in: list[str]
    "versions and files of training data that hold some of these problems"
    unknown: list[str]
    "training data that is missing, changed or on the hub, so it was not searched"


class _ProblemText(msgspec.Struct):
    problem: str


def training_overlap(folder: Path, manifest: Manifest, problems: Iterable[str]) -> Overlap | None:
    """The overlap for the predictions over `problems` in the version `folder`; None for a foreign model.

    Raises DataError if a row of the training data cannot be read.
    """
    steps = ancestry(folder, manifest)
    models = [number for number in steps[-1].inputs if steps[number].kind == "checkpoint"]
    if not models:
        return None
    keys = {_normalized_hash(problem) for problem in problems}
    all_matches: set[str] = set()
    overlap = Overlap(0, [], [])
    for step in _training_data(steps, models):
        label = f"{step.path}"
        if step.state != "found" or step.kind == "checkpoint":
            overlap.unknown.append(label)
            continue
        rows = dataset.scan(Path(step.path), _ProblemText)
        matches = {key for row in rows if (key := _normalized_hash(row.problem)) in keys}
        if matches:
            overlap.found_in.append(label)
        all_matches |= matches
    overlap.num_problems = len(all_matches)
    return overlap


def _training_data(steps: list[FunnelStep], models: list[int]) -> Iterator[FunnelStep]:
    """The training data of the checkpoints, and of the checkpoints that these or their teachers were made from.

    A checkpoint without a known manifest stands for its own training data.
    """
    pending, seen = list(models), set(models)
    training_data: dict[str, FunnelStep] = {}
    while pending:
        step = steps[pending.pop()]
        if step.kind == "checkpoint" and step.stage is None:
            training_data[step.path] = step
        for number in step.inputs:
            if step.kind == "checkpoint" and steps[number].kind != "checkpoint":
                training_data[steps[number].path] = steps[number]
            if number not in seen:
                seen.add(number)
                pending.append(number)
    yield from training_data.values()


def _normalized_hash(problem: str) -> str:
    return bytes_hash(re.sub(r"\s+", " ", problem.casefold()).strip().encode())
