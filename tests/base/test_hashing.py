"""Ids lie on disk for years: the golden hashes are those of `printf '["a"]' | b2sum -l 128`."""

import errno
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.base import hashing
from distillpipe.base.hashing import cached_sha256, content_hash, file_sha256, seed_of, uniform

GOLDEN = [
    (("a",), "f53b3155b302982e196b7645b7b614b1"),  # ["a"]
    (("a", "b"), "d8f141e4ef8a533b1994f88d4ca33b0f"),  # ["a","b"]
    (("ab",), "30e8c5dc429faa73444378f235038dc2"),  # ["ab"]
    ((), "7ebb3c7c2a87b1a2f8a7ed729ecb040d"),  # []
    (({"b": 2, "a": 1},), "dd6c32c07b2f8fb4e3efdf11716446fc"),  # [{"a":1,"b":2}]
    ((1.5, None), "2b73602a0f6b8bc288de99380366bada"),  # [1.5,null]
]


@pytest.mark.parametrize(("parts", "expected"), GOLDEN)
def test_a_hash_is_blake2b_of_the_compact_json_of_the_parts(
    parts: tuple[object, ...], expected: str
) -> None:
    assert content_hash(*parts) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "bc"), ("ab", "c")),
        (("a",), (["a"],)),
        (("a",), ("a", None)),
        (("1",), (1,)),
        ((None,), ("null",)),
        (("a",), ("A",)),
        (("a",), ("a ",)),
        (("a", "b"), ("b", "a")),
        (([1, 2],), ([2, 1],)),
        ((), (None,)),
    ],
)
def test_other_parts_give_another_hash(one: tuple[object, ...], other: tuple[object, ...]) -> None:
    assert content_hash(*one) != content_hash(*other)


def test_the_order_of_dict_keys_does_not_matter_at_any_depth() -> None:
    one = {"a": {"x": 1, "y": [{"p": 0, "q": 0}]}, "b": 2}
    other = {"b": 2, "a": {"y": [{"q": 0, "p": 0}], "x": 1}}
    assert content_hash(one) == content_hash(other)


@given(st.dictionaries(st.text(), st.integers(-9, 9)), st.text(), st.integers(-9, 9))
def test_any_added_or_changed_key_changes_the_hash(
    values: dict[str, int], key: str, value: int
) -> None:
    changed = {**values, key: value}
    assert (content_hash(values) == content_hash(changed)) == (values == changed)


def test_uniform_is_the_first_13_hex_digits_as_a_fraction() -> None:
    assert uniform("a") == 0xF53B3155B3029 / 16**13


def test_uniforms_lie_in_the_unit_interval_and_spread_evenly() -> None:
    drawn = sorted(uniform(0, number) for number in range(2000))
    assert drawn[0] >= 0.0
    assert drawn[-1] < 1.0
    # Kolmogorov-Smirnov: for 2000 even draws the distance is above 0.0437 once in a thousand times
    assert max(abs(one - at / 2000) for at, one in enumerate(drawn)) < 0.0437


def test_a_seed_is_the_first_31_bits_of_the_hash() -> None:
    assert seed_of("a") == 0xF53B3155 >> 1


def test_seeds_fit_into_31_bits_and_differ() -> None:
    seeds = [seed_of(0, "problem", sample) for sample in range(1000)]
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert len(set(seeds)) == 1000


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ],
    ids=["empty", "abc"],
)
def test_the_sha256_of_a_file_is_that_of_its_bytes(tmp_path, content, expected) -> None:
    # FIPS 180-4, the examples of NIST
    path = tmp_path / "file"
    path.write_bytes(content)
    assert file_sha256(path) == expected


