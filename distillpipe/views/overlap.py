"""Whether a model was trained on what it is scored on: from its lineage, by the text of the problems.

Known of checkpoints of ours only: predictions name the checkpoint, its manifest the traces that it was
trained on, these the teacher, which may be a checkpoint of ours too.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from distillpipe.base.hashing import bytes_hash
from distillpipe.data.store.jsonl import decoded
from distillpipe.data.store.manifest import Manifest
from distillpipe.views.ancestors import Step, ancestry


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
        here = {key for text in _texts(step) if (key := _key(text)) in keys}
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


def _texts(step: Step) -> Iterator[str]:
    path = Path(step.path)
    files = sorted(path.glob("part-*.jsonl")) if step.version else [path]
    for file in files:
        for row in decoded(file, _Text):
            yield row.problem


def _key(problem: str) -> str:
    return bytes_hash(re.sub(r"\s+", " ", problem.casefold()).strip().encode())
