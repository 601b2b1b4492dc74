"""References: `PATH`, `PATH@v1`, the folder of a version, a file; and the errors for all else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from distillpipe.base.errors import UsageError
from distillpipe.base.hashing import file_sha256
from distillpipe.base.records import Trace
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.manifest import InputDataset, Manifest
from distillpipe.data.store.versions import Header

MakeHeader = Callable[..., Header]
WriteDataset = Callable[..., Manifest]


def finish(out: Path, header: Header) -> None:
    """A finished version without rows."""
    with versions.draft(out, header) as draft:
        draft.manifest.id = "the id"
        draft.finish("a card\n")


def leave(out: Path, header: Header) -> Path:
    """Leave a draft unfinished. Returns its folder."""
    with versions.draft(out, header) as draft:
        return draft.path


@pytest.mark.parametrize(
    ("reference", "folder"),
    [
        ("{out}", "v2"),
        ("{out}/", "v2"),
        ("{out}@v1", "v1"),
        ("{out}@v2", "v2"),
        ("{out}/v1", "v1"),
        ("{out}/latest", "v2"),
    ],
)
def test_a_reference_names_a_version(
    tmp_path: Path, make_header: MakeHeader, reference: str, folder: str
) -> None:
    finish(tmp_path / "traces", make_header("A"))
    finish(tmp_path / "traces", make_header("B"))

    found = versions.resolve(reference.format(out=tmp_path / "traces"))
    assert found == tmp_path / "traces" / folder


def test_a_folder_that_lost_its_latest_stands_for_its_newest_version(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    finish(tmp_path, make_header("A"))
    finish(tmp_path, make_header("B"))
    (tmp_path / "latest").unlink()

    assert versions.resolve(str(tmp_path)) == tmp_path / "v2"


@pytest.mark.parametrize("name", ["me@vm", "a@v2.0"])
def test_a_folder_with_an_at_sign_in_its_name_is_a_folder(
    tmp_path: Path, make_header: MakeHeader, name: str
) -> None:
    finish(tmp_path / name / "traces", make_header())
    finish(tmp_path / name, make_header())

    assert versions.resolve(f"{tmp_path / name}/traces") == tmp_path / name / "traces" / "v1"
    assert versions.resolve(f"{tmp_path / name}/traces@v1") == tmp_path / name / "traces" / "v1"
    assert versions.resolve(f"{tmp_path / name}") == tmp_path / name / "v1"


def test_a_folder_of_several_datasets_is_refused_with_their_names(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    for name in ("math", "aime"):
        finish(tmp_path / "eval" / name, make_header())
    leave(tmp_path / "eval" / "unfinished", make_header())

    with pytest.raises(UsageError) as raised:
        versions.resolve(str(tmp_path / "eval"))
    eval_out = tmp_path / "eval"
    assert str(raised.value) == (
        f"{eval_out} holds several datasets, name one: {eval_out}/aime, {eval_out}/math"
    )


def test_references_that_name_nothing_say_what_there_is(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    finish(tmp_path / "two", make_header("A"))
    finish(tmp_path / "two", make_header("B"))
    leave(tmp_path / "unfinished", make_header())
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()
    messages = {
        "missing": "missing does not exist: give a dataset's folder, PATH@vN, or a .jsonl file",
        "two@v3": "two has no version v3; it has v1, v2",
        "missing@v1": "missing has no version v1; it has no finished version",
        "unfinished@v1": "unfinished has no version v1; it has no finished version",
        "unfinished": "unfinished holds no finished version: run the command that makes it again "
        "to finish it",
        "empty": "empty holds no version of a dataset",
        "file.txt": "file.txt is a file, not a dataset's folder",
    }

    for reference, message in messages.items():
        with pytest.raises(UsageError) as raised:
            versions.resolve(f"{tmp_path}/{reference}")
        assert str(raised.value) == f"{tmp_path}/{message}"


def test_an_input_is_described_by_its_version_and_id_or_by_its_hash(
    tmp_path: Path, make_traces: Callable[..., list[Trace]], write_dataset: WriteDataset
) -> None:
    one, two = make_traces(2)
    first = write_dataset(tmp_path / "traces", [one], name="A")
    second = write_dataset(tmp_path / "traces", [one, two], name="B")
    out = tmp_path / "clean"
    path, file = str(tmp_path / "traces"), tmp_path / "traces/v1/part-00000.jsonl"

    assert first.id is not None
    assert second.id is not None
    assert dataset.describe(dataset.find(path), out) == InputDataset(
        path, "v2", second.id, "../traces"
    )
    assert dataset.describe(dataset.find(f"{path}@v1"), out) == InputDataset(
        path, "v1", first.id, "../traces"
    )
    assert dataset.describe(dataset.find(str(file)), out) == InputDataset(
        str(file), None, file_sha256(file), "../traces/v1/part-00000.jsonl"
    )


def test_an_unfinished_version_is_refused_as_an_input(
    tmp_path: Path, make_header: MakeHeader
) -> None:
    draft = leave(tmp_path, make_header())

    with pytest.raises(UsageError, match=f"{draft} is unfinished: run the command"):
        dataset.describe(dataset.find(str(draft)), tmp_path / "out")