# ---------------------------------------------------------------- remembered between runs


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that hashes are remembered in, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "distillpipe" / "sha256"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were really read, in their order."""
    read: list[Path] = []

    def count(path: Path) -> str:
        read.append(path)
        return file_sha256(path)

    monkeypatch.setattr(hashing, "file_sha256", count)
    return read


def old_file(path: Path, content: bytes = b"abc") -> Path:
    """A file that was changed a minute ago."""
    path.write_bytes(content)
    minute_ago = time.time_ns() - 60 * 10**9
    os.utime(path, ns=(minute_ago, minute_ago))
    return path


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_an_unchanged_file_is_read_once(cache: Path, hashed: list[Path], tmp_path: Path) -> None:
    path = old_file(tmp_path / "rows.jsonl")

    assert [cached_sha256(path) for _ in range(3)] == [sha256_of(b"abc")] * 3
    assert hashed == [path]
    (entry,) = cache.iterdir()
    assert entry.read_text() == sha256_of(b"abc")


def test_a_file_is_remembered_by_its_real_path(
    cache: Path, hashed: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old_file(tmp_path / "rows.jsonl")
    (tmp_path / "link.jsonl").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    cached_sha256(path)
    cached_sha256(Path("rows.jsonl"))
    cached_sha256(Path("link.jsonl"))

    assert len(hashed) == 1


def with_other_size(path: Path) -> bytes:
    found = path.stat()
    path.write_bytes(b"abcd")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    return b"abcd"


def with_other_time(path: Path) -> bytes:
    found = path.stat()
    path.write_bytes(b"xyz")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    return b"xyz"


def edited_in_place_with_its_times_restored(path: Path) -> bytes:
    found = path.stat()
    time.sleep(0.02)  # a tick of the clock that the kernel stamps changes with
    with path.open("r+b") as file:
        file.write(b"xyz")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    return b"xyz"


def with_other_inode(path: Path) -> bytes:
    found = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"xyz")
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.replace(path)
    return b"xyz"


@pytest.mark.parametrize(
    "change",
    [
        with_other_size,
        with_other_time,
        with_other_inode,
        edited_in_place_with_its_times_restored,
    ],
)
def test_a_file_that_differs_in_size_time_or_inode_is_read_again(
    cache: Path, hashed: list[Path], tmp_path: Path, change: Callable[[Path], bytes]
) -> None:
    path = old_file(tmp_path / "rows.jsonl")
    cached_sha256(path)
    content = change(path)

    assert cached_sha256(path) == sha256_of(content)
    assert len(hashed) == 2


def test_another_file_with_the_same_content_is_read_too(
    cache: Path, hashed: list[Path], tmp_path: Path
) -> None:
    one, other = old_file(tmp_path / "one"), old_file(tmp_path / "other")

    assert cached_sha256(one) == cached_sha256(other)
    assert hashed == [one, other]


def test_a_file_that_was_changed_just_now_is_not_remembered(
    cache: Path, hashed: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"abc")
    cached_sha256(path)
    found = path.stat()
    path.write_bytes(b"xyz")  # within the same tick of the clock
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))

    assert cached_sha256(path) == sha256_of(b"xyz")
    assert len(hashed) == 2
    assert not cache.exists()


# What a power cut, another program or another user can leave in the place of an entry.
NO_ENTRIES: dict[str, Callable[[Path], None]] = {
    "empty": lambda entry: entry.write_bytes(b""),
    "cut short": lambda entry: entry.write_bytes(b"a" * 63),
    "too long": lambda entry: entry.write_bytes(b"a" * 65),
    "a line feed": lambda entry: entry.write_bytes(b"a" * 64 + b"\n"),
    "zeros": lambda entry: entry.write_bytes(bytes(64)),
    "capitals": lambda entry: entry.write_bytes(b"A" * 64),
    "no hex": lambda entry: entry.write_bytes(b"g" * 64),
    "no text": lambda entry: entry.write_bytes(b"\xff" * 64),
    "other digits": lambda entry: entry.write_text("\u0661" * 32),
    "huge": lambda entry: entry.write_bytes(b"a" * 10**7),
    "a folder": lambda entry: (entry / "inside").mkdir(parents=True),
    "a pipe": os.mkfifo,
    "endless": lambda entry: entry.symlink_to("/dev/zero"),
    "a link in a circle": lambda entry: entry.symlink_to(entry),
    "a link to a digest": lambda entry: entry.symlink_to(forged(entry)),
}


def forged(entry: Path) -> Path:
    path = entry.parents[3] / "forged"
    path.write_text("a" * 64)
    return path


@pytest.mark.parametrize("put", NO_ENTRIES.values(), ids=NO_ENTRIES)
def test_what_is_no_entry_is_never_believed(
    cache: Path, hashed: list[Path], tmp_path: Path, put: Callable[[Path], None]
) -> None:
    path = old_file(tmp_path / "rows.jsonl")
    cached_sha256(path)
    (entry,) = cache.iterdir()
    entry.unlink()
    put(entry)

    assert [cached_sha256(path) for _ in range(2)] == [sha256_of(b"abc")] * 2
    is_mended = not entry.is_dir()  # a folder cannot be replaced: then there is no memory of it
    assert len(hashed) == 1 + (1 if is_mended else 2)
    assert list(cache.iterdir()) == [entry]  # nothing half written is left


def test_an_entry_of_another_user_is_not_believed(
    cache: Path, hashed: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old_file(tmp_path / "rows.jsonl")
    cached_sha256(path)
    us = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: us + 1)

    assert cached_sha256(path) == sha256_of(b"abc")
    assert len(hashed) == 2


def test_an_entry_is_durable_before_it_has_its_name(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda one: synced.append(os.fstat(one).st_size))
    cached_sha256(old_file(tmp_path / "rows.jsonl"))

    assert synced == [64]
    assert len(list(cache.iterdir())) == 1


def test_a_name_that_is_not_utf_8_is_remembered(
    cache: Path, hashed: list[Path], tmp_path: Path
) -> None:
    path = old_file(tmp_path / os.fsdecode(b"rows-\xff.jsonl"))

    assert [cached_sha256(path) for _ in range(2)] == [sha256_of(b"abc")] * 2
    assert len(hashed) == 1


def test_a_full_disk_is_no_error_and_leaves_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    assert cached_sha256(old_file(tmp_path / "rows.jsonl")) == sha256_of(b"abc")
    assert list(cache.iterdir()) == []


def test_where_nothing_can_be_remembered_the_file_is_read_each_time(
    hashed: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder: not even for root
    path = old_file(tmp_path / "rows.jsonl")

    assert [cached_sha256(path) for _ in range(2)] == [sha256_of(b"abc")] * 2
    assert len(hashed) == 2


def test_without_a_cache_folder_of_its_own_the_home_folder_is_used(
    hashed: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = old_file(tmp_path / "rows.jsonl")
    cached_sha256(path)

    assert len(list((tmp_path / "home/.cache/distillpipe/sha256").iterdir())) == 1
