"""Planning, reusing and sampling rows: a row that exists is not sampled again."""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from distillpipe.base.errors import DataError, EngineError, Interrupted
from distillpipe.base.hashing import content_hash, seed_of
from distillpipe.base.options import (
    EngineOptions,
    Plan,
    Prompting,
    Sampling,
    SamplingOptions,
    row_key,
)
from distillpipe.base.records import (
    Message,
    Problem,
    RejectedTrace,
    TokenCounts,
    Trace,
    problem_id,
    trace_id,
)
from distillpipe.data.store import versions
from distillpipe.data.store.dataset import find, read_problems, read_traces, scan
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
        backwards: bool = False,
    ) -> None:
        self.context_length = context_length
        self.requests: list[Request] = []
        self.token_ids = chat.tokenizer(COMPLETION, add_special_tokens=False)["input_ids"]
        self.dies_after = dies_after
        self.backwards = backwards

    def complete(self, requests: Iterator[Request]) -> Iterator[Completion]:
        taken = list(requests)[::-1] if self.backwards else requests
        for request in taken:
            if len(self.requests) == self.dies_after:
                raise EngineError("the engine died")
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


def problem(text: str, answer: str | None = "2", **changes: Any) -> Problem:
    verifier = changes.pop("verifier", "math")
    return Problem(
        problem_id=problem_id(text, answer, verifier),
        problem=text,
        reference_answer=answer,
        verifier=verifier,
        **changes,
    )


def problems(count: int) -> list[Problem]:
    return [problem(f"What is {number}+1?", str(number + 1)) for number in range(count)]


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


def judged(trace: Trace, problem: Problem) -> Trace:
    return verified(trace, extra=problem.extra)


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


def keys(out: Path) -> list[tuple[str, int]]:
    """Problem and sample of each kept row, sorted."""
    return sorted((trace.problem, trace.sample) for trace in read_traces(str(out)))


def lines(version: Path) -> set[bytes]:
    return set((version / "part-00000.jsonl").read_bytes().splitlines())


# ---------------------------------------------------------------- one run


def test_a_row_holds_all_that_it_was_sampled_from(
    sample: Sample, out: Path, teacher_chat: Chat
) -> None:
    asked = problem("What is 1+1?", domain="sums", verifier="numeric")
    sample([asked], system_prompt="Be brief.", template="Q: {problem}", seed=7)

    messages = [
        Message(role="system", content="Be brief."),
        Message(role="user", content="Q: What is 1+1?"),
    ]
    prompt_ids = teacher_chat.prompt_ids(messages)
    key = row_key(prompt_ids, SAMPLING, "local:0123", seed=7, sample=0)
    (found,) = read_traces(str(out))
    assert found == Trace(
        id=trace_id(asked.problem_id, key),
        problem_id=asked.problem_id,
        row_key=key,
        sample=0,
        benchmark=None,
        problem="What is 1+1?",
        reference_answer="2",
        verifier="numeric",
        domain="sums",
        messages=[
            *messages,
            Message(role="assistant", content="\\boxed{2}", reasoning_content="1+1=2."),
        ],
        finish_reason="stop",
        num_tokens=TokenCounts(
            prompt=len(prompt_ids),
            reasoning=found.num_tokens.reasoning,
            response=found.num_tokens.response,
            total=len(prompt_ids) + found.num_tokens.reasoning + found.num_tokens.response + 3,
        ),
        teacher="data/teacher",
        seed=7,
    )


def test_every_sample_is_a_request_of_its_own_with_a_seed_of_its_own(
    sample: Sample, teacher_chat: Chat
) -> None:
    one, two = problems(2)
    requests = sample([one, two], num_samples=2, seed=5).requests

    assert [request.seed for request in requests] == [
        seed_of(5, asked.problem_id, number) for asked in (one, two) for number in (0, 1)
    ]
    assert len({request.seed for request in requests}) == 4
    assert [request.prompt_ids for request in requests[1:3]] == [
        teacher_chat.prompt_ids([Message(role="user", content=asked.problem)])
        for asked in (one, two)
    ]


def test_counts_are_those_of_the_rows_that_were_sampled(sample: Sample) -> None:
    sampled = sample(problems(3))
    counts = sampled.manifest.counts

    assert (counts.rows_read, counts.rows_kept, counts.rows_reused) == (3, 3, 0)
    assert counts.tokens_sampled == counts.tokens_kept == 3 * sampled.tokens


