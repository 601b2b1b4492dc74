"""Integrity of finished versions: refuse files that are missing or changed since they were written.

check_sizes     compares the size of each file with the manifest: fast, before every use
check_content   compares sha256 too, once per process: before rows are read
"""

import functools
from pathlib import Path

from distillpipe.base.errors import DataError
from distillpipe.base.hashing import file_sha256
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.manifest import Manifest


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Raise DataError if a file of a finished version is missing, shorter or longer than its manifest says."""
    for entry in manifest.files:
        path = folder / entry.name
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            raise DataError(f"{path} is missing: {_remedy(path, manifest)}")
        if size != entry.bytes:
            raise DataError(
                f"{path} has {size:,} bytes, {entry.bytes:,} were written: {_remedy(path, manifest)}"
            )


@functools.cache
def check_content(folder: Path) -> None:
    """Raise DataError if a file of a finished version differs from its manifest. Runs once per process."""
    manifest = manifests.read(folder)
    check_sizes(folder, manifest)
    for entry in manifest.files:
        if file_sha256(folder / entry.name) != entry.sha256:
            raise _changed(folder / entry.name, manifest)


@functools.cache
def is_unchanged(path: Path) -> bool:
    """Whether a file is as the manifest beside it says. True if the manifest does not list it yet."""
    entries = {entry.name: entry for entry in manifests.read(path.parent).files}
    entry = entries.get(path.name)
    return entry is None or (path.is_file() and file_sha256(path) == entry.sha256)


def check_labels(folder: Path, manifest: Manifest) -> None:
    """Raise DataError if label files that a draft's manifest lists have changed.

    A draft lists files if it is a finished version that was renamed to be made again. Its rows are decoded
    again, so changed text is noticed; nothing else would notice changed labels.
    """
    for entry in manifest.files:
        path = folder / entry.name
        has_size = path.is_file() and path.stat().st_size == entry.bytes
        if path.suffix in (".labels", ".tokens") and has_size and not is_unchanged(path):
            raise _changed(path, manifest)


def _changed(path: Path, manifest: Manifest) -> DataError:
    return DataError(
        f"{path} was changed after it was written (its sha256 differs): {_remedy(path, manifest)}"
    )


def _remedy(path: Path, manifest: Manifest) -> str:
    folder = path.parent
    if path.name.startswith("labels-"):
        return (
            "restore the original file, or label the rows again, whose text is intact: "
            f"`distill label {folder}/part-*.jsonl --teacher MODEL --out OUT`"
        )
    return (
        f"restore the original file, or rename {folder} to {folder.name}.partial and run `distill "
        f"{manifest.stage}` again, which keeps the rows that are intact"
    )
