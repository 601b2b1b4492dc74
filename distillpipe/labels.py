"""Soft labels beside the rows: at each token of a completion the log-probabilities that a teacher gave.

    labels-3f9a12c07be2a1d4-00000.tokens   5 bytes a token: its id (uint32) and a flag
    labels-3f9a12c07be2a1d4-00000.labels   6 K + 2 bytes a token: the ids of the K most likely tokens (uint32),
                                           their log-probabilities (fp16), then the token's own (fp16)

A row knows its slice: file, offset and length in tokens, K. The ids stand beside the labels, so that nobody
has to trust a position: who reads a slice compares its ids with the tokens of the row. Both files only
grow, and a row is written after its labels are durable; what a torn run left behind the last row is cut off
when the files are opened again. Log-probabilities are those of the whole vocabulary at temperature 1.

Shapes: T tokens of one completion, end token included; K labels a token, the most likely one first.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from distillpipe.errors import DataError
from distillpipe.interrupts import shielded
from distillpipe.jsonl import sync_content, sync_folder
from distillpipe.records import SoftLabels

FILE_BYTES = 1024**3  # of labels, before the next file is begun
TOKEN = np.dtype([("id", "<u4"), ("flag", "u1")])
NO_TOKEN = 0xFFFFFFFF  # where a vocabulary has fewer than K tokens: its log-probability is -inf

SAMPLED, INSERTED, UNLABELLED = 0, 1, 2
"Flags: drawn by the teacher; put there by budget forcing; without a label for another reason."


class Labels(NamedTuple):
    """The labels of one completion; maps of the files where they were read."""

    tokens: npt.NDArray[np.uint32]  # (T,)
    flags: npt.NDArray[np.uint8]  # (T,)
    top_tokens: npt.NDArray[np.uint32]  # (T, K)
    top_logprobs: npt.NDArray[np.float16]  # (T, K)
    own_logprobs: npt.NDArray[np.float16]  # (T,), of the tokens themselves

    @property
    def k(self) -> int:
        return int(self.top_tokens.shape[1])

    def check(self) -> None:
        """Raise ValueError where the shapes do not go together."""
        length, k = self.top_tokens.shape
        shapes = [part.shape for part in self]
        if shapes != [(length,), (length,), (length, k), (length, k), (length,)]:
            raise ValueError(f"labels of different lengths: {shapes}")


def label_type(k: int) -> np.dtype[np.void]:
    """One entry of a `.labels` file."""
    return np.dtype([("tokens", "<u4", (k,)), ("logprobs", "<f2", (k,)), ("own", "<f2")])


def label_bytes(num_tokens: int, k: int) -> int:
    """What the labels of so many tokens take on disk."""
    return num_tokens * (TOKEN.itemsize + label_type(k).itemsize)


class LabelWriter:
    """Appends labels to the files of one draft; `producer` is part of their names."""

    def __init__(self, folder: Path, producer: str, k: int, kept: Iterable[SoftLabels]) -> None:
        """Open the files behind the labels of the rows that the draft holds already (`kept`).

        Raises DataError where a row has lost labels, which only a damaged disk or a hand does.
        """
        self.k = k
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
                sync_content(descriptor)
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
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        for path in _paths(self._folder, self._name):
            self._descriptors.append(os.open(path, flags, 0o644))
        sync_folder(self._folder)

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


def read_labels(folder: Path, found: SoftLabels) -> Labels:
    """The labels that a row of the version in `folder` names, mapped, not read.

    Raises DataError where the files are missing or too short.
    """
    tokens_path, labels_path = _paths(folder, found.file)
    kind = label_type(found.k)
    end = found.offset + found.length
    for path, width in ((tokens_path, TOKEN.itemsize), (labels_path, kind.itemsize)):
        size = path.stat().st_size if path.is_file() else 0
        if size < end * width:
            raise DataError(
                f"{path}: a row names the labels {found.offset:,} to {end:,} of it, the file has "
                f"{size // width:,}: copy the version again, with its label files"
            )
    if not found.length:
        return _as_labels(np.empty(0, TOKEN), np.empty(0, kind))
    tokens = np.memmap(
        tokens_path, TOKEN, "r", found.offset * TOKEN.itemsize, shape=(found.length,)
    )
    entries = np.memmap(labels_path, kind, "r", found.offset * kind.itemsize, shape=(found.length,))
    return _as_labels(tokens, entries)


def files_of(folder: Path) -> list[Path]:
    """The label files of a version, both of each pair."""
    return sorted([*folder.glob("labels-*.tokens"), *folder.glob("labels-*.labels")])


def _as_labels(tokens: npt.NDArray[np.void], entries: npt.NDArray[np.void]) -> Labels:
    return Labels(
        tokens["id"], tokens["flag"], entries["tokens"], entries["logprobs"], entries["own"]
    )


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.tokens", folder / f"{name}.labels"


def _cut(folder: Path, name: str, end: int, k: int) -> None:
    """Cut off what stands behind the last row; a DataError where its labels are not there."""
    for path, width in zip(
        _paths(folder, name), (TOKEN.itemsize, label_type(k).itemsize), strict=True
    ):
        size = path.stat().st_size if path.is_file() else 0
        if size < end * width:
            raise DataError(
                f"{path}: the rows of this draft name {end:,} labels of it, it has {size // width:,}: "
                "delete the folder to start it anew"
            )
        if size > end * width:
            os.truncate(path, end * width)
