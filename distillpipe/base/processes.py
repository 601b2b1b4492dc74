"""Map one function over many items on all cores; the results come in the order of the items.

    with Processes(num_workers, function) as processes:
        for result in processes.map(items):
            ...

The processes are forks: they share whatever the function holds, such as an index or an open file, without a copy.
So they must be started before this process has threads that hold locks. They ignore Ctrl-C and SIGTERM, which this
process handles, and they end when it ends.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from distillpipe.base.errors import EngineError
from distillpipe.base.interrupts import leave_to_parent, leave_with_parent, shielded

T = TypeVar("T")
R = TypeVar("R")
_AHEAD = 4  # items per process that are read ahead

_function: Callable[[Any], Any]  # set in worker processes


def num_cores() -> int:
    """Number of cores that this process may use."""
    return len(available_cores())


def available_cores() -> list[int]:
    """Numbers of the cores that this process may use, in order; all cores on systems without affinity (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class Processes(Generic[T, R]):
    """Processes that run one function. An error in the `with` block kills them."""

    def __init__(self, num_workers: int, function: Callable[[T], R]) -> None:
        self._num_ahead = _AHEAD * num_workers
        self._pool = ProcessPoolExecutor(
            num_workers, multiprocessing.get_context("fork"), _begin, (function, os.getpid())
        )

    def __enter__(self) -> Self:
        before = multiprocessing.active_children()
        with shielded():  # a signal must not be raised within the fork
            self._pool.submit(int)
        self._children = set(multiprocessing.active_children()).difference(before)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        if kind is not None:
            for child in self._children:
                child.kill()
        self._pool.shutdown()

    def map(self, items: Iterable[T]) -> Iterator[R]:
        """Yield the result for every item, in order; a few items per process are read ahead.

        Raises what the function raises, and EngineError if a process was killed.
        """
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(self._pool.submit(_call, item))
                if len(waiting) >= self._num_ahead:
                    yield _result(waiting.popleft())
            while waiting:
                yield _result(waiting.popleft())
        except BrokenProcessPool as error:
            raise EngineError(
                "a worker process was killed, by hand or because memory ran out: the same command resumes; "
                "a smaller --num-workers needs less memory"
            ) from error


def _result(future: Future[R]) -> R:
    # Python notices a signal between two steps: one that arrives just before an endless wait would be lost in it
    while not future.done():
        wait([future], timeout=1.0)
    return future.result()


def _begin(function: Callable[[Any], Any], parent: int) -> None:
    global _function
    leave_to_parent()
    leave_with_parent(parent)
    _function = function


def _call(item: Any) -> Any:
    return _function(item)
