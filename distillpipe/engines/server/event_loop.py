"""An event loop for plain code: run a turn at a time, in the thread of the caller, shielded from signals.

An exception that a signal raises inside of a loop would end in whatever task was just running. So a
signal waits for the end of the turn, which is near: no turn is longer than `TICK_SECONDS`.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from distillpipe.base.interrupts import shielded

TICK_SECONDS = 0.2
T = TypeVar("T")


class Turns:
    """Tasks, and the turns in which they get on."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._done: list[asyncio.Task[Any]] = []
        self._is_closing = False

    @property
    def num_tasks(self) -> int:
        """Tasks that have not ended."""
        return len(self._tasks)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Begin a task; it gets on in turns."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def turn(self, seconds: float = TICK_SECONDS) -> list[Any]:
        """Run until a task ends, or for the given time: the results of those that have ended.

        Raises what a task raised.
        """
        if not self._done:
            timer = self._loop.call_later(min(seconds, TICK_SECONDS), self._loop.stop)
            with shielded():
                self._loop.run_forever()
            timer.cancel()
        done, self._done = self._done, []
        return [task.result() for task in done]

    def result(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What comes of one coroutine, where there is no other task."""
        self.start(coroutine)
        while not (results := self.turn()):
            pass
        found: T = results[0]
        return found

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Cancel all tasks, run a `last` coroutine and close the loop."""
        self._is_closing = True
        with shielded():
            for task in self._tasks:
                task.cancel()
            self._loop.run_until_complete(self._cancelled())
            self._loop.run_until_complete(last)
            self._loop.close()

    async def _cancelled(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not self._is_closing:
            self._done.append(task)
            self._loop.stop()
