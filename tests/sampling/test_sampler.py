"""Sampling rows: what a row holds, what an engine is asked for, prompts that are too long."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.errors import DataError
from distillpipe.base.hashing import seed_of
from distillpipe.base.options import (
    Sampling,
    row_key,
)
from distillpipe.base.records import (
    Message,
    Problem,
    RejectedTrace,
    TokenCounts,
    Trace,
    trace_id,
)
from distillpipe.data.store.dataset import find, read_problems, read_traces, scan
from distillpipe.models.chat import Chat
from distillpipe.sampling.sampler import Sampler

SAMPLING = Sampling(temperature=0.6, top_p=0.95, max_tokens=64)
Sample = Callable[..., Any]


# ---------------------------------------------------------------- one run


def test_a_row_holds_all_that_it_was_sampled_from(
    sample: Sample, out: Path, teacher_chat: Chat, problem: Callable[..., Problem]
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
    sample: Sample, teacher_chat: Chat, problems: Callable[[int], list[Problem]]
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


def test_counts_are_those_of_the_rows_that_were_sampled(
    sample: Sample, problems: Callable[[int], list[Problem]]
) -> None:
    sampled = sample(problems(3))
    counts = sampled.manifest.counts

    assert (counts.rows_read, counts.rows_kept, counts.rows_reused) == (3, 3, 0)
    assert counts.tokens_sampled == counts.tokens_kept == 3 * sampled.tokens


def test_equal_problems_are_planned_once(
    sample: Sample,
    out: Path,
    problems: Callable[[int], list[Problem]],
    keys: Callable[[Path], list[tuple[str, int]]],
) -> None:
    one, two = problems(2)
    given = [one, two, one, msgspec.structs.replace(one, domain="again")]
    sampled = sample(given, num_samples=2)

    assert sampled.num_requests == 4
    assert keys(out) == [(asked.problem, number) for asked in (one, two) for number in (0, 1)]
    assert list(read_problems(find(str(out)))) == [one, two]


def test_the_number_of_duplicates_counts_rows(
    make_sampler: Callable[..., Sampler], problems: Callable[[int], list[Problem]], tmp_path: Path
) -> None:
    (one,) = problems(1)
    sampler = make_sampler(tmp_path, num_samples=3)
    sampler.add(iter([one, one]))

    assert len(sampler.rows) == 3
    assert sampler.num_duplicates == 3


def test_no_problems_ask_nothing_of_the_engine(sample: Sample, out: Path) -> None:
    sampled = sample([])

    assert sampled.num_requests == 0
    assert list(read_traces(str(out))) == []


def test_the_order_in_which_completions_finish_does_not_change_the_id(
    sample: Sample, tmp_path: Path, problems: Callable[[int], list[Problem]]
) -> None:
    forwards = sample(problems(4), out=tmp_path / "a")
    backwards = sample(problems(4), out=tmp_path / "b", backwards=True)

    assert [row.key for row in forwards.requests] == [row.key for row in backwards.requests][::-1]
    assert forwards.manifest.id == backwards.manifest.id
    assert forwards.manifest.files != backwards.manifest.files


# ---------------------------------------------------------------- prompts that are too long


@pytest.mark.parametrize(("room", "is_asked"), [(-1, False), (0, False), (1, True)])
def test_a_prompt_must_be_shorter_than_the_context(
    sample: Sample,
    teacher_chat: Chat,
    out: Path,
    room: int,
    is_asked: bool,
    problem: Callable[..., Problem],
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
    sample: Sample, out: Path, problems: Callable[[int], list[Problem]]
) -> None:
    for _ in range(2):  # the second time nothing is left to be asked for
        with pytest.raises(DataError, match="no row of data/teacher was sampled: prompt_too_long"):
            sample(problems(2), context_length=1)
    assert [path.name for path in out.glob("v*")] == ["v1.partial"]


def test_a_prompt_that_was_too_long_is_too_long_in_the_next_version_too(
    sample: Sample,
    out: Path,
    problem: Callable[..., Problem],
    problems: Callable[[int], list[Problem]],
    keys: Callable[[Path], list[tuple[str, int]]],
) -> None:
    given = [problem("pens " * 200), *problems(1)]
    sample(given, context_length=100)
    again = sample([*given, *problems(2)], context_length=100)

    assert again.num_requests == 1
    assert keys(out) == [("What is 0+1?", 0), ("What is 1+1?", 0)]
    assert [row.reason for row in scan(out / "v2", RejectedTrace, "rejected")] == [
        "prompt_too_long"
    ]
