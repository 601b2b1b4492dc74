"""Content hashes: ids of problems, rows, datasets and models are hashes of what they stand for."""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder(order="deterministic")


def content_hash(*parts: Any) -> str:
    """32 hex digits that depend on the values of `parts` alone, not on the order of dict keys."""
    try:
        content = _encoder.encode(parts)
    except UnicodeEncodeError:  # a path need not be UTF-8
        content = _encoder.encode(escaped(msgspec.to_builtins(parts)))
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def escaped(value: Any) -> Any:
    r"""Plain data with what is no UTF-8 in its texts written as `\\udce9`: JSON cannot hold it as it is.

    Paths are such texts: Python keeps a byte of a path that is no UTF-8 as a lone surrogate.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {escaped(key): escaped(one) for key, one in value.items()}
    return [escaped(one) for one in value] if isinstance(value, (list, tuple)) else value


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8: not where it came from bytes that are none."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


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
    """`file_sha256`, remembered by path, size, modification time and inode between runs.

    The memory is a folder of small files under $XDG_CACHE_HOME; where it cannot be written, nothing is
    remembered. A file that changed in the last two seconds is not remembered: it could change again
    within one tick of its clock.
    """
    found = path.stat()
    state = [str(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ino]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    entry = root / "distillpipe" / "sha256" / content_hash(*state)
    with suppress(OSError):
        return entry.read_text(encoding="utf-8")
    digest = file_sha256(path)
    if time.time() - found.st_mtime > 2:
        with suppress(OSError):
            entry.parent.mkdir(parents=True, exist_ok=True)
            writing = entry.with_name(f"{entry.name}.{os.getpid()}")
            writing.write_text(digest, encoding="utf-8")
            writing.replace(entry)
    return digest
