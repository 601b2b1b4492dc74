"""A dataset or checkpoint on disk is a folder of immutable versions, and one draft at a time.

    runs/math/traces/
      v1/          manifest.json and the files; never changed again
      v2.partial/  a draft: unfinished, taken up again by the same command
      latest -> v1   a link; where links are not allowed, a file that holds the name

A version is finished by writing everything, then renaming its folder: whatever is called `vN` is whole.
"""

import functools
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
from distillpipe.base.hashing import cached_sha256, content_hash, file_sha256
from distillpipe.base.interrupts import shielded
from distillpipe.base.progress import say
from distillpipe.base.rowguard import too_many
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.locks import locked
from distillpipe.data.store.manifest import InputDataset, Manifest, ModelUsed, ResolvedOption

FINISHED = re.compile(r"v(\d+)")
PARTIAL = re.compile(r"v(\d+)\.partial")
LONGEST_NAME = 32  # characters of a file `latest` that are read
ERRORS_FILE = "errors.jsonl"
ENGINE_ERROR = "engine_error"  # the reason of a row that was given up with --accept-errors


class Header(msgspec.Struct, frozen=True):
    """What a version is going to be, known before anything is done."""

    kind: Literal["traces", "predictions", "checkpoint"]
    stage: str
    content: dict[str, Any]
    "the options that decide what the version holds, and the versions of the rules it applies"
    inputs: list[InputDataset]
    models: list[ModelUsed]
    options: dict[str, ResolvedOption]
    fresh: bool = False
    "make a new version in any case, and take nothing over from others"
    accept_errors: bool = False
    "rows that could not be made are rejected, and a version that lacks them will do"
    licences: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        inputs = [given.id for given in self.inputs]
        models = [(model.role, model.identity) for model in self.models]
        return content_hash(manifests.FORMAT, self.stage, self.content, inputs, models)


class Draft:
    """A version in the making: its folder `path`, and its manifest, whose counts grow over all runs."""

    def __init__(self, out: Path, path: Path, manifest: Manifest) -> None:
        self.out = out
        self.path = path
        self.manifest = manifest
        self.takes_over = manifest.takes_over
        self._seconds_before = manifest.counts.seconds
        self._opened = time.monotonic()

    def save(self) -> None:
        """Write the manifest as it stands now."""
        self.manifest.counts.seconds = self._seconds_before + time.monotonic() - self._opened
        manifests.write(self.path, self.manifest)

    def finish(self, card: str) -> Manifest:
        """Make the draft the newest version, all or nothing; `latest` points to it afterwards."""
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
    """Open the draft for `header` under `out`: the one that was left unfinished, or a new one.

    Raises UsageError where `out` cannot hold versions, DataError where another run is writing there.
    Whatever ends the block, the counts so far are saved. A draft that holds nothing when bad input
    ends the block is removed.
    """
    with locked(out):
        opened = _take_up(out, header) or _begin(out, header)
        try:
            yield opened
        except (UsageError, DataError):
            if not content_files(opened.path):
                shutil.rmtree(opened.path)
            raise
        finally:
            if opened.manifest.finished is None and opened.path.exists():
                with shielded(), suppress(OSError):  # a full disk: what ended the block says it
                    opened.save()


def up_to_date(out: Path, header: Header) -> Path | None:
    """The finished version that already is what `header` asks for; `latest` then points to it."""
    path = find_finished(out, header)
    if path is not None:
        point_latest(path)
    return path


def find_finished(out: Path, header: Header) -> Path | None:
    """The finished version that already is what `header` asks for; nothing is changed.

    Raises DataError where a file of it is not as it was written.
    """
    if header.fresh:
        return None
    for path in reversed(finished(out)):
        found = manifests.read(path)
        if _is_for(found, header) and _is_sound(found, header):
            check_sizes(path, found)
            return path
    return None


def find_draft(out: Path, header: Header) -> Path | None:
    """The draft that a run with `header` goes on with; nothing is changed."""
    for path in reversed(partials(out)):
        if not (path / "manifest.json").is_file():
            continue
        found = manifests.read(path)
        if _is_for(found, header) and not (header.fresh and found.takes_over):
            return path
    return None


def _is_for(found: Manifest, header: Header) -> bool:
    """Whether a version is what `header` asks for; rows given up will do only where errors are accepted."""
    given_up = ENGINE_ERROR in found.counts.dropped
    return found.fingerprint == header.fingerprint and (header.accept_errors or not given_up)


