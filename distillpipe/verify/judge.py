"""Judging many traces at a time, in their order, with few of them in memory.

with Judge(num_workers=4) as judge:
    for trace in judge.map(traces):
        ...
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

from distillpipe.verify import workers

T = TypeVar("T")
R = TypeVar("R")
_AHEAD = 4  # rows a thread that may wait for the oldest one


class Judge:
    """Threads that wait for workers and sandboxes; closing it kills what they wait for."""

    def __init__(self, num_workers: int | None = None) -> None:
        self.num_workers = num_workers or len(os.sched_getaffinity(0))
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
            waiting.append(self._threads.submit(judged, row))
            if len(waiting) >= _AHEAD * self.num_workers:
                yield self._oldest()
        while waiting:
            yield self._oldest()

    def _oldest(self) -> Any:
        found = self._waiting[0].result()  # stays in line while we wait: leaving must see it
        self._waiting.popleft()
        return found
