"""Planning, taking over and sampling rows: what `generate` and `eval` share.

A row is known by its key before it is sampled. So the plan of a run is a set of keys; what earlier
versions hold of them is taken over, and only the rest is asked of the engine.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from distillpipe import dataset, forecast, sources, spending
from distillpipe.answers import as_answer
from distillpipe.chat import Chat, conversation, load_chat, with_template_text
from distillpipe.dataset import Writer
from distillpipe.engines.base import Completion, Engine, Failure, Outcome, Refusal, Request
from distillpipe.errors import DataError, Incomplete, UsageError
from distillpipe.forecast import Forecast
from distillpipe.hashing import seed_of
from distillpipe.jsonl import Spool
from distillpipe.models import AnyModel, Model, Served
from distillpipe.progress import progress, say
from distillpipe.records import (
    EngineOptions,
    Message,
    Plan,
    Problem,
    Prompting,
    Sampling,
    Trace,
    row_key,
    trace_id,
)
from distillpipe.spending import Bill
from distillpipe.versions import ENGINE_ERROR, ERRORS_FILE

Finish = Callable[[Trace, Problem], Trace]
"What a stage does to a row before it is written: eval judges it."


class SamplingOptions(msgspec.Struct, frozen=True):
    """All options of a command that samples."""

    prompting: Prompting
    plan: Plan
    sampling: Sampling
    engine: EngineOptions
    accept_errors: bool

    def content(self) -> dict[str, object]:
        """What decides the rows of a version, for its fingerprint."""
        return {
            "prompting": with_template_text(self.prompting),
            "plan": self.plan,
            "sampling": self.sampling,
        }


class Sampler:
    """The rows that one run wants of one model, by row key. Problems lie on disk, in `folder`."""

    def __init__(
        self, model: AnyModel, chat: Chat | None, options: SamplingOptions, folder: Path
    ) -> None:
        self.model = model
        self.chat = chat
        self.options = options
        self.wanted: dict[str, _Wanted] = {}
        self.num_duplicates = 0
        self._problems = Spool(folder, Problem)
        self._problem_ids: list[str] = []
        self._in_flight: dict[str, _Asked] = {}

    def plan(self, problems: Iterator[Problem]) -> None:
        """Want `num_samples` rows of each problem; rows with equal keys are wanted once."""
        plan = self.options.plan
        for problem in problems:
            messages = self._messages(problem)
            prompt = self._prompt_ids(messages) or messages
            keys = [
                row_key(
                    prompt,
                    self.options.sampling,
                    self.model.identity,
                    seed=plan.seed,
                    sample=sample,
                )
                for sample in range(plan.num_samples)
            ]
            new = {key: sample for sample, key in enumerate(keys) if key not in self.wanted}
            self.num_duplicates += len(keys) - len(new)
            if new:
                number = len(self._problems)
                self._problems.append(problem)
                self._problem_ids.append(problem.problem_id)
                self.wanted.update((key, _Wanted(number, sample)) for key, sample in new.items())
        if self.num_duplicates:
            say(f"{self.num_duplicates:,} rows were asked for twice (equal prompts): sampled once")

    def problems(self) -> Iterator[Problem]:
        """The distinct problems of the plan, in their order."""
        seen: set[str] = set()
        for number, problem_id in enumerate(self._problem_ids):
            if problem_id not in seen:
                seen.add(problem_id)
                yield self._problems[number]

    def most_prompt_tokens(self) -> int:
        """Of any prompt of the plan, as a server may count."""
        prompts = (self._messages(problem) for problem in self.problems())
        return max(map(spending.most_prompt_tokens, prompts), default=0)

    def missing(self, writer: Writer) -> set[str]:
        """Keys of the rows that the draft does not hold yet."""
        return {
            key
            for key, (number, _) in self.wanted.items()
            if trace_id(self._problem_ids[number], key) not in writer.done
        }

    def take_over(self, writer: Writer, out: Path, finish: Finish) -> None:
        """Copy what other versions under `out` have sampled; problem fields are today's."""
        if not writer.draft.takes_over:
            return
        reused = 0
        for trace in dataset.sampled_before(out, self.missing(writer)):
            number, sample = self.wanted[trace.row_key]
            problem = self._problems[number]
            writer.append(finish(_with_problem(trace, problem, sample), problem))
            reused += 1
        writer.counts.rows_reused += reused
        if reused:
            say(f"reused {reused:,} rows of earlier versions")

    def sample(self, writer: Writer, open_engine: Callable[[], Engine], finish: Finish) -> None:
        """Sample what is missing, each row durable as it ends; the engine is opened only if needed.

        Raises Incomplete where requests failed, unless errors are accepted and there are other rows;
        DataError where no prompt at all fits into the model's context.
        """
        writer.forget_failed()
        if missing := self.missing(writer):
            self._sample(writer, open_engine(), missing, finish)
        spending.close_books(writer.draft)
        if writer.num_failed:
            self._settle_failed(writer)
        if self.wanted and not writer.counts.rows_kept:
            reasons = ", ".join(writer.counts.dropped)
            raise DataError(f"not one row of {self.model.name} was sampled: {reasons}")
        for reason, dropped in writer.counts.dropped.items():
            say(f"{dropped.rows:,} rows rejected: {reason}")

    def _sample(self, writer: Writer, engine: Engine, missing: set[str], finish: Finish) -> None:
        stage = writer.draft.manifest.stage
        say(
            f"{stage}: sampling {len(missing):,} of {len(self.wanted):,} rows, {engine.description}"
        )
        counts, started = writer.counts, time.monotonic()
        seconds_before, done = counts.seconds_working, len(self.wanted) - len(missing)
        bill = Bill(counts, len(missing))
        requests = self._requests(missing, engine.context_length, writer)
        with (
            progress(stage, len(self.wanted), done) as advance,
            bill.at_the_end(),
            closing(engine.complete(requests)) as outcomes,
        ):
            for outcome in outcomes:
                problem = self._in_flight[outcome.key].problem
                trace = self._trace(outcome)
                if isinstance(outcome, Failure):
                    writer.fail(trace, outcome.error)
                    continue
                if isinstance(outcome, Refusal):
                    writer.reject(trace, outcome.reason, outcome.measured)
                    bill.num_left -= 1
                    continue
                writer.append(finish(trace, problem))
                tokens = trace.num_completion_tokens or 0
                counts.tokens_sampled += tokens
                counts.seconds_working = seconds_before + time.monotonic() - started
                advance(1, tokens, bill.add_row(trace))

    def _settle_failed(self, writer: Writer) -> None:
        """Give the failed rows up, as rejected ones, where the command says so; else stop here."""
        failed = writer.failed()
        if not self.options.accept_errors or not writer.counts.rows_kept:
            way_out = "with --accept-errors it then goes on without them"
            raise Incomplete(
                f"{len(failed):,} rows failed (the first: {failed[0].error}), all are listed in "
                f"{writer.draft.path / ERRORS_FILE}: the same command tries them again, "
                + ("there is no other row" if self.options.accept_errors else way_out)
            )
        for row in failed:
            self._ask(row.row_key)
            writer.reject(self._trace(Failure(row.row_key, row.error)), ENGINE_ERROR, row.error)
        writer.draft.save()  # its counts say that rows were given up
        writer.forget_failed()

    def _requests(self, missing: set[str], context: int, writer: Writer) -> Iterator[Request]:
        plan = self.options.plan
        for key in self.wanted:
            if key not in missing:
                continue
            asked = self._ask(key)
            if len(asked.prompt_ids) >= context:
                nothing = self._trace(Completion(key, [], "length"))
                writer.reject(nothing, "prompt_too_long", len(asked.prompt_ids))
                continue
            seed = seed_of(plan.seed, asked.problem.problem_id, asked.sample)
            yield Request(key, asked.prompt_ids, self.options.sampling, seed, asked.messages)

    def _messages(self, problem: Problem) -> list[Message]:
        return conversation(problem, self.options.prompting)

    def _prompt_ids(self, messages: list[Message]) -> list[int]:
        """Ids of the rendered messages; none where a server renders them."""
        return [] if self.chat is None else self.chat.prompt_ids(messages)

    def _ask(self, key: str) -> "_Asked":
        """What is asked for a row; kept until its completion is there."""
        number, sample = self.wanted[key]
        problem = self._problems[number]
        messages = self._messages(problem)
        asked = _Asked(problem, sample, messages, self._prompt_ids(messages))
        self._in_flight[key] = asked
        return asked

    def _trace(self, outcome: Outcome) -> Trace:
        """The row of a completion; of a failure the row as it would have begun."""
        problem, sample, messages, prompt_ids = self._in_flight.pop(outcome.key)
        answer = as_answer(outcome, self.chat, prompt_ids)
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
        )


