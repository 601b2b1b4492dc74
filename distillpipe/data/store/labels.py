"""Soft labels beside the rows: at each token of a completion the log-probabilities that a teacher gave.

    labels-3f9a12c07be2a1d4-00000.tokens   5 bytes a token: its id (uint32) and a flag
    labels-3f9a12c07be2a1d4-00000.labels   6 K + 2 bytes a token: the ids of the K most likely tokens (uint32),
                                           their log-probabilities (fp16), then the token's own (fp16)
    labels-3f9a12c07be2a1d4.json           who gave them, and what ids mean to it: `LabelSource`

A row knows its slice: file, offset and length in tokens, K. The ids stand beside the labels, so that nobody
has to trust a position: who reads a slice compares its ids with the tokens of the row. Both files only
grow, and a row is written after its labels are durable; what a torn run left behind the last row is cut off
when the files are opened again. Log-probabilities are those of the whole vocabulary at temperature 1.

Shapes: T tokens of one completion, end token included; K labels a token, the most likely one first.
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
NO_TOKEN = 0xFFFFFFFF  # where a vocabulary has fewer than K tokens: its log-probability is -inf

SAMPLED, INSERTED, UNLABELLED = 0, 1, 2
"Flags: drawn by the teacher; put there by budget forcing; without a label for another reason."


class Vocabulary(msgspec.Struct, frozen=True):
    """What of a tokenizer decides whether labels made with it fit another model."""

    ordinary: str
    "hash of ids and bytes of the ordinary tokens"
    num_ordinary: int
    special: dict[int, str]
    "the texts of the tokens added to them"
    ends: tuple[int, ...]
    "the tokens that end a turn, the one that training teaches first"
    think_open: int | None
    "null where the tag is no single token"
    think_close: int | None


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

    def followed_by(self, others: "Labels") -> "Labels":
        """The labels of two stretches of one completion."""
        pairs: Any = zip(self, others, strict=True)
        both: list[Any] = [np.concatenate(pair) for pair in pairs]
        return Labels(*both)

    def first(self, num_tokens: int) -> "Labels":
        """The labels of the first tokens."""
        parts: list[Any] = [part[:num_tokens] for part in self]
        return Labels(*parts)

    def flagged(self, flags: npt.NDArray[np.uint8]) -> "Labels":
        """The labels with these flags: where they are not SAMPLED nothing is left of a label."""
        is_kept = flags == SAMPLED
        return Labels(
            self.tokens,
            flags,
            np.where(is_kept[:, None], self.top_tokens, np.uint32(NO_TOKEN)),
            np.where(is_kept[:, None], self.top_logprobs, np.float16(-np.inf)),
            np.where(is_kept, self.own_logprobs, np.float16(-np.inf)),
        )

    def top(self, k: int) -> "Labels":
        """The labels with only the `k` most likely tokens."""
        return self._replace(
            top_tokens=self.top_tokens[:, :k], top_logprobs=self.top_logprobs[:, :k]
        )


class LabelSource(msgspec.Struct, frozen=True):
    """Who gave the labels of one producer's files: a small file beside them, all that a reader needs."""

    k: int
    teacher: str
    identity: str
    "of the model"
    vocabulary: Vocabulary


def unlabelled(tokens: Sequence[int], k: int, flag: int) -> Labels:
    """Tokens that no teacher has given a label."""
    length = len(tokens)
    return Labels(
        np.array(tokens, np.uint32),
        np.full(length, flag, np.uint8),
        np.full((length, k), NO_TOKEN, np.uint32),
        np.full((length, k), -np.inf, np.float16),
        np.full(length, -np.inf, np.float16),
    )


def carried(labels: Labels | None, tokens: Sequence[int], k: int) -> Labels:
    """The labels of a completion that was changed: from the first other token on they are INSERTED ones."""
    if labels is None:
        return unlabelled(tokens, k, INSERTED)
    most = min(len(labels.tokens), len(tokens))
    differ = np.flatnonzero(labels.tokens[:most] != np.array(tokens[:most], np.uint32))
    same = int(differ[0]) if len(differ) else most
    return labels.first(same).followed_by(unlabelled(tokens[same:], k, INSERTED))


def label_type(k: int) -> np.dtype[np.void]:
    """One entry of a `.labels` file."""
    return np.dtype([("tokens", "<u4", (k,)), ("logprobs", "<f2", (k,)), ("own", "<f2")])


def label_bytes(num_tokens: int, k: int) -> int:
    """What the labels of so many tokens take on disk."""
    return num_tokens * (TOKEN.itemsize + label_type(k).itemsize)


def read_labels(folder: Path, found: SoftLabels) -> Labels:
    """The labels that a row of the version in `folder` names, mapped, not read.

    Raises DataError where the files are missing or too short.
    """
    tokens_path, labels_path = paths_of(folder, found.file)
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
    """The label files of a version: both of each pair, and what says who gave them."""
    return sorted(path for ending in ENDINGS for path in folder.glob(f"labels-*{ending}"))


def read_source(folder: Path, found: SoftLabels) -> LabelSource:
    """Who gave the labels that a row of the version in `folder` names.

    Raises DataError where the file is missing or not ours, and where the row has another K than its labels.
    """
    path = folder / f"{found.file.rpartition('-')[0]}.json"
    try:
        source = msgspec.json.decode(path.read_bytes(), type=LabelSource)
    except (FileNotFoundError, *NOT_DECODED) as error:
        raise DataError(
            f"{path}: it should say who gave the labels beside it ({error}): "
            "copy the version again, with its label files"
        ) from error
    if source.k != found.k:
        raise DataError(
            f"{path}: there are {source.k} labels a token, and a row that names them says {found.k}: put the "
            "original row back, or set its soft_labels to null"
        )
    return source


def _as_labels(tokens: npt.NDArray[np.void], entries: npt.NDArray[np.void]) -> Labels:
    return Labels(
        tokens["id"], tokens["flag"], entries["tokens"], entries["logprobs"], entries["own"]
    )


def paths_of(folder: Path, name: str) -> tuple[Path, Path]:
    """The pair of files that a row names."""
    return folder / f"{name}.tokens", folder / f"{name}.labels"
