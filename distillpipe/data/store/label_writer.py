"""Soft labels on their way to the disk: see `labels` for the files.

Both files of a pair only grow, and a row is written after its labels and synced after them. What a torn run left
behind the last row is cut off when the files are opened again.
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
from distillpipe.data.store.jsonl import cut_torn_line, decode
from distillpipe.data.store.labels import TOKEN, Labels, LabelSource, label_type, paths_of

FILE_BYTES = 1024**3  # of labels, before the next file is begun


class LabelWriter:
    """Appends the labels of one source to the files of one draft; `producer` is part of their names."""

    def __init__(
        self, folder: Path, producer: str, source: LabelSource, kept: Iterable[SoftLabels]
    ) -> None:
        """Open the files behind the labels of the rows that the draft holds already (`kept`).

        Raises DataError where a row has lost labels, which only a damaged disk or a hand does.
        """
        self._source = source
        self.k = k = source.k
        self._folder = folder
        self._prefix = f"labels-{producer}"
        self._descriptors: list[int] = []
        self._dirty = False
        ends: dict[str, int] = {}
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
        """Write the labels of one completion; call `sync` before the row that names them is durable."""
        labels.check()
        if labels.k != self.k:
            raise ValueError(f"labels of {labels.k} tokens in files of {self.k}")
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
            found = SoftLabels(file=self._name, offset=self._length, length=length, k=self.k)
            self._length += length
        return found

    def sync(self) -> None:
        """Make the labels so far survive a power cut."""
        if self._dirty:
            for descriptor in self._descriptors:
                sync_file(descriptor, self._folder / self._name, content_only=True)
            self._dirty = False

    def close(self) -> None:
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
        """Say who gives the labels; a file that says something else was damaged."""
        path = self._folder / f"{self._prefix}.json"
        content = msgspec.json.format(msgspec.json.encode(self._source), indent=1) + b"\n"
        if not path.is_file() or path.read_bytes() != content:
            writing = path.with_name(f"{path.name}.new")
            writing.write_bytes(content)
            writing.replace(path)

    def _write(self, descriptor: int, content: bytes) -> None:
        """Both files end where the last whole row ends, also where the disk is full."""
        self._dirty = True
        left = memoryview(content)
        try:
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError as error:
            self.close()
            with suppress(OSError, DataError):
                _cut(self._folder, self._name, self._length, self.k)
            error.filename = str(self._folder / self._name)
            raise


def cut_rows_without_labels(folder: Path, most: int) -> None:
    """Cut off the last rows of a draft whose labels are not there.

    A power cut can take labels and leave a row that was not synced either, so there are at most `most`
    of them, in the last part. More are left alone: `LabelWriter` refuses them.
    """
    parts = sorted(folder.glob("part-*.jsonl"))
    if not parts:
        return
    part = parts[-1]
    cut_torn_line(part)
    place, num_behind = 0, 0
    cut: int | None = None
    rows = msgspec.json.Decoder(_Labelled)
    with part.open("rb") as file:
        for number, line in enumerate(file, start=1):
            found = decode(line, rows, f"{part}:{number}").soft_labels
            if cut is None and found is not None and not is_there(part.parent, found):
                cut = place
            num_behind += cut is not None
            place += len(line)
    if cut is not None and num_behind <= most:
        os.truncate(part, cut)


class _Labelled(msgspec.Struct):
    soft_labels: SoftLabels | None = None


def is_there(folder: Path, found: SoftLabels) -> bool:
    """Whether a folder holds the labels that a row names."""
    end = found.offset + found.length
    widths = (TOKEN.itemsize, label_type(found.k).itemsize)
    return all(
        path.is_file() and path.stat().st_size >= end * width
        for path, width in zip(paths_of(folder, found.file), widths, strict=True)
    )


def _cut(folder: Path, name: str, end: int, k: int) -> None:
    """Cut off what stands behind the last row; a DataError where its labels are not there."""
    for path, width in zip(
        paths_of(folder, name), (TOKEN.itemsize, label_type(k).itemsize), strict=True
    ):
        size = path.stat().st_size if path.is_file() else 0
        if size < end * width:
            raise DataError(
                f"{path}: the rows of this draft name {end:,} labels of it, it has {size // width:,}: "
                "put the file back, or delete the folder to start it anew; the text of its rows can be "
                f"labelled, too: `distill label {folder}/part-*.jsonl --teacher MODEL --out OUT`"
            )
        if size > end * width:
            os.truncate(path, end * width)
