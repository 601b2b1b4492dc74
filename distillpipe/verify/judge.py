"""Judges many traces in parallel threads; keeps their order and few of them in memory.

with Judge(num_workers=4) as judge:
    for trace in judge.map(judged, traces):
        ...

While traces are still being made: `put` each one, take those that are `ready`, and finally the `rest`.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from distillpipe.base import workers
from distillpipe.base.interrupts import shielded
from distillpipe.base.processes import num_cores, result_of

T = TypeVar("T")
R = TypeVar("R")
_MOMENT_SECONDS = 0.01
_AHEAD = 4  # rows per thread that may wait for the oldest one


class Judge:
    """A pool of threads that wait for math workers and sandboxes; leaving the context stops them."""

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
            workers.close()  # a thread may have started another worker meanwhile
        self._threads.shutdown()

    def map(self, judged: Callable[[T], R], rows: Iterable[T]) -> Iterator[R]:
        """The results of `judged` for all rows, in order; at most `4 * num_workers` rows are read ahead."""
        waiting = self._waiting
        for row in rows:
            self.put(judged, row)
            if len(waiting) >= _AHEAD * self.num_workers:
                yield self._oldest()
        while waiting:
            yield self._oldest()

    def put(self, judged: Callable[[T], R], row: T) -> None:
        """Start to judge a row."""
        with (
            shielded()
        ):  # no interrupt between submit and append, or `__exit__` would not know the row
            self._waiting.append(self._threads.submit(judged, row))

    def ready(self) -> Iterator[Any]:
        """The finished results, in order; waits for the oldest one while too many rows are pending.

        A single pending row gets `_MOMENT_SECONDS`: most verdicts take no longer, and then the row is saved at once.
        """
        if len(self._waiting) == 1:
            with shielded():  # see `result_of`
                wait(self._waiting, timeout=_MOMENT_SECONDS)
        while self._waiting and (
            self._is_oldest_done() or len(self._waiting) >= _AHEAD * self.num_workers
        ):
            yield self._oldest()

    def rest(self) -> Iterator[Any]:
        """The results of all pending rows, in order. The first error is raised after all other results."""
        error: Exception | None = None
        while self._waiting:
            try:
                result = self._oldest()
            except Exception as raised:  # noqa: BLE001 - raised again below
                error = error or raised
                self._waiting.popleft()
                continue
            yield result
        if error is not None:
            raise error

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def _is_oldest_done(self) -> bool:
        with shielded():
            return self._waiting[0].done()

    def _oldest(self) -> Any:
        """The result of the oldest row; a row that failed stays in the queue."""
        result = result_of(self._waiting[0])  # in the queue while we wait, for `__exit__`
        self._waiting.popleft()
        return result
