"""Versions on disk: drafts are resumed, one writer at a time, `latest`, references."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from distillpipe.base.errors import DataError, UsageError
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store import versions
from distillpipe.data.store.counts import Dropped
from distillpipe.data.store.manifest import InputDataset, Manifest, ModelUsed, ResolvedOption
from distillpipe.data.store.versions import Header

MakeHeader = Callable[..., Header]
WriteDataset = Callable[..., Manifest]


def finish(out: Path, header: Header) -> Path:
    """Finish a version without rows. Returns its folder."""
    with versions.draft(out, header) as draft:
        draft.manifest.id = "the id"
        draft.finish("a card\n")
        return draft.path


def leave(out: Path, header: Header) -> Path:
    """Leave a draft unfinished. Returns its folder."""
    with versions.draft(out, header) as draft:
        return draft.path


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if not path.name.startswith("."))


# ---------------------------------------------------------------- draft and finish


def test_a_finished_draft_is_a_version_and_latest_points_to_it(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    out = tmp_path / "runs" / "traces"
    with versions.draft(out, make_header()) as draft:
        assert names(out) == ["v1.partial"]
        draft.finish("a card\n")

    assert names(out) == ["latest", "v1"]
    assert (out / "latest").readlink() == Path("v1")  # relative: the folder can be moved
    assert names(out / "v1") == ["README.md", "manifest.json"]
    assert (out / "v1/README.md").read_text() == "a card\n"
    assert manifests.read(out / "v1").finished is not None


def test_a_command_resumes_its_own_draft_and_not_another(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    first = leave(tmp_path, make_header("A"))
    other = leave(tmp_path, make_header("B"))

    assert (first.name, other.name) == ("v1.partial", "v2.partial")
    assert leave(tmp_path, make_header("A")) == first
    assert leave(tmp_path, make_header("B")) == other
    assert finish(tmp_path, make_header("B")) == tmp_path / "v2"
    assert finish(tmp_path, make_header("A")) == tmp_path / "v1"
    assert names(tmp_path) == ["latest", "v1", "v2"]
    assert (tmp_path / "latest").readlink() == Path("v1")


def test_an_error_in_the_block_leaves_the_draft_with_its_counts(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        versions.draft(tmp_path, make_header()) as draft,
    ):
        draft.manifest.counts.rows_reused = 7
        _ = 1 // 0

    assert names(tmp_path) == ["v1.partial"]
    assert manifests.read(tmp_path / "v1.partial").finished is None
    with versions.draft(tmp_path, make_header()) as draft:
        assert draft.manifest.counts.rows_reused == 7


def test_seconds_add_up_over_the_runs_of_a_version(tmp_path: Path, make_header: MakeHeader) -> None:
    folder = leave(tmp_path, make_header())
    found = manifests.read(folder)
    found.counts.seconds = 1000.0
    manifests.write(folder, found)
    finish(tmp_path, make_header())

    assert 1000.0 < manifests.read(tmp_path / "v1").counts.seconds < 2000.0


def test_a_resumed_draft_has_the_options_of_the_last_run(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    slow, fast = (
        {"concurrency": ResolvedOption(number, "flag")} for number in (4, 64)
    )  # no part of the fingerprint
    leave(tmp_path, make_header(options=slow))
    finish(tmp_path, make_header(options=fast))

    assert manifests.read(tmp_path / "v1").options == fast


def test_a_draft_that_was_killed_before_its_manifest_is_left_alone(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    (tmp_path / "v1.partial").mkdir()

    assert finish(tmp_path, make_header()) == tmp_path / "v2"
    assert names(tmp_path) == ["latest", "v1.partial", "v2"]


def test_leftovers_of_a_draft_killed_as_it_began_do_no_harm(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    (tmp_path / ".beginning").mkdir()
    (tmp_path / ".beginning/manifest.json.new").write_text("{")

    assert leave(tmp_path, make_header()) == tmp_path / "v1.partial"
    assert names(tmp_path / "v1.partial") == ["manifest.json"]
    assert not (tmp_path / ".beginning").exists()


def test_a_draft_killed_just_before_its_rename_is_resumed(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    finish(tmp_path, make_header()).rename(tmp_path / "v1.partial")

    left = leave(tmp_path, make_header())
    assert left == tmp_path / "v1.partial"
    assert (manifests.read(left).id, manifests.read(left).finished) == (None, None)
    assert finish(tmp_path, make_header()) == tmp_path / "v1"
    assert (tmp_path / "latest").readlink() == Path("v1")


def test_a_full_disk_does_not_hide_the_error_that_ended_the_block(
    tmp_path: Path, make_header: MakeHeader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ZeroDivisionError), versions.draft(tmp_path, make_header()):
        monkeypatch.setattr(manifests, "write", full)
        _ = 1 // 0


def test_versions_are_ordered_by_number_not_by_name(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    for number in (2, 10, 9):
        (tmp_path / f"v{number}").mkdir()
    for name in ("v", "v1x", "xv1", "v03.partial.old", "notes"):
        (tmp_path / name).mkdir()

    assert [path.name for path in versions.finished(tmp_path)] == ["v2", "v9", "v10"]
    assert versions.partials(tmp_path) == []
    assert leave(tmp_path, make_header()).name == "v11.partial"


@pytest.mark.parametrize("below", [".", "eval", "eval/deep"])
def test_an_out_that_is_a_file_or_lies_below_one_is_refused(
    tmp_path: Path, make_header: MakeHeader, below: str
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")

    with (
        pytest.raises(UsageError, match=f"--out {path / below}: {path} is a file: name a folder"),
        versions.draft(path / below, make_header()),
    ):
        pass
    assert path.read_text() == "mine"


# ---------------------------------------------------------------- one writer at a time


def test_a_second_writer_is_refused_and_told_who_is_writing(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    with (
        versions.draft(tmp_path, make_header("A")),
        pytest.raises(
            DataError,
            match=rf"{tmp_path} is being written by another run \(process {os.getpid()}\)",
        ),
        versions.draft(tmp_path, make_header("B")),
    ):
        pass

    assert names(tmp_path) == ["v1.partial"]
    assert finish(tmp_path, make_header("A")) == tmp_path / "v1"  # the lock is free again


HOLD = """
import sys
from pathlib import Path
from distillpipe.data.store import versions
from distillpipe.data.store.versions import Header

