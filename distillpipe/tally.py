"""What the rows of a version add up to: the counts in its manifest."""

from array import array

import msgspec

from distillpipe.base.records import SoftLabels, TokenCounts, Trace, Verdict
from distillpipe.base.rowguard import is_internal_error
from distillpipe.distributions import distribution
from distillpipe.manifest import Counts, Dropped, TeacherCounts


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
