"""What not every file system offers: fsync of a folder, file locks, links.

FAT, many SMB and FUSE mounts and Lustre without `-o flock` lack one or more of them. None of them is
needed for a right result, so a run warns once of what is missing and goes on.
"""

import errno
import functools
import os
from pathlib import Path

from distillpipe.base.progress import say

_NOT_OFFERED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
_sync_content = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter

say_once = functools.cache(say)


def is_not_offered(error: OSError) -> bool:
    """Whether an error says that the file system lacks a service, rather than that the call failed."""
    return error.errno in _NOT_OFFERED


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable, where the file system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that may be written but not read: its names cannot be synced
        say_once(
            f"warning: {path} may not be read, so a power cut could lose the newest files in it"
        )
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        _tolerate(error, path)
    finally:
        os.close(descriptor)


def sync_file(descriptor: int, path: Path, *, content_only: bool = False) -> None:
    """Make an open file durable, where the file system can; `content_only` leaves its times out."""
    try:
        (_sync_content if content_only else os.fsync)(descriptor)
    except OSError as error:
        _tolerate(error, path)


def _tolerate(error: OSError, path: Path) -> None:
    if not is_not_offered(error):
        error.filename = str(path)  # a descriptor does not know it
        raise error
    say_once(
        "warning: this file system cannot be told to write to the disk at once (fsync: "
        f"{error.strerror}): a power cut could lose the newest rows, which the same command makes again"
    )
