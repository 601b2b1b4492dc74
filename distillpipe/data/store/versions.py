"""Versions of a dataset or checkpoint: open, resume, finish and find them.

    runs/math/traces/
      v1/            manifest.json and the data files; never changed again
      v2.partial/    a draft: unfinished; the same command resumes it
      latest -> v1   a symbolic link, or a text file with the name where links are not allowed

A stage writes everything into the draft, then renames the folder. So every folder named `vN` is complete.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.filesystem import say_once, sync_folder
from distillpipe.base.hashing import content_hash
from distillpipe.base.interrupts import shielded
from distillpipe.base.progress import say
from distillpipe.base.rowguard import too_many
from distillpipe.data.store import integrity
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.locks import locked
from distillpipe.data.store.manifest import InputDataset, Manifest, ModelUsed, ResolvedOption

FINISHED = re.compile(r"v(\d+)")
PARTIAL = re.compile(r"v(\d+)\.partial")
LONGEST_NAME = 32  # number of characters that are read of a file `latest`
ERRORS_FILE = "errors.jsonl"
ENGINE_ERROR = "engine_error"  # drop reason of failed rows with --accept-errors


class Header(msgspec.Struct, frozen=True):
    """Describes a version before it is made. Its fingerprint decides whether it exists already."""

    kind: Literal["traces", "predictions", "checkpoint"]
    stage: str
    content: dict[str, Any]
    "the options that determine the rows, and the CODE_VERSIONs of the rules that are applied"
    inputs: list[InputDataset]
    models: list[ModelUsed]
    options: dict[str, ResolvedOption]
    fresh: bool = False
    "make a new version even if one exists, and reuse no rows of others"
    accept_errors: bool = False
    "reject rows that failed, and accept a version that lacks them"
    licences: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        inputs = [dataset.id for dataset in self.inputs]
        models = [(model.role, model.identity) for model in self.models]
        return content_hash(manifests.FORMAT, self.stage, self.content, inputs, models)


class Draft:
    """An unfinished version: its folder `path`, and its manifest, whose counts add up over all runs."""

    def __init__(self, out: Path, path: Path, manifest: Manifest) -> None:
        self.out = out
        self.path = path
        self.manifest = manifest
        self.takes_over = manifest.takes_over
        self._seconds_before = manifest.counts.seconds
        self._opened = time.monotonic()

    def save(self) -> None:
        """Write the manifest with its current counts."""
        self.manifest.counts.seconds = self._seconds_before + time.monotonic() - self._opened
        manifests.write(self.path, self.manifest)

    def finish(self, card: str) -> Manifest:
        """Make the draft the newest version, atomically, and let `latest` point to it."""
        with shielded():
            (self.path / "README.md").write_bytes(card.encode("utf-8", "backslashreplace"))
            self.manifest.finished = now()
            try:
                self.save()
            except OSError:
                self.manifest.finished = None
                raise
            sync_folder(self.path)
            finished = self.out / self.manifest.version
            self.path.rename(finished)
            self.path = finished
            point_latest(finished)
            sync_folder(self.out)
        return self.manifest


@contextmanager
def draft(out: Path, header: Header) -> Iterator[Draft]:
    """Open the draft for `header` under `out`: resume the unfinished one, or begin a new one.

    Raises UsageError if `out` cannot hold versions, DataError if another run is writing to it.
    The counts are saved however the block ends. If bad input ends it before anything was written, the draft
    is removed.
    """
    with locked(out):
        opened = _resume(out, header) or _begin(out, header)
        try:
            yield opened
        except (UsageError, DataError):
            if not content_files(opened.path):
                shutil.rmtree(opened.path)
            raise
        finally:
            if opened.manifest.finished is None and opened.path.exists():
                with (
                    shielded(),
                    suppress(OSError),
                ):  # on a full disk, what ended the block reports it
                    opened.save()


def up_to_date(out: Path, header: Header) -> Path | None:
    """The finished version that matches `header`, or None. Makes `latest` point to it."""
    path = find_finished(out, header)
    if path is not None:
        point_latest(path)
    return path


def find_finished(out: Path, header: Header) -> Path | None:
    """The newest finished version that matches `header`, or None. Changes nothing.

    Raises DataError if a file of that version is missing or has another size than written.
    """
    if header.fresh:
        return None
    for path in reversed(finished(out)):
        manifest = manifests.read(path)
        if _matches(manifest, header) and _has_few_errors(manifest, header):
            integrity.check_sizes(path, manifest)
            return path
    return None


def find_draft(out: Path, header: Header) -> Path | None:
    """The newest draft that a run with `header` would resume, or None. Changes nothing."""
    for path in reversed(partials(out)):
        if not (path / "manifest.json").is_file():
            continue
        manifest = manifests.read(path)
        if _matches(manifest, header) and not (header.fresh and manifest.takes_over):
            return path
    return None


def _matches(manifest: Manifest, header: Header) -> bool:
    """Whether a version has the fingerprint of `header`. Failed rows match only with `accept_errors`."""
    has_failed_rows = ENGINE_ERROR in manifest.counts.dropped
    return manifest.fingerprint == header.fingerprint and (
        header.accept_errors or not has_failed_rows
    )


def _has_few_errors(manifest: Manifest, header: Header) -> bool:
    """Whether a finished version had few internal errors, or errors are accepted."""
    counts = manifest.counts
    num_rows = counts.rows_kept + counts.rows_rejected
    return header.accept_errors or not too_many(counts.num_internal_errors, num_rows)


def finished(out: Path) -> list[Path]:
    """The finished versions under `out`, oldest first."""
    return _numbered(out, FINISHED)


def partials(out: Path) -> list[Path]:
    """The drafts under `out`, oldest first."""
    return _numbered(out, PARTIAL)


def next_version(out: Path) -> str:
    """The name of the next version under `out`: `v1` if there is none."""
    taken = [int(path.name.removesuffix(".partial")[1:]) for path in finished(out) + partials(out)]
    return f"v{max(taken, default=0) + 1}"


def resolve(reference: str) -> Path:
    """The folder of one version, from `PATH` (its latest version), `PATH@v3`, or the folder `PATH/v3`.

    Raises UsageError if there is no such version.
    """
    path, version = split_reference(reference)
    if version is not None:
        if (path / version / "manifest.json").is_file():
            return path / version
        names = ", ".join(folder.name for folder in finished(path)) or "no finished version"
        raise UsageError(f"{path} has no version {version}; it has {names}")
    if (path / "manifest.json").is_file():
        return path.resolve()
    if folders := finished(path):
        newest, latest = folders[-1], latest_name(path)
        if latest is None or (path / latest) in folders:
            return (path / (latest or newest.name)).resolve()
        say(f"{path / 'latest'} points to {latest}, which does not exist: using {newest.name}")
        return newest.resolve()
    raise UsageError(_why_not_a_dataset(path))


def split_reference(reference: str) -> tuple[Path, str | None]:
    """Split `PATH@v3` into path and version. The version is None if the reference names none."""
    path, at, version = reference.rpartition("@")
    if at and FINISHED.fullmatch(version):
        return follow_latest(Path(path)), version
    return follow_latest(Path(reference)), None


def follow_latest(path: Path) -> Path:
    """Resolve a file `latest` in a path, as the system resolves a link. Other paths are returned as they are."""
    for latest in (path, *path.parents):
        if latest.name == "latest" and latest.is_file():
            version = latest_name(latest.parent)
            if version is not None and (latest.parent / version).is_dir():
                return latest.parent / version / path.relative_to(latest)
    return path


def latest_name(out: Path) -> str | None:
    """The name of the version that `latest` under `out` points to, even if that version does not exist.

    None if there is no `latest`, or if it is neither a link nor a file: some copies turn links into folders.
    """
    latest = out / "latest"
    if latest.is_symlink():
        return latest.readlink().name
    if not latest.is_file():  # opening a named pipe would block
        return None
    with suppress(OSError, UnicodeDecodeError), latest.open(encoding="utf-8") as file:
        name = file.read(LONGEST_NAME).strip()
        return name if FINISHED.fullmatch(name) else None
    return None


def holds_versions(path: Path) -> bool:
    """Whether a stage wrote the folder `path`: a folder of versions, or one version."""
    return (path / "manifest.json").is_file() or bool(finished(path))


def relative_to(path: Path, out: Path) -> str:
    """`path` relative to `out`, with links resolved. It does not depend on the current directory."""
    return os.path.relpath(path.resolve(), out.resolve())


def point_latest(version: Path) -> None:
    """Make `latest` point to a version, atomically. Without links, `latest` is a file with the name.

    If `latest` cannot be written, a warning is enough for the newest version: a reference without `latest`
    means the newest version anyway. For an older version the OSError is raised.
    """
    out = version.parent
    link, temporary = out / "latest", out / ".latest.new"
    if latest_name(out) == version.name:
        return
    try:
        temporary.unlink(missing_ok=True)
        try:
            temporary.symlink_to(version.name)
        except OSError as error:
            temporary.write_text(f"{version.name}\n", encoding="utf-8")
            say_once(
                f"warning: the file system of {out} has no links ({error.strerror}): {link} is a text file "
                "with the name of the version; every command reads it like a link"
            )
        temporary.replace(link)
    except OSError as error:
        if latest_name(out) is not None or finished(out)[-1] != version:
            raise
        say_once(
            f"warning: {link} could not be written ({error.strerror}): {out} means its newest version, "
            f"{version.name}"
        )


def content_files(path: Path) -> list[Path]:
    """The data files of a version: all but its manifest and card."""
    described_by = ("manifest.json", "manifest.json.new", "README.md")
    names = sorted(file.name for file in path.iterdir() if file.name not in described_by)
    return [path / name for name in names if name.isprintable()]  # we write no other names


def now() -> str:
    """The current time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _numbered(out: Path, pattern: re.Pattern[str]) -> list[Path]:
    if not out.is_dir():
        return []
    numbered = [
        (int(match[1]), path) for path in out.iterdir() if (match := pattern.fullmatch(path.name))
    ]
    return [path for _, path in sorted(numbered)]


