"""Judging many traces at a time, in their order, with few of them in memory.

with Judge(num_workers=4) as judge:
    for trace in judge.map(judged, traces):
        ...

Beside something else that makes the traces: `put` them as they come, take what is `ready`, then the `rest`.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from distillpipe.base.interrupts import shielded
from distillpipe.base.processes import num_cores
from distillpipe.verify.math import workers

T = TypeVar("T")
R = TypeVar("R")
_MOMENT_SECONDS = 0.01
_AHEAD = 4  # rows a thread that may wait for the oldest one


class Judge:
    """Threads that wait for workers and sandboxes; closing it kills what they wait for."""

    def __init__(self, num_workers: int | None = None) -> None:
        self.num_workers = num_workers or num_cores()
        self._threads = ThreadPoolExecutor(self.num_workers, thread_name_prefix="judge")
        self._waiting: deque[Future[Any]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        workers.close()
        while any(future.running() for future in self._waiting):
            time.sleep(0.02)
            workers.close()  # what a thread started since is not wanted either
        self._threads.shutdown()

    def map(self, judged: Callable[[T], R], rows: Iterable[T]) -> Iterator[R]:
        """`judged` of every row, in order; at most `4 * num_workers` rows are read ahead."""
        waiting = self._waiting
        for row in rows:
            self.put(judged, row)
            if len(waiting) >= _AHEAD * self.num_workers:
                yield self._oldest()
        while waiting:
            yield self._oldest()

    def put(self, judged: Callable[[T], R], row: T) -> None:
        """Begin to judge a row."""
        with shielded():  # what is begun is known to be under way, or leaving would wait for it
            self._waiting.append(self._threads.submit(judged, row))

    def ready(self) -> Iterator[Any]:
        """What was put and is judged, in order; it waits where too many rows are under way.

        A single one it gives a moment: most verdicts take no longer, and the row is safe at once.
        """
        if len(self._waiting) == 1:
            wait(self._waiting, timeout=_MOMENT_SECONDS)
        while self._waiting and (
            self._waiting[0].done() or len(self._waiting) >= _AHEAD * self.num_workers
        ):
            yield self._oldest()

    def rest(self) -> Iterator[Any]:
        """All that was put, waited for, in order. The first error is raised when the others are out."""
        error: Exception | None = None
        while self._waiting:
            try:
                found = self._waiting[0].result()
            except Exception as raised:  # noqa: BLE001 - raised again below
                error = error or raised
                self._waiting.popleft()
                continue
            self._waiting.popleft()
            yield found
        if error is not None:
            raise error

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def _oldest(self) -> Any:
        found = self._waiting[0].result()  # stays in line while we wait: leaving must see it
        self._waiting.popleft()
        return found
