"""Standard streams that may be closed, full or gone: talk is no data, so the work goes on without it.

A command may be started with descriptors closed (`2>&-`), from a service without a terminal, or lose its
terminal on the way. A closed descriptor is dangerous: the next file that is opened takes its number, and what
a library writes to standard error would land in that file.
"""

import os
import sys
from typing import IO

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_closed() -> None:
    """Lead each of the descriptors 0 to 2 that is closed to the null device. Call it before files are opened."""
    for number, (name, mode) in enumerate(_STREAMS):
        if not _is_open(number):
            opened = os.open(os.devnull, os.O_RDWR)
            os.dup2(opened, number)  # also where they are equal: a child process inherits it then
            os.set_inheritable(number, True)
            if opened != number:
                os.close(opened)
        if getattr(sys, name) is None:  # Python found it closed when it started
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - stays open
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def silence(stream: IO[str]) -> None:
    """Lead a stream that can no longer be written to to the null device, with what waits in its buffer."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
