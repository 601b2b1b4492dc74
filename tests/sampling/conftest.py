"""Problems, and what a stage that samples does with them, with a scripted engine in place of a model."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from distillpipe.base.errors import EngineError
from distillpipe.base.hashing import content_hash
from distillpipe.base.options import (
    EngineOptions,
    Plan,
    Prompting,
    Sampling,
    SamplingOptions,
)
from distillpipe.base.records import (
    Problem,
    Trace,
    problem_id,
)
from distillpipe.data.store import versions
from distillpipe.data.store.dataset import read_traces
from distillpipe.data.store.manifest import InputDataset, Manifest, ModelUsed
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.engines.base import Completion, Request
from distillpipe.models.chat import Chat
from distillpipe.models.lookup import Model
from distillpipe.sampling.plan import content_of_sampling
from distillpipe.sampling.sampler import Finish, Sampler
from distillpipe.stages.run import content_of
from distillpipe.verify import verified
from distillpipe.verify.judge import Judge

TEACHER = Model("data/teacher", Path("unused"), "local:0123")
COMPLETION = "<think>\n1+1=2.\n</think>\n\n\\boxed{2}<|im_end|>"
SAMPLING = Sampling(temperature=0.6, top_p=0.95, max_tokens=64)


class ScriptedEngine:
    """Completes every request with the same text; keeps what it was asked, dies when it is told to."""

    description = "a script"

    def __init__(
        self,
        chat: Chat,
        *,
        context_length: int = 1024,
        dies_after: int | None = None,
        dies_of: BaseException | None = None,
        backwards: bool = False,
    ) -> None:
        self.context_length = context_length
        self.requests: list[Request] = []
        self.token_ids = chat.tokenizer(COMPLETION, add_special_tokens=False)["input_ids"]
        self.dies_after = dies_after
        self.dies_of = dies_of or EngineError("the engine died")
        self.backwards = backwards

    def complete(self, requests: Iterator[Request]) -> Iterator[Completion]:
        taken = list(requests)[::-1] if self.backwards else requests
        for request in taken:
            if len(self.requests) == self.dies_after:
                raise self.dies_of
            self.requests.append(request)
            yield Completion(request.key, self.token_ids, "stop")


class Sampled(NamedTuple):
    """What came of a run: its version, and what it asked of the engine."""

    manifest: Manifest
    requests: list[Request]
    tokens: int
    "of each completion"

    @property
    def num_requests(self) -> int:
        return len(self.requests)


Sample = Callable[..., Sampled]


def options(
    template: str = "{problem}",
    system_prompt: str | None = None,
    sampling: Sampling = SAMPLING,
    num_samples: int = 1,
    limit: int | None = None,
    seed: int = 0,
    accept_errors: bool = False,
) -> SamplingOptions:
    return SamplingOptions(
        prompting=Prompting(
            problem_field=None, answer_field=None, verifier=None, prompt_template=template,
            system_prompt=system_prompt, chat_template=None,
        ),
        plan=Plan(num_samples=num_samples, limit=limit, seed=seed),
        sampling=sampling,
        engine=EngineOptions(engine="auto", concurrency=4),
        accept_errors=accept_errors,
    )  # fmt: skip


def unjudged(trace: Trace, _problem: Problem) -> Trace:
    return trace


@pytest.fixture(scope="session")
def problem() -> Callable[..., Problem]:
    """`problem("What is 1+1?", "2", **changes)`."""

    def make(text: str, answer: str | None = "2", **changes: Any) -> Problem:
        verifier = changes.pop("verifier", "math")
        return Problem(
            problem_id=problem_id(text, answer, verifier),
            problem=text,
            reference_answer=answer,
            verifier=verifier,
            **changes,
        )

    return make


@pytest.fixture(scope="session")
def problems(problem: Callable[..., Problem]) -> Callable[[int], list[Problem]]:
    """`problems(3)`: "What is 0+1?" and on."""
    return lambda count: [
        problem(f"What is {number}+1?", str(number + 1)) for number in range(count)
    ]


@pytest.fixture(scope="session")
def scripted_engine() -> type[ScriptedEngine]:
    """An engine that completes every request with the same text."""
    return ScriptedEngine


@pytest.fixture(scope="session")
def judged() -> Finish:
    """Judge a row as a stage does."""
    return lambda trace, problem: verified(trace, extra=problem.extra)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "traces"


@pytest.fixture
def sample(teacher_chat: Chat, out: Path) -> Sample:
    """`sample(problems, **options)` does what a stage that samples does, with a scripted engine."""

    def run(
        given: list[Problem],
        *,
        model: Model = TEACHER,
        finish: Finish = unjudged,
        fresh: bool = False,
        template: str = "{problem}",
        system_prompt: str | None = None,
        sampling: Sampling = SAMPLING,
        num_samples: int = 1,
        limit: int | None = None,
        seed: int = 0,
        accept_errors: bool = False,
        out: Path = out,
        open_engine: Callable[[], ScriptedEngine] | None = None,
        **engine_options: Any,
    ) -> Sampled:
        asked = options(template, system_prompt, sampling, num_samples, limit, seed, accept_errors)
        header = Header(
            kind="traces",
            stage="generate",
            content=content_of(**content_of_sampling(asked)),
            inputs=[InputDataset("problems.jsonl", None, content_hash(given))],
            models=[ModelUsed("teacher", model.name, model.identity)],
            options={},
            fresh=fresh,
            accept_errors=accept_errors,
        )
        engine = ScriptedEngine(teacher_chat, **engine_options)
        with versions.draft(out, header) as draft, Writer(draft) as writer:
            sampler = Sampler(model, teacher_chat, asked, draft.path)
            sampler.add(islice(given, limit))
            writer.counts.rows_read = len(sampler.rows)
            sampler.take_over(writer, out, finish)
            sampler.sample(writer, open_engine or (lambda: engine), finish)
            manifest = writer.finish(sampler.problems())
        return Sampled(manifest, engine.requests, len(engine.token_ids))

    return run


@pytest.fixture
def make_sampler(teacher_chat: Chat) -> Callable[..., Sampler]:
    """`make_sampler(folder, judge, num_samples=3)`: a sampler without any problems."""

    def make(folder: Path, judge: Judge | None = None, **changes: Any) -> Sampler:
        return Sampler(TEACHER, teacher_chat, options(**changes), folder, judge)

    return make


@pytest.fixture
def keys() -> Callable[[Path], list[tuple[str, int]]]:
    """`keys(out)`: problem and sample of each kept row, sorted."""
    return lambda out: sorted((trace.problem, trace.sample) for trace in read_traces(str(out)))
