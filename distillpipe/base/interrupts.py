"""Ctrl-C, SIGTERM and SIGHUP (a closed terminal) raise `Interrupted`, but never within a write or a training step.

with shielded():
    write_the_row()      # a signal that arrives here is raised when the block ends
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
    """Make the signals that would end this process raise `Interrupted`. Call it in the main thread.

    An ignored SIGHUP stays ignored: the command was started with nohup.
    """
    for number in STOPPING:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


@contextmanager
def shielded() -> Iterator[None]:
    """Delay a signal until the block ends, then raise it."""
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
    """Ask the kernel to kill this process when its parent ends, however it ends.

    Only Linux can do so. Elsewhere a child process ends when it reads the end of the pipe to its parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def leave_to_parent() -> None:
    """Ignore the signals that the parent process handles. Programs started by exec are not affected."""
    for number in STOPPING:
        signal.signal(number, lambda *_: None)


def _handle(signal_number: int, _frame: FrameType | None) -> None:
    global _pending
    if _depth:
        _pending = signal_number
    else:
        raise Interrupted(signal_number)
