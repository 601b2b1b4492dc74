"""What the rows of a version add up to: the counts in its manifest."""

import math
from array import array
from collections.abc import Sequence

import msgspec

from distillpipe.base.records import SoftLabels, TokenCounts, Trace, Verdict
from distillpipe.base.rowguard import is_internal_error

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


class Dropped(msgspec.Struct):
    """Rows and tokens that one reason cost."""

    rows: int = 0
    tokens: int = 0


class TeacherCounts(msgspec.Struct):
    """What came of the rows of one teacher; read are those kept and those dropped."""

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
    "completion tokens of the rows kept; for sft the supervised tokens trained on"
    rows_uncounted: int = 0
    "of the rows kept: those whose tokens nobody counted; no sum of tokens has them"
    tokens_sampled: int = 0
    "completion tokens that the engine made for this version"
    tokens_scored: int = 0
    "completion tokens, there already, that a teacher scored for this version"
    rows_labelled: int = 0
    "of the rows kept: those with soft labels"
    cost_dollars: float | None = None
    "what a server was paid at most: the two sums below; null where no prices were given"
    billed_dollars: float | None = None
    "what it says that it bills; null where no prices were given, or before this was kept apart"
    reserved_dollars: float | None = None
    "for requests whose bills are unknown: their worst case, or what the text that came can have cost"
    unknown_bills: int = 0
    "such requests: lost answers, answers that the server did not count believably"
    rows_with_key: int = 0
    "of all rows, kept and rejected: those that hold the API key, as the server sent it"
    seconds: float = 0.0
    "wall clock from the opening of the version, model loading included"
    seconds_working: float = 0.0
    "the part of it that sampled or trained"
    rows_by_input: list[int] = []
    "of the rows kept, those of each input that sft was given, in their order"
    rows_cut: int = 0
    "of the rows kept: those that sft cut at --max-length"
    tokens_cut: int = 0
    "what they lost"
    rows_taught: int = 0
    "of the rows kept: those that sft has soft labels, or a live teacher, for"
    tokens_taught: int = 0
    "their supervised tokens that have one"
    dropped: dict[str, Dropped] = {}
    teachers: dict[str, TeacherCounts] = {}
    "by the name in the rows, `unknown` where they have none"
    num_internal_errors: int = 0
    "rows, kept or rejected, that met an exception of distillpipe itself"
    verdicts: dict[str, int] = {}
    "of the rows kept; empty where nothing was judged"
    num_waits: int = 0
    "ends of reasoning that were replaced in the rows kept"
    forced_ends: int = 0
    "rows kept whose reasoning was ended for the model"
    rows_within_budget: int | None = None
    "rows kept whose reasoning has a length that was asked for; null where there was no budget"
    reasoning_tokens: Distribution | None = None
    "of the rows kept; null while unfinished or where nothing was counted"
    completion_tokens: Distribution | None = None

    @property
    def control(self) -> float | None:
        """The share of rows within the budget (s1, Muennighoff et al. 2025, section 3.2); null without one."""
        if self.rows_within_budget is None or not self.rows_kept:
            return None
        return self.rows_within_budget / self.rows_kept


class Index(msgspec.Struct):
    """What the writer keeps of a row that it finds on disk."""

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
    """Adds rows to `counts`, which then are those of the rows added, and of nothing before."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._reasoning, self._completion = array("Q"), array("Q")
        counts.rows_kept = counts.rows_rejected = counts.tokens_kept = 0
        counts.rows_uncounted = 0
        counts.dropped, counts.verdicts, counts.teachers = {}, {}, {}
        counts.num_waits = counts.forced_ends = counts.rows_labelled = 0
        counts.num_internal_errors = 0

    def add(self, row: Trace | Index, reason: str | None) -> None:
        """Count a row that is kept, or was rejected for a reason."""
        counts, counted = self._counts, row.num_tokens
        tokens = 0 if counted is None else counted.total - counted.prompt
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
        if counted is None:
            counts.rows_uncounted += 1
        else:
            self._reasoning.append(counted.reasoning)
            self._completion.append(tokens)
        if row.verdict is not None:
            counts.verdicts[row.verdict] = counts.verdicts.get(row.verdict, 0) + 1

    def num_rows_within(self, low: int, high: int | None) -> int:
        """Rows kept whose reasoning has `low` to `high` tokens, no matter how many where `high` is null."""
        return sum(low <= one and (high is None or one <= high) for one in self._reasoning)

    def close(self) -> None:
        """Put the lengths into the counts."""
        self._counts.reasoning_tokens = distribution(self._reasoning)
        self._counts.completion_tokens = distribution(self._completion)


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
