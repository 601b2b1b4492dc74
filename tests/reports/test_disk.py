"""What lies under a dataset's folder: sizes, drafts, and which version is latest."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from distillpipe.base.records import Trace
from distillpipe.data.store import versions
from distillpipe.data.store.manifest import Manifest
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.reports import disk

Make = Callable[..., Manifest]


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_every_version_and_draft_has_its_size(
    tmp_path: Path, make: Make, make_header: Callable[..., Header]
) -> None:
    make(tmp_path, 1)
    make(tmp_path, 3, name="B")
    with versions.draft(tmp_path, make_header("C")):
        pass

    found = disk.describe(tmp_path / "v1")
    assert found.disk_bytes == {
        name: size_of(tmp_path / name) for name in ("v1", "v2", "v3.partial")
    }
    assert found.total_bytes == sum(found.disk_bytes.values())
    assert found.latest == "v2"


def test_a_file_that_two_versions_link_to_is_counted_once(tmp_path: Path, make: Make) -> None:
    make(tmp_path, 1)
    make(tmp_path, 3, name="B")
    before = disk.describe(tmp_path / "v2")
    (tmp_path / "v1/labels.tokens").write_bytes(bytes(1000))
    os.link(tmp_path / "v1/labels.tokens", tmp_path / "v2/labels.tokens")

    found = disk.describe(tmp_path / "v2")
    assert found.disk_bytes == {name: size + 1000 for name, size in before.disk_bytes.items()}
    assert found.total_bytes == before.total_bytes + 1000


def test_a_draft_says_how_many_rows_it_holds_and_how_many_failed(
    tmp_path: Path,
    make: Make,
    make_header: Callable[..., Header],
    make_traces: Callable[..., list[Trace]],
) -> None:
    make(tmp_path, 1)
    traces = make_traces(7)
    with versions.draft(tmp_path, make_header("B")) as draft, Writer(draft) as writer:
        for trace in traces[:3]:
            writer.append(trace)
        writer.reject(traces[3], "unfinished", None)
        for trace in traces[4:6]:
            writer.fail(trace, "connection lost")
    with (tmp_path / "v2.partial" / versions.ERRORS_FILE).open("ab") as file:
        file.write(b'{"id": "torn')
    (tmp_path / "v3.partial").mkdir()

    second, third = disk.describe(tmp_path / "v1").partials
    assert second == disk.Partial("v2.partial", 3, 1, 2, size_of(tmp_path / "v2.partial"))
    assert third == disk.Partial("v3.partial", None, None, 0, 0)


def test_latest_is_where_the_link_points_else_the_newest(tmp_path: Path, make: Make) -> None:
    assert disk.latest(tmp_path) is None
    make(tmp_path, 1)
    make(tmp_path, 3, name="B")
    versions.point_latest(tmp_path / "v1")
    assert disk.latest(tmp_path) == "v1"
    shutil.rmtree(tmp_path / "v1")
    assert disk.latest(tmp_path) == "v2"


def test_a_copy_of_one_version_is_all_that_is_shown_of_it(tmp_path: Path, make: Make) -> None:
    make(tmp_path / "traces", 1)
    shutil.copytree(tmp_path / "traces/v1", tmp_path / "mine")

    found = disk.describe(tmp_path / "mine")
    assert found == disk.Folder(
        None, {"mine": size_of(tmp_path / "mine")}, size_of(tmp_path / "mine"), []
    )
