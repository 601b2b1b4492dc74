"""Soft labels on disk: the teacher's top-K log-probabilities at each token of a completion.

    labels-3f9a12c07be2a1d4-00000.tokens   5 bytes per token: its id (uint32) and a flag (uint8)
    labels-3f9a12c07be2a1d4-00000.labels   6 K + 2 bytes per token: ids of the K most likely tokens (uint32),
                                           their log-probabilities (fp16), the token's own (fp16)
    labels-3f9a12c07be2a1d4.json           the teacher and its vocabulary: `LabelSource`

A row names its slice: file, offset and length in tokens, K. Readers compare the token ids of the slice with
the tokens of the row, so a wrong offset is noticed. Both files only grow. A row is written after its labels are
durable; labels after the last row are cut off when the files are opened again. Log-probabilities are those
of the softmax over the whole vocabulary at temperature 1.

Shapes: T tokens of one completion, including the end token; K labels per token, most likely first.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from distillpipe.base.decoding import NOT_DECODED
from distillpipe.base.errors import DataError
from distillpipe.base.records import SoftLabels

ENDINGS = (".json", ".labels", ".tokens")
TOKEN = np.dtype([("id", "<u4"), ("flag", "u1")])
NO_TOKEN = 0xFFFFFFFF  # fills labels that are missing; its log-probability is -inf

SAMPLED, INSERTED, UNLABELLED = 0, 1, 2
"Flags: sampled from the model; inserted by budget forcing; without a label for another reason."


class Vocabulary(msgspec.Struct, frozen=True):
    """The properties of a tokenizer that decide whether its labels fit another model."""

    ordinary: str
    "hash over ids and bytes of the ordinary tokens"
    num_ordinary: int
    special: dict[int, str]
    "text of each added token, by id"
    ends: tuple[int, ...]
    "the tokens that end a turn; first the one that training teaches"
    think_open: int | None
    "null if the tag is not a single token"
    think_close: int | None


class Labels(NamedTuple):
    """The labels of one completion. Arrays that were read are memory maps of the files."""

    tokens: npt.NDArray[np.uint32]  # (T,)
    flags: npt.NDArray[np.uint8]  # (T,)
    top_tokens: npt.NDArray[np.uint32]  # (T, K)
    top_logprobs: npt.NDArray[np.float16]  # (T, K)
    own_logprobs: npt.NDArray[np.float16]  # (T,) log-probabilities of `tokens`

    @property
    def k(self) -> int:
        return int(self.top_tokens.shape[1])

    def check(self) -> None:
        """Raise ValueError if the shapes do not match."""
        length, k = self.top_tokens.shape
        shapes = [array.shape for array in self]
        if shapes != [(length,), (length,), (length, k), (length, k), (length,)]:
            raise ValueError(f"labels of different lengths: {shapes}")

    def followed_by(self, others: "Labels") -> "Labels":
        """These labels and, after them, `others`: two parts of one completion."""
        pairs: Any = zip(self, others, strict=True)
        arrays: list[Any] = [np.concatenate(pair) for pair in pairs]
        return Labels(*arrays)

    def first(self, num_tokens: int) -> "Labels":
        """The labels of the first `num_tokens` tokens."""
        arrays: list[Any] = [array[:num_tokens] for array in self]
        return Labels(*arrays)

    def flagged(self, flags: npt.NDArray[np.uint8]) -> "Labels":
        """The labels with other flags. Labels of tokens that are not SAMPLED are removed."""
        is_kept = flags == SAMPLED
        return Labels(
            self.tokens,
            flags,
            np.where(is_kept[:, None], self.top_tokens, np.uint32(NO_TOKEN)),
            np.where(is_kept[:, None], self.top_logprobs, np.float16(-np.inf)),
            np.where(is_kept, self.own_logprobs, np.float16(-np.inf)),
        )

    def top(self, k: int) -> "Labels":
        """Only the `k` most likely tokens of each label."""
        return self._replace(
            top_tokens=self.top_tokens[:, :k], top_logprobs=self.top_logprobs[:, :k]
        )


class LabelSource(msgspec.Struct, frozen=True):
    """The teacher of one set of label files. Stored as JSON beside them; all that a reader needs."""

    k: int
    teacher: str
    identity: str
    "hash or revision of the teacher model"
    vocabulary: Vocabulary


def unlabelled(tokens: Sequence[int], k: int, flag: int) -> Labels:
    """Labels for tokens without teacher probabilities: all NO_TOKEN and -inf, with one flag."""
    length = len(tokens)
    return Labels(
        np.array(tokens, np.uint32),
        np.full(length, flag, np.uint8),
        np.full((length, k), NO_TOKEN, np.uint32),
        np.full((length, k), -np.inf, np.float16),
        np.full(length, -np.inf, np.float16),
    )


def labels_of_edited(labels: Labels | None, tokens: Sequence[int], k: int) -> Labels:
    """The labels for an edited completion `tokens`. From the first changed token on, all are INSERTED."""
    if labels is None:
        return unlabelled(tokens, k, INSERTED)
    length = min(len(labels.tokens), len(tokens))
    changed = np.flatnonzero(labels.tokens[:length] != np.array(tokens[:length], np.uint32))
    num_same = int(changed[0]) if len(changed) else length
    return labels.first(num_same).followed_by(unlabelled(tokens[num_same:], k, INSERTED))


def label_type(k: int) -> np.dtype[np.void]:
    """The dtype of one entry of a `.labels` file."""
    return np.dtype([("tokens", "<u4", (k,)), ("logprobs", "<f2", (k,)), ("own", "<f2")])


def label_bytes(num_tokens: int, k: int) -> int:
    """Bytes on disk of the labels of `num_tokens` tokens, both files together."""
    return num_tokens * (TOKEN.itemsize + label_type(k).itemsize)


def read_labels(folder: Path, slice_: SoftLabels) -> Labels:
    """The labels that a row of the version in `folder` names, as memory maps.

    Raises DataError if the files are missing or too short.
    """
    tokens_path, labels_path = paths_of(folder, slice_.file)
    dtype = label_type(slice_.k)
    end = slice_.offset + slice_.length
    for path, width in ((tokens_path, TOKEN.itemsize), (labels_path, dtype.itemsize)):
        size = path.stat().st_size if path.is_file() else 0
        if size < end * width:
            raise DataError(
                f"{path}: a row names its labels {slice_.offset:,} to {end:,}, but the file has "
                f"{size // width:,}: copy the version again, with its label files"
            )
    if slice_.length:
        shape = (slice_.length,)
        tokens = np.memmap(tokens_path, TOKEN, "r", slice_.offset * TOKEN.itemsize, shape=shape)
        entries = np.memmap(labels_path, dtype, "r", slice_.offset * dtype.itemsize, shape=shape)
        return _as_labels(tokens, entries)
    # An empty slice cannot be mapped.
    return _as_labels(np.empty(0, TOKEN), np.empty(0, dtype))


def files_of(folder: Path) -> list[Path]:
    """All label files of a version: `.tokens`, `.labels` and `.json`."""
    return sorted(path for ending in ENDINGS for path in folder.glob(f"labels-*{ending}"))


def source_path(folder: Path, slice_: SoftLabels) -> Path:
    """The JSON file with the `LabelSource` of the labels that a row names."""
    return folder / f"{slice_.file.rpartition('-')[0]}.json"


def read_source(folder: Path, slice_: SoftLabels) -> LabelSource:
    """The teacher of the labels that a row of the version in `folder` names.

    Raises DataError if the file is missing or unreadable, or if the row has another K than the file.
    """
    path = source_path(folder, slice_)
    try:
        source = msgspec.json.decode(path.read_bytes(), type=LabelSource)
    except (FileNotFoundError, *NOT_DECODED) as error:
        raise DataError(
            f"{path} should describe the teacher of the labels beside it, but cannot be read ({error}): "
            "copy the version again, with its label files"
        ) from error
    if source.k != slice_.k:
        raise DataError(
            f"{path}: the files have {source.k} labels per token, but a row that names them says {slice_.k}: "
            "restore the original row, or set its soft_labels to null"
        )
    return source


def _as_labels(tokens: npt.NDArray[np.void], entries: npt.NDArray[np.void]) -> Labels:
    return Labels(
        tokens["id"], tokens["flag"], entries["tokens"], entries["logprobs"], entries["own"]
    )


def paths_of(folder: Path, name: str) -> tuple[Path, Path]:
    """The `.tokens` and the `.labels` file of a name."""
    return folder / f"{name}.tokens", folder / f"{name}.labels"
