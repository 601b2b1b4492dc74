"""The disk usage and unfinished versions of a dataset folder, from stat and manifests; no rows are read."""

import os
from pathlib import Path

import msgspec

from distillpipe.base.errors import DataError
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store import versions
from distillpipe.data.store.jsonl import lines


class Partial(msgspec.Struct):
    """An unfinished version."""

    name: str
    rows_kept: int | None
    "from its manifest, which is written every few seconds; null without a readable manifest"
    rows_rejected: int | None
    failed_rows: int
    "in errors.jsonl; the next run tries them again"
    disk_bytes: int


class Folder(msgspec.Struct):
    """The folder of a dataset or checkpoint."""

    latest: str | None
    disk_bytes: dict[str, int]
    "of each version and unfinished version"
    total_bytes: int
    "counts a file that several versions link to once"
    partials: list[Partial]


def describe(shown: Path) -> Folder:
    """The dataset folder of the version in the folder `shown`."""
    dataset = shown.parent
    partials = versions.partials(dataset)
    folders = versions.finished(dataset) + partials
    if shown.name not in [folder.name for folder in folders]:  # the copy of a single version
        folders = [shown]
    sizes = {folder.name: sizes_of(folder) for folder in folders}
    unique_files = {inode: size for files in sizes.values() for inode, size in files.items()}
    return Folder(
        latest=latest(dataset),
        disk_bytes={name: sum(files.values()) for name, files in sizes.items()},
        total_bytes=sum(unique_files.values()),
        partials=[
            _partial(path, sum(sizes[path.name].values())) for path in partials if path in folders
        ],
    )


def latest(dataset: Path) -> str | None:
    """The version that a reference without a version means; None if no version is finished."""
    finished = [folder.name for folder in versions.finished(dataset)]
    linked = versions.latest_name(dataset)
    return linked if linked in finished else next(reversed(finished), None)


def sizes_of(folder: Path) -> dict[tuple[int, int], int]:
    """The size of each file in a folder tree, by device and inode; links are not followed."""
    sizes = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            status = (Path(parent) / name).lstat()
            sizes[status.st_dev, status.st_ino] = status.st_size
    return sizes


def _partial(path: Path, disk_bytes: int) -> Partial:
    errors = path / versions.ERRORS_FILE
    failed = sum(1 for _ in lines(errors, whole_only=True)) if errors.is_file() else 0
    try:
        counts = manifests.read(path).counts
    except DataError:
        return Partial(path.name, None, None, failed, disk_bytes)
    return Partial(path.name, counts.rows_kept, counts.rows_rejected, failed, disk_bytes)
