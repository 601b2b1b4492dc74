"""How long the rows are: quantiles and a small histogram, made once and stored in the manifest."""

import math
from collections.abc import Sequence

import msgspec

MAX_BINS = 12


class Bin(msgspec.Struct, frozen=True):
    """Values from `low` to below `high`; the last bin holds its `high` too."""

    low: int
    high: int
    rows: int


class Distribution(msgspec.Struct, frozen=True):
    """Of whole numbers, in tokens."""

    rows: int
    sum: int
    min: int
    p5: int
    p25: int
    p50: int
    p75: int
    p95: int
    p99: int
    max: int
    histogram: list[Bin]
    "equal bins up to p99, the last one reaches to the maximum"


def distribution(values: Sequence[int]) -> Distribution | None:
    """The distribution of `values`, None for no value. A quantile is the smallest value that is not
    below that share of the rows (Hyndman and Fan 1996, definition 1).
    """
    if not values:
        return None
    ordered = sorted(values)
    count = len(ordered)
    quantiles = {
        f"p{percent}": ordered[max(0, math.ceil(percent * count / 100) - 1)]
        for percent in (5, 25, 50, 75, 95, 99)
    }
    return Distribution(
        rows=count,
        sum=sum(ordered),
        min=ordered[0],
        max=ordered[-1],
        histogram=_histogram(ordered, quantiles["p99"]),
        **quantiles,
    )


def _histogram(ordered: list[int], p99: int) -> list[Bin]:
    low = ordered[0]
    width = _round_width(max(1, math.ceil((p99 + 1 - low) / MAX_BINS)))
    start = low // width * width
    num_bins = (p99 - start) // width + 1
    rows = [0] * num_bins
    for value in ordered:
        rows[min((value - start) // width, num_bins - 1)] += 1
    ends = [start + width * (number + 1) for number in range(num_bins)]
    ends[-1] = max(ends[-1], ordered[-1])
    return [
        Bin(start + width * number, end, count)
        for number, (end, count) in enumerate(zip(ends, rows, strict=True))
    ]


def _round_width(width: int) -> int:
    """The next of 1, 2, 5, 10, 20, 50, ... that is not below `width`."""
    scale: int = 10 ** (len(str(width)) - 1)
    return next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= width)
