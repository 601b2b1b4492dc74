"""Content hashes: ids of problems, rows, datasets and models are hashes of what they stand for."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder(order="deterministic")


def content_hash(*parts: Any) -> str:
    """32 hex digits that depend on the values of `parts` alone, not on the order of dict keys."""
    return hashlib.blake2b(_encoder.encode(parts), digest_size=16).hexdigest()


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