def _is_sound(found: Manifest, header: Header) -> bool:
    """Whether a finished version met few internal errors, or errors are accepted."""
    counts = found.counts
    num_rows = counts.rows_kept + counts.rows_rejected
    return header.accept_errors or not too_many(counts.num_internal_errors, num_rows)


def finished(out: Path) -> list[Path]:
    """The finished versions under `out`, oldest first."""
    return _numbered(out, FINISHED)


def partials(out: Path) -> list[Path]:
    """The drafts under `out`, oldest first."""
    return _numbered(out, PARTIAL)


def next_version(out: Path) -> str:
    """The name of the version that would be begun under `out`."""
    taken = [int(path.name.removesuffix(".partial")[1:]) for path in finished(out) + partials(out)]
    return f"v{max(taken, default=0) + 1}"


def resolve(reference: str) -> Path:
    """The folder of `PATH` (its latest version), `PATH@v3`, or a version's folder itself."""
    path, wanted = split_reference(reference)
    if wanted is not None:
        if (path / wanted / "manifest.json").is_file():
            return path / wanted
        known = ", ".join(found.name for found in finished(path)) or "no finished version"
        raise UsageError(f"{path} has no version {wanted}; it has {known}")
    if (path / "manifest.json").is_file():
        return path.resolve()
    if versions := finished(path):
        newest, wanted = versions[-1], latest_name(path)
        if wanted is None or (path / wanted) in versions:
            return (path / (wanted or newest.name)).resolve()
        say(f"{path / 'latest'} points to {wanted}, which is gone: using {newest.name}")
        return newest.resolve()
    raise UsageError(_why_not_a_dataset(path))


def split_reference(reference: str) -> tuple[Path, str | None]:
    """`PATH@v3` as path and version; the version is null where none is named."""
    path, at, version = reference.rpartition("@")
    if at and FINISHED.fullmatch(version):
        return followed(Path(path)), version
    return followed(Path(reference)), None


def followed(path: Path) -> Path:
    """The path with a file `latest` in it replaced by the version that it names; others as they are."""
    for place in (path, *path.parents):
        if place.name == "latest" and place.is_file():
            version = latest_name(place.parent)
            if version is not None and (place.parent / version).is_dir():
                return place.parent / version / path.relative_to(place)
    return path


def plain_file(reference: str) -> Path | None:
    """The path of a reference that is a file; None for a folder, a version, or nothing."""
    path = followed(Path(reference))
    return path if path.is_file() else None


def latest_name(out: Path) -> str | None:
    """The name of the version that `latest` under `out` points to, whether it is there or not.

    None where there is no `latest`, or something else stands in its place: a copy of a folder made without links.
    """
    latest = out / "latest"
    if latest.is_symlink():
        return latest.readlink().name
    if not latest.is_file():  # opening a pipe would wait for whoever writes to it
        return None
    with suppress(OSError, UnicodeDecodeError), latest.open(encoding="utf-8") as file:
        name = file.read(LONGEST_NAME).strip()
        return name if FINISHED.fullmatch(name) else None
    return None


def holds_versions(path: Path) -> bool:
    """Whether `path` is a folder that a stage wrote: versions, or one version's own folder."""
    return (path / "manifest.json").is_file() or bool(finished(path))


def describe_input(reference: str, out: Path) -> InputDataset:
    """What the manifest under `out` says of an input: a dataset's version and id, or a file's sha256.

    Raises DataError where a file of a finished version has another size than its manifest says.
    """
    if (path := plain_file(reference)) is not None:
        return InputDataset(str(path), None, cached_sha256(path), relative_to(path, out))
    folder = resolve(reference)
    found = manifests.read(folder)
    if found.id is None:
        raise UsageError(f"{folder} is unfinished: run the command that makes it again")
    check_sizes(folder, found)
    dataset = folder.parent
    return InputDataset(str(dataset), found.version, found.id, relative_to(dataset, out))


def relative_to(path: Path, out: Path) -> str:
    """The way from `out` to a path, both without links: it holds from wherever a command is started."""
    return os.path.relpath(path.resolve(), out.resolve())


def check_sizes(folder: Path, found: Manifest) -> None:
    """Refuse a finished version one of whose files is gone, was cut short or has grown."""
    for entry in found.files:
        path = folder / entry.name
        size = path.stat().st_size if path.is_file() else None
        if size != entry.bytes:
            said = (
                "is gone" if size is None else f"has {size:,} bytes, {entry.bytes:,} were written"
            )
            raise DataError(f"{path} {said}: {_how_to_mend(path, found)}")


