"""Rows of a dataset on the hub: `hub:ORG/NAME[:CONFIG][:SPLIT]` or `hub:ORG/NAME/FILE`, pinned to a commit.

    hub:openai/gsm8k:main:test          hub:HuggingFaceH4/MATH-500:test          hub:simplescaling/s1K-1.1
    hub:math-ai/aime25/test.jsonl       hub:livecodebench/code_generation_lite/test*.jsonl

One name after the dataset's is a config where there is one of that name, else a split. A file is read as
it is, also of a dataset that only a script of its own could load; `*` stands for several, read by name.
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
SECONDS = 20  # to wait for the hub


class HubReference(NamedTuple):
    """The parts of a reference, null or empty where not given."""

    name: str
    parts: tuple[str, ...]
    file: str | None = None


def parse(reference: str) -> HubReference:
    """The parts of `hub:ORG/NAME[:CONFIG][:SPLIT]` or `hub:ORG/NAME/FILE`; a UsageError for another form."""
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
    """Place and value of each row, an `Unreadable` where there is none, from files on disk.

    Images and audio stay bytes.
    """
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
    """The files that a reference names, downloaded, in the order of their names."""
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
            f"{reference}: cannot be downloaded ({first_line(error)}): ask for access on its page and log "
            "in with `hf auth login`, or download it and give its file"
        ) from error
    if found := sorted(folder.glob(file)):
        return found
    raise UsageError(f"{reference}: the dataset {name} has no such file")


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
    name, parts, _ = parse(reference)
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
