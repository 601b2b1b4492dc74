"""Rows of a dataset on the hub: `hub:ORG/NAME[:CONFIG][:SPLIT]`, pinned to a commit.

    hub:openai/gsm8k:main:test          hub:HuggingFaceH4/MATH-500:test          hub:simplescaling/s1K-1.1

One name after the dataset's is a config where there is one of that name, else a split.
"""

import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from distillpipe.errors import DataError, UsageError, first_line
from distillpipe.formats.files import Placed, load_module

PREFIX = "hub:"
BATCH_ROWS = 64
SECONDS = 20  # to wait for the hub


class HubReference(NamedTuple):
    """The parts of a reference, null or empty where not given."""

    name: str
    parts: tuple[str, ...]


def parse(reference: str) -> HubReference:
    """The parts of `hub:ORG/NAME[:CONFIG][:SPLIT]`; a UsageError for another form."""
    name, *parts = reference.removeprefix(PREFIX).split(":")
    if name.count("/") != 1 or not all(name.split("/")) or len(parts) > 2 or not all(parts):
        raise UsageError(f"{reference}: expected hub:ORG/NAME[:CONFIG][:SPLIT]")
    return HubReference(name, tuple(parts))


def identity(reference: str) -> str:
    """The reference with the commit that it stands for now: `hub:ORG/NAME:SPLIT@sha`."""
    return f"{reference}@{commit(parse(reference).name)}"


@functools.cache
def commit(name: str) -> str:
    """The newest commit of a dataset; with HF_HUB_OFFLINE=1 the one that was downloaded last.

    The same in all of a process, so that what is read is what the manifest names.
    """
    hub, constants, errors = (
        load_module(module, "huggingface_hub", f"{PREFIX}{name}")
        for module in ("huggingface_hub", "huggingface_hub.constants", "huggingface_hub.errors")
    )
    if constants.HF_HUB_OFFLINE:
        return _cached_commit(Path(constants.HF_HUB_CACHE), name)
    try:
        return str(hub.HfApi().dataset_info(name, timeout=SECONDS).sha)
    except (errors.HFValidationError, errors.RepositoryNotFoundError) as error:
        raise UsageError(
            f"{PREFIX}{name}: the hub has no such dataset that you may read "
            f"({first_line(error)}): check the name, or log in with `hf auth login`"
        ) from error
    except Exception as error:  # a failed connection raises what hf's HTTP library of the day has
        raise UsageError(
            f"{PREFIX}{name}: the hub is out of reach ({first_line(error)}): check the network, set "
            "HF_HUB_OFFLINE=1 if it was loaded before, or download it and give its file"
        ) from error


def hub_rows(reference: str) -> Iterator[Placed]:
    """Place and value of each row, from Arrow files on disk; images and audio stay bytes."""
    name, parts = parse(reference)
    datasets = load_module("datasets", "datasets", reference)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    revision = commit(name)
    try:
        config, split = parts if len(parts) == 2 else _resolve(datasets, reference, revision)
        loaded = datasets.load_dataset(name, config, split=split, revision=revision)
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise DataError(f"{reference}: cannot be loaded: {first_line(error)}") from error
    number = 0
    for batch in loaded.with_format("arrow").iter(batch_size=BATCH_ROWS):
        for row in batch.to_pylist():
            number += 1
            yield f"{reference}: row {number}", row
    if not number:
        raise DataError(f"{reference} has no rows")


def _cached_commit(cache: Path, name: str) -> str:
    folder = cache / f"datasets--{name.replace('/', '--')}" / "snapshots"
    there = sorted(folder.glob("*/"), key=lambda path: path.stat().st_mtime)
    if not there:
        raise UsageError(
            f"{PREFIX}{name}: was never loaded here, and HF_HUB_OFFLINE is set: unset it, or give a file"
        )
    return there[-1].name


def _resolve(datasets: Any, reference: str, revision: str) -> tuple[str, str]:
    """Config and split of a reference; a UsageError lists them where the choice is the user's."""
    name, parts = parse(reference)
    start = f"{PREFIX}{name}"
    configs = datasets.get_dataset_config_names(name, revision=revision)
    named = next((part for part in parts if part in configs), None)
    default = datasets.get_dataset_default_config_name(name, revision=revision)
    config = _chosen(named or default, configs, reference, start)
    splits = datasets.get_dataset_split_names(name, config, revision=revision)
    split = next((part for part in parts if part != named), None)
    return config, _chosen(split, splits, reference, f"{start}:{config}" if named else start)


def _chosen(wanted: str | None, choices: list[str], reference: str, start: str) -> str:
    if wanted is None and len(choices) == 1:
        return choices[0]
    if wanted in choices:
        return str(wanted)
    choice = ", ".join(f"{start}:{name}" for name in choices)
    raise UsageError(
        f"{reference}: {'name one' if wanted is None else f'no {wanted!r}'}: there are {choice}"
    )
