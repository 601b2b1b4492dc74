"""Near-duplicate problems: nearly the same words around the same numbers, signs and variables.

The likeness of two problems is the Jaccard index of their pairs of neighbouring words (problem_words.py), estimated
by MinHash with 128 values (rensa; Broder 1997; its standard error is at most 0.045). Problems with other symbols are
twins of one template, or ask another question, and both stay. A text is read once; after that a problem takes about
1.2 KB at the peak.
"""

from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from distillpipe.base.hashing import content_hash, uniform
from distillpipe.filters.words import diagram_numbers, symbols_in, words_of

NUM_VALUES = 128  # of a signature
BAND = 4  # values: only problems that agree in a whole band are compared
NUM_BANDS = NUM_VALUES // BAND
BATCH = 4096  # problems
LONGEST = 1 << 18  # characters: a longer text stays and is not compared

Signatures = NDArray[np.uint16]  # [problems, NUM_VALUES], the low half of each value
Hashes = NDArray[np.uint64]  # [problems]
Places = NDArray[np.int32]


class Near(NamedTuple):
    """The problem that stays in place of a near-duplicate."""

    problem_id: str
    similarity: float
    "estimated, in [threshold, 1]"


def near_duplicates(
    problems: Iterable[tuple[str, str]], threshold: float, seed: int
) -> dict[str, Near]:
    """The problems, given as (id, text), that are near-duplicates of one that stays, by id.

    Problems are taken in an order drawn by seed and id: each stays unless it is at least as like as `threshold` to
    one that stays already. So the order of the input does not matter; of an id that comes again the first text
    counts. A text without words stays. Of pairs as like as 0.7, 0.6, 0.5, the bands miss 0.02%, 1% and 13%.
    """
    ids, signatures, symbols = _read(problems)
    drawn = sorted(range(len(ids)), key=lambda at: (uniform(seed, ids[at]), ids[at]))
    signatures, symbols = signatures[drawn], symbols[drawn]
    buckets = _Buckets(signatures, symbols)
    near: dict[str, Near] = {}
    for at in buckets.shared:
        others = buckets.staying_beside(at)
        if len(others):
            likeness = (signatures[others] == signatures[at]).mean(axis=1)
            best = int(likeness.argmax())  # of equals, the one that was drawn first
            if likeness[best] >= threshold:
                kept = ids[drawn[others[best]]]
                near[ids[drawn[at]]] = Near(kept, float(likeness[best]))
                continue
        buckets.add(at)
    return near


def _read(problems: Iterable[tuple[str, str]]) -> tuple[list[str], Signatures, Hashes]:
    """Id, signature and the hash of the symbols of each problem that has words."""
    ids: dict[str, None] = {}
    signatures = [np.empty((0, NUM_VALUES), np.uint16)]
    symbols: list[int] = []
    left = iter(problems)
    while batch := list(islice(left, BATCH)):
        pairs: list[list[str]] = []
        for problem_id, text in batch:
            words = words_of(text) if len(text) <= LONGEST else []
            if not words or problem_id in ids:
                continue
            ids[problem_id] = None
            pairs.append([" ".join(pair) for pair in pairwise(words)] or words)
            found = sorted(symbols_in(words) + diagram_numbers(text))
            symbols.append(int(content_hash(found)[:16], 16))
        rows = RMinHash.digest_matrix_from_token_sets(pairs, NUM_VALUES, 0).to_rows()
        whole = np.array(rows, np.uint32).reshape(len(pairs), NUM_VALUES)
        signatures.append(whole.astype(np.uint16))
    return list(ids), np.concatenate(signatures), np.array(symbols, np.uint64)


class _Buckets:
    """Who agrees with whom in the symbols and a whole band, and who of them stays.

    A bucket is a stretch of `_members[band]`; those of its problems that stay stand at its beginning.
    """

    def __init__(self, signatures: Signatures, symbols: Hashes) -> None:
        shape = (NUM_BANDS, len(symbols))
        self._members: Places = np.zeros(shape, np.int32)
        self._num_staying: Places = np.zeros(shape, np.int32)  # by the beginning of the bucket
        self._begins: Places = np.full(shape, -1, np.int32)  # of the bucket of a problem; -1: alone
        for band in range(NUM_BANDS):
            hashes = _mixed(signatures[:, band * BAND : (band + 1) * BAND], symbols)
            order = np.argsort(hashes, kind="stable")
            same = hashes[order[1:]] == hashes[order[:-1]]
            is_first = np.concatenate([[True], ~same])[: len(order)]
            begins = np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))
            is_alone = is_first & np.concatenate([~same, [True]])[: len(order)]
            self._begins[band, order] = np.where(is_alone, -1, begins)
        self.shared: list[int] = np.flatnonzero((self._begins >= 0).any(axis=0)).tolist()

    def staying_beside(self, at: int) -> Places:
        """The problems that stay and share a bucket with this one, in rising order."""
        found = [
            self._members[band, begin : begin + self._num_staying[band, begin]]
            for band, begin in self._places(at)
        ]
        return np.unique(np.concatenate(found))

    def add(self, at: int) -> None:
        """The problem stays."""
        for band, begin in self._places(at):
            self._members[band, begin + self._num_staying[band, begin]] = at
            self._num_staying[band, begin] += 1

    def _places(self, at: int) -> Iterator[tuple[int, int]]:
        begins = self._begins[:, at]
        for band in np.flatnonzero(begins >= 0).tolist():
            yield band, int(begins[band])


def _mixed(band: Signatures, symbols: Hashes) -> Hashes:
    """One hash of the values of a band and of the symbols."""
    mixed = symbols.copy()
    for column in range(band.shape[1]):
        mixed = (mixed ^ band[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed
