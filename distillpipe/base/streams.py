"""Standard streams that are closed, full or gone. Messages are not data, so the work goes on without them.

A command may start with closed descriptors (`2>&-`), run as a service without a terminal, or lose its terminal.
A closed descriptor is dangerous: the next file that is opened gets its number, and what a library writes to standard
error would end up in that file.
"""

import os
import sys
from typing import IO

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_closed() -> None:
    """Open the null device for each closed descriptor of 0 to 2. Call it before any file is opened."""
    for number, (name, mode) in enumerate(_STREAMS):
        if not _is_open(number):
            opened = os.open(os.devnull, os.O_RDWR)
            os.dup2(opened, number)  # also if they are equal, so that a child process inherits it
            os.set_inheritable(number, True)
            if opened != number:
                os.close(opened)
        if getattr(sys, name) is None:  # it was closed when Python started
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - stays open
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def silence(stream: IO[str]) -> None:
    """Redirect a stream that can no longer be written to, and what its buffer holds, to the null device."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
