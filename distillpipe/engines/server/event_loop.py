"""Runs asyncio tasks from synchronous code, a short slice at a time, with signals delayed to the end of a slice.

An exception that a signal raised inside the loop would end whatever task was running. A slice is never longer
than `SLICE_SECONDS`, so the signal is handled soon.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from distillpipe.base.interrupts import shielded

SLICE_SECONDS = 0.2
T = TypeVar("T")


class TaskLoop:
    """A private event loop and its tasks. It runs in the thread of the caller."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._done: list[asyncio.Task[Any]] = []
        self._is_closing = False

    @property
    def num_tasks(self) -> int:
        """Number of tasks that have not ended."""
        return len(self._tasks)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Start a task; it advances in `run_slice`."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def run_slice(self, seconds: float = SLICE_SECONDS) -> list[Any]:
        """Run until a task ends, at most for the given time. Returns the results of the ended tasks.

        Raises what a task raised.
        """
        if not self._done:
            timer = self._loop.call_later(min(seconds, SLICE_SECONDS), self._loop.stop)
            with shielded():
                self._loop.run_forever()
            timer.cancel()
        done, self._done = self._done, []
        return [task.result() for task in done]

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run one coroutine to its end and return its result; there must be no other task."""
        self.start(coroutine)
        while not (results := self.run_slice()):
            pass
        result: T = results[0]
        return result

    def close(self, cleanup: Coroutine[Any, Any, None]) -> None:
        """Cancel all tasks, run `cleanup` and close the loop."""

        async def cancelled() -> None:
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._is_closing = True
        with shielded():
            for task in self._tasks:
                task.cancel()
            self._loop.run_until_complete(cancelled())
            self._loop.run_until_complete(cleanup)
            self._loop.close()

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not self._is_closing:
            self._done.append(task)
            self._loop.stop()