header = Header(kind="traces", stage="generate", content={}, inputs=[], models=[], options={})
with versions.draft(Path(sys.argv[1]), header):
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_another_writer_is_named_and_its_lock_ends_with_it(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "writing\n"
        with (
            pytest.raises(DataError, match=rf"\(process {holder.pid}\)"),
            versions.draft(tmp_path, make_header()),
        ):
            pass
        holder.kill()

    assert finish(tmp_path, make_header()) == tmp_path / "v2"


# ---------------------------------------------------------------- up to date, --fresh


def test_a_then_b_then_a_is_up_to_date_and_latest_points_to_a(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    assert versions.up_to_date(tmp_path, make_header("A")) is None
    finish(tmp_path, make_header("A"))
    finish(tmp_path, make_header("B"))
    assert (tmp_path / "latest").readlink() == Path("v2")

    assert versions.up_to_date(tmp_path, make_header("A")) == tmp_path / "v1"
    assert (tmp_path / "latest").readlink() == Path("v1")
    assert versions.resolve(str(tmp_path)) == tmp_path / "v1"
    assert versions.up_to_date(tmp_path, make_header("B")) == tmp_path / "v2"
    assert (tmp_path / "latest").readlink() == Path("v2")
    assert names(tmp_path) == ["latest", "v1", "v2"]


def test_an_unfinished_version_is_not_up_to_date(tmp_path: Path, make_header: MakeHeader) -> None:
    leave(tmp_path, make_header())

    assert versions.up_to_date(tmp_path, make_header()) is None


def test_fresh_makes_a_new_version_that_takes_nothing_over(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    fresh = make_header("A", fresh=True)
    finish(tmp_path, make_header("A"))
    leave(tmp_path, make_header("B"))

    assert versions.up_to_date(tmp_path, fresh) is None
    with versions.draft(tmp_path, fresh) as draft:
        assert draft.path == tmp_path / "v3.partial"
        assert draft.takes_over is False
        draft.finish("a card\n")
    assert versions.up_to_date(tmp_path, make_header("A")) == tmp_path / "v3"  # the newest of both


def test_a_fresh_draft_resumed_without_the_flag_reuses_nothing(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    leave(tmp_path, make_header("A", fresh=True))

    with versions.draft(tmp_path, make_header("A")) as draft:
        assert draft.path == tmp_path / "v1.partial"
        assert draft.takes_over is False


def test_a_fresh_draft_that_was_left_is_finished_with_the_flag_too(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    finish(tmp_path, make_header("A"))
    leave(tmp_path, make_header("A", fresh=True))

    with versions.draft(tmp_path, make_header("A", fresh=True)) as draft:
        assert draft.path == tmp_path / "v2.partial"


def give_up_a_row(out: Path, header: Header, *, finished: bool) -> Path:
    """A version or draft with a row that was given up because of --accept-errors."""
    with versions.draft(out, header) as draft:
        draft.manifest.counts.dropped = {"engine_error": Dropped(rows=1)}
        if finished:
            draft.manifest.id = "the id"
            draft.finish("a card\n")
        return draft.path


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "draft"])
def test_a_version_with_given_up_rows_needs_accept_errors(
    tmp_path: Path, make_header: MakeHeader, finished: bool
) -> None:
    plain, accepting = make_header(), make_header(accept_errors=True)
    path = give_up_a_row(tmp_path, accepting, finished=finished)
    find = versions.find_finished if finished else versions.find_draft

    assert find(tmp_path, accepting) == path
    assert find(tmp_path, plain) is None
    whole = finish(tmp_path, plain)
    assert whole == tmp_path / "v2"
    assert versions.find_finished(tmp_path, plain) == whole
    assert versions.find_finished(tmp_path, accepting) == whole


@pytest.mark.parametrize("mistake", [DataError, UsageError])
def test_bad_input_removes_an_empty_draft_but_never_a_row(
    tmp_path: Path, make_header: MakeHeader, mistake: type[Exception]
) -> None:
    with pytest.raises(mistake), versions.draft(tmp_path, make_header()):
        raise mistake("line 3")
    assert [path.name for path in tmp_path.glob("v*")] == []

    with pytest.raises(mistake), versions.draft(tmp_path, make_header()) as draft:
        (draft.path / "part-00000.jsonl").write_text("{}\n")
        raise mistake("line 3")
    assert [path.name for path in tmp_path.glob("v*")] == ["v1.partial"]


FILE = InputDataset("problems.jsonl", None, "0123")
TEACHER = ModelUsed("teacher", "data/teacher", "local:0123")


@pytest.mark.parametrize(
    ("changes", "is_the_same"),
    [
        ({"content": {"seed": 2}}, False),
        ({"content": {"seed": 1, "limit": None}}, False),
        ({"stage": "eval"}, False),
        ({"inputs": [msgspec.structs.replace(FILE, id="4567")]}, False),
        ({"inputs": [FILE, FILE]}, False),
        ({"inputs": []}, False),
        ({"models": [msgspec.structs.replace(TEACHER, identity="local:4567")]}, False),
        ({"models": [msgspec.structs.replace(TEACHER, role="student")]}, False),
        ({"models": []}, False),
        ({"inputs": [msgspec.structs.replace(FILE, path="elsewhere.jsonl")]}, True),
        ({"models": [msgspec.structs.replace(TEACHER, name="elsewhere/teacher")]}, True),
        ({"options": {"concurrency": ResolvedOption(4, "flag")}}, True),
        ({"licences": ("mit",)}, True),
        ({"fresh": True}, True),
    ],
)
def test_the_fingerprint_depends_on_content_not_on_places_or_speed(
    make_header: MakeHeader, changes: dict[str, object], is_the_same: bool
) -> None:
    header = make_header(content={"seed": 1}, inputs=[FILE], models=[TEACHER])
    changed = msgspec.structs.replace(header, **changes)

    assert (changed.fingerprint == header.fingerprint) is is_the_same
