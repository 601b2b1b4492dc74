"""One writer at a time in a folder: a lock that ends with the process that took it, however it ends."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.filesystem import is_not_offered, say_once

FORK_SECONDS = 5.0  # in which the forks of a process that was killed end too
_held: set[IO[str]] = set()


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made where it is missing.

    Raises UsageError where `out` cannot be a folder, DataError where another process holds the lock.
    """
    for place in (out, *out.parents):
        if place.exists() and not place.is_dir():
            raise UsageError(f"--out {out}: {place} is a file: name a folder, new or with versions")
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("a+", encoding="utf-8") as lock:
        try:
            holder = _other_holder(lock)
        except OSError as error:
            if not is_not_offered(error):
                error.filename = str(out / ".lock")  # a descriptor does not know it
                raise
            say_once(
                f"warning: the file system of {out} has no file locks ({error.strerror}): make sure "
                "that no other run writes there at the same time"
            )
            holder = None
        if holder is not None:
            raise DataError(
                f"{out} is being written by another run (process {holder}): "
                "wait until it has ended, or name another --out"
            )
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        _held.add(lock)
        try:
            yield
        finally:
            _held.discard(lock)


def _other_holder(lock: IO[str]) -> str | None:
    """Take the lock; where that fails, the number of the process that has it.

    A fork that has not yet let go of the lock of a process that was killed does so in a moment.
    """
    deadline = time.monotonic() + FORK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            if _is_running(holder) or time.monotonic() > deadline:
                return holder
            time.sleep(0.02)
        else:
            return None


def _is_running(holder: str) -> bool:
    try:
        os.kill(int(holder), 0)
    except (ValueError, ProcessLookupError):
        return False
    except OSError:  # a process of another user
        return True
    return True


def _let_go() -> None:
    """In a fork: the locks are the parent's."""
    for lock in _held:
        lock.close()
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
