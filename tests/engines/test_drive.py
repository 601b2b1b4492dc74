"""The loop over an engine: what becomes of a completion, a failure and a refusal."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base import interrupts
from distillpipe.base.errors import Interrupted
from distillpipe.base.options import Sampling
from distillpipe.base.records import RejectedTrace, Trace
from distillpipe.data.store import versions
from distillpipe.data.store.dataset import scan
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.engines.base import Completion, Failure, Outcome, Refusal, Request
from distillpipe.engines.drive import drive, metered

SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_tokens=8)


class ScriptedEngine:
    """Yields the outcomes that it is made of, one for each request."""

    context_length = 1024
    description = "a script"

    def __init__(self, *outcomes: Outcome) -> None:
        self._outcomes = outcomes
        self.is_closed = False

    def complete(self, requests: Iterator[Request | None]) -> Any:
        try:
            for _, outcome in zip(requests, self._outcomes, strict=True):
                yield outcome
        finally:
            self.is_closed = True


@pytest.fixture
def writer(tmp_path: Path, make_header: Callable[..., Header]) -> Iterator[Writer]:
    with versions.draft(tmp_path / "out", make_header()) as draft, Writer(draft) as writer:
        yield writer


@pytest.fixture
def rows(make_traces: Callable[..., list[Trace]]) -> dict[str, Trace]:
    """Three rows by their keys, which are those of the requests."""
    return {row.row_key: row for row in make_traces(3)}


def requests_of(rows: dict[str, Trace]) -> Iterator[Request]:
    return (Request(key, [1], SAMPLING, 0) for key in rows)


def test_each_outcome_goes_where_it_belongs(writer: Writer, rows: dict[str, Trace]) -> None:
    kept, failed, refused = rows
    engine = ScriptedEngine(
        Completion(kept, [5, 6], "stop"),
        Failure(failed, "server said 503"),
        Refusal(refused, "prompt_too_long", "2000"),
    )
    with metered(writer, "test", 3, 0) as meter:

        def keep(outcome: Any) -> None:
            writer.append(rows[outcome.key])
            meter.add_sampled(len(outcome.token_ids))

        drive(
            engine, requests_of(rows), writer, keep=keep, row_of=lambda outcome: rows[outcome.key]
        )
    writer.sync()

    path = writer.draft.path
    assert list(scan(path, Trace)) == [rows[kept]]
    assert [(row.row_key, row.error) for row in writer.failed()] == [(failed, "server said 503")]
    (rejected,) = scan(path, RejectedTrace, "rejected")
    assert (rejected.row_key, rejected.reason, rejected.measured) == (
        refused, "prompt_too_long", "2000",
    )  # fmt: skip
    assert (writer.counts.tokens_sampled, writer.counts.tokens_scored) == (2, 0)
    assert writer.counts.seconds_working > 0


def test_a_stage_may_take_refusals_itself(writer: Writer, rows: dict[str, Trace]) -> None:
    key = next(iter(rows))
    refusal = Refusal(key, "prompt_too_long", "2000")
    taken: list[Refusal] = []
    drive(
        ScriptedEngine(refusal),
        requests_of({key: rows[key]}),
        writer,
        keep=lambda _: pytest.fail("nothing was completed"),
        row_of=lambda outcome: rows[outcome.key],
        refuse=taken.append,
    )
    assert taken == [refusal]
    assert writer.counts.rows_rejected == 0


def test_untimed_tokens_are_counted_without_time(writer: Writer) -> None:
    with metered(writer, "test", 2, 0) as meter:
        meter.add_sampled(3, is_timed=False)
        meter.add_scored(4, is_timed=False)
    counts = writer.counts
    assert (counts.tokens_sampled, counts.tokens_scored, counts.seconds_working) == (3, 4, 0.0)


def test_an_interrupt_waits_for_the_row_and_closes_the_engine(
    writer: Writer, rows: dict[str, Trace]
) -> None:
    before = {number: signal.getsignal(number) for number in interrupts.STOPPING}
    interrupts.install()
    engine = ScriptedEngine(*(Completion(key, [5], "stop") for key in rows))

    def keep(outcome: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        writer.append(rows[outcome.key])

    try:
        # the traceback keeps the generator alive: only `drive` itself can close it
        with pytest.raises(Interrupted) as interrupt:
            drive(
                engine,
                requests_of(rows),
                writer,
                keep=keep,
                row_of=lambda outcome: rows[outcome.key],
            )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (len(writer.done), engine.is_closed) == (1, True)
    assert interrupt.value is not None
