"""Loops: text that comes back again and again, word for word or with small changes in between.

A trace is cut into runs of RUN bytes that begin where a word begins. A run that was there SAID - 1 times before,
each time within NEAR bytes, says nothing new. The share of such runs in the STRETCH bytes that have most
of them is what is measured: 1 in an endless loop, near 0 in prose, code and tables. A loop that counts up or
swaps words still repeats what stands between its changes. A list of cases does not, since its numbers
come sooner than every RUN bytes. So whoever repeats himself for STRETCH bytes is found in a trace of any length.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

RUN = 56
SAID = 5
NEAR = 8_000
STRETCH = 2_000
LAST_BYTES = 4_000_000  # of a longer trace only the end is looked at
_SAMPLE = (0, 24, 48)
_SPACE = 32
_WIDE = 0xE3  # first bytes of Chinese, Japanese and Korean characters begin here
_LONG_WORD = 192  # bytes; what is longer is no word
_STEP = 4  # bytes between runs inside it
_FACTORS = np.random.default_rng(0).integers(2**63, size=RUN, dtype=np.uint64) * 2 + 1  # odd


def repeated_share(text: str) -> float:
    """The share of its worst stretch, from 0 to 1, that `text` has said often before; 0 for short texts."""
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
    """Where a run begins: at each word, at each wide character, and regularly in what has neither."""
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
        inside = [np.arange(bounds[at], bounds[at + 1], _STEP) for at in long]
        begins = np.unique(np.concatenate([begins, *inside]))
    return begins[: np.searchsorted(begins, len(data) - RUN, side="right")]


def _hashes(data: bytes, begins: NDArray[np.int64], offsets: Iterable[int]) -> NDArray[np.uint64]:
    """A number for each run, made of the 8 bytes at each of the offsets: the same for equal runs."""
    eights = np.ndarray((len(data) - 7,), "<u8", data, 0, (1,))  # the 8 bytes from each byte on
    hashes = np.zeros(len(begins), np.uint64)
    for offset in offsets:
        found = eights[offset:][begins]
        found *= _FACTORS[offset]
        hashes += found
    return hashes


def _may_be_frequent(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The numbers of the hashes that come SAID times or share their bucket; quick, and most are gone."""
    num_bits = len(hashes).bit_length() + 2
    buckets = (hashes >> np.uint64(64 - num_bits)).astype(np.int64)
    return np.flatnonzero(np.bincount(buckets)[buckets] >= SAID)


def _said_often(hashes: NDArray[np.uint64], begins: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of the runs that were there often enough before, in order."""
    low = np.uint64((1 << len(begins).bit_length()) - 1)
    keys = (hashes & ~low) | np.arange(len(begins), dtype=np.uint64)
    keys.sort()  # equal runs stand together, in the order of the text
    order = (keys & low).astype(np.int64)
    runs = keys & ~low
    again = (runs[1:] == runs[:-1]) & (np.diff(begins[order]) <= NEAR)
    often = again[SAID - 2 :]
    for back in range(1, SAID - 1):
        often = often & again[SAID - 2 - back : len(again) - back]
    return np.sort(order[np.flatnonzero(often) + SAID - 1])
