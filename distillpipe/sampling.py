"""Planning, taking over and sampling rows: what `generate` and `eval` share.

A row is known by its key before it is sampled. So the plan of a run is a set of keys; what earlier
versions hold of them is taken over, and only the rest is asked of the engine.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from distillpipe import dataset
from distillpipe.chat import Chat, conversation, split
from distillpipe.dataset import Writer
from distillpipe.engines.base import Completion, Engine, Request
from distillpipe.errors import DataError
from distillpipe.hashing import seed_of
from distillpipe.models import Model
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

Finish = Callable[[Trace], Trace]


class SamplingOptions(msgspec.Struct, frozen=True):
    """All options of a command that samples."""

    prompting: Prompting
    plan: Plan
    sampling: Sampling
    engine: EngineOptions

    def content(self) -> dict[str, object]:
        """What decides the rows of a version, for its fingerprint."""
        return {"prompting": self.prompting, "plan": self.plan, "sampling": self.sampling}


class Sampler:
    """The rows that one run wants of one model, by row key."""

    def __init__(self, model: Model, chat: Chat, options: SamplingOptions) -> None:
        self.model = model
        self.chat = chat
        self.options = options
        self.wanted: dict[str, _Wanted] = {}
        self.num_duplicates = 0

    def plan(self, problems: Iterator[Problem]) -> None:
        """Want `num_samples` rows of each problem; rows with equal keys are wanted once."""
        plan = self.options.plan
        for problem in problems:
            prompt_ids = self.chat.prompt_ids(self._messages(problem))
            for sample in range(plan.num_samples):
                key = row_key(
                    prompt_ids,
                    self.options.sampling,
                    self.model.identity,
                    seed=plan.seed,
                    sample=sample,
                )
                if key in self.wanted:
                    self.num_duplicates += 1
                    continue
                self.wanted[key] = _Wanted(problem, sample)
        if self.num_duplicates:
            say(f"{self.num_duplicates:,} rows were asked for twice (equal prompts): sampled once")

    def problems(self) -> Iterator[Problem]:
        """The distinct problems of the plan, in their order."""
        seen: set[str] = set()
        for wanted in self.wanted.values():
            if wanted.problem.problem_id not in seen:
                seen.add(wanted.problem.problem_id)
                yield wanted.problem

    def missing(self, writer: Writer) -> set[str]:
        """Keys of the rows that the draft does not hold yet."""
        return {key for key, row in self.wanted.items() if row.id(key) not in writer.done}

    def take_over(self, writer: Writer, out: Path, finish: Finish) -> None:
        """Copy what other versions under `out` have sampled; problem fields are today's."""
        if not writer.draft.takes_over:
            return
        reused = 0
        for trace in dataset.sampled_before(out, self.missing(writer)):
            wanted = self.wanted[trace.row_key]
            writer.append(finish(_with_problem(trace, wanted.problem)))
            reused += 1
        writer.counts.rows_reused += reused
        if reused:
            say(f"reused {reused:,} rows of earlier versions")

    def sample(self, writer: Writer, open_engine: Callable[[], Engine], finish: Finish) -> None:
        """Sample what is missing, each row durable as it ends; the engine is opened only if needed.

        Raises DataError where no prompt at all fits into the model's context.
        """
        if missing := self.missing(writer):
            self._sample(writer, open_engine(), missing, finish)
        if self.wanted and not writer.counts.rows_kept:
            raise DataError(f"no prompt fits into the context of {self.model.name}")
        if writer.counts.rows_rejected:
            say(f"{writer.counts.rows_rejected:,} prompts do not fit into the context: rejected")

    def _sample(self, writer: Writer, engine: Engine, missing: set[str], finish: Finish) -> None:
        stage = writer.draft.manifest.stage
        say(
            f"{stage}: sampling {len(missing):,} of {len(self.wanted):,} rows, {engine.description}"
        )
        started, seconds_before = time.monotonic(), writer.counts.seconds_working
        done = len(self.wanted) - len(missing)
        requests = self._requests(missing, engine.context_length, writer)
        with progress(stage, len(self.wanted), done) as advance:
            for completion in engine.complete(requests):
                writer.append(finish(self._trace(completion)))
                writer.counts.tokens_sampled += len(completion.token_ids)
                writer.counts.seconds_working = seconds_before + time.monotonic() - started
                advance(1, len(completion.token_ids))

    def _requests(self, missing: set[str], context: int, writer: Writer) -> Iterator[Request]:
        plan = self.options.plan
        for key, (problem, sample) in self.wanted.items():
            if key not in missing:
                continue
            prompt_ids = self.chat.prompt_ids(self._messages(problem))
            if len(prompt_ids) >= context:
                nothing = Completion(key, [], "length")
                writer.reject(self._trace(nothing), "prompt_too_long", len(prompt_ids))
                continue
            seed = seed_of(plan.seed, problem.problem_id, sample)
            yield Request(key, prompt_ids, self.options.sampling, seed)

    def _messages(self, problem: Problem) -> list[Message]:
        return conversation(problem, self.options.prompting)

    def _trace(self, completion: Completion) -> Trace:
        problem, sample = self.wanted[completion.key]
        messages = self._messages(problem)
        parts = split(self.chat.text(completion.token_ids))
        answered = Message(
            role="assistant", content=parts.response, reasoning_content=parts.reasoning or None
        )
        return Trace(
            id=trace_id(problem.problem_id, completion.key),
            problem_id=problem.problem_id,
            row_key=completion.key,
            sample=sample,
            benchmark=problem.benchmark,
            problem=problem.problem,
            reference_answer=problem.reference_answer,
            verifier=problem.verifier,
            domain=problem.domain,
            messages=[*messages, answered],
            finish_reason=completion.finish_reason,
            num_tokens=self.chat.count(self.chat.prompt_ids(messages), completion.token_ids, parts),
            teacher=self.model.name,
            seed=self.options.plan.seed,
        )


class _Wanted(NamedTuple):
    problem: Problem
    sample: int

    def id(self, key: str) -> str:
        return trace_id(self.problem.problem_id, key)


def _with_problem(trace: Trace, problem: Problem) -> Trace:
    return msgspec.structs.replace(
        trace,
        id=trace_id(problem.problem_id, trace.row_key),
        problem_id=problem.problem_id,
        problem=problem.problem,
        reference_answer=problem.reference_answer,
        verifier=problem.verifier,
        domain=problem.domain,
        benchmark=problem.benchmark,
        verdict=None,
        answer=None,
    )
