"""Decisions on all rows in the order of the rows, by all cores.

Of a small input threads decide, at once. In a large one the rules would wait for each other, as Python runs
one thread at a time: processes read slices of the files, and hand back decisions, never text.
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
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.jsonl import Slice, decode, decoded_slice, lines, slices
from distillpipe.filters.cut import Cut, cut_row, find_cut, judged_conclusion
from distillpipe.filters.problems import Extras, Known
from distillpipe.filters.rules import OVER_BUDGET, Drop, unwanted_verdict
from distillpipe.filters.strategies import Candidate

SMALL_BYTES = (
    16_000_000  # a third of a second's work of one core, as long as starting 100 processes
)
SLICE_BYTES = 1_000_000  # at most, but for a longer row
SLICES_A_WORKER = 16  # at least, so that all are at work to the end

Place = tuple[str, Slice]
"The dataset that a slice belongs to, and the slice"


class Examined(NamedTuple):
    """A row, and what was found out about it."""

    trace: Trace
    "as it was read"
    judged: Trace
    "with its verdict, and cut where it is cut"
    cut: Cut | None
    drops: list[Drop]
    "the first is why it is rejected; more than one only where all were asked for"


class Decision(NamedTuple):
    """What is kept of an examined row until it is written, when its text is read again."""

    content: str
    "hash of the row, whatever verdict it came with and wherever its soft labels are"
    answer: str | None
    verdict: Verdict | None
    verdict_reason: str | None
    domain: str | None
    cut: Cut | None
    "where its reasoning ends, if it is kept"
    drops: list[Drop]
    "the first is why it is rejected; more than one only where all were asked for"

    @property
    def error(self) -> str | None:
        """The internal error that the row met; null for none."""
        if is_internal_error(None, self.verdict_reason):
            return self.verdict_reason
        return next((drop.measured for drop in self.drops if drop.reason == REASON), None)

    def applied(self, trace: Trace, options: FilterOptions) -> Trace:
        """The row as it is written; one that is rejected stands as it was read, but judged."""
        row = trace if self.cut is None or self.drops else cut_row(trace, self.cut)
        return msgspec.structs.replace(
            row, answer=self.answer, verdict=self.verdict, verdict_reason=self.verdict_reason,
            verifier=options.verifier or trace.verifier, domain=self.domain,
        )  # fmt: skip


class Decided(NamedTuple):
    """What is handed on of an examined row, without its text."""

    id: str
    problem_id: str
    decision: Decision
    candidate: Candidate | None
    "null for a row that is dropped"
    written_id: str
    "another one for a row that is cut"


class Examiner(NamedTuple):
    """Examines rows, in several threads at a time."""

    options: FilterOptions
    known: Known
    extras: Extras
    count_tokens: Callable[[Trace], TokenCounts] | None
    "null where nothing is cut"
    programs: verify.Programs

    def examine(self, trace: Trace) -> Examined:
        """Verdicts are dear, so by default the last thing asked: a row that is dropped has none."""
        row, cut, drops = self._within_budget(trace, self._asked(trace))
        if drops and not self.options.explain:
            return Examined(trace, filters.unjudged(row, self.options), cut, drops)
        judged = verify.verified(
            row, self.options.verifier, self.extras.of(trace),
            answer_form=self.options.answer_form, programs=self.programs,
        )  # fmt: skip
        is_ignored = "unwanted_verdict" in self.options.ignored_rules
        unwanted = None if is_ignored else unwanted_verdict(judged, self.options)
        return Examined(trace, judged, cut, [*drops, unwanted] if unwanted else drops)

    def wants_problem(self, trace: Trace) -> bool:
        """Whether nothing speaks against the problem of a row."""
        return next(self.known.drops(trace, self.options), None) is None

    def decide(self, trace: Trace) -> Decided:
        """What was found out about a row, without its text; an internal error on the way drops it."""
        unlabelled = msgspec.structs.replace(
            filters.unjudged(trace, self.options), soft_labels=None
        )
        content = content_hash(unlabelled)
        decided = guarded(self._decide, trace, content)
        if not isinstance(decided, InternalError):
            return decided
        drops = [Drop(REASON, decided.description)]
        decision = Decision(content, None, None, None, trace.domain, None, drops)
        return Decided(trace.id, trace.problem_id, decision, None, trace.id)

    def _decide(self, trace: Trace, content: str) -> Decided:
        _, judged, cut, drops = self.examine(trace)
        decision = Decision(
            content, judged.answer, judged.verdict, judged.verdict_reason,
            self.known.domain(judged), cut, drops,
        )  # fmt: skip
        candidate = None
        if not drops:
            candidate = self.known.candidate(judged, self.options)._replace(id=trace.id)
        return Decided(trace.id, judged.problem_id, decision, candidate, judged.id)

    def _asked(self, trace: Trace) -> list[Drop]:
        found = chain(
            filters.drops_by_text(trace, self.options), self.known.drops(trace, self.options)
        )
        return list(found if self.options.explain else islice(found, 1))

    def _within_budget(
        self, trace: Trace, drops: list[Drop]
    ) -> tuple[Trace, Cut | None, list[Drop]]:
        """A row that is over the budget, and nothing worse, is cut and asked anew; one that cannot be stays."""
        budget = self.options.max_reasoning_tokens
        is_over = bool(drops) and drops[0].reason == OVER_BUDGET
        if self.count_tokens is None or budget is None or not is_over:
            return trace, None, drops
        if (cut := find_cut(trace, budget, self.count_tokens)) is None:
            return trace, None, drops
        row, measured = cut_row(trace, cut), drops[0].measured
        drops = self._asked(row)
        if drops and not self.options.explain:
            return row, cut, drops
        judged = judged_conclusion(row, self.options, self.extras.of(trace), self.programs)
        if judged is None or judged.verdict != "correct":
            drop = Drop("answer_not_reached", measured)
            if judged is not None and is_internal_error(None, judged.verdict_reason):
                drop = Drop(REASON, judged.verdict_reason)
            drops.append(drop)
        return row, cut, drops


@contextmanager
def decided(
    examiner: Examiner, inputs: list[str], num_workers: int | None, *, allow_benchmark: bool
) -> Iterator[Iterator[Decided]]:
    """What `examiner` decides on each row of `inputs`; what it waits for ends with the block.

    With `num_workers` null it uses all cores. Raises UsageError for a row of a benchmark unless they are allowed.
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
    with Processes(num_workers, decide) as processes:
        yield chain.from_iterable(processes.map(_places(inputs, slice_bytes)))


