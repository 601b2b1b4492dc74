"""Sums and distributions over the rows of a version: the counts in its manifest."""

import math
from array import array
from collections.abc import Sequence

import msgspec

from distillpipe.base.records import SoftLabels, TokenCounts, Trace, Verdict
from distillpipe.base.rowguard import is_internal_error

MAX_BINS = 12


class Bin(msgspec.Struct, frozen=True):
    """A histogram bin: `low` <= value < `high`. The last bin includes `high`."""

    low: int
    high: int
    rows: int


class Distribution(msgspec.Struct, frozen=True):
    """Quantiles and histogram of token counts."""

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
    "bins of equal width up to p99; the last one reaches to the maximum"


class Dropped(msgspec.Struct):
    """Rows and completion tokens that were rejected for one reason."""

    rows: int = 0
    tokens: int = 0


class TeacherCounts(msgspec.Struct):
    """Kept and rejected rows of one teacher."""

    rows_kept: int = 0
    tokens_kept: int = 0
    dropped: dict[str, int] = {}
    "rows by reason"

    @property
    def rows_read(self) -> int:
        return self.rows_kept + sum(self.dropped.values())


class Counts(msgspec.Struct):
    """Sums over all runs of a version."""

    rows_read: int = 0
    rows_kept: int = 0
    rows_rejected: int = 0
    rows_reused: int = 0
    tokens_kept: int = 0
    "completion tokens of the kept rows; for sft the supervised tokens of all epochs"
    rows_uncounted: int = 0
    "kept rows without token counts; they are in no sum of tokens"
    tokens_sampled: int = 0
    "completion tokens that the engine generated for this version"
    tokens_scored: int = 0
    "completion tokens of existing text that a teacher scored for this version"
    rows_labelled: int = 0
    "kept rows with soft labels"
    cost_dollars: float | None = None
    "upper bound of what the server charges: billed + reserved; null if no prices were given"
    billed_dollars: float | None = None
    "from token counts that the server sent; null without prices, and in older manifests"
    reserved_dollars: float | None = None
    "for requests with unknown bills: their worst case, or the most that the received text can cost"
    unknown_bills: int = 0
    "number of these requests: lost responses, and responses without credible token counts"
    rows_with_key: int = 0
    "kept and rejected rows that contain the API key, as the server sent it"
    seconds: float = 0.0
    "wall-clock time since the version was opened, including model loading"
    seconds_working: float = 0.0
    "the part of it spent on sampling or training"
    rows_by_input: list[int] = []
    "kept rows of each input of sft, in the order of the inputs"
    rows_cut: int = 0
    "kept rows that sft truncated at --max-length"
    tokens_cut: int = 0
    "tokens that were cut off them"
    rows_taught: int = 0
    "kept rows that sft has soft labels or a live teacher for"
    tokens_taught: int = 0
    "supervised tokens of these rows with teacher probabilities"
    dropped: dict[str, Dropped] = {}
    teachers: dict[str, TeacherCounts] = {}
    "by the teacher's name in the rows; `unknown` for rows without one"
    num_internal_errors: int = 0
    "kept and rejected rows that raised an exception inside distillpipe"
    verdicts: dict[str, int] = {}
    "kept rows by verdict; empty if nothing was verified"
    num_waits: int = 0
    "ends of reasoning in kept rows that budget forcing replaced by its wait text"
    forced_ends: int = 0
    "kept rows whose reasoning was ended by budget forcing"
    rows_within_budget: int | None = None
    "kept rows whose reasoning length is within the budget; null without a budget"
    reasoning_tokens: Distribution | None = None
    "null while unfinished, or if no row has token counts"
    completion_tokens: Distribution | None = None

    @property
    def control(self) -> float | None:
        """Share of rows within the budget (s1, Muennighoff et al. 2025, section 3.2). None without a budget."""
        if self.rows_within_budget is None or not self.rows_kept:
            return None
        return self.rows_within_budget / self.rows_kept


class Index(msgspec.Struct):
    """The fields of a row on disk that are needed to count it."""

    id: str
    num_tokens: TokenCounts | None
    teacher: str | None = None
    num_waits: int = 0
    forced_end: bool = False
    verdict: Verdict | None = None
    verdict_reason: str | None = None
    soft_labels: SoftLabels | None = None
    reason: str | None = None


class Tally:
    """Adds rows to `counts`. The fields that it adds to start from zero."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._reasoning, self._completion = array("Q"), array("Q")
        counts.rows_kept = counts.rows_rejected = counts.tokens_kept = 0
        counts.rows_uncounted = 0
        counts.dropped, counts.verdicts, counts.teachers = {}, {}, {}
        counts.num_waits = counts.forced_ends = counts.rows_labelled = 0
        counts.num_internal_errors = 0

    def add(self, row: Trace | Index, reason: str | None) -> None:
        """Count a row. `reason` is the drop reason, None for a kept row."""
        counts, num_tokens = self._counts, row.num_tokens
        tokens = 0 if num_tokens is None else num_tokens.total - num_tokens.prompt
        counts.num_internal_errors += is_internal_error(reason, row.verdict_reason)
        teacher = counts.teachers.setdefault(row.teacher or "unknown", TeacherCounts())
        if reason is not None:
            teacher.dropped[reason] = teacher.dropped.get(reason, 0) + 1
            counts.rows_rejected += 1
            dropped = counts.dropped.setdefault(reason, Dropped())
            dropped.rows += 1
            dropped.tokens += tokens
            return
        teacher.rows_kept += 1
        teacher.tokens_kept += tokens
        counts.rows_kept += 1
        counts.tokens_kept += tokens
        counts.num_waits += row.num_waits
        counts.forced_ends += row.forced_end
        counts.rows_labelled += row.soft_labels is not None
        if num_tokens is None:
            counts.rows_uncounted += 1
        else:
            self._reasoning.append(num_tokens.reasoning)
            self._completion.append(tokens)
        if row.verdict is not None:
            counts.verdicts[row.verdict] = counts.verdicts.get(row.verdict, 0) + 1

    def num_rows_within(self, low: int, high: int | None) -> int:
        """Number of kept rows with `low` to `high` reasoning tokens, both included. No limit if `high` is None."""
        return sum(low <= length and (high is None or length <= high) for length in self._reasoning)

    def close(self) -> None:
        """Compute the distributions of lengths."""
        self._counts.reasoning_tokens = distribution(self._reasoning)
        self._counts.completion_tokens = distribution(self._completion)


def distribution(values: Sequence[int]) -> Distribution | None:
    """The distribution of `values`, None if there are none.

    A quantile p is the smallest value with at least the share p of all values at or below it (Hyndman and Fan
    1996, definition 1).
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
    """Round up to the next of 1, 2, 5, 10, 20, 50, ..."""
    scale: int = 10 ** (len(str(width)) - 1)
    return next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= width)