def _resume(out: Path, header: Header) -> Draft | None:
    path = find_draft(out, header)
    if path is None:
        return None
    manifest = manifests.read(path)
    manifest.options = header.options
    integrity.check_labels(path, manifest)
    # These are set if a run was killed while it finished, or if a finished version was renamed to a draft.
    manifest.id = manifest.finished = None
    if manifest.files:
        manifest.files = []
        manifests.write(path, manifest)
    return Draft(out, path, manifest)


def _begin(out: Path, header: Header) -> Draft:
    version = next_version(out)
    path, temporary = out / f"{version}.partial", out / ".beginning"
    manifest = Manifest(
        kind=header.kind,
        stage=header.stage,
        version=version,
        fingerprint=header.fingerprint,
        takes_over=not header.fresh,
        options=header.options,
        inputs=header.inputs,
        models=header.models,
        created=now(),
        licences=list(header.licences),
        libraries=manifests.library_versions(),
        git_commit=manifests.git_commit(),
        hardware=manifests.hardware(),
    )
    # The folder gets its name only with the manifest in it, so no draft lacks a manifest.
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    manifests.write(temporary, manifest)
    temporary.rename(path)
    return Draft(out, path, manifest)


def _why_not_a_dataset(path: Path) -> str:
    if not path.exists():
        return f"{path} does not exist: give a dataset's folder, PATH@vN, or a .jsonl file"
    if path.is_file():
        return f"{path} is a file, not a dataset's folder"
    if partials(path):
        return f"{path} holds no finished version: run the command that makes it again to finish it"
    datasets = sorted(child.name for child in path.iterdir() if finished(child))
    if datasets:
        return f"{path} holds several datasets, name one: {', '.join(f'{path}/{name}' for name in datasets)}"
    return f"{path} holds no version of a dataset"
