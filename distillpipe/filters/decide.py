"""Decide on all rows, in the order of the rows, on all cores.

Threads decide on the rows of a small input, because they start at once. For a large input Python's global interpreter
lock would make the rules wait for each other. So processes read slices of the files and return decisions, never text.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from typing import NamedTuple

import msgspec

from distillpipe import filters, verify
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.hashing import content_hash
from distillpipe.base.processes import Processes, num_cores
from distillpipe.base.records import SoftLabels, TokenCounts, Trace, Verdict
from distillpipe.base.rowguard import REASON, InternalError, guarded, is_internal_error
from distillpipe.base.user_code.functions import UserFunction
from distillpipe.data.store import dataset
from distillpipe.data.store.dataset import Dataset
from distillpipe.data.store.jsonl import Slice, decode, decoded_slice, slices
from distillpipe.filters.cut import Cut, cut_row, find_cut, judged_conclusion
from distillpipe.filters.own_rules import own_drops
from distillpipe.filters.problems import ProblemExtras, ProblemFacts
from distillpipe.filters.rules import OVER_BUDGET, Drop, unwanted_verdict
from distillpipe.filters.strategies import Candidate

# a third of a second of work on one core, as long as it takes to start 100 processes
SMALL_BYTES = 16_000_000
SLICE_BYTES = 1_000_000  # at most, unless a row is longer
SLICES_A_WORKER = 16  # at least, so that all workers are busy until the end

DatasetSlice = tuple[str, Slice]
"The name of a dataset and a slice of one of its files"


class ExaminedRow(NamedTuple):
    """A row and the result of the rules."""

    trace: Trace
    "as it was read"
    judged: Trace
    "with its verdict, and cut if it is to be cut"
    cut: Cut | None
    drops: list[Drop]
    "the first is the reason of rejection; more than one only with --explain"


class Decision(NamedTuple):
    """The decision on a row, kept in memory until its text is read again and written."""

    content: str
    "hash of the row without its verdict and the location of its soft labels"
    answer: str | None
    verdict: Verdict | None
    verdict_reason: str | None
    domain: str | None
    cut: Cut | None
    "the new end of its reasoning, if it is kept"
    drops: list[Drop]
    "the first is the reason of rejection; more than one only with --explain"

    @property
    def error(self) -> str | None:
        """The internal error that occurred on the row; None without one."""
        if is_internal_error(None, self.verdict_reason):
            return self.verdict_reason
        return next((drop.measured for drop in self.drops if drop.reason == REASON), None)

    def applied(self, trace: Trace, options: FilterOptions) -> Trace:
        """The row to write; a rejected row keeps its text and gets its verdict."""
        row = trace if self.cut is None or self.drops else cut_row(trace, self.cut)
        return msgspec.structs.replace(
            row, answer=self.answer, verdict=self.verdict, verdict_reason=self.verdict_reason,
            verifier=options.verifier or trace.verifier, domain=self.domain,
        )  # fmt: skip


class RowDecision(NamedTuple):
    """The decision on a row with its ids, without its text."""

    id: str
    problem_id: str
    decision: Decision
    candidate: Candidate | None
    "null for a dropped row"
    written_id: str
    "differs from `id` for a row that is cut"


class RowFilter(NamedTuple):
    """Applies the row rules; safe to use from several threads."""

    options: FilterOptions
    facts: ProblemFacts
    extras: ProblemExtras
    count_tokens: Callable[[Trace], TokenCounts] | None
    "null if no row is cut"
    programs: verify.Programs
    verifier: UserFunction | None = None
    "a verifier of the user's own"
    rules: tuple[UserFunction, ...] = ()
    "rules of the user's own"

    def examine(self, trace: Trace) -> ExaminedRow:
        """Apply all rules. Verdicts are expensive, so by default a row that another rule drops gets none."""
        row, cut, drops = self._within_budget(trace, self._drops(trace))
        if drops and not self.options.explain:
            return ExaminedRow(trace, filters.unjudged(row, self.options), cut, drops)
        judged = verify.verified(
            row, self.options.verifier, self.extras.of(trace),
            answer_form=self.options.answer_form, programs=self.programs, own=self.verifier,
        )  # fmt: skip
        is_ignored = "unwanted_verdict" in self.options.ignored_rules
        unwanted = None if is_ignored else unwanted_verdict(judged, self.options)
        return ExaminedRow(trace, judged, cut, [*drops, unwanted] if unwanted else drops)

    def wants_problem(self, trace: Trace) -> bool:
        """Whether no rule rejects the problem of a row."""
        return next(self.facts.drops(trace, self.options), None) is None

    def decide(self, trace: Trace) -> RowDecision:
        """Decide on a row; an internal error drops it."""
        unlabelled = msgspec.structs.replace(
            filters.unjudged(trace, self.options), soft_labels=None
        )
        content = content_hash(unlabelled)
        decision_or_error = guarded(self._decide, trace, content)
        if not isinstance(decision_or_error, InternalError):
            return decision_or_error
        drops = [Drop(REASON, decision_or_error.description)]
        decision = Decision(content, None, None, None, trace.domain, None, drops)
        return RowDecision(trace.id, trace.problem_id, decision, None, trace.id)

    def _decide(self, trace: Trace, content: str) -> RowDecision:
        _, judged, cut, drops = self.examine(trace)
        decision = Decision(
            content, judged.answer, judged.verdict, judged.verdict_reason,
            self.facts.domain(judged), cut, drops,
        )  # fmt: skip
        candidate = None
        if not drops:
            candidate = self.facts.candidate(judged, self.options)._replace(id=trace.id)
        return RowDecision(trace.id, judged.problem_id, decision, candidate, judged.id)

    def _drops(self, trace: Trace) -> list[Drop]:
        drops = chain(
            filters.drops_by_text(trace, self.options),
            self.facts.drops(trace, self.options),
            own_drops(trace, self.rules),
        )
        return list(drops if self.options.explain else islice(drops, 1))

    def _within_budget(
        self, trace: Trace, drops: list[Drop]
    ) -> tuple[Trace, Cut | None, list[Drop]]:
        """Cut a row whose only fault is its length and apply the rules again; rows that cannot be cut stay as they are."""
        budget = self.options.max_reasoning_tokens
        is_over = bool(drops) and drops[0].reason == OVER_BUDGET
        if self.count_tokens is None or budget is None or not is_over:
            return trace, None, drops
        if (cut := find_cut(trace, budget, self.count_tokens)) is None:
            return trace, None, drops
        row, measured = cut_row(trace, cut), drops[0].measured
        drops = self._drops(row)
        if drops and not self.options.explain:
            return row, cut, drops
        judged = judged_conclusion(
            row, self.options, self.extras.of(trace), self.programs, self.verifier
        )
        if judged is None or judged.verdict != "correct":
            drop = Drop("answer_not_reached", measured)
            if judged is not None and is_internal_error(None, judged.verdict_reason):
                drop = Drop(REASON, judged.verdict_reason)
            drops.append(drop)
        return row, cut, drops


@contextmanager
def decided(
    examiner: RowFilter, inputs: list[Dataset], num_workers: int | None, *, allow_benchmark: bool
) -> Iterator[Iterator[RowDecision]]:
    """The decisions of `examiner` on each row of `inputs`; workers end with the block.

    Without `num_workers` it uses all cores. Raises UsageError for a benchmark row unless `allow_benchmark` is set.
    """
    num_workers = num_workers or num_cores()
    num_bytes = dataset.count_bytes(inputs)
    if num_workers == 1 or num_bytes < SMALL_BYTES:
        rows = dataset.read_training_traces(inputs, allow_benchmark=allow_benchmark)
        with verify.Judge(num_workers) as judge:
            yield judge.map(examiner.decide, rows)
        return
    slice_bytes = min(SLICE_BYTES, num_bytes // (num_workers * SLICES_A_WORKER))
    decide = partial(_decide, examiner, allow_benchmark)
    parts = (
        (source.name, part)
        for source in inputs
        for path in dataset.row_files(source)
        for part in slices(path, slice_bytes)
    )
    with Processes(num_workers, decide) as processes:
        yield chain.from_iterable(processes.map(parts))


def _decide(examiner: RowFilter, allow_benchmark: bool, place: DatasetSlice) -> list[RowDecision]:
    dataset_name, part = place
    return [
        examiner.decide(trace if allow_benchmark else dataset.for_training(trace, dataset_name))
        for trace in decoded_slice(part, Trace)
    ]


# The second pass: read each row again and write it according to its decision.
#
# Most of a row is text, and only a cut changes text. So in files written by distillpipe, the texts stay raw JSON bytes,
# which takes half the time. Rows of other files are decoded, because other programs may write the same row in other bytes.


class _Written(Trace, frozen=True, kw_only=True):
    """A row of a version whose texts stay raw JSON."""

    problem: msgspec.Raw  # type: ignore[assignment]
    messages: msgspec.Raw  # type: ignore[assignment]
    extra: msgspec.Raw = msgspec.Raw(b"null")  # type: ignore[assignment]


def rows_once(
    inputs: list[Dataset],
    decisions: dict[str, Decision],
    options: FilterOptions,
    moved: dict[str, SoftLabels | None],
) -> Iterator[tuple[Trace, Decision]]:
    """Yield the rows of `inputs`, in order and without repeated ids, with their decisions applied.

    The rows are only for writing: their texts may be raw JSON. `moved` has the new location of soft labels.
    """
    pending = set(decisions)
    full_decoder = msgspec.json.Decoder(Trace)
    for source in inputs:
        record: type[Trace] = Trace if source.is_file else _Written
        raw_decoder = msgspec.json.Decoder(record)
        for where, line in dataset.scan_lines(source):
            row = decode(line, raw_decoder, where)
            if row.id not in pending:
                continue
            pending.remove(row.id)
            decision = decisions[row.id]
            if decision.cut is not None and not decision.drops:
                row = full_decoder.decode(line)
            if row.soft_labels is not None and row.id in moved:
                row = msgspec.structs.replace(row, soft_labels=moved[row.id])
            yield decision.applied(row, options), decision
