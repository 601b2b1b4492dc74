"""Taking over and sampling rows: what `generate` and `eval` share.

The plan of a run is a set of row keys; what earlier versions hold of them is taken over, and only the
rest is asked of the engine.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from distillpipe.base.errors import DataError, Interrupted
from distillpipe.base.hashing import content_hash, seed_of
from distillpipe.base.interrupts import shielded
from distillpipe.base.options import Budget, SamplingOptions
from distillpipe.base.progress import progress, say
from distillpipe.base.records import Message, Problem, Trace, trace_id
from distillpipe.base.rowguard import REASON, InternalError, InternalErrors, guarded, too_many
from distillpipe.data.store import reuse, spending
from distillpipe.data.store.jsonl import decode, encoder, rewrite
from distillpipe.data.store.spending import Bill
from distillpipe.data.store.versions import Draft
from distillpipe.data.store.writer import Writer, give_up_failed
from distillpipe.engines.base import (
    Answer,
    Completion,
    Engine,
    Failure,
    Outcome,
    Refusal,
    Request,
    as_answer,
    as_unparsed,
)
from distillpipe.engines.budget.engine import BudgetedEngine
from distillpipe.models.chat import Chat
from distillpipe.models.lookup import AnyModel
from distillpipe.sampling.plan import RowPlan, RowPrompt
from distillpipe.verify.judge import Judge

if TYPE_CHECKING:  # they load numpy, which an answer of "up to date" has no use for
    from distillpipe.data.store.labels import Labels
    from distillpipe.sampling.relabel import RowsToLabel, RowToLabel

Finish = Callable[[Trace, Problem], Trace]
"What a stage does to a row before it is written: eval judges it."
Keep = Callable[..., None]
"Writes a row, with its labels if it has some, and counts what it cost."


class Sampler(RowPlan):
    """Takes over and samples the rows that one run wants of one model."""

    def __init__(
        self,
        model: AnyModel,
        chat: Chat | None,
        options: SamplingOptions,
        folder: Path,
        judge: Judge | None = None,
    ) -> None:
        """With a judge rows are finished beside the sampling, a bounded number at a time."""
        super().__init__(model, chat, options, folder)
        self._in_flight: dict[str, RowPrompt] = {}
        self._unread: dict[str, InternalError] = {}
        "why the reading of a completion failed, until its row is written"
        self._judge = judge
        self._to_label: RowsToLabel | dict[str, RowToLabel] = {}
        "rows of other versions that have too few labels"

    def rejudge_errors(self, draft: Draft, finish: Finish) -> None:
        """Judge the rows of a draft anew whose judging met an internal error; before it is opened for writing."""
        decoder = msgspec.json.Decoder(Trace)

        def again(line: bytes, where: str) -> bytes:
            trace = decode(line, decoder, where)
            if trace.row_key not in self.rows:  # its prompt could not be rendered
                return line
            return encoder.encode(finish(trace, self.problem_of(trace.row_key)))

        rewrite(draft.path, "part", f'"verdict_reason":"{REASON}:'.encode(), again)

    def _give_up_left_out(self, writer: Writer) -> None:
        """Give up the rows of problems that could not be read or rendered.

        Where there is a judge they are predictions that cannot be judged, else they are rejected. Raises
        InternalErrors where they are too many, before anything is sampled.
        """
        samples = range(self.options.plan.num_samples)
        num_rows = len(self.skipped) * len(samples)
        writer.counts.rows_read += num_rows
        if too_many(num_rows, len(self.rows) + num_rows) and not self.options.accept_errors:
            first = self.skipped[0]
            raise InternalErrors(
                f"{len(self.skipped):,} of {sum(1 for _ in self.problems()):,} problems could not be read or "
                f"rendered for an error of distillpipe itself, the first ({first.problem.problem_id}) for "
                f"{first.error}: please report it. Nothing was sampled: leave these problems out, or give "
                "--accept-errors, which goes on without them"
            )
        for number in range(len(self.skipped)):
            problem, error = msgspec.structs.astuple(self.skipped[number])
            for sample in samples:
                key = content_hash(REASON, problem.problem_id, sample)[:32]
                empty = Message(role="assistant", content="")
                asked = Message(role="user", content=problem.problem)
                self._in_flight[key] = RowPrompt(problem, sample, [asked], [], None)
                answer = Answer(key, empty, "length", None, None)
                trace = self._trace(answer)
                if trace.id not in writer.done:
                    self._give_up(trace, InternalError(error), writer)

    def _give_up(self, trace: Trace, error: InternalError, writer: Writer) -> None:
        """Keep a row that met an internal error: as one that cannot be judged, or among the rejected."""
        if self._judge is None:
            writer.reject(trace, REASON, error.said)
            return
        writer.append(
            msgspec.structs.replace(trace, verdict="unverifiable", verdict_reason=error.reason)
        )

    def missing(self, writer: Writer) -> set[str]:
        """Keys of the rows that the draft does not hold yet."""
        return {key for key in self.rows if self.row_id(key) not in writer.done}

    def take_over(self, writer: Writer, out: Path, finish: Finish) -> None:
        """Copy what other versions under `out` have sampled; problem fields are today's."""
        if not writer.draft.takes_over:
            return
        if self.options.soft_labels is not None:
            self._take_over_labelled(writer, out, self.options.soft_labels, finish)
            return
        reused = 0

        def finished(trace: Trace) -> Trace:
            return self._finished(trace, finish)

        there = reuse.sampled_before(out, self.missing(writer))
        for trace in self._judge.map(finished, there) if self._judge else map(finished, there):
            writer.append(trace)
            reused += 1
        writer.counts.rows_reused += reused
        if reused:
            say(f"reused {reused:,} rows of earlier versions")
        self._take_over_refusals(writer, out)

    def _take_over_refusals(self, writer: Writer, out: Path) -> None:
        """Where all that is missing was refused before, it stays refused: nothing is asked, no engine is opened.

        So what was sampled is scored anew without a server or the weights. Where anything else is to be
        sampled, refused rows are asked again with it, in case the server has more room now.
        """
        missing = self.missing(writer)
        if not missing or not writer.counts.rows_kept:
            return
        refused = reuse.refused_before(out, missing, given_up=self.options.accept_errors)
        if refused.keys() != missing:
            return
        for key, row in refused.items():
            trace = with_problem(row, self.problem_of(key), self.rows[key].sample)
            writer.reject(trace, row.reason, row.measured)
        say(f"{len(refused):,} rows were refused in earlier versions and are not asked again")

    def _take_over_labelled(self, writer: Writer, out: Path, k: int, finish: Finish) -> None:
        """Copy rows that have enough labels with them, and put those aside that have to be labelled."""
        from distillpipe.sampling.relabel import RowsToLabel, rows_without_labels

        assert self.chat is not None  # or the options were refused
        missing, identity = self.missing(writer), self.model.identity
        for trace, labels in reuse.labelled_before(out, missing, k, identity):
            missing.remove(trace.row_key)
            writer.append(self._finished(trace, finish), labels)
            writer.counts.rows_reused += 1
        rows = rows_without_labels(out, missing, self.chat, self.options.budget, identity)
        self._to_label = RowsToLabel(rows, writer.draft.path)
        if writer.counts.rows_reused:
            say(f"reused {writer.counts.rows_reused:,} rows of earlier versions with their labels")
        if self._to_label:
            say(f"{len(self._to_label):,} rows of earlier versions are labelled, not sampled again")

    def _finished(self, trace: Trace, finish: Finish) -> Trace:
        """A row of another version as a row of this one."""
        problem, sample = self.problem_of(trace.row_key), self.rows[trace.row_key].sample
        return finish(with_problem(trace, problem, sample), problem)

    def sample(
        self,
        writer: Writer,
        open_engine: Callable[[], Engine],
        finish: Finish,
        only: Sequence[str] | None = None,
    ) -> None:
        """Sample what is missing, each row durable as it ends; the engine is opened only if needed.

        With `only` nothing but the rows with these keys.

        Raises Incomplete where requests failed, unless errors are accepted and there are other rows;
        DataError where no prompt at all fits into the model's context.
        """
        writer.forget_failed()
        self._give_up_left_out(writer)
        asked = self.rows.keys() if only is None else set(only)
        if missing := self.missing(writer) & asked:
            self._sample(writer, open_engine(), missing, len(asked), finish)
        spending.close_books(writer.draft)
        give_up_failed(writer, self._failed, accepted=self.options.accept_errors)
        if self.rows and not writer.counts.rows_kept:
            reasons = list(writer.counts.dropped)
            larger = " or a larger --max-model-len" if "prompt_too_long" in reasons else ""
            raise DataError(
                f"not one row of {self.model.name} was sampled: {', '.join(reasons)}; give it other prompts"
                f"{larger}: rejected-*.jsonl in {writer.draft.path} says of each why"
            )
        for reason, dropped in writer.counts.dropped.items():
            say(f"{dropped.rows:,} rows rejected: {reason}")
        if self.options.budget is not None and writer.counts.rows_kept:
            _say_control(writer, self.options.budget)

    def _sample(
        self, writer: Writer, engine: Engine, missing: set[str], num_asked: int, finish: Finish
    ) -> None:
        stage = writer.draft.manifest.stage
        num_to_label = sum(key in self._to_label for key in missing)
        also = f", labelling {num_to_label:,}" if num_to_label else ""
        num_to_sample = len(missing) - num_to_label
        say(
            f"{stage}: sampling {num_to_sample:,}{also} of {num_asked:,} rows, {engine.description}"
        )
        counts, started = writer.counts, time.monotonic()
        seconds_before, done = counts.seconds_working, num_asked - len(missing)
        bill = Bill(counts, len(missing))
        if self.options.budget is not None:
            assert self.chat is not None  # or the options were refused
            engine = BudgetedEngine(engine, self.chat, self.options.budget)
        requests = self._requests(missing, engine.context_length, writer)

        def keep(trace: Trace, labels: "Labels | None" = None) -> None:
            writer.append(trace, labels)
            if trace.row_key in self._to_label:  # it was sampled before
                counts.rows_reused += 1
                counts.tokens_scored += trace.num_completion_tokens or 0
                bill.num_left -= 1
                advance(1)
                return
            tokens = trace.num_completion_tokens or 0
            counts.tokens_sampled += tokens
            counts.seconds_working = seconds_before + time.monotonic() - started
            advance(1, tokens, bill.add_row(trace))

        with progress(stage, num_asked, done) as advance, bill.at_the_end():
            try:
                with closing(engine.complete(requests)) as outcomes:
                    for outcome in outcomes:
                        with shielded():  # what was sampled is kept, or with the judge
                            self._take(outcome, writer, bill, finish, keep)
            except Interrupted:
                if self._judge and self._judge.num_waiting:
                    say(
                        f"{stage}: stopping when the last {self._judge.num_waiting} rows are judged"
                    )
                raise
            finally:
                for trace in self._judge.rest() if self._judge else ():
                    keep(trace)

    def _take(
        self, outcome: Outcome, writer: Writer, bill: Bill, finish: Finish, keep: Keep
    ) -> None:
        """Keep what came of a request, or give it to the judge and keep what that is done with."""
        problem = self._in_flight[outcome.key].problem
        trace = self._trace(outcome)
        if (unread := self._unread.pop(outcome.key, None)) is not None:
            assert isinstance(outcome, Completion)  # nothing else is read here
            writer.counts.tokens_sampled += len(outcome.token_ids)
            bill.num_left -= 1
            self._give_up(trace, unread, writer)
            return
        labels = outcome.labels if isinstance(outcome, Completion) else None
        if outcome.key in self._to_label:
            row = self._to_label[outcome.key]
            sample = self.rows[outcome.key].sample
            trace = with_problem(row.trace, problem, sample)
            labels = None if labels is None else row.label(labels)
        if isinstance(outcome, Failure):
            writer.fail(trace, outcome.error)
        elif isinstance(outcome, Refusal):
            writer.reject(trace, outcome.reason, outcome.measured)
            bill.num_left -= 1
        elif self._judge is None:
            keep(finish(trace, problem), labels)
        else:
            self._judge.put(lambda row: finish(row, problem), trace)
            for row in self._judge.ready():
                keep(row)

    def _failed(self, keys: list[str]) -> Iterator[Trace]:
        """Rows as they would have begun."""
        for key in keys:
            self._in_flight[key] = self.prompt(key)
            yield self._trace(Failure(key, ""))

    def _requests(self, missing: set[str], context: int, writer: Writer) -> Iterator[Request]:
        plan = self.options.plan
        for key in self.rows:
            if key not in missing:
                continue
            asked = self._in_flight[key] = self.prompt(key)
            if key in self._to_label:
                yield Request(
                    key, asked.prompt_ids, self.options.sampling, 0,
                    soft_labels=self.options.soft_labels,
                    completion_ids=self._to_label[key].token_ids,
                )  # fmt: skip
                continue
            if len(asked.prompt_ids) >= context:
                nothing = self._trace(Completion(key, [], "length"))
                writer.reject(nothing, "prompt_too_long", len(asked.prompt_ids))
                continue
            seed = seed_of(plan.seed, asked.problem.problem_id, asked.sample)
            yield Request(
                key, asked.prompt_ids, self.options.sampling, seed, asked.messages,
                soft_labels=self.options.soft_labels,
            )  # fmt: skip

    def _trace(self, outcome: Outcome) -> Trace:
        """The row of a completion; of a failure the row as it would have begun."""
        problem, sample, messages, prompt_ids, extra = self._in_flight.pop(outcome.key)
        answer = guarded(as_answer, outcome, self.chat, prompt_ids)
        if isinstance(answer, InternalError):
            self._unread[outcome.key] = answer
            answer = as_unparsed(outcome, self.chat)
        completion = outcome if isinstance(outcome, Completion) else None
        return Trace(
            id=trace_id(problem.problem_id, answer.key),
            problem_id=problem.problem_id,
            row_key=answer.key,
            sample=sample,
            benchmark=problem.benchmark,
            problem=problem.problem,
            reference_answer=problem.reference_answer,
            verifier=problem.verifier,
            domain=problem.domain,
            messages=[*messages, answer.message],
            finish_reason=answer.finish_reason,
            num_tokens=answer.num_tokens,
            teacher=self.model.name,
            served_by=answer.served_by,
            seed=self.options.plan.seed,
            extra=extra,
            num_waits=completion.num_waits if completion else 0,
            forced_end=completion is not None and completion.forced_end,
        )


def _say_control(writer: Writer, budget: Budget) -> None:
    """Count and say how many completions keep to the budget: what s1 calls control."""
    counts, low, high = writer.counts, budget.min_reasoning_tokens, budget.max_reasoning_tokens
    counts.rows_within_budget = writer.num_rows_within(low, high)
    most = "or more" if high is None else f"to {high:,}"
    say(
        f"{writer.draft.manifest.stage}: control {counts.control:.1%}: {counts.rows_within_budget:,} of "
        f"{counts.rows_kept:,} completions have {low:,} {most} reasoning tokens; "
        f"{counts.num_waits:,} waits, {counts.forced_ends:,} ends forced"
    )


def with_problem(trace: Trace, problem: Problem, sample: int) -> Trace:
    """A row of another version with the fields of a problem as they are now, and not judged yet."""
    return msgspec.structs.replace(
        trace,
        id=trace_id(problem.problem_id, trace.row_key),
        problem_id=problem.problem_id,
        sample=sample,
        problem=problem.problem,
        reference_answer=problem.reference_answer,
        verifier=problem.verifier,
        domain=problem.domain,
        benchmark=problem.benchmark,
        verdict=None,
        verdict_reason=None,
        answer=None,
        soft_labels=None,  # which lie in the other version
    )
