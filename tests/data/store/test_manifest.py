"""manifest.json: written atomically, read back unchanged, and refused with one line if damaged."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import distillpipe
from distillpipe.base.errors import DataError
from distillpipe.base.hashing import content_hash
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.counts import Counts, Dropped
from distillpipe.data.store.manifest import (
    FileEntry,
    InputDataset,
    Manifest,
    ModelUsed,
    ResolvedOption,
)


def full_manifest() -> Manifest:
    """A manifest with something in every field."""
    return Manifest(
        kind="predictions",
        stage="eval",
        version="v3",
        fingerprint="f" * 32,
        takes_over=True,
        options={
            "seed": ResolvedOption(7, "environment"),
            "benchmark": ResolvedOption(["a.jsonl", "b.jsonl"], "flag"),
            "limit": ResolvedOption(None, "default"),
            "temperature": ResolvedOption(0.6, "recipe"),
        },
        inputs=[InputDataset("runs/traces", "v1", "0123")],
        models=[ModelUsed("model", "data/teacher", "local:0123")],
        created="2026-02-03T04:05:06+00:00",
        id="89ab",
        finished="2026-02-03T05:05:06+00:00",
        files=[FileEntry("part-00000.jsonl", 3, 1234, "a" * 64)],
        counts=Counts(rows_read=3, rows_kept=2, dropped={"duplicate": Dropped(1, 44)}, seconds=1.5),
        metrics={"pass@1": 0.5, "standard_error": None},
        licences=["mit"],
        libraries={"python": "3.11.9"},
        git_commit="c" * 40,
        hardware={"cores": 2},
    )


def test_a_manifest_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    manifests.write(tmp_path, full_manifest())

    assert manifests.read(tmp_path) == full_manifest()


def test_a_manifest_replaces_the_one_before_and_leaves_nothing_else(tmp_path: Path) -> None:
    manifests.write(tmp_path, msgspec.structs.replace(full_manifest(), version="v1"))
    manifests.write(tmp_path, full_manifest())

    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert manifests.read(tmp_path).version == "v3"


def test_a_torn_manifest_does_not_replace_the_previous_one(
    tmp_path: Path,
) -> None:
    manifests.write(tmp_path, full_manifest())
    (tmp_path / "manifest.json.new").write_text('{"kind": "pred')

    assert manifests.read(tmp_path) == full_manifest()
    manifests.write(tmp_path, full_manifest())
    assert not (tmp_path / "manifest.json.new").exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not a readable manifest"),
        (b'{"kind": "traces"', "not a readable manifest"),
        (b"[]", "not a readable manifest"),
        (b'{"kind": "\xff"}', "not a readable manifest"),
        (b'{"format": "distillpipe/1"}', "missing required field `kind`"),
        (b"{}", "format None, this distillpipe reads 'distillpipe/1'"),
        (b'{"format": "distillpipe/9"}', "format 'distillpipe/9', .* install the version"),
    ],
)
def test_what_is_no_manifest_of_this_format_is_refused_with_its_path(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    (tmp_path / "manifest.json").write_bytes(content)

    with pytest.raises(DataError, match=f"{tmp_path}/manifest.json: .*{complaint}"):
        manifests.read(tmp_path)


def test_a_count_that_is_kept_no_more_is_read_over(tmp_path: Path) -> None:
    manifests.write(tmp_path, full_manifest())
    path = tmp_path / "manifest.json"
    old = msgspec.json.decode(path.read_bytes())
    del old["checksum"]
    old["counts"]["tokens_sent"] = 7
    path.write_bytes(msgspec.json.encode({**old, "checksum": content_hash(old)}))

    assert manifests.read(tmp_path) == full_manifest()


def test_a_folder_without_a_manifest_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}/manifest.json: not a readable manifest"):
        manifests.read(tmp_path)


def test_versions_are_listed_of_the_libraries_that_are_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(manifests, "LIBRARIES", ("msgspec", "no-such-library"))

    assert manifests.library_versions() == {
        "python": ".".join(map(str, sys.version_info[:3])),
        "msgspec": msgspec.__version__,
    }


def test_the_commit_is_null_where_there_is_no_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert manifests.git_commit() is None


def test_the_commit_is_that_of_the_checkout(repository: Path) -> None:
    asked = subprocess.run(
        ["git", "-C", repository, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        pytest.skip("not a checkout")

    assert manifests.git_commit() == asked.stdout.strip()


def test_the_commit_is_not_that_of_an_enclosing_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / ".venv" / "lib" / "site-packages" / "distillpipe"
    package.mkdir(parents=True)
    git = ["git", "-C", tmp_path, "-c", "user.name=A", "-c", "user.email=a@example.com"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "theirs"], check=True)
    monkeypatch.setattr(distillpipe, "__file__", str(package / "__init__.py"))

    assert manifests.git_commit() is None
