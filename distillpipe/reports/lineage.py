"""The funnel: a version and all that it came from, followed from manifest to manifest.

A manifest names what its stage read by path, version and id. An ancestor counts only where a manifest
with that very id is still found; of what is gone or was changed, the stage that read it knows the rest.
"""

import os
import re
from collections.abc import Iterable, Iterator
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
CHECKPOINT = "checkpoint:"  # how the identity of a model of ours begins
State = Literal["found", "gone", "changed", "remote"]


class Step(msgspec.Struct):
    """A version or file of the funnel."""

    name: str
    version: str | None
    "null for a file"
    path: str
    state: State
    "changed: another id stands there now; remote: on the hub, where nothing is looked up"
    kind: Literal["problems", "traces", "predictions", "checkpoint"]
    stage: str | None = None
    "what made it, null where its manifest is not known"
    rows: int | None = None
    "kept; without a manifest what the only stage that reads it has read"
    rows_read: int | None = None
    dropped: dict[str, int] = {}
    "rows by reason, most first"
    inputs: list[int] = []
    "positions, in the funnel, of what it was made of"


def ancestry(folder: Path, manifest: Manifest) -> list[Step]:
    """The funnel that ends with the version in `folder`: each step stands after what it was made of."""
    steps: list[Step] = []
    _follow(folder, manifest, steps, {})
    return steps


class _Found(NamedTuple):
    path: Path
    state: State
    manifest: Manifest | None


