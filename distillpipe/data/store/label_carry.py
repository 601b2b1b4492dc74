"""Labels that go with their rows into another version: files are linked, or what is needed of them is copied.

A hard link costs no disk and no time, so a version that keeps most rows has the files of the one it was made of;
across devices they are copied. Where the rows kept need less than KEPT_SHARE of the bytes that one producer has
written, or where two inputs have other files under one name, only the labels of these rows are copied, to files
of the version's own: then the rejected rows lose theirs.
"""

import errno
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from distillpipe.base.filesystem import sync_file, sync_folder
from distillpipe.base.hashing import content_hash
from distillpipe.base.progress import say
from distillpipe.base.records import SoftLabels
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.jsonl import decode, lines
from distillpipe.data.store.label_writer import LabelWriter, is_there
from distillpipe.data.store.labels import (
    LabelSource,
    files_of,
    label_bytes,
    paths_of,
    read_labels,
    read_source,
)
from distillpipe.data.store.versions import Draft
from distillpipe.data.store.writer import PRODUCER_DIGITS

KEPT_SHARE = (
    0.25  # of a producer's bytes: copying fewer costs little, and frees the rest with the input
)
UNLABELLED = b'"soft_labels":null'
NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP)

Moved = dict[str, SoftLabels | None]
"By row id where labels lie now; null for a row that goes on without. Of the others they lie where they lay."


class _Labelled(NamedTuple):
    """A row that names labels."""

    id: str
    folder: Path
    "where its files should be"
    labels: SoftLabels

    def source_file(self) -> Path:
        """What says who gave its labels."""
        return self.folder / f"{self.labels.file.rpartition('-')[0]}.json"

    def producer(self) -> tuple[int, int, int]:
        """Device and inode of that file: the same for all versions that have it linked; and K."""
        found = self.source_file().stat()
        return found.st_dev, found.st_ino, self.labels.k


def carry(inputs: Sequence[str], kept: Collection[str], draft: Draft) -> Moved:
    """Bring the labels of the rows of `inputs` into a draft; `kept` are the ids of the rows that stay.

    Raises DataError where it is not known who gave labels, or a row has another K than they have.

    A row of a plain file whose labels are not beside that file goes on without them, which is said. What is
    done is the same in every run of a draft.
    """
    moved: Moved = {}
    by_producer: dict[tuple[int, int, int], list[_Labelled]] = {}
    for row in _labelled(inputs):
        if row.source_file().is_file() and is_there(row.folder, row.labels):
            by_producer.setdefault(row.producer(), []).append(row)
        else:
            moved[row.id] = None
    if moved:
        say(
            f"{draft.manifest.stage}: {len(moved):,} rows name soft labels that are not beside their file: "
            "they go on without; give the version's folder to keep them"
        )
    writers: dict[str, LabelWriter] = {}
    taken: dict[str, Path] = {}
    for rows in by_producer.values():
        source = read_source(rows[0].folder, rows[0].labels)
        files = _files(rows)
        is_other = any(path.name in taken and not path.samefile(taken[path.name]) for path in files)
        if is_other or _are_few([row for row in rows if row.id in kept], files):
            _copy_rows(rows, source, kept, draft, writers, moved)
            continue
        for path in files:
            _link(path, draft.path / path.name)
            taken[path.name] = path
    for writer in writers.values():
        writer.close()
    if taken:
        sync_folder(draft.path)
    return moved


def are_whole(folder: Path, found: SoftLabels) -> bool:
    """Whether the labels that a row names are there, in files that are as their version has written them."""
    files = (folder / f"{found.file.rpartition('-')[0]}.json", *paths_of(folder, found.file))
    return is_there(folder, found) and all(map(versions.is_as_written, files))


def _labelled(inputs: Sequence[str]) -> Iterator[_Labelled]:
    """The rows that name labels, each once."""
    seen: set[str] = set()
    rows = msgspec.json.Decoder(_Row)
    for reference in inputs:
        folder = dataset.folder_of(reference)
        if versions.plain_file(reference) is None and not files_of(folder):
            continue
        for path in dataset.trace_files(reference):
            for number, line in lines(path):
                if UNLABELLED in line:
                    continue
                row = decode(line, rows, f"{path}:{number}")
                if row.soft_labels is not None and row.id not in seen:
                    seen.add(row.id)
                    yield _Labelled(row.id, folder, row.soft_labels)


class _Row(msgspec.Struct):
    """What of a row says where its labels are."""

    id: str
    soft_labels: SoftLabels | None = None


def _files(rows: Sequence[_Labelled]) -> list[Path]:
    """All files that hold the labels of rows of one producer."""
    folders = {row.labels.file: row.folder for row in rows}
    pairs = [path for name, folder in sorted(folders.items()) for path in paths_of(folder, name)]
    return [rows[0].source_file(), *pairs]


def _are_few(rows: Sequence[_Labelled], files: Sequence[Path]) -> bool:
    """Whether rows need little of the files that hold their labels."""
    needed = sum(label_bytes(row.labels.length, row.labels.k) for row in rows)
    there = sum(path.stat().st_size for path in files if path.suffix != ".json")
    return needed < KEPT_SHARE * there


def _copy_rows(
    rows: Sequence[_Labelled],
    source: LabelSource,
    kept: Collection[str],
    draft: Draft,
    writers: dict[str, LabelWriter],
    moved: Moved,
) -> None:
    """Copy the labels of the rows kept to files of the draft's own, a row of them for each source."""
    named = msgspec.to_builtins(source, str_keys=True)
    producer = content_hash(draft.manifest.fingerprint, named)[:PRODUCER_DIGITS]
    if producer not in writers:
        writers[producer] = LabelWriter(draft.path, producer, source, [])
    for row in rows:
        is_kept = row.id in kept
        moved[row.id] = (
            writers[producer].append(read_labels(row.folder, row.labels)) if is_kept else None
        )


def _link(path: Path, target: Path) -> None:
    """Let a file stand in another folder too; on another device, or where links are not allowed, a copy of it."""
    if target.exists() and (target.samefile(path) or target.stat().st_size == path.stat().st_size):
        return  # by a run that was stopped
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(path)
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        writing = target.with_name(f"{target.name}.new")
        shutil.copyfile(path, writing)
        with writing.open("rb") as copied:
            sync_file(copied.fileno(), writing)
        writing.replace(target)
