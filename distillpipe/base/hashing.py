"""Content hashes: the ids of problems, rows, datasets and models are hashes of their content."""

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
    """A hash of the values of `parts`, 32 hex digits; the order of dictionary keys does not matter."""
    try:
        content = _encoder.encode(parts)
    except UnicodeEncodeError:  # a path may hold bytes that are not UTF-8
        content = _encoder.encode(escaped(msgspec.to_builtins(parts)))
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def bytes_hash(content: bytes) -> str:
    """A hash of bytes, 32 hex digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def uniform(*parts: Any) -> float:
    """A pseudo-random number in [0, 1) that depends on `parts` alone."""
    return int(content_hash(*parts)[:13], 16) / 16**13


def seed_of(*parts: Any) -> int:
    """A seed in [0, 2**31) that depends on `parts` alone."""
    return int(content_hash(*parts)[:8], 16) >> 1


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_sha256(path: Path) -> str:
    """`file_sha256` with a cache between runs, keyed by path, size, inode, mtime and ctime.

    The cache is a folder of small files under $XDG_CACHE_HOME. It only saves time: a damaged entry is ignored, and
    without a writable folder nothing is cached.
    """
    state = _state(path)
    entry = _cache_entry(path, state)
    digest = None if entry is None else _read_entry(entry)
    if digest is not None:
        return digest
    # A file that changed in the last two seconds could change again within one tick of its clock.
    is_settled = time.time_ns() - state.modified > SETTLED_SECONDS * 10**9
    digest = file_sha256(path)
    if entry is not None and is_settled and _state(path) == state:
        _write_entry(entry, digest)
    return digest


class _State(NamedTuple):
    """What changes when a file is edited."""

    size: int
    modified: int
    "mtime in nanoseconds"
    changed: int
    "ctime in nanoseconds: an edit that restores mtime changes it"
    device: int
    inode: int


def _state(path: Path) -> _State:
    status = path.stat()
    return _State(
        status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino
    )


def _cache_entry(path: Path, state: _State) -> Path | None:
    """The cache file for a file in this state; None for a user without a home folder."""
    try:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    real_path = os.fsencode(path.resolve()).hex()  # a name may hold bytes that are not UTF-8
    return Path(root) / "distillpipe" / "sha256" / content_hash(real_path, *state)


def _read_entry(entry: Path) -> str | None:
    """The hash in a cache file; None if there is none. Files of other users and special files are not trusted."""
    try:
        # O_NONBLOCK, because a named pipe must not block us
        descriptor = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with suppress(OSError), os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid():
            content = file.read(_DIGEST_LENGTH + 1)
            return content.decode() if _DIGEST.fullmatch(content) else None
    return None


def _write_entry(entry: Path, digest: str) -> None:
    """Write a cache file atomically; errors of the disk are ignored."""
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