def load_model_chat(model: AnyModel, options: SamplingOptions) -> Chat | None:
    """The chat of a model; null for a served one, whose server renders and reads by itself.

    Raises UsageError for options that a server does not know.
    """
    prompting, sampling = options.prompting, options.sampling
    if isinstance(model, Model):
        return load_chat(model.tokenizer_folder, model.name, prompting.chat_template)
    ours = {
        "--chat-template": prompting.chat_template,
        "--max-model-len": sampling.max_model_len,
        "--stop-loops": sampling.stop_loops,
    }
    if given := [flag for flag, value in ours.items() if value]:
        raise UsageError(f"{', '.join(given)}: not for a server, which has its own: leave it out")
    return None


def forecast_rows(
    found: Forecast,
    source: str,
    model: AnyModel | None,
    out: Path,
    options: SamplingOptions,
    fresh: bool,
) -> None:
    """Add to a forecast which rows are wanted, which are there, and what the rest would cost.

    Without a model the prompts cannot be rendered: then every row counts as to be sampled.
    """
    problems = sources.read_problems(source, options.prompting, options.plan.limit)
    longest_prompt = 0
    if model is None:
        wanted = sum(1 for _ in problems) * options.plan.num_samples
        reused = 0
    else:
        chat = load_model_chat(model, options)
        with tempfile.TemporaryDirectory() as folder:
            sampler = Sampler(model, chat, options, Path(folder))
            sampler.plan(problems)
            longest_prompt = sampler.most_prompt_tokens()
        wanted = len(sampler.wanted)
        wanted_keys = set() if fresh else set(sampler.wanted)
        reused = sum(1 for _ in dataset.sampled_before(out, wanted_keys))
    found.rows = {"wanted": wanted, "there already": reused, "to sample": wanted - reused}
    max_tokens = options.sampling.max_tokens
    forecast.estimate_sampling(found, out, model, wanted - reused, max_tokens)
    prices = spending.prices_of(options.engine)
    if isinstance(model, Served) and prices is not None:
        forecast.estimate_dollars(found, out, model, prices, longest_prompt)


class _Wanted(NamedTuple):
    number: int
    "of the problem in the plan"
    sample: int


class _Asked(NamedTuple):
    problem: Problem
    sample: int
    messages: list[Message]
    prompt_ids: list[int]


def _with_problem(trace: Trace, problem: Problem, sample: int) -> Trace:
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
        answer=None,
    )
