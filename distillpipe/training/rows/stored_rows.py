"""The tokenized rows of a run in files; memory holds forty bytes of each row and no tokens.

    rows/
      tokens.bin   the token ids of all rows, one after the other, uint32
      names.bin    the ids of the rows, UTF-8
      labels.bin   for rows with soft labels, their location and which label belongs to which token, msgpack;
                   also the rows of live teachers
      index.bin    the location of each row in the three files, and the length of its prompt
      files.json   the label files that the rows refer to

We read with `pread` and do not map the files, because mapped pages count as memory of the process.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import msgspec
import numpy as np

from distillpipe.base.filesystem import sync_file, sync_folder
from distillpipe.training.rows.rows import Row, StoredLabels, TeacherRow

TOKENS, NAMES, LABELS, INDEX = "tokens.bin", "names.bin", "labels.bin", "index.bin"
FILES = "files.json"
StoredTargets = tuple[StoredLabels | None, tuple[TeacherRow, ...]]
TOKEN = np.dtype("<u4")
ENTRY = np.dtype(
    [
        ("token", "<u8"),
        ("num_tokens", "<u4"),
        ("num_prompt", "<u4"),
        ("name", "<u8"),
        ("len", "<u4"),
        ("labels", "<u8"),
        ("labels_len", "<u4"),
    ]
)  # token: index of the first token; name, len: first byte and number of bytes of the row id; labels: likewise


class StoredRows(Sequence[Row]):
    """The rows in a folder written by `store`; each access reads one row."""

    def __init__(self, folder: Path) -> None:
        self._index = np.fromfile(folder / INDEX, ENTRY)
        self._tokens = (folder / TOKENS).open("rb", buffering=0)
        self._names = (folder / NAMES).open("rb", buffering=0)
        self._labels = (folder / LABELS).open("rb", buffering=0)

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        entry = self._index[index]
        size = TOKEN.itemsize
        content = os.pread(
            self._tokens.fileno(), int(entry["num_tokens"]) * size, int(entry["token"]) * size
        )
        ids = np.frombuffer(content, TOKEN).tolist()
        row = Row(self._name(entry), ids, int(entry["num_prompt"]))
        if not entry["labels_len"]:
            return row
        content = os.pread(self._labels.fileno(), int(entry["labels_len"]), int(entry["labels"]))
        labels, teacher_rows = msgspec.msgpack.decode(content, type=StoredTargets)
        return row._replace(labels=labels, teacher_rows=teacher_rows)

    def names(self) -> Iterator[str]:
        """The ids of the rows, in order; tokens are not read."""
        for entry in self._index:
            yield self._name(entry)

    @property
    def num_supervised(self) -> int:
        """The number of supervised tokens of all rows."""
        return int((self._index["num_tokens"] - self._index["num_prompt"]).sum(dtype=np.int64))

    def _name(self, entry: Any) -> str:
        return os.pread(self._names.fileno(), int(entry["len"]), int(entry["name"])).decode()


def store(folder: Path, rows: Iterable[Row]) -> StoredRows:
    """Write `rows` into `folder`, unless it already holds a complete set of rows; then `rows` is not read."""
    if not _is_complete(folder):
        remove(folder)
        writing = folder.with_name(f"{folder.name}.writing")
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir()
        _write(writing, rows)
        for file in writing.iterdir():
            with file.open("rb") as written:
                sync_file(written.fileno(), file)
        sync_folder(writing)
        writing.rename(folder)
        sync_folder(folder.parent)
    return StoredRows(folder)


def _is_complete(folder: Path) -> bool:
    """Whether the files are complete and the label files that they refer to exist.

    A version may have been moved, so its label files may be elsewhere; the rows are then written again.
    """
    try:
        files = msgspec.json.decode((folder / FILES).read_bytes(), type=list[str])
        sizes = [(folder / name).stat().st_size for name in (TOKENS, NAMES, LABELS, INDEX)]
    except (OSError, msgspec.MsgspecError):
        return False
    index = np.fromfile(folder / INDEX, ENTRY)
    ends = [0, 0, 0, index.nbytes]
    if len(index):
        last = index[-1]
        ends[0] = int(last["token"] + last["num_tokens"]) * TOKEN.itemsize
        ends[1] = int(last["name"] + last["len"])
        ends[2] = int(last["labels"] + last["labels_len"])
    return sizes == ends and all(Path(f"{file}.labels").is_file() for file in files)


def remove(folder: Path) -> None:
    """Remove stored rows; the folder is renamed first, because partly removed rows could be taken for complete ones."""
    doomed = folder.with_name(f"{folder.name}.writing")
    shutil.rmtree(doomed, ignore_errors=True)
    if folder.is_dir():
        folder.rename(doomed)
        shutil.rmtree(doomed)


def _write(folder: Path, rows: Iterable[Row]) -> None:
    num_tokens = num_bytes = num_label_bytes = 0
    files: set[str] = set()
    with (
        (folder / TOKENS).open("wb") as tokens,
        (folder / NAMES).open("wb") as names,
        (folder / LABELS).open("wb") as labels,
        (folder / INDEX).open("wb") as index,
    ):
        for row in rows:
            name, content = row.id.encode(), np.asarray(row.ids, TOKEN).tobytes()
            label_bytes = b""
            if row.labels is not None or row.teacher_rows:
                label_bytes = msgspec.msgpack.encode((row.labels, row.teacher_rows))
            if row.labels is not None:
                files.add(row.labels.found.file)
            location = (num_bytes, len(name), num_label_bytes, len(label_bytes))
            entry = (num_tokens, len(row.ids), row.num_prompt, *location)
            index.write(np.array(entry, ENTRY).tobytes())
            tokens.write(content)
            names.write(name)
            labels.write(label_bytes)
            num_tokens += len(row.ids)
            num_bytes += len(name)
            num_label_bytes += len(label_bytes)
    (folder / FILES).write_bytes(msgspec.json.encode(sorted(files)))
