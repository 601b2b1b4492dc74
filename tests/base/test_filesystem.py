"""File systems that lack links, locks or fsync of folders: a warning, and all results as elsewhere."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distillpipe.base import filesystem
from distillpipe.base.errors import UsageError
from distillpipe.base.records import Trace
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.manifest import Manifest
from distillpipe.data.store.versions import Header
from distillpipe.models import lookup

MakeHeader = Callable[..., Header]
WriteDataset = Callable[..., Manifest]
MakeTraces = Callable[..., list[Trace]]
NOT_OFFERED = [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK]


@pytest.fixture(autouse=True)
def warn_anew() -> Iterator[None]:
    filesystem.say_once.cache_clear()
    yield
    filesystem.say_once.cache_clear()


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "symlink", refuse)


def test_without_links_latest_is_a_file_with_the_name(
    tmp_path: Path,
    no_links: None,
    write_dataset: WriteDataset,
    make_traces: MakeTraces,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "traces"
    for number in (1, 2, 3):
        write_dataset(out, make_traces(number))

    assert (out / "latest").read_text() == "v3\n"
    assert not (out / "latest").is_symlink()
    assert capsys.readouterr().err.count("has no links") == 1


@pytest.mark.parametrize("name", ["traces", "traces/latest", "traces/v2", "traces@v2"])
def test_a_file_latest_is_read_as_a_link_is(
    name: str, tmp_path: Path, no_links: None, write_dataset: WriteDataset, make_traces: MakeTraces
) -> None:
    out = tmp_path / "traces"
    for number in (1, 2):
        write_dataset(out, make_traces(number))
    reference = str(tmp_path / name)

    assert versions.resolve(reference) == out / "v2"
    assert not dataset.find(reference).is_file
    assert len(list(dataset.read_traces(reference))) == 2
    assert dataset.count_rows([dataset.find(reference)]) == 2
    assert dataset.describe(dataset.find(reference), tmp_path / "o").version == "v2"


def test_a_path_goes_on_behind_a_file_latest(tmp_path: Path) -> None:
    merged = tmp_path / "student/v4/merged"
    merged.mkdir(parents=True)
    (tmp_path / "student/latest").write_text("v4\n")

    assert versions.follow_latest(tmp_path / "student/latest/merged") == merged
    with pytest.raises(UsageError, match="not a model folder"):
        lookup.find(str(tmp_path / "student/latest/merged"), "--student")


@pytest.mark.parametrize("content", ["", "v9\n", "../v1\n", "not a version", "\x00" * 9000])
def test_a_file_latest_that_names_no_version_is_passed_over(
    content: str, tmp_path: Path, write_dataset: WriteDataset, make_traces: MakeTraces
) -> None:
    out = tmp_path / "traces"
    write_dataset(out, make_traces(1))
    (out / "latest").unlink()
    (out / "latest").write_text(content)

    assert versions.resolve(str(out)) == out / "v1"


def test_a_copied_folder_in_place_of_latest_is_passed_over(
    tmp_path: Path, write_dataset: WriteDataset, make_traces: MakeTraces, make_header: MakeHeader
) -> None:
    out = tmp_path / "traces"
    write_dataset(out, make_traces(1))
    (out / "latest").unlink()
    (out / "latest").mkdir()  # what `cp -rL` makes of a link
    (out / "latest/part-00000.jsonl").write_text("old\n")

    assert versions.resolve(str(out)) == out / "v1"
    write_dataset(out, make_traces(2), fresh=True)
    assert versions.resolve(str(out)) == out / "v2"


def test_a_pipe_in_place_of_latest_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "latest")

    assert versions.latest_name(tmp_path) is None
    assert versions.follow_latest(tmp_path / "latest") == tmp_path / "latest"


def test_a_latest_that_stays_on_an_older_version_is_an_error(
    tmp_path: Path,
    write_dataset: WriteDataset,
    make_traces: MakeTraces,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "traces"
    write_dataset(out, make_traces(1))
    write_dataset(out, make_traces(2))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(OSError, match="Read-only"):
        versions.point_latest(out / "v1")
    versions.point_latest(out / "v2")  # it is there already


@pytest.mark.parametrize("number", NOT_OFFERED)
def test_locks_and_fsync_that_are_missing_are_warned_of(
    number: int,
    tmp_path: Path,
    write_dataset: WriteDataset,
    make_traces: MakeTraces,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def not_offered(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", not_offered)
    monkeypatch.setattr(os, "fsync", not_offered)
    monkeypatch.setattr(os, "fdatasync", not_offered)
    monkeypatch.setattr(filesystem, "_sync_content", not_offered)
    for rows in (1, 2):
        write_dataset(tmp_path / "traces", make_traces(rows))

    assert len(list(dataset.read_traces(str(tmp_path / "traces")))) == 2
    said = capsys.readouterr().err
    assert (said.count("no file locks"), said.count("does not support fsync")) == (1, 1)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_sync_that_failed_is_an_error_that_names_the_file(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        filesystem.sync_folder(tmp_path)
    assert raised.value.filename == str(tmp_path)


@pytest.mark.usefixtures("bound_by_permissions")
def test_a_folder_that_may_not_be_read_is_no_error(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=stat.S_IWUSR | stat.S_IXUSR)
    with pytest.raises(PermissionError):
        list(folder.iterdir())
    filesystem.sync_folder(folder)
    folder.chmod(0o700)


def test_a_name_that_is_no_utf8_is_none_of_our_files(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    with versions.draft(tmp_path / "traces", make_header()) as draft:
        (draft.path / "part-00000.jsonl").write_text("")
        (draft.path / os.fsdecode(b"stray-\xe9")).write_text("")
        assert [path.name for path in versions.content_files(draft.path)] == ["part-00000.jsonl"]


def test_paths_that_are_no_utf8_hold_versions(
    tmp_path: Path, write_dataset: WriteDataset, make_traces: MakeTraces
) -> None:
    out = tmp_path / os.fsdecode(b"r\xe9s") / "traces"
    write_dataset(out, make_traces(2))
    given = tmp_path / os.fsdecode(b"\xff.jsonl")
    given.write_text("{}\n")

    assert len(list(dataset.read_traces(str(out)))) == 2
    assert len(dataset.describe(dataset.find(str(given)), tmp_path / "o").id) == 64
