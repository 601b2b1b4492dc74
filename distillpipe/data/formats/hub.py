"""Read a dataset of the Hugging Face Hub at a fixed commit: `hub:ORG/NAME[:CONFIG][:SPLIT]`, `hub:ORG/NAME/FILE`.

    hub:openai/gsm8k:main:test          hub:HuggingFaceH4/MATH-500:test          hub:simplescaling/s1K-1.1
    hub:math-ai/aime25/test.jsonl       hub:livecodebench/code_generation_lite/test*.jsonl

A single name after the dataset is a config if the dataset has one of that name, else a split. A file is read
directly, so it works for datasets that need a loading script. `*` matches several files, read in order of name.
"""

import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from distillpipe.base.errors import DataError, UsageError, first_line
from distillpipe.data.formats.files import Placed, arrow_rows, load_module, rows_and_unreadable

PREFIX = "hub:"
BATCH_ROWS = 64
SECONDS = 20  # timeout for the hub


class HubReference(NamedTuple):
    """The parts of a hub reference."""

    name: str
    parts: tuple[str, ...]
    "config and split, one of them, or none"
    file: str | None = None


def parse(reference: str) -> HubReference:
    """Parse a hub reference. Raises UsageError if it has another form."""
    name, *parts = reference.removeprefix(PREFIX).split(":")
    folders = name.split("/")
    if len(folders) < 2 or not all(folders) or len(parts) > 2 or not all(parts):
        raise UsageError(
            f"{reference}: expected hub:ORG/NAME[:CONFIG][:SPLIT] or hub:ORG/NAME/FILE"
        )
    if len(folders) > 2 and parts:
        raise UsageError(f"{reference}: a file has no config and no split: leave {parts[0]!r} out")
    return HubReference("/".join(folders[:2]), tuple(parts), "/".join(folders[2:]) or None)


def identity(reference: str) -> str:
    """The reference with its current commit: `hub:ORG/NAME:SPLIT@sha`."""
    return f"{reference}@{commit(parse(reference).name)}"


@functools.cache
def commit(name: str) -> str:
    """The newest commit of a dataset; with HF_HUB_OFFLINE=1 the last one that was downloaded.

    It stays the same during a process, so the rows that are read belong to the commit in the manifest.
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
            f"{PREFIX}{name}: no such dataset on the hub, or you have no access "
            f"({first_line(error)}): check the name, or log in with `hf auth login`"
        ) from error
    except Exception as error:  # the type depends on the HTTP library that huggingface_hub uses
        raise UsageError(
            f"{PREFIX}{name}: cannot reach the hub ({first_line(error)}): check the network, set "
            "HF_HUB_OFFLINE=1 if the dataset was loaded before, or download it and give its file"
        ) from error


def hub_rows(reference: str) -> Iterator[Placed]:
    """Yield place and value of each row, or an `Unreadable`. Images and audio stay bytes."""
    name, parts, file = parse(reference)
    if file is not None:
        for path in _raw_files(reference):
            yield from rows_and_unreadable(path)
        return
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
    arrow = load_module("pyarrow", "pyarrow", reference)
    for batch in loaded.with_format("arrow").iter(batch_size=BATCH_ROWS):
        for row in arrow_rows(batch, arrow, f"{reference}: row", number):
            number += 1
            yield row
    if not number:
        raise DataError(f"{reference} has no rows")


def _raw_files(reference: str) -> list[Path]:
    """Download the files that a reference names. Returns their paths, sorted by name."""
    name, _, file = parse(reference)
    assert file is not None
    hub, errors = (
        load_module(module, "huggingface_hub", reference)
        for module in ("huggingface_hub", "huggingface_hub.errors")
    )
    try:
        folder = Path(
            hub.snapshot_download(
                name, repo_type="dataset", revision=commit(name), allow_patterns=[file]
            )
        )
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        raise UsageError(
            f"{reference}: cannot be downloaded ({first_line(error)}): request access on its page and log in "
            "with `hf auth login`, or download it and give its file"
        ) from error
    if paths := sorted(folder.glob(file)):
        return paths
    raise UsageError(f"{reference}: the dataset {name} has no such file")


def _cached_commit(cache: Path, name: str) -> str:
    folder = cache / f"datasets--{name.replace('/', '--')}" / "snapshots"
    snapshots = sorted(folder.glob("*/"), key=lambda path: path.stat().st_mtime)
    if not snapshots:
        raise UsageError(
            f"{PREFIX}{name}: never loaded on this machine, and HF_HUB_OFFLINE is set: unset it, or give a file"
        )
    return snapshots[-1].name


def _resolve(datasets: Any, reference: str, revision: str) -> tuple[str, str]:
    """Config and split of a reference. Raises UsageError with the choices if the user has to choose."""
    name, parts, _ = parse(reference)
    start = f"{PREFIX}{name}"
    configs = datasets.get_dataset_config_names(name, revision=revision)
    named_config = next((part for part in parts if part in configs), None)
    default = datasets.get_dataset_default_config_name(name, revision=revision)
    config = _chosen(named_config or default, configs, reference, start)
    splits = datasets.get_dataset_split_names(name, config, revision=revision)
    split = next((part for part in parts if part != named_config), None)
    return config, _chosen(split, splits, reference, f"{start}:{config}" if named_config else start)


def _chosen(name: str | None, names: list[str], reference: str, start: str) -> str:
    if name is None and len(names) == 1:
        return names[0]
    if name in names:
        return str(name)
    choices = ", ".join(f"{start}:{choice}" for choice in names)
    problem = "choose one" if name is None else f"no {name!r}"
    raise UsageError(f"{reference}: {problem}: there are {choices}")
