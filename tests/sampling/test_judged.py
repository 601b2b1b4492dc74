"""Rows are judged while others are sampled, and what was sampled before a stop is judged and kept."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.errors import EngineError, Interrupted
from distillpipe.base.records import (
    Problem,
    Trace,
)
from distillpipe.data.store import versions
from distillpipe.data.store.dataset import scan
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.models.chat import Chat
from distillpipe.sampling.sampler import Finish, Sampler
from distillpipe.verify.judge import Judge

Sample = Callable[..., Any]


@pytest.fixture
def judge_slowly(
    make_sampler: Callable[..., Sampler], problems: Callable[[int], list[Problem]], out: Path
) -> Callable[..., list[Trace]]:
    """`judge_slowly(engine, finish, count)`: rows on disk after a run with that engine and that judge."""

    def run(engine: Any, finish: Finish, count: int) -> list[Trace]:
        header = Header(
            kind="predictions", stage="eval", content={}, inputs=[], models=[], options={}
        )
        with versions.draft(out, header) as draft, Writer(draft) as writer, Judge(2) as judge:
            sampler = make_sampler(draft.path, judge)
            sampler.add(iter(problems(count)))
            try:
                sampler.sample(writer, lambda: engine, finish)
            finally:
                writer.sync()
        return list(scan(draft.path, Trace))

    return run


def test_completions_are_sampled_while_an_older_one_is_still_judged(
    teacher_chat: Chat,
    judge_slowly: Callable[..., list[Trace]],
    judged: Finish,
    scripted_engine: Callable[..., Any],
) -> None:
    engine = scripted_engine(teacher_chat)

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
    judged: Finish,
    scripted_engine: Callable[..., Any],
) -> None:
    def finish(trace: Trace, problem: Problem) -> Trace:
        time.sleep(0.05)
        return judged(trace, problem)

    with pytest.raises(type(stop)):
        judge_slowly(scripted_engine(teacher_chat, dies_after=4, dies_of=stop), finish, 6)
    (draft,) = out.glob("v1.partial")
    rows = list(scan(draft, Trace))
    assert [row.verdict for row in rows] == ["wrong", "correct", "wrong", "wrong"]
    said = "eval: stopping when the last " in capsys.readouterr().err
    assert said == isinstance(stop, Interrupted)

    engine = scripted_engine(teacher_chat)
    assert len(judge_slowly(engine, judged, 6)) == 6
    assert len(engine.requests) == 2
