"""Ctrl-C and SIGTERM raise `Interrupted`, but never in the middle of a write or a training step.

with shielded():
    write_the_row()      # a signal that comes in here is raised when the block ends
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from distillpipe.errors import Interrupted

_depth = 0
_pending: int | None = None


def install() -> None:
    """Turn SIGINT and SIGTERM of this process into `Interrupted`; main thread only."""
    signal.signal(signal.SIGINT, _handle)
    signal.signal(signal.SIGTERM, _handle)


@contextmanager
def shielded() -> Iterator[None]:
    """Hold back a signal until the block has ended, then raise it."""
    global _depth, _pending
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0 and _pending is not None:
            signal_number, _pending = _pending, None
            raise Interrupted(signal_number)


def _handle(signal_number: int, _frame: FrameType | None) -> None:
    global _pending
    if _depth:
        _pending = signal_number
    else:
        raise Interrupted(signal_number)
