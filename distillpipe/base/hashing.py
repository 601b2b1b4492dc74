"""Content hashes: ids of problems, rows, datasets and models are hashes of what they stand for."""

import hashlib
import os
import re
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from distillpipe.base.encoding import escaped

SETTLED_SECONDS = 2
_DIGEST_LENGTH = 64
_DIGEST = re.compile(rb"[0-9a-f]{64}")
_encoder = msgspec.json.Encoder(order="deterministic")


def content_hash(*parts: Any) -> str:
    """32 hex digits that depend on the values of `parts` alone, not on the order of dict keys."""
    try:
        content = _encoder.encode(parts)
    except UnicodeEncodeError:  # a path need not be UTF-8
        content = _encoder.encode(escaped(msgspec.to_builtins(parts)))
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def bytes_hash(content: bytes) -> str:
    """32 hex digits of a row's line or a file's content."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def uniform(*parts: Any) -> float:
    """A number in [0, 1) drawn by the hash of `parts`: the same parts give the same number."""
    return int(content_hash(*parts)[:13], 16) / 16**13


def seed_of(*parts: Any) -> int:
    """A seed in [0, 2**31) drawn by the hash of `parts`."""
    return int(content_hash(*parts)[:8], 16) >> 1


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_sha256(path: Path) -> str:
    """`file_sha256`, remembered by path, size, inode and times of change between runs.

    The memory is a folder of small files under $XDG_CACHE_HOME. It only saves time: what does not look like
    an entry of ours is none, and where nothing can be read or written, nothing is remembered. The time of
    change (ctime) tells of an edit that restored the time of modification. A file that changed in the last two
    seconds is not remembered: it could change again within one tick of its clock; nor is one that
    changes while it is read.
    """
    found = _state(path)
    entry = _entry(path, found)
    digest = None if entry is None else _remembered(entry)
    if digest is not None:
        return digest
    is_settled = time.time_ns() - found.modified > SETTLED_SECONDS * 10**9
    digest = file_sha256(path)
    if entry is not None and is_settled and _state(path) == found:
        _remember(entry, digest)
    return digest


class _State(NamedTuple):
    """What changes when a file does."""

    size: int
    modified: int
    "in nanoseconds, as below"
    changed: int
    device: int
    inode: int


def _state(path: Path) -> _State:
    found = path.stat()
    return _State(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino)


def _entry(path: Path, state: _State) -> Path | None:
    """Where the hash of a file in this state is remembered; None for a user without a home."""
    try:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    real_path = os.fsencode(path.resolve()).hex()  # a name need not be UTF-8
    return Path(root) / "distillpipe" / "sha256" / content_hash(real_path, *state)


def _remembered(entry: Path) -> str | None:
    """The hash in an entry; None where there is none, or no plain file of this user's with one in it."""
    try:
        descriptor = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # never waits
    except OSError:
        return None
    with suppress(OSError), os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid():
            content = file.read(_DIGEST_LENGTH + 1)
            return content.decode() if _DIGEST.fullmatch(content) else None
    return None


def _remember(entry: Path, digest: str) -> None:
    """Write an entry: whole and durable, or not at all. Where that cannot be, it is done without."""
    with suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=entry.parent, prefix="new-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(digest.encode())
                file.flush()
                os.fsync(descriptor)
            Path(name).replace(entry)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
