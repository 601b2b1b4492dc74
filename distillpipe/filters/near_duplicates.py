"""Near-duplicate problems: similar words with the same numbers, signs and variables, found by MinHash.

The similarity of two problems is the Jaccard index of their word bigrams (words.py). It is estimated by MinHash with 128
values (rensa; Broder 1997); its standard error is at most 0.045. Problems with different symbols come from one template
or ask different questions, so both are kept. Each text is read once; after that a problem takes about 1.2 KB at the peak.
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
BAND = 4  # values; only problems that agree in a whole band are compared
NUM_BANDS = NUM_VALUES // BAND
BATCH = 4096  # problems
LONGEST = 1 << 18  # characters; longer texts are kept without comparison

Signatures = NDArray[np.uint16]  # [problems, NUM_VALUES], the lower half of each value
Hashes = NDArray[np.uint64]  # [problems]
Places = NDArray[np.int32]


class KeptProblem(NamedTuple):
    """The problem that is kept instead of a near-duplicate."""

    problem_id: str
    similarity: float
    "estimated, in [threshold, 1]"


def near_duplicates(
    problems: Iterable[tuple[str, str]], threshold: float, seed: int
) -> dict[str, KeptProblem]:
    """Find problems, given as (id, text), that are near-duplicates of a problem that is kept; returned by id.

    We visit problems in an order drawn by seed and id, and keep each unless its similarity to a kept problem is at least
    `threshold`. So the order of the input does not matter. The first text of an id counts. Texts without words are kept.
    At similarities of 0.7, 0.6 and 0.5 the bands miss 0.02%, 1% and 13% of the pairs.
    """
    ids, signatures, symbols = _read(problems)
    drawn = sorted(range(len(ids)), key=lambda index: (uniform(seed, ids[index]), ids[index]))
    signatures, symbols = signatures[drawn], symbols[drawn]
    buckets = _Buckets(signatures, symbols)
    near: dict[str, KeptProblem] = {}
    for index in buckets.shared:
        others = buckets.staying_beside(index)
        if len(others):
            similarity = (signatures[others] == signatures[index]).mean(axis=1)
            best = int(similarity.argmax())  # the first in the drawn order, of equal ones
            if similarity[best] >= threshold:
                kept = ids[drawn[others[best]]]
                near[ids[drawn[index]]] = KeptProblem(kept, float(similarity[best]))
                continue
        buckets.add(index)
    return near


def _read(problems: Iterable[tuple[str, str]]) -> tuple[list[str], Signatures, Hashes]:
    """The id, the signature and the hash of the symbols of each problem that has words."""
    ids: dict[str, None] = {}
    signatures = [np.empty((0, NUM_VALUES), np.uint16)]
    symbols: list[int] = []
    remaining = iter(problems)
    while batch := list(islice(remaining, BATCH)):
        pairs: list[list[str]] = []
        for problem_id, text in batch:
            words = words_of(text) if len(text) <= LONGEST else []
            if not words or problem_id in ids:
                continue
            ids[problem_id] = None
            pairs.append([" ".join(pair) for pair in pairwise(words)] or words)
            problem_symbols = sorted(symbols_in(words) + diagram_numbers(text))
            symbols.append(int(content_hash(problem_symbols)[:16], 16))
        rows = RMinHash.digest_matrix_from_token_sets(pairs, NUM_VALUES, 0).to_rows()
        values = np.array(rows, np.uint32).reshape(len(pairs), NUM_VALUES)
        signatures.append(values.astype(np.uint16))
    return list(ids), np.concatenate(signatures), np.array(symbols, np.uint64)


class _Buckets:
    """The problems that agree in their symbols and in a whole band, and those of them that are kept.

    A bucket is a slice of `_members[band]`; its kept problems are at its start.
    """

    def __init__(self, signatures: Signatures, symbols: Hashes) -> None:
        shape = (NUM_BANDS, len(symbols))
        self._members: Places = np.zeros(shape, np.int32)
        self._num_staying: Places = np.zeros(shape, np.int32)  # by the start of the bucket
        # the start of a problem's bucket; -1: alone
        self._begins: Places = np.full(shape, -1, np.int32)
        for band in range(NUM_BANDS):
            hashes = _mixed(signatures[:, band * BAND : (band + 1) * BAND], symbols)
            order = np.argsort(hashes, kind="stable")
            same = hashes[order[1:]] == hashes[order[:-1]]
            is_first = np.concatenate([[True], ~same])[: len(order)]
            begins = np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))
            is_alone = is_first & np.concatenate([~same, [True]])[: len(order)]
            self._begins[band, order] = np.where(is_alone, -1, begins)
        self.shared: list[int] = np.flatnonzero((self._begins >= 0).any(axis=0)).tolist()

    def staying_beside(self, index: int) -> Places:
        """The kept problems that share a bucket with this one, in increasing order."""
        kept = [
            self._members[band, begin : begin + self._num_staying[band, begin]]
            for band, begin in self._places(index)
        ]
        return np.unique(np.concatenate(kept))

    def add(self, index: int) -> None:
        """Mark a problem as kept."""
        for band, begin in self._places(index):
            self._members[band, begin + self._num_staying[band, begin]] = index
            self._num_staying[band, begin] += 1

    def _places(self, index: int) -> Iterator[tuple[int, int]]:
        begins = self._begins[:, index]
        for band in np.flatnonzero(begins >= 0).tolist():
            yield band, int(begins[band])


def _mixed(band: Signatures, symbols: Hashes) -> Hashes:
    """A hash of the values of a band and of the symbols."""
    mixed = symbols.copy()
    for column in range(band.shape[1]):
        mixed = (mixed ^ band[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed
