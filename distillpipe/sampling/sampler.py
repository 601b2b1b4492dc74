"""Reuses and samples the rows of a plan: the part that `generate` and `eval` share.

The plan of a run is a set of row keys. Rows that earlier versions hold are taken over, and only the others are
sampled.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from distillpipe.base.decoding import json_object
from distillpipe.base.errors import DataError, Interrupted
from distillpipe.base.hashing import content_hash, seed_of
from distillpipe.base.options import Budget, SamplingOptions
from distillpipe.base.progress import say
from distillpipe.base.records import Message, Problem, Trace, trace_id
from distillpipe.base.rowguard import REASON, InternalError, InternalErrors, guarded, too_many
from distillpipe.data.store import reuse, spending
from distillpipe.data.store.jsonl import decode, encoder, rewrite
from distillpipe.data.store.spending import Bill
from distillpipe.data.store.versions import Draft
from distillpipe.data.store.writer import Writer, check_plan, give_up_failed
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
from distillpipe.engines.drive import drive, metered
from distillpipe.models.chat import Chat
from distillpipe.models.lookup import AnyModel
from distillpipe.sampling.plan import RowPlan, RowPrompt, SkippedProblem
from distillpipe.verify.judge import Judge

if TYPE_CHECKING:  # these import numpy, which an "up to date" answer does not need
    from distillpipe.data.store.labels import Labels
    from distillpipe.sampling.relabel import RowsToLabel, RowToLabel

Finish = Callable[[Trace, Problem], Trace]
"Completes a row before it is written: eval verifies its answer here."
Keep = Callable[..., None]
"Writes a row with its labels, if any, and counts its tokens and cost."


class Sampler(RowPlan):
    """Reuses and samples the rows that one run plans for one model."""

    def __init__(
        self,
        model: AnyModel,
        chat: Chat | None,
        options: SamplingOptions,
        folder: Path,
        judge: Judge | None = None,
    ) -> None:
        """With a judge, rows are finished in parallel to sampling, a bounded number at a time."""
        super().__init__(model, chat, options, folder)
        self._in_flight: dict[str, RowPrompt] = {}
        self._unparsed: dict[str, InternalError] = {}
        "internal errors while decoding a completion, until its row is written"
        self._judge = judge
        self._to_label: RowsToLabel | dict[str, RowToLabel] = {}
        "rows of other versions with too few labels"

    def rejudge_errors(self, draft: Draft, finish: Finish) -> None:
        """Judge rows of a draft again whose judging met an internal error. The draft must not be open yet."""
        decoder = msgspec.json.Decoder(Trace)

        def rejudged(line: bytes, where: str) -> bytes:
            trace = decode(line, decoder, where)
            if trace.row_key not in self.rows:  # its prompt could not be rendered
                return line
            return encoder.encode(finish(trace, self.problem_of(trace.row_key)))

        rewrite(draft.path, "part", f'"verdict_reason":"{REASON}:'.encode(), rejudged)

    def _give_up_skipped(self, writer: Writer) -> None:
        """Give up the rows of problems that could not be read or rendered, see `_give_up`.

        Raises InternalErrors if they are too many, before anything is sampled.
        """
        samples = range(self.options.plan.num_samples)
        num_rows = len(self.skipped) * len(samples)
        writer.counts.rows_read += num_rows
        if too_many(num_rows, len(self.rows) + num_rows) and not self.options.accept_errors:
            first = self.skipped[0]
            raise InternalErrors(
                f"{len(self.skipped):,} of {sum(1 for _ in self.problems()):,} problems could not be read or "
                f"rendered because of an error in distillpipe itself, the first ({first.problem.problem_id}) "
                f"because of {first.error}: please report it. Nothing was sampled: remove these problems, or "
                "give --accept-errors to continue without them"
            )
        for number in range(len(self.skipped)):
            problem, error = msgspec.structs.astuple(self.skipped[number])
            for sample in samples:
                key = _key_of_skipped(self.skipped[number], sample)
                empty = Message(role="assistant", content="")
                question = Message(role="user", content=problem.problem)
                self._in_flight[key] = RowPrompt(problem, sample, [question], [], None)
                answer = Answer(key, empty, "length", None, None)
                trace = self._trace(answer)
                if trace.id not in writer.done:
                    self._give_up(trace, InternalError(error), writer)

    def _give_up(self, trace: Trace, error: InternalError, writer: Writer) -> None:
        """Write a row that met an internal error: with a judge as unverifiable, otherwise as rejected."""
        if self._judge is None:
            writer.reject(trace, REASON, error.description)
            return
        writer.append(
            msgspec.structs.replace(trace, verdict="unverifiable", verdict_reason=error.reason)
        )

    def missing(self, writer: Writer) -> set[str]:
        """Keys of the planned rows that the draft does not hold yet."""
        return {key for key in self.rows if self.row_id(key) not in writer.done}

    def take_over(self, writer: Writer, out: Path, finish: Finish) -> None:
        """Copy planned rows from other versions under `out`, with the problem fields of today."""
        if not writer.draft.takes_over:
            return
        if self.options.soft_labels is not None:
            self._take_over_labelled(writer, out, self.options.soft_labels, finish)
            return
        num_reused = 0

        def finished(trace: Trace) -> Trace:
            return self._finished(trace, finish)

        rows = reuse.sampled_before(out, self.missing(writer))
        for trace in self._judge.map(finished, rows) if self._judge else map(finished, rows):
            writer.append(trace)
            num_reused += 1
        writer.counts.rows_reused += num_reused
        if num_reused:
            say(f"reused {num_reused:,} rows of earlier versions")
        self._take_over_refusals(writer, out)

    def _take_over_refusals(self, writer: Writer, out: Path) -> None:
        """If every missing row was refused in an earlier version, reject it again without opening an engine.

        So an existing version can be scored again without a server or the model's weights. If other rows
        must be sampled, refused rows are requested again, because the server may accept them now.
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
        say(f"{len(refused):,} rows were refused in earlier versions and are not requested again")

    def _take_over_labelled(self, writer: Writer, out: Path, k: int, finish: Finish) -> None:
        """Copy rows with enough labels, and find the rows that must be labelled."""
        from distillpipe.sampling.relabel import RowsToLabel, rows_without_labels

        assert self.chat is not None  # a server was refused for --soft-labels
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
        """A row of another version, converted to a row of this one."""
        problem, sample = self.problem_of(trace.row_key), self.rows[trace.row_key].sample
        return finish(with_problem(trace, problem, sample), problem)

    def sample(
        self,
        writer: Writer,
        open_engine: Callable[[], Engine],
        finish: Finish,
        only: Sequence[str] | None = None,
    ) -> None:
        """Sample the missing rows; each is durable when it ends. The engine is opened only if needed.

        With `only` just the rows with these keys are sampled. Raises Incomplete if requests failed, unless
        errors are accepted and other rows exist. Raises DataError if no row was sampled, for example because
        no prompt fits into the model's context.
        """
        writer.forget_failed()
        self._give_up_skipped(writer)
        keys = self.rows.keys() if only is None else set(only)
        if missing := self.missing(writer) & keys:
            self._sample(writer, open_engine(), missing, len(keys), finish)
        spending.close_books(writer.draft)
        give_up_failed(writer, self._failed_rows, accepted=self.options.accept_errors)
        if self.rows and not writer.counts.rows_kept:
            reasons = list(writer.counts.dropped)
            larger = " or a larger --max-model-len" if "prompt_too_long" in reasons else ""
            raise DataError(
                f"no row of {self.model.name} was sampled: {', '.join(reasons)}; give it other prompts"
                f"{larger}: rejected-*.jsonl in {writer.draft.path} has the reason of each"
            )
        for reason, dropped in writer.counts.dropped.items():
            say(f"{dropped.rows:,} rows rejected: {reason}")
        if self.options.budget is not None and writer.counts.rows_kept:
            _say_control(writer, self.options.budget)
        if only is None:
            self._check_plan(writer)

    def _check_plan(self, writer: Writer) -> None:
        """Raise DataError unless the draft holds each row of the plan once, and no other."""
        planned = {self.row_id(key) for key in self.rows} | self._ids_of_skipped()
        check_plan(writer, planned)

    def _ids_of_skipped(self) -> set[str]:
        return {
            trace_id(
                self.skipped[number].problem.problem_id,
                _key_of_skipped(self.skipped[number], sample),
            )
            for number in range(len(self.skipped))
            for sample in range(self.options.plan.num_samples)
        }

    def _sample(
        self, writer: Writer, engine: Engine, missing: set[str], num_rows: int, finish: Finish
    ) -> None:
        stage = writer.draft.manifest.stage
        num_to_label = sum(key in self._to_label for key in missing)
        labelling = f", labelling {num_to_label:,}" if num_to_label else ""
        num_to_sample = len(missing) - num_to_label
        say(
            f"{stage}: sampling {num_to_sample:,}{labelling} of {num_rows:,} rows, {engine.description}"
        )
        bill = Bill(writer.counts, len(missing))
        if self.options.budget is not None:
            assert self.chat is not None  # a budget on a server needs --tokenizer
            engine = BudgetedEngine(engine, self.chat, self.options.budget)
        requests = self._requests(missing, engine.context_length, writer)

        def keep(trace: Trace, labels: "Labels | None" = None) -> None:
            writer.append(trace, labels)
            num_tokens = trace.num_completion_tokens or 0
            if trace.row_key in self._to_label:  # sampled in an earlier version
                writer.counts.rows_reused += 1
                bill.num_left -= 1
                meter.add_scored(num_tokens, is_timed=False)
            else:
                meter.add_sampled(num_tokens, bill.add_row(trace))

        def refuse(refusal: Refusal) -> None:
            writer.reject(self._row_of(refusal), refusal.reason, refusal.measured)
            bill.num_left -= 1

        num_done = num_rows - len(missing)
        with metered(writer, stage, num_rows, num_done) as meter, bill.added_to_errors():
            try:
                drive(
                    engine,
                    requests,
                    writer,
                    keep=lambda outcome: self._keep(outcome, writer, bill, finish, keep),
                    row_of=self._row_of,
                    refuse=refuse,
                )
            except Interrupted:
                if self._judge and self._judge.num_waiting:
                    say(
                        f"{stage}: stopping when the last {self._judge.num_waiting} rows are judged"
                    )
                raise
            finally:
                for trace in self._judge.rest() if self._judge else ():
                    keep(trace)

    def _keep(
        self,
        outcome: Completion | Answer,
        writer: Writer,
        bill: Bill,
        finish: Finish,
        keep: Keep,
    ) -> None:
        """Finish and keep the row of a completion. With a judge, keep the rows that it has finished."""
        problem = self._in_flight[outcome.key].problem
        trace = self._trace(outcome)
        if (error := self._unparsed.pop(outcome.key, None)) is not None:
            assert isinstance(outcome, Completion)  # a server's Answer is not decoded here
            writer.counts.tokens_sampled += len(outcome.token_ids)
            bill.num_left -= 1
            self._give_up(trace, error, writer)
            return
        labels = outcome.labels if isinstance(outcome, Completion) else None
        if outcome.key in self._to_label:
            trace = self._row_to_label(outcome.key)
            labels = None if labels is None else self._to_label[outcome.key].label(labels)
        if self._judge is None:
            keep(finish(trace, problem), labels)
        else:
            self._judge.put(lambda row: finish(row, problem), trace)
            for row in self._judge.ready():
                keep(row)

    def _row_of(self, outcome: Failure | Refusal) -> Trace:
        """The row of a request without a completion; one that was only to be labelled is kept whole."""
        trace = self._trace(outcome)
        return self._row_to_label(outcome.key) if outcome.key in self._to_label else trace

    def _row_to_label(self, key: str) -> Trace:
        row, sample = self._to_label[key].trace, self.rows[key].sample
        return with_problem(row, self.problem_of(key), sample)

    def _failed_rows(self, keys: list[str]) -> Iterator[Trace]:
        """Rows of failed requests, without a completion."""
        for key in keys:
            self._in_flight[key] = self.prompt(key)
            yield self._trace(Failure(key, ""))

    def _requests(self, missing: set[str], context: int, writer: Writer) -> Iterator[Request]:
        plan = self.options.plan
        for key in self.rows:
            if key not in missing:
                continue
            prompt = self._in_flight[key] = self.prompt(key)
            if key in self._to_label:
                yield Request(
                    key, prompt.prompt_ids, self.options.sampling, 0,
                    soft_labels=self.options.soft_labels,
                    completion_ids=self._to_label[key].token_ids,
                )  # fmt: skip
                continue
            if len(prompt.prompt_ids) >= context:
                empty = self._trace(Completion(key, [], "length"))
                writer.reject(empty, "prompt_too_long", len(prompt.prompt_ids))
                continue
            seed = seed_of(plan.seed, prompt.problem.problem_id, prompt.sample)
            yield Request(
                key, prompt.prompt_ids, self.options.sampling, seed, prompt.messages,
                soft_labels=self.options.soft_labels,
            )  # fmt: skip

    def _trace(self, outcome: Outcome) -> Trace:
        """The row of an outcome; of a failure or refusal without a completion."""
        problem, sample, messages, prompt_ids, extra = self._in_flight.pop(outcome.key)
        answer = guarded(as_answer, outcome, self.chat, prompt_ids)
        if isinstance(answer, InternalError):
            self._unparsed[outcome.key] = answer
            answer = as_unparsed(outcome, self.chat)
        completion = outcome if isinstance(outcome, Completion) else None
        return Trace(
            id=trace_id(problem.problem_id, answer.key),
            row_key=answer.key,
            sample=sample,
            **problem.row_fields(),
            messages=[*messages, answer.message],
            finish_reason=answer.finish_reason,
            num_tokens=answer.num_tokens,
            teacher=self.model.name,
            served_by=answer.served_by,
            seed=self.options.plan.seed,
            extra=_with_notes(extra, answer.notes),
            num_waits=completion.num_waits if completion else 0,
            forced_end=completion is not None and completion.forced_end,
        )


