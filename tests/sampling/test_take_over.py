"""A row that exists is not sampled again: other versions and interrupted runs are taken over."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.errors import EngineError
from distillpipe.base.options import (
    Sampling,
)
from distillpipe.base.records import (
    Problem,
    trace_id,
)
from distillpipe.data.store.dataset import find, read_problems, read_traces
from distillpipe.models.chat import Chat
from distillpipe.models.lookup import Model
from distillpipe.sampling.sampler import Finish

Sample = Callable[..., Any]


def lines(version: Path) -> set[bytes]:
    return set((version / "part-00000.jsonl").read_bytes().splitlines())


# ---------------------------------------------------------------- taking over


def test_a_pilot_with_a_limit_is_taken_over_by_the_run_over_all(
    sample: Sample,
    out: Path,
    problems: Callable[[int], list[Problem]],
    keys: Callable[[Path], list[tuple[str, int]]],
) -> None:
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
    sample: Sample,
    out: Path,
    problems: Callable[[int], list[Problem]],
    keys: Callable[[Path], list[tuple[str, int]]],
) -> None:
    two = sample(problems(3), num_samples=2)
    four = sample(problems(3), num_samples=4)

    assert (two.num_requests, four.num_requests) == (6, 6)
    assert {request.key for request in two.requests}.isdisjoint(
        request.key for request in four.requests
    )
    assert keys(out) == [(one.problem, number) for one in problems(3) for number in range(4)]
    assert lines(out / "v1") <= lines(out / "v2")


def test_fewer_samples_take_what_they_want_and_ask_for_nothing(
    sample: Sample,
    out: Path,
    problems: Callable[[int], list[Problem]],
    keys: Callable[[Path], list[tuple[str, int]]],
) -> None:
    sample(problems(3), num_samples=4)
    fewer = sample(problems(2), num_samples=1)

    assert fewer.num_requests == 0
    assert keys(out) == [(one.problem, 0) for one in problems(2)]


def test_one_more_problem_is_one_more_request(
    sample: Sample, out: Path, problems: Callable[[int], list[Problem]]
) -> None:
    sample(problems(3))
    more = sample(problems(4))

    assert [request.key for request in more.requests] == [
        trace.row_key for trace in read_traces(str(out)) if trace.problem == "What is 3+1?"
    ]


def test_another_reference_answer_reuses_the_row_under_the_new_problem(
    sample: Sample, out: Path, problem: Callable[..., Problem], judged: Finish
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
    sample: Sample, out: Path, problems: Callable[[int], list[Problem]], judged: Finish
) -> None:
    sample(problems(1), finish=judged)
    sample(problems(2))

    assert [(row.verdict, row.answer) for row in read_traces(f"{out}@v1")] == [("wrong", "2")]
    assert [(row.verdict, row.answer) for row in read_traces(f"{out}@v2")] == [(None, None)] * 2


def test_a_problem_that_makes_the_same_prompt_stands_in_the_row_as_it_is_today(
    sample: Sample, out: Path, problem: Callable[..., Problem]
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
        {"sampling": Sampling(temperature=0.7, top_p=0.95, max_tokens=64)},
        {"sampling": Sampling(temperature=0.6, top_p=1.0, max_tokens=64)},
        {"sampling": Sampling(temperature=0.6, top_p=0.95, max_tokens=65)},
        {"fresh": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_makes_other_rows_takes_nothing_over(
    sample: Sample, out: Path, changes: dict[str, Any], problems: Callable[[int], list[Problem]]
) -> None:
    sample(problems(2))
    other = sample(problems(2), **changes)

    assert other.num_requests == 2
    assert other.manifest.counts.rows_reused == 0
    assert other.manifest.version == "v2"


def test_the_same_model_under_another_name_takes_over(
    sample: Sample, problems: Callable[[int], list[Problem]]
) -> None:
    sample(problems(2))
    renamed = sample(problems(3), model=Model("elsewhere", Path("unused"), "local:0123"))

    assert renamed.num_requests == 1


# ---------------------------------------------------------------- interrupted runs


def test_an_engine_that_dies_loses_no_row_and_the_same_run_asks_only_for_the_rest(
    sample: Sample,
    out: Path,
    teacher_chat: Chat,
    problems: Callable[[int], list[Problem]],
    scripted_engine: Callable[..., Any],
) -> None:
    dying = scripted_engine(teacher_chat, dies_after=3)
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


def test_rows_of_an_unfinished_run_are_taken_over_by_another_one(
    sample: Sample,
    out: Path,
    problems: Callable[[int], list[Problem]],
    keys: Callable[[Path], list[tuple[str, int]]],
) -> None:
    with pytest.raises(EngineError):
        sample(problems(5), dies_after=3)
    pilot = sample(problems(5), limit=2)

    assert pilot.num_requests == 0
    assert pilot.manifest.version == "v2"
    assert pilot.manifest.counts.rows_reused == 2
    everything = sample(problems(5))
    assert (everything.num_requests, everything.manifest.version) == (2, "v1")
    assert keys(out) == [(one.problem, 0) for one in problems(5)]


def test_a_row_that_was_torn_is_sampled_again_and_only_that_one(
    sample: Sample,
    out: Path,
    problems: Callable[[int], list[Problem]],
    keys: Callable[[Path], list[tuple[str, int]]],
) -> None:
    with pytest.raises(EngineError):
        sample(problems(4), dies_after=3)
    path = out / "v1.partial/part-00000.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + lines[2][:-7])

    resumed = sample(problems(4))
    assert resumed.num_requests == 2
    assert keys(out) == [(one.problem, 0) for one in problems(4)]
    assert (out / "v1/part-00000.jsonl").read_bytes().startswith(lines[0] + lines[1])


def test_where_nothing_is_missing_the_engine_is_not_even_loaded(
    sample: Sample, problems: Callable[[int], list[Problem]]
) -> None:
    def load() -> Any:
        pytest.fail("the engine was loaded")

    sample(problems(2))
    pilot = sample(problems(1), open_engine=load)
    assert pilot.manifest.counts.rows_reused == 1
