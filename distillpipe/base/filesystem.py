"""Services that some file systems lack: fsync of a folder, file locks, links.

FAT, many SMB and FUSE mounts, and Lustre without `-o flock` lack one or more of them. A correct result does not
need them, so a run warns once and goes on.
"""

import errno
import functools
import os
from pathlib import Path

from distillpipe.base.progress import say

_NOT_OFFERED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
_sync_content = getattr(os, "fdatasync", os.fsync)  # macOS has only fsync

say_once = functools.cache(say)


def is_not_offered(error: OSError) -> bool:
    """Whether an error means that the file system lacks a service, not that the call failed."""
    return error.errno in _NOT_OFFERED


def sync_folder(path: Path) -> None:
    """Write the names in a folder to the disk (fsync), if the file system supports it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that can be written but not read cannot be synced
        say_once(f"warning: {path} cannot be read, so a power cut could lose its newest files")
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        _tolerate(error, path)
    finally:
        os.close(descriptor)


def sync_file(descriptor: int, path: Path, *, content_only: bool = False) -> None:
    """Write an open file to the disk (fsync), if the file system supports it.

    `content_only` skips the file's times (fdatasync).
    """
    try:
        (_sync_content if content_only else os.fsync)(descriptor)
    except OSError as error:
        _tolerate(error, path)


def _tolerate(error: OSError, path: Path) -> None:
    if not is_not_offered(error):
        error.filename = str(path)  # a descriptor has no name
        raise error
    say_once(
        f"warning: this file system does not support fsync ({error.strerror}): a power cut could lose the "
        "newest rows, which the same command would make again"
    )
