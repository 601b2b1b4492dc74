"""Ctrl-C, SIGTERM and SIGHUP (a terminal that is closed) raise `Interrupted`, but never in the middle of a write or a training step.

with shielded():
    write_the_row()      # a signal that comes in here is raised when the block ends
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from distillpipe.base.errors import Interrupted

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
_depth = 0
_pending: int | None = None


def install() -> None:
    """Turn the signals that end this process into `Interrupted`; main thread only.

    A SIGHUP that is ignored stays so: the command was started with nohup.
    """
    for number in STOPPING:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


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


def leave_with_parent(parent: int) -> None:
    """Be killed when the parent ends, however it ends; elsewhere than on Linux the pipe's end does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def leave_to_parent() -> None:
    """Let the signals that the parent heeds pass by this process; what it starts by exec is not affected."""
    for number in STOPPING:
        signal.signal(number, lambda *_: None)


def _handle(signal_number: int, _frame: FrameType | None) -> None:
    global _pending
    if _depth:
        _pending = signal_number
    else:
        raise Interrupted(signal_number)