def test_equal_problems_are_planned_once(sample: Sample, out: Path) -> None:
    one, two = problems(2)
    given = [one, two, one, msgspec.structs.replace(one, domain="again")]
    sampled = sample(given, num_samples=2)

    assert sampled.num_requests == 4
    assert keys(out) == [(asked.problem, number) for asked in (one, two) for number in (0, 1)]
    assert list(read_problems(find(str(out)))) == [one, two]


def test_the_number_of_duplicates_counts_rows(teacher_chat: Chat, tmp_path: Path) -> None:
    (one,) = problems(1)
    sampler = Sampler(TEACHER, teacher_chat, options(num_samples=3), tmp_path)
    sampler.add(iter([one, one]))

    assert len(sampler.rows) == 3
    assert sampler.num_duplicates == 3


def test_no_problems_ask_nothing_of_the_engine(sample: Sample, out: Path) -> None:
    sampled = sample([])

    assert sampled.num_requests == 0
    assert list(read_traces(str(out))) == []


def test_the_order_in_which_completions_finish_does_not_change_the_id(
    sample: Sample, tmp_path: Path
) -> None:
    forwards = sample(problems(4), out=tmp_path / "a")
    backwards = sample(problems(4), out=tmp_path / "b", backwards=True)

    assert [row.key for row in forwards.requests] == [row.key for row in backwards.requests][::-1]
    assert forwards.manifest.id == backwards.manifest.id
    assert forwards.manifest.files != backwards.manifest.files


# ---------------------------------------------------------------- prompts that are too long


@pytest.mark.parametrize(("room", "is_asked"), [(-1, False), (0, False), (1, True)])
def test_a_prompt_must_be_shorter_than_the_context(
    sample: Sample, teacher_chat: Chat, out: Path, room: int, is_asked: bool
) -> None:
    short, long = problem("1?"), problem("How many pens does Mia have now, and how many has Tom?")
    length = len(teacher_chat.prompt_ids([Message(role="user", content=long.problem)]))
    sampled = sample([short, long], context_length=length + room)

    assert sampled.num_requests == 1 + is_asked
    assert (sampled.manifest.counts.rows_kept, sampled.manifest.counts.rows_rejected) == (
        (2, 0) if is_asked else (1, 1)
    )
    nothing = TokenCounts(prompt=length, reasoning=0, response=0, total=length)
    assert [
        (row.problem, row.reason, row.measured, row.finish_reason, row.num_tokens)
        for row in scan(out / "v1", RejectedTrace, "rejected")
    ] == [(long.problem, "prompt_too_long", str(length), "length", nothing)] * (not is_asked)


def test_a_run_in_which_no_prompt_fits_fails_and_stays_unfinished(
    sample: Sample, out: Path
) -> None:
    for _ in range(2):  # the second time nothing is left to be asked for
        with pytest.raises(DataError, match="no row of data/teacher was sampled: prompt_too_long"):
            sample(problems(2), context_length=1)
    assert [path.name for path in out.glob("v*")] == ["v1.partial"]


def test_a_prompt_that_was_too_long_is_too_long_in_the_next_version_too(
    sample: Sample, out: Path
) -> None:
    given = [problem("pens " * 200), *problems(1)]
    sample(given, context_length=100)
    again = sample([*given, *problems(2)], context_length=100)

    assert again.num_requests == 1
    assert keys(out) == [("What is 0+1?", 0), ("What is 1+1?", 0)]
    assert [row.reason for row in scan(out / "v2", RejectedTrace, "rejected")] == [
        "prompt_too_long"
    ]


# ---------------------------------------------------------------- taking over


def test_a_pilot_with_a_limit_is_taken_over_by_the_run_over_all(sample: Sample, out: Path) -> None:
    pilot = sample(problems(5), limit=2)
    everything = sample(problems(5))

    assert (pilot.num_requests, everything.num_requests) == (2, 3)
    assert everything.manifest.version == "v2"
    assert everything.manifest.counts.rows_reused == 2
    assert everything.manifest.counts.rows_kept == 5
    assert everything.manifest.counts.tokens_sampled == 3 * pilot.tokens
    assert keys(out) == [(one.problem, 0) for one in problems(5)]
    assert lines(out / "v1") <= lines(out / "v2")


def test_more_samples_of_each_problem_keep_the_ones_that_are_there(
    sample: Sample, out: Path
) -> None:
    two = sample(problems(3), num_samples=2)
    four = sample(problems(3), num_samples=4)

    assert (two.num_requests, four.num_requests) == (6, 6)
    assert {request.key for request in two.requests}.isdisjoint(
        request.key for request in four.requests
    )
    assert keys(out) == [(one.problem, number) for one in problems(3) for number in range(4)]
    assert lines(out / "v1") <= lines(out / "v2")


