"""Repetition: detect loops, in which text is repeated word for word or with small changes.

We split a trace into runs of RUN bytes that start at words. A run is a repetition if it occurred SAID - 1 times before,
each time within NEAR bytes. We measure the share of such runs in the STRETCH bytes that have most of them: 1 in an
endless loop, near 0 in prose, code and tables. A loop that counts up or swaps words still repeats the text between its
changes. A list of cases does not, because its numbers occur more often than every RUN bytes. So a loop of STRETCH bytes
is found in a trace of any length.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

RUN = 56
SAID = 5
NEAR = 8_000
STRETCH = 2_000
LAST_BYTES = 4_000_000  # of a longer trace, only the end is searched
_SAMPLE = (0, 24, 48)
_SPACE = 32
_WIDE = 0xE3  # the lowest first byte of Chinese, Japanese and Korean characters
_LONG_WORD = 192  # bytes; anything longer is not a word
_STEP = 4  # bytes between runs inside a longer sequence
_FACTORS = np.random.default_rng(0).integers(2**63, size=RUN, dtype=np.uint64) * 2 + 1  # odd


def repeated_share(text: str) -> float:
    """The share of repetitions in the most repetitive stretch of `text`, 0 to 1; 0 for short texts."""
    data = text.encode("utf-8", "surrogatepass")[-LAST_BYTES:]
    begins = _begins(data, is_ascii=text.isascii())
    if len(begins) < SAID:
        return 0.0
    begins = begins[_may_be_frequent(_hashes(data, begins, _SAMPLE))]
    if len(begins) < SAID:
        return 0.0
    hashes = _hashes(data, begins, range(0, RUN, 8))
    again = begins[_said_often(hashes, begins)]
    if not len(again):
        return 0.0
    stretch = min(STRETCH, len(data))
    new_bytes = np.minimum(np.diff(again, append=len(data)), RUN)  # runs may overlap
    before = np.concatenate(([0], np.cumsum(new_bytes)))
    ends = np.searchsorted(again, again + stretch)
    return min(1.0, float((before[ends] - before[:-1]).max()) / stretch)


def _begins(data: bytes, *, is_ascii: bool) -> NDArray[np.int64]:
    """The starts of runs: at words, at wide characters, and at regular steps in long sequences without either."""
    codes = np.frombuffer(data, np.uint8)
    is_space = codes <= _SPACE
    is_begin = is_space[:-1] > is_space[1:]
    if not is_ascii:
        is_begin |= codes[1:] >= _WIDE
    begins = np.flatnonzero(is_begin) + 1
    bounds = np.concatenate(([0], begins, [len(data)]))
    lengths = np.diff(bounds)
    if lengths.max() > _LONG_WORD:
        long = np.flatnonzero(lengths > _LONG_WORD)
        inside = [np.arange(bounds[index], bounds[index + 1], _STEP) for index in long]
        begins = np.unique(np.concatenate([begins, *inside]))
    return begins[: np.searchsorted(begins, len(data) - RUN, side="right")]


def _hashes(data: bytes, begins: NDArray[np.int64], offsets: Iterable[int]) -> NDArray[np.uint64]:
    """A hash of each run from the 8 bytes at each of the offsets; equal for equal runs."""
    # the 8 bytes that start at each byte
    eights = np.ndarray((len(data) - 7,), "<u8", data, 0, (1,))
    hashes = np.zeros(len(begins), np.uint64)
    for offset in offsets:
        values = eights[offset:][begins]
        values *= _FACTORS[offset]
        hashes += values
    return hashes


def _may_be_frequent(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Indices of the hashes that occur SAID times or share a bucket; a fast test that removes most hashes."""
    num_bits = len(hashes).bit_length() + 2
    buckets = (hashes >> np.uint64(64 - num_bits)).astype(np.int64)
    return np.flatnonzero(np.bincount(buckets)[buckets] >= SAID)


def _said_often(hashes: NDArray[np.uint64], begins: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the runs that are repetitions, in order."""
    low = np.uint64((1 << len(begins).bit_length()) - 1)
    keys = (hashes & ~low) | np.arange(len(begins), dtype=np.uint64)
    keys.sort()  # equal runs become neighbours, in the order of the text
    order = (keys & low).astype(np.int64)
    runs = keys & ~low
    again = (runs[1:] == runs[:-1]) & (np.diff(begins[order]) <= NEAR)
    often = again[SAID - 2 :]
    for back in range(1, SAID - 1):
        often = often & again[SAID - 2 - back : len(again) - back]
    return np.sort(order[np.flatnonzero(often) + SAID - 1])