def _key_of_skipped(skipped: SkippedProblem, sample: int) -> str:
    """The key of a row whose prompt could not be rendered."""
    return content_hash(REASON, skipped.problem.problem_id, sample)[:32]


def _with_notes(extra: str | None, notes: tuple[tuple[str, str], ...]) -> str | None:
    """The `extra` of a row with what a server sent besides its answer, under `reply`."""
    if not notes:
        return extra
    return msgspec.json.encode({**json_object(extra), "reply": dict(notes)}).decode()


def _say_control(writer: Writer, budget: Budget) -> None:
    """Count and print the share of completions within the budget: s1's control metric."""
    counts, low, high = writer.counts, budget.min_reasoning_tokens, budget.max_reasoning_tokens
    counts.rows_within_budget = writer.num_rows_within(low, high)
    upper = "or more" if high is None else f"to {high:,}"
    say(
        f"{writer.draft.manifest.stage}: control {counts.control:.1%}: {counts.rows_within_budget:,} of "
        f"{counts.rows_kept:,} completions have {low:,} {upper} reasoning tokens; "
        f"{counts.num_waits:,} waits, {counts.forced_ends:,} ends forced"
    )


def with_problem(trace: Trace, problem: Problem, sample: int) -> Trace:
    """A row of another version with the current fields of its problem, not yet judged."""
    return msgspec.structs.replace(
        trace,
        id=trace_id(problem.problem_id, trace.row_key),
        sample=sample,
        **problem.row_fields(),
        verdict=None,
        verdict_reason=None,
        answer=None,
        soft_labels=None,  # they are stored in the other version
    )
