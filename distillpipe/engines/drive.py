"""The loop over an engine that generate, eval, label and filter share: outcomes in, durable rows out."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from distillpipe.base.interrupts import shielded
from distillpipe.base.progress import Advance, progress
from distillpipe.base.records import Trace
from distillpipe.data.store.counts import Counts
from distillpipe.data.store.writer import Writer
from distillpipe.engines.base import Answer, Completion, Engine, Failure, Refusal, Request


class Meter:
    """Counts the tokens and the working time of a run, and advances its progress bar."""

    def __init__(self, counts: Counts, advance: Advance) -> None:
        self._counts = counts
        self._advance = advance
        self._started = time.monotonic()
        self._seconds_before = counts.seconds_working

    def add_sampled(self, num_tokens: int, note: str = "", *, is_timed: bool = True) -> None:
        """Count a row whose tokens were sampled; `note` is shown behind the progress bar."""
        self._counts.tokens_sampled += num_tokens
        self._add(num_tokens, note, is_timed=is_timed)

    def add_scored(self, num_tokens: int, *, is_timed: bool = True) -> None:
        """Count a row whose existing tokens were labelled."""
        self._counts.tokens_scored += num_tokens
        self._add(num_tokens, "", is_timed=is_timed)

    def _add(self, num_tokens: int, note: str, *, is_timed: bool) -> None:
        if is_timed:
            elapsed = time.monotonic() - self._started
            self._counts.seconds_working = self._seconds_before + elapsed
        self._advance(1, num_tokens, note)


@contextmanager
def metered(writer: Writer, label: str, num_rows: int, num_done: int) -> Iterator[Meter]:
    """A progress bar over `num_rows` rows and the meter that advances it."""
    with progress(label, num_rows, num_done) as advance:
        yield Meter(writer.counts, advance)


def drive(
    engine: Engine,
    requests: Iterator[Request],
    writer: Writer,
    *,
    keep: Callable[[Completion | Answer], None],
    row_of: Callable[[Failure | Refusal], Trace],
    refuse: Callable[[Refusal], None] | None = None,
) -> None:
    """Send requests and process each outcome as it comes, so that every row is durable when it ends.

    - A completion goes to `keep`, which writes its row.
    - A failure is a line of errors.jsonl: the next run tries the row again.
    - A refusal is rejected with its reason; `refuse` replaces this where a stage has another use for it.

    `row_of` gives the row of a request without a completion. An interrupt waits until an outcome is processed.
    """
    with closing(engine.complete(requests)) as outcomes:
        for outcome in outcomes:
            with shielded():
                if isinstance(outcome, Failure):
                    writer.fail(row_of(outcome), outcome.error)
                elif not isinstance(outcome, Refusal):
                    keep(outcome)
                elif refuse is not None:
                    refuse(outcome)
                else:
                    writer.reject(row_of(outcome), outcome.reason, outcome.measured)
