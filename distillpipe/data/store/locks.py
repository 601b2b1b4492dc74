"""A lock file: one writer at a time in a folder. The lock ends with its process, even after a kill."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.filesystem import is_not_offered, say_once

FORK_SECONDS = 5.0  # after a process is killed, its forks may hold the lock for a moment
_held: set[IO[str]] = set()


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the lock of the folder `out`, which is created if it is missing.

    Raises UsageError if `out` cannot be a folder, DataError if another process holds the lock.
    """
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise UsageError(f"--out {out}: {path} is a file: name a folder, new or with versions")
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("a+", encoding="utf-8") as lock:
        try:
            holder = _other_holder(lock)
        except OSError as error:
            if not is_not_offered(error):
                error.filename = str(out / ".lock")  # flock knows only the descriptor
                raise
            say_once(
                f"warning: the file system of {out} has no file locks ({error.strerror}): make sure "
                "that no other run writes to it at the same time"
            )
            holder = None
        if holder is not None:
            raise DataError(
                f"{out} is being written by another run (process {holder}): "
                "wait until that run ends, or choose another --out"
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
    """Take the lock. Returns None on success, else the id of the process that holds it."""
    # The holder may be dead while one of its forks still has the file open: wait for that fork.
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
    except OSError:  # the process of another user
        return True
    return True


def _release_in_fork() -> None:
    """Close the lock files in a forked process: the locks belong to the parent."""
    for lock in _held:
        lock.close()
    _held.clear()


os.register_at_fork(after_in_child=_release_in_fork)
