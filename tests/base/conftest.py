"""Fixtures for the tests of output."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def shown_on_terminal() -> Callable[..., bytes]:
    """`shown_on_terminal(program, NAME="value")`: what a terminal gets from the stderr of a Python program."""

    def run(program: str, **environment: str) -> bytes:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", **environment},
        )
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 4096):
                shown += chunk
        except OSError:  # the terminal is gone with the process
            pass
        assert process.wait() == 0
        return shown

    return run
