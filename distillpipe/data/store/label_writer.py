"""Append soft labels to the label files of a draft. `labels` describes the files.

Both files of a pair only grow. A row is written and synced after its labels. Labels that a killed run left after
those of the last row are cut off when the files are opened again.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from distillpipe.base.errors import DataError
from distillpipe.base.filesystem import sync_file, sync_folder
from distillpipe.base.interrupts import shielded
from distillpipe.base.records import SoftLabels
from distillpipe.data.store import dataset
from distillpipe.data.store.dataset import RowKeys
from distillpipe.data.store.jsonl import cut_from_line, cut_torn_line
from distillpipe.data.store.labels import TOKEN, Labels, LabelSource, label_type, paths_of

FILE_BYTES = 1024**3  # size of a `.labels` file at which the next one is begun


class LabelWriter:
    """Appends the labels of one teacher to the files of one draft, named `labels-PRODUCER-NNNNN`."""

    def __init__(
        self, folder: Path, producer: str, source: LabelSource, kept: Iterable[SoftLabels]
    ) -> None:
        """Open the files for appending after the labels of the rows in the draft (`kept`).

        Raises DataError if labels of a row are missing: the disk is damaged, or someone changed the files.
        """
        self._source = source
        self.k = k = source.k
        self._folder = folder
        self._prefix = f"labels-{producer}"
        self._descriptors: list[int] = []
        self._dirty = False
        ends: dict[str, int] = {}  # by file, in tokens
        for slice_ in kept:
            if slice_.file.startswith(self._prefix):
                ends[slice_.file] = max(ends.get(slice_.file, 0), slice_.offset + slice_.length)
        self._number, self._length = 0, 0
        if ends:
            last = max(ends)
            self._number, self._length = int(last.rpartition("-")[2]), ends[last]
        for name, end in ends.items():
            _cut(folder, name, end, k)
        for path in folder.glob(f"{self._prefix}-*"):
            if path.stem not in ends:
                path.unlink()
        (folder / f"{self._prefix}.json.new").unlink(missing_ok=True)
        if ends:
            self._write_source()

    def append(self, labels: Labels) -> SoftLabels:
        """Write the labels of one completion. Call `sync` before the row that names them becomes durable."""
        labels.check()
        if labels.k != self.k:
            raise ValueError(f"K is {labels.k}, but the files have {self.k} labels per token")
        length = len(labels.tokens)
        tokens = np.empty(length, TOKEN)
        tokens["id"], tokens["flag"] = labels.tokens, labels.flags
        entries = np.empty(length, label_type(self.k))
        entries["tokens"], entries["logprobs"] = labels.top_tokens, labels.top_logprobs
        entries["own"] = labels.own_logprobs
        with shielded():
            if self._length and self._length * entries.itemsize >= FILE_BYTES:
                self.close()
                self._number, self._length = self._number + 1, 0
            if not self._descriptors:
                self._open()
            for descriptor, content in zip(self._descriptors, (tokens, entries), strict=True):
                self._write(descriptor, content.tobytes())
            slice_ = SoftLabels(file=self._name, offset=self._length, length=length, k=self.k)
            self._length += length
        return slice_

    def sync(self) -> None:
        """Make the labels written so far survive a power loss."""
        if self._dirty:
            for descriptor in self._descriptors:
                sync_file(descriptor, self._folder / self._name, content_only=True)
            self._dirty = False

    def close(self) -> None:
        """Sync and close the files."""
        self.sync()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    @property
    def _name(self) -> str:
        return f"{self._prefix}-{self._number:05d}"

    def _open(self) -> None:
        self._write_source()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        for path in paths_of(self._folder, self._name):
            self._descriptors.append(os.open(path, flags, 0o644))
        sync_folder(self._folder)

    def _write_source(self) -> None:
        """Write the JSON file that describes the teacher, unless it is there with this content."""
        path = self._folder / f"{self._prefix}.json"
        content = msgspec.json.format(msgspec.json.encode(self._source), indent=1) + b"\n"
        if not path.is_file() or path.read_bytes() != content:
            temporary = path.with_name(f"{path.name}.new")
            temporary.write_bytes(content)
            temporary.replace(path)

    def _write(self, descriptor: int, content: bytes) -> None:
        """Append to a file. If the disk is full, both files are cut back to the end of the last whole row."""
        self._dirty = True
        unwritten = memoryview(content)
        try:
            while unwritten:
                unwritten = unwritten[os.write(descriptor, unwritten) :]
        except OSError as error:
            self.close()
            with suppress(OSError, DataError):
                _cut(self._folder, self._name, self._length, self.k)
            error.filename = str(self._folder / self._name)
            raise


def cut_rows_without_labels(folder: Path, max_rows: int) -> None:
    """Cut off the last rows of a draft if their labels are missing.

    After a power loss, rows that were not synced may be on disk without their labels. These are at most
    `max_rows` rows at the end of the last part. More are left as they are: `LabelWriter` refuses them.
    """
    parts = dataset.row_files(folder)
    if not parts:
        return
    part = parts[-1]
    cut_torn_line(part)
    num_rows, first = 0, None  # number of the first line without labels, from 1
    for num_rows, row in enumerate(dataset.scan(part, RowKeys), start=1):
        labels = row.soft_labels
        if first is None and labels is not None and not has_labels(folder, labels):
            first = num_rows
    if first is not None and num_rows - first < max_rows:
        cut_from_line(part, first)


def has_labels(folder: Path, slice_: SoftLabels) -> bool:
    """Whether the label files in `folder` are long enough for the slice that a row names."""
    end = slice_.offset + slice_.length
    widths = (TOKEN.itemsize, label_type(slice_.k).itemsize)
    return all(
        path.is_file() and path.stat().st_size >= end * width
        for path, width in zip(paths_of(folder, slice_.file), widths, strict=True)
    )


def _cut(folder: Path, name: str, end: int, k: int) -> None:
    """Cut a pair of files to `end` tokens. Raises DataError if a file is shorter than that."""
    for path, width in zip(
        paths_of(folder, name), (TOKEN.itemsize, label_type(k).itemsize), strict=True
    ):
        size = path.stat().st_size if path.is_file() else 0
        if size < end * width:
            raise DataError(
                f"{path}: the rows of this draft name {end:,} labels, but the file has {size // width:,}: "
                "restore the file, or delete the folder to start again; or label the text of its rows: "
                f"`distill label {folder}/part-*.jsonl --teacher MODEL --out OUT`"
            )
        if size > end * width:
            os.truncate(path, end * width)