@functools.cache
def check_content(folder: Path) -> None:
    """Refuse a finished version whose files are not those that its manifest lists; once a process."""
    found = manifests.read(folder)
    check_sizes(folder, found)
    for entry in found.files:
        if file_sha256(folder / entry.name) != entry.sha256:
            raise _changed(folder / entry.name, found)


@functools.cache
def is_as_written(path: Path) -> bool:
    """Whether a file is the one that the manifest beside it lists; true for a file that it does not list yet."""
    listed = (one for one in manifests.read(path.parent).files if one.name == path.name)
    entry = next(listed, None)
    return entry is None or (path.is_file() and file_sha256(path) == entry.sha256)


def _changed(path: Path, found: Manifest) -> DataError:
    return DataError(
        f"{path} was changed after it was written (its sha256 differs): {_how_to_mend(path, found)}"
    )


def _how_to_mend(path: Path, found: Manifest) -> str:
    folder = path.parent
    if path.name.startswith("labels-"):
        return (
            "put the original back, or label the rows anew, whose text is whole: "
            f"`distill label {folder}/part-*.jsonl --teacher MODEL --out OUT`"
        )
    return (
        f"put the original back, or rename {folder} to {folder.name}.partial and run `distill "
        f"{found.stage}` again, which keeps what is whole in it"
    )


def point_latest(version: Path) -> None:
    """Let `latest` point to a version, in one step: by a link, or a file with the name where links are refused.

    The version is finished, so a `latest` that cannot be written is no error where the newest version is
    meant, which a reference stands for without it.
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
                f"warning: the file system of {out} has no links ({error.strerror}): {link} is a file "
                "that names the version; every command reads it as it reads a link"
            )
        temporary.replace(link)
    except OSError as error:
        if latest_name(out) is not None or finished(out)[-1] != version:
            raise
        say_once(
            f"warning: {link} could not be written ({error.strerror}): {out} stands for its newest "
            f"version, {version.name}"
        )


def content_files(path: Path) -> list[Path]:
    """The files of a version but for its manifest and card, which describe the others."""
    described_by = ("manifest.json", "manifest.json.new", "README.md")
    names = sorted(file.name for file in path.iterdir() if file.name not in described_by)
    return [path / name for name in names if name.isprintable()]  # any other name is none of ours


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _numbered(out: Path, pattern: re.Pattern[str]) -> list[Path]:
    if not out.is_dir():
        return []
    numbered = [
        (int(match[1]), path) for path in out.iterdir() if (match := pattern.fullmatch(path.name))
    ]
    return [path for _, path in sorted(numbered)]


def _take_up(out: Path, header: Header) -> Draft | None:
    path = find_draft(out, header)
    if path is None:
        return None
    found = manifests.read(path)
    found.options = header.options
    _check_labels(path, found)
    # set where a run was killed while it finished, or where a finished version was renamed to a draft
    found.id = found.finished = None
    if found.files:
        found.files = []
        manifests.write(path, found)
    return Draft(out, path, found)


def _check_labels(folder: Path, found: Manifest) -> None:
    """Refuse a draft that was a version, and whose labels are others now: no row shows that, as it does of text."""
    for entry in found.files:
        path = folder / entry.name
        is_whole = path.is_file() and path.stat().st_size == entry.bytes
        if path.suffix in (".labels", ".tokens") and is_whole and not is_as_written(path):
            raise _changed(path, found)


def _begin(out: Path, header: Header) -> Draft:
    version = next_version(out)
    path, beginning = out / f"{version}.partial", out / ".beginning"
    found = Manifest(
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
    shutil.rmtree(beginning, ignore_errors=True)
    beginning.mkdir()
    manifests.write(beginning, found)
    beginning.rename(path)  # so that no draft is without its manifest
    return Draft(out, path, found)


def _why_not_a_dataset(path: Path) -> str:
    if not path.exists():
        return f"{path} does not exist: give a dataset's folder, PATH@vN, or a .jsonl file"
    if path.is_file():
        return f"{path} is a file, not a dataset's folder"
    if partials(path):
        return f"{path} holds no finished version: run the command that makes it again to finish it"
    inside = sorted(child.name for child in path.iterdir() if finished(child))
    if inside:
        return f"{path} holds several datasets, name one: {', '.join(f'{path}/{name}' for name in inside)}"
    return f"{path} holds no version of a dataset"