def _follow(
    folder: Path, manifest: Manifest, steps: list[Step], known: dict[Path, int | None]
) -> int:
    """Add a version after all its ancestors; its position.

    `known` has the position of each place, None as long as its ancestors are being followed.
    """
    place = folder.resolve()
    known[place] = None
    inputs = [_add(given, folder, manifest, steps, known) for given in _parents(manifest)]
    counts = manifest.counts
    by_rows = sorted(counts.dropped.items(), key=lambda item: -item[1].rows)
    step = Step(
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
    known[place] = len(steps)
    steps.append(step)
    return len(steps) - 1


def _add(
    given: InputDataset,
    reader: Path,
    reading: Manifest,
    steps: list[Step],
    known: dict[Path, int | None],
) -> int:
    """Add what the version in the folder `reader` has read, with its ancestors; its position."""
    path, state, manifest = _find(given, reader.parent)
    place = path.resolve()
    if (position := known.get(place)) is not None:
        if manifest is None:  # a file that several stages read parts of
            read = [steps[position].rows, _leaf(given, path, state, reading).rows]
            steps[position].rows = max((rows for rows in read if rows is not None), default=None)
        return position
    if manifest is not None and place not in known:
        return _follow(path, manifest, steps, known)
    if manifest is not None:  # a version cannot come from itself: another one stands there now
        state = "changed"
    if state in ("found", "remote"):
        known[place] = len(steps)
    steps.append(_leaf(given, path, state, reading))
    return len(steps) - 1


def _parents(manifest: Manifest) -> Iterator[InputDataset]:
    """What a stage read, its models too where they are checkpoints of ours."""
    for model in manifest.models:
        checkpoint_id = _checkpoint_id(model)
        if checkpoint_id is not None:
            path, version = _version_named(model.name)
            yield InputDataset(path, version, checkpoint_id, model.relative_path)
    yield from manifest.inputs


def _checkpoint_id(model: ModelUsed) -> str | None:
    """The id of the checkpoint of ours that a model is, or was made from; None for other models.

    Of an adapter of ours its own: the manifest of the adapter names its base. Of another adapter on a base
    that is ours the base's.
    """
    if model.checkpoint_id is not None:
        return model.checkpoint_id
    parts = (part for part in model.identity.split(" on ") if part.startswith(CHECKPOINT))
    first = next(parts, None)
    return None if first is None else first.removeprefix(CHECKPOINT)


def _version_named(reference: str) -> tuple[str, str]:
    """The folder of versions and the version that `OUT`, `OUT@v1`, `OUT/v1`, `OUT/latest/merged` name."""
    path, version = versions.split_reference(reference)
    if path.name == MERGED:
        path = path.parent
    if path.name == "latest" or versions.FINISHED.fullmatch(path.name):
        return str(path.parent), path.name
    return str(path), version or "latest"


def _find(given: InputDataset, base: Path) -> _Found:
    """Where an input lies: as seen from `base`, the folder of its reader, else as it was given.

    What was given may be relative to the directory that the command was started in, which is not known
    any more; so it counts only by its content.
    """
    if given.path.startswith("hub:"):
        return _Found(Path(given.path), "remote", None)
    as_given = Path(given.path)
    places = [as_given]
    if given.relative_path is not None:
        places.insert(0, Path(os.path.normpath(base.resolve() / given.relative_path)))
    state: State = "gone"
    for place in places:
        if given.version is None:
            if place.is_file():
                if cached_sha256(place) == given.id:
                    return _Found(_shortest(place, as_given), "found", None)
                state = "changed"
            continue
        for folder in _folders(place, given.version):
            if (found := _read(folder)) is not None and found.id == given.id:
                return _Found(_shortest(folder, as_given / folder.name), "found", found)
            if folder == place / given.version and folder.exists():
                state = "changed"
    return _Found(as_given / (given.version or ""), state, None)


def _folders(place: Path, version: str) -> Iterator[Path]:
    """Where a version may lie: in its folder of versions, or `place` is its own folder, or one inside it."""
    place = versions.follow_latest(place)
    yield place / version
    yield from reversed(versions.finished(place))
    yield place
    if place.name == MERGED:
        yield place.parent


def _shortest(found: Path, as_given: Path) -> Path:
    """The path as the user wrote it, where that leads to the same place from here."""
    same = as_given.exists() and as_given.resolve() == found.resolve()
    return as_given if same else found


def _read(folder: Path) -> Manifest | None:
    try:
        return manifests.read(folder)
    except DataError:
        return None


def _leaf(given: InputDataset, path: Path, state: State, reading: Manifest) -> Step:
    """A file, or a version without a manifest to trust: what the stage that read it still knows."""
    is_model = given.id in {_checkpoint_id(model) for model in reading.models}
    is_only = len(reading.inputs) == 1
    rows: int | None = reading.counts.rows_read if is_only and not is_model else None
    kind: Literal["problems", "traces", "checkpoint"] = "checkpoint" if is_model else "traces"
    if reading.stage in READS_PROBLEMS and not is_model:
        kind = "problems"
        listed = [entry.rows for entry in reading.files if entry.name == "problems.jsonl"]
        rows = listed[0] if listed and is_only else None
    return Step(
        name=given.path if state == "remote" else Path(given.path).name,
        version=given.version,
        path=str(path),
        state=state,
        kind=kind,
        rows=rows,
    )


# Whether a model was trained on what it is scored on: from its lineage, by the text of the problems.
#
# Known of checkpoints of ours only: predictions name the checkpoint, its manifest the traces that it was
# trained on, these the teacher, which may be a checkpoint of ours too.


class Overlap(msgspec.Struct):
    """Problems of a benchmark in the training data of a model."""

    num_problems: int
    "that were found there; the same text but for case and white space"
    found_in: list[str]
    "versions and files of training data that hold some of them"
    unknown: list[str]
    "training data that is gone, changed or elsewhere, so that it could not be looked at"


class _Text(msgspec.Struct):
    problem: str


def training_overlap(folder: Path, manifest: Manifest, problems: Iterable[str]) -> Overlap | None:
    """For the predictions in the version `folder` over `problems`; None for a model that is not ours.

    Raises DataError where a row of the training data cannot be read.
    """
    steps = ancestry(folder, manifest)
    models = [number for number in steps[-1].inputs if steps[number].kind == "checkpoint"]
    if not models:
        return None
    keys = {_key(problem) for problem in problems}
    seen: set[str] = set()
    found = Overlap(0, [], [])
    for step in _training_data(steps, models):
        label = f"{step.path}"
        if step.state != "found" or step.kind == "checkpoint":
            found.unknown.append(label)
            continue
        rows = dataset.scan(Path(step.path), _Text)
        here = {key for row in rows if (key := _key(row.problem)) in keys}
        if here:
            found.found_in.append(label)
        seen |= here
    found.num_problems = len(seen)
    return found


def _training_data(steps: list[Step], models: list[int]) -> Iterator[Step]:
    """What the checkpoints were trained on, and those that they or their teachers came from.

    A checkpoint whose manifest is not known stands for its own training data.
    """
    left, known = list(models), set(models)
    given: dict[str, Step] = {}
    while left:
        step = steps[left.pop()]
        if step.kind == "checkpoint" and step.stage is None:
            given[step.path] = step
        for number in step.inputs:
            if step.kind == "checkpoint" and steps[number].kind != "checkpoint":
                given[steps[number].path] = steps[number]
            if number not in known:
                known.add(number)
                left.append(number)
    yield from given.values()


def _key(problem: str) -> str:
    return bytes_hash(re.sub(r"\s+", " ", problem.casefold()).strip().encode())