def _places(inputs: list[str], slice_bytes: int) -> Iterator[Place]:
    for reference in inputs:
        for path in dataset.trace_files(reference):
            for part in slices(path, slice_bytes):
                yield reference, part


def _decide(examiner: Examiner, allow_benchmark: bool, place: Place) -> list[Decided]:
    reference, part = place
    return [
        examiner.decide(trace if allow_benchmark else dataset.for_training(trace, reference))
        for trace in decoded_slice(part, Trace)
    ]


# The second reading: each row once, as it is written after what was decided on it.
#
# Texts make up nearly all of a row, and only a cut changes them. So in rows that we have written ourselves they stay
# the bytes of JSON that they are, which takes half the time. Rows of other files are decoded: whoever wrote them may
# spell the same row in other bytes.


class _Written(Trace, frozen=True, kw_only=True):
    """A row of a version: it is written again as it was, but for what is replaced."""

    problem: msgspec.Raw  # type: ignore[assignment]
    messages: msgspec.Raw  # type: ignore[assignment]
    extra: msgspec.Raw = msgspec.Raw(b"null")  # type: ignore[assignment]


def rows_once(
    inputs: list[str],
    decisions: dict[str, Decision],
    options: FilterOptions,
    moved: dict[str, SoftLabels | None],
) -> Iterator[tuple[Trace, Decision]]:
    """The rows of `inputs` with their decisions applied, in their order; one that comes again is passed over.

    They are there to be written: their texts need not be strings. `moved` says where soft labels are now.
    """
    left = set(decisions)
    whole = msgspec.json.Decoder(Trace)
    for reference in inputs:
        record: type[Trace] = Trace if versions.plain_file(reference) else _Written
        quick = msgspec.json.Decoder(record)
        for path in dataset.trace_files(reference):
            for number, line in lines(path):
                row = decode(line, quick, f"{path}:{number}")
                if row.id not in left:
                    continue
                left.remove(row.id)
                decision = decisions[row.id]
                if decision.cut is not None and not decision.drops:
                    row = whole.decode(line)
                if row.soft_labels is not None and row.id in moved:
                    row = msgspec.structs.replace(row, soft_labels=moved[row.id])
                yield decision.applied(row, options), decision