def test_fewer_samples_take_what_they_want_and_ask_for_nothing(sample: Sample, out: Path) -> None:
    sample(problems(3), num_samples=4)
    fewer = sample(problems(2), num_samples=1)

    assert fewer.num_requests == 0
    assert keys(out) == [(one.problem, 0) for one in problems(2)]


def test_one_more_problem_is_one_more_request(sample: Sample, out: Path) -> None:
    sample(problems(3))
    more = sample(problems(4))

    assert [request.key for request in more.requests] == [
        trace.row_key for trace in read_traces(str(out)) if trace.problem == "What is 3+1?"
    ]


def test_another_reference_answer_reuses_the_row_under_the_new_problem(
    sample: Sample, out: Path
) -> None:
    old = problem("What is 1+1?", "3", domain="sums")
    new = problem("What is 1+1?", "2", domain="algebra", verifier="exact")
    sample([old], finish=judged)
    mended = sample([new], finish=judged)

    assert mended.num_requests == 0
    (before,), (after,) = read_traces(f"{out}@v1"), read_traces(f"{out}@v2")
    assert (before.verdict, after.verdict) == ("wrong", "correct")
    assert after == msgspec.structs.replace(
        before,
        id=trace_id(new.problem_id, before.row_key),
        problem_id=new.problem_id,
        reference_answer="2",
        verifier="exact",
        domain="algebra",
        verdict="correct",
    )
    assert list(read_problems(find(str(out)))) == [new]


def test_verdict_and_answer_of_a_row_that_is_taken_over_are_made_anew(
    sample: Sample, out: Path
) -> None:
    sample(problems(1), finish=judged)
    sample(problems(2), finish=unjudged)

    assert [(row.verdict, row.answer) for row in read_traces(f"{out}@v1")] == [("wrong", "2")]
    assert [(row.verdict, row.answer) for row in read_traces(f"{out}@v2")] == [(None, None)] * 2


