"""Bring soft labels into a version that is made from others: link the label files, or copy the labels needed.

Hard links cost no disk space, so a version that keeps most rows links the label files of its inputs. Across file
systems the files are copied. The labels of the kept rows alone are copied, to new files, in two cases: they are
less than `KEPT_SHARE` of the files of one producer, or two inputs have different files with one name. Rejected
rows then lose their labels.
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
from distillpipe.data.store import dataset
from distillpipe.data.store.dataset import Dataset, RowKeys
from distillpipe.data.store.integrity import is_unchanged
from distillpipe.data.store.jsonl import decode
from distillpipe.data.store.label_writer import LabelWriter, has_labels
from distillpipe.data.store.labels import (
    LabelSource,
    files_of,
    label_bytes,
    paths_of,
    read_labels,
    read_source,
    source_path,
)
from distillpipe.data.store.versions import Draft
from distillpipe.data.store.writer import PRODUCER_DIGITS

# Share of the bytes of one producer's files. Copying less than this is cheap, and the large files can be
# deleted together with the input.
KEPT_SHARE = 0.25
NO_LABELS = b'"soft_labels":null'  # in the line of a row without labels
NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP)

NewLabels = dict[str, SoftLabels | None]
"New label slice by row id, None for a row that loses its labels. Rows that are not in it keep their slice."


class _LabelledRow(NamedTuple):
    """A row that names labels."""

    id: str
    folder: Path
    "where its label files should be"
    labels: SoftLabels

    def source_path(self) -> Path:
        """The JSON file that describes the teacher of its labels."""
        return source_path(self.folder, self.labels)

    def producer(self) -> tuple[int, int, int]:
        """Device and inode of that file, equal in all versions that link it, and K."""
        status = self.source_path().stat()
        return status.st_dev, status.st_ino, self.labels.k


def carry(inputs: Sequence[Dataset], kept: Collection[str], draft: Draft) -> NewLabels:
    """Bring the labels of the rows of `inputs` into a draft. `kept` are the ids of the rows to keep.

    Labels that are not beside the plain file of their row are lost, with a note. Every run of a draft does the
    same. Raises DataError if the teacher of labels is unknown, or if a row has another K than its label file.
    """
    new_labels: NewLabels = {}
    by_producer: dict[tuple[int, int, int], list[_LabelledRow]] = {}
    for row in _labelled_rows(inputs):
        if row.source_path().is_file() and has_labels(row.folder, row.labels):
            by_producer.setdefault(row.producer(), []).append(row)
        else:
            new_labels[row.id] = None
    if new_labels:
        say(
            f"{draft.manifest.stage}: {len(new_labels):,} rows name soft labels that are not beside their "
            "file: they lose their labels; give the version's folder to keep them"
        )
    writers: dict[str, LabelWriter] = {}
    linked: dict[str, Path] = {}
    for rows in by_producer.values():
        source = read_source(rows[0].folder, rows[0].labels)
        files = _files(rows)
        has_clash = any(
            path.name in linked and not path.samefile(linked[path.name]) for path in files
        )
        num_needed = sum(
            label_bytes(row.labels.length, row.labels.k) for row in rows if row.id in kept
        )
        num_bytes = sum(path.stat().st_size for path in files if path.suffix != ".json")
        if has_clash or num_needed < KEPT_SHARE * num_bytes:
            _copy_rows(rows, source, kept, draft, writers, new_labels)
            continue
        for path in files:
            _link(path, draft.path / path.name)
            linked[path.name] = path
    for writer in writers.values():
        writer.close()
    if linked:
        sync_folder(draft.path)
    return new_labels


def are_intact(folder: Path, labels: SoftLabels) -> bool:
    """Whether the labels that a row names exist, in files that are unchanged since they were written."""
    files = (source_path(folder, labels), *paths_of(folder, labels.file))
    return has_labels(folder, labels) and all(map(is_unchanged, files))


def _labelled_rows(inputs: Sequence[Dataset]) -> Iterator[_LabelledRow]:
    """The rows that name labels, each id once."""
    seen: set[str] = set()
    decoder = msgspec.json.Decoder(RowKeys)
    for source in inputs:
        folder = source.labels_folder
        if not source.is_file and not files_of(folder):
            continue
        for where, line in dataset.scan_lines(source):
            if NO_LABELS in line:
                continue
            row = decode(line, decoder, where)
            if row.soft_labels is not None and row.id not in seen:
                seen.add(row.id)
                yield _LabelledRow(row.id, folder, row.soft_labels)


def _files(rows: Sequence[_LabelledRow]) -> list[Path]:
    """All label files of rows of one producer."""
    folders = {row.labels.file: row.folder for row in rows}
    pairs = [path for name, folder in sorted(folders.items()) for path in paths_of(folder, name)]
    return [rows[0].source_path(), *pairs]


def _copy_rows(
    rows: Sequence[_LabelledRow],
    source: LabelSource,
    kept: Collection[str],
    draft: Draft,
    writers: dict[str, LabelWriter],
    new_labels: NewLabels,
) -> None:
    """Copy the labels of the kept rows to new files of the draft: one series of files for each source."""
    fields = msgspec.to_builtins(source, str_keys=True)
    producer = content_hash(draft.manifest.fingerprint, fields)[:PRODUCER_DIGITS]
    if producer not in writers:
        writers[producer] = LabelWriter(draft.path, producer, source, [])
    for row in rows:
        is_kept = row.id in kept
        new_labels[row.id] = (
            writers[producer].append(read_labels(row.folder, row.labels)) if is_kept else None
        )


def _link(path: Path, target: Path) -> None:
    """Hard-link a file into another folder, or copy it where links are not possible."""
    if target.exists() and (target.samefile(path) or target.stat().st_size == path.stat().st_size):
        return  # an earlier run of the draft did it
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(path)
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        temporary = target.with_name(f"{target.name}.new")
        shutil.copyfile(path, temporary)
        with temporary.open("rb") as copied:
            sync_file(copied.fileno(), temporary)
        temporary.replace(target)
