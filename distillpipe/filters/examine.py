"""What becomes of one row: the rules in their order, a cut where that is asked for, the verdict last."""

from collections.abc import Callable
from itertools import chain, islice
from typing import NamedTuple

import msgspec

from distillpipe import filters, verify
from distillpipe.filters.candidate import Candidate
from distillpipe.filters.cut import Cut, cut_row, find_cut, judged_conclusion
from distillpipe.filters.known import Known
from distillpipe.filters.problems import Extras
from distillpipe.filters.rules import OVER_BUDGET, Drop, unwanted_verdict
from distillpipe.hashing import content_hash
from distillpipe.records import FilterOptions, TokenCounts, Trace, Verdict
from distillpipe.rowguard import REASON, InternalError, guarded, is_internal_error


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
        drops = [Drop(REASON, decided.said)]
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