def test_a_problem_that_makes_the_same_prompt_stands_in_the_row_as_it_is_today(
    sample: Sample, out: Path
) -> None:
    sample([problem("1+1?")], template="What is {problem}")
    again = sample([problem("What is 1+1?")])

    assert again.num_requests == 0
    (row,) = read_traces(str(out))
    assert row.problem == "What is 1+1?"
    assert row.problem_id == problem("What is 1+1?").problem_id


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"template": "{problem} Think."},
        {"system_prompt": "Think."},
        {"model": Model("data/teacher", Path("unused"), "local:4567")},
        {"sampling": msgspec.structs.replace(SAMPLING, temperature=0.7)},
        {"sampling": msgspec.structs.replace(SAMPLING, top_p=1.0)},
        {"sampling": msgspec.structs.replace(SAMPLING, max_tokens=65)},
        {"fresh": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_makes_other_rows_takes_nothing_over(
    sample: Sample, out: Path, changes: dict[str, Any]
) -> None:
    sample(problems(2))
    other = sample(problems(2), **changes)

    assert other.num_requests == 2
    assert other.manifest.counts.rows_reused == 0
    assert other.manifest.version == "v2"


def test_the_same_model_under_another_name_takes_over(sample: Sample) -> None:
    sample(problems(2))
    renamed = sample(problems(3), model=Model("elsewhere", Path("unused"), "local:0123"))

    assert renamed.num_requests == 1


# ---------------------------------------------------------------- interrupted runs


def test_an_engine_that_dies_loses_no_row_and_the_same_run_asks_only_for_the_rest(
    sample: Sample, out: Path, teacher_chat: Chat
) -> None:
    dying = ScriptedEngine(teacher_chat, dies_after=3)
    with pytest.raises(EngineError):
        sample(problems(5), open_engine=lambda: dying)
    before = (out / "v1.partial/part-00000.jsonl").read_bytes()
    assert before.count(b"\n") == 3

    resumed = sample(problems(5))
    asked = {request.key for request in dying.requests + resumed.requests}
    assert resumed.num_requests == 2
    assert asked == {trace.row_key for trace in read_traces(str(out))}
    assert (out / "v1/part-00000.jsonl").read_bytes().startswith(before)
    assert resumed.manifest.counts.tokens_sampled == 5 * resumed.tokens
    assert resumed.manifest.counts.rows_reused == 0


def test_rows_of_an_unfinished_run_are_taken_over_by_another_one(sample: Sample, out: Path) -> None:
    with pytest.raises(EngineError):
        sample(problems(5), dies_after=3)
    pilot = sample(problems(5), limit=2)

    assert pilot.num_requests == 0
    assert pilot.manifest.version == "v2"
    assert pilot.manifest.counts.rows_reused == 2
    everything = sample(problems(5))
    assert (everything.num_requests, everything.manifest.version) == (2, "v1")
    assert keys(out) == [(one.problem, 0) for one in problems(5)]


def test_a_row_that_was_torn_is_sampled_again_and_only_that_one(sample: Sample, out: Path) -> None:
    with pytest.raises(EngineError):
        sample(problems(4), dies_after=3)
    path = out / "v1.partial/part-00000.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + lines[2][:-7])

    resumed = sample(problems(4))
    assert resumed.num_requests == 2
    assert keys(out) == [(one.problem, 0) for one in problems(4)]
    assert (out / "v1/part-00000.jsonl").read_bytes().startswith(lines[0] + lines[1])


def test_where_nothing_is_missing_the_engine_is_not_even_loaded(sample: Sample) -> None:
    def load() -> ScriptedEngine:
        pytest.fail("the engine was loaded")

    sample(problems(2))
    pilot = sample(problems(1), open_engine=load)
    assert pilot.manifest.counts.rows_reused == 1


# ---------------------------------------------------------------- judged beside the sampling


class Stopping(ScriptedEngine):
    """Is stopped from outside after so many completions, or dies of its own."""

    def __init__(self, chat: Chat, stop: Exception | BaseException, after: int) -> None:
        super().__init__(chat)
        self.stop, self.after = stop, after

    def complete(self, requests: Iterator[Request]) -> Iterator[Completion]:
        for number, completion in enumerate(super().complete(requests)):
            if number == self.after:
                raise self.stop
            yield completion


@pytest.fixture
def judge_slowly(teacher_chat: Chat, out: Path) -> Callable[..., list[Trace]]:
    """`judge_slowly(engine, finish, count)`: rows on disk after a run with that engine and that judge."""

    def run(engine: ScriptedEngine, finish: Finish, count: int) -> list[Trace]:
        header = Header(
            kind="predictions", stage="eval", content={}, inputs=[], models=[], options={}
        )
        with versions.draft(out, header) as draft, Writer(draft) as writer, Judge(2) as judge:
            sampler = Sampler(TEACHER, teacher_chat, options(), draft.path, judge)
            sampler.add(iter(problems(count)))
            try:
                sampler.sample(writer, lambda: engine, finish)
            finally:
                writer.sync()
        return list(scan(draft.path, Trace))

    return run


def test_completions_are_sampled_while_an_older_one_is_still_judged(
    teacher_chat: Chat, judge_slowly: Callable[..., list[Trace]]
) -> None:
    engine = ScriptedEngine(teacher_chat)

    def finish(trace: Trace, problem: Problem) -> Trace:
        if problem.problem == "What is 0+1?":
            while len(engine.requests) < 5:  # ends only if sampling goes on meanwhile
                time.sleep(0.001)
        return judged(trace, problem)

    rows = judge_slowly(engine, finish, 6)
    assert [row.problem for row in rows] == [f"What is {number}+1?" for number in range(6)]
    assert [row.verdict for row in rows] == ["wrong", "correct", *["wrong"] * 4]


@pytest.mark.parametrize("stop", [Interrupted(2), EngineError("the engine died")])
def test_what_was_sampled_before_a_stop_is_judged_and_kept(
    teacher_chat: Chat,
    judge_slowly: Callable[..., list[Trace]],
    out: Path,
    stop: BaseException,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def finish(trace: Trace, problem: Problem) -> Trace:
        time.sleep(0.05)
        return judged(trace, problem)

    with pytest.raises(type(stop)):
        judge_slowly(Stopping(teacher_chat, stop, after=4), finish, 6)
    (draft,) = out.glob("v1.partial")
    rows = list(scan(draft, Trace))
    assert [row.verdict for row in rows] == ["wrong", "correct", "wrong", "wrong"]
    said = "eval: stopping when the last " in capsys.readouterr().err
    assert said == isinstance(stop, Interrupted)

    engine = ScriptedEngine(teacher_chat)
    assert len(judge_slowly(engine, judged, 6)) == 6
    assert len(engine.requests) == 2
