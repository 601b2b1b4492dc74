"""manifest.json: how a version was made, from which inputs and models, and with what counts."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any, Literal

import msgspec

import distillpipe
from distillpipe.base.decoding import NOT_DECODED, what_is_wrong
from distillpipe.base.encoding import document, escaped
from distillpipe.base.errors import DataError
from distillpipe.base.filesystem import sync_file
from distillpipe.base.hashing import content_hash
from distillpipe.base.processes import num_cores
from distillpipe.data.store.counts import Counts

FORMAT = "distillpipe/1"
LIBRARIES = ("distillpipe", "torch", "transformers", "accelerate", "peft", "math-verify", "msgspec")

_REMEDY = "restore the original file, or move the folder away and make the version again"


class ResolvedOption(msgspec.Struct, frozen=True):
    """The value of one option and where it came from."""

    value: Any
    source: Literal["flag", "environment", "recipe", "default", "protocol", "benchmark", "derived"]
    "the last three: the user left the default, and --protocol, the benchmark table or the student set it"


class InputDataset(msgspec.Struct, frozen=True):
    """A dataset or file that a stage read."""

    path: str
    version: str | None
    "`v3`, or null for a plain file"
    id: str
    relative_path: str | None = None
    "relative to the output folder that reads it, so it stays right if both folders move together"


class ModelUsed(msgspec.Struct, frozen=True):
    """A model that a stage used."""

    role: str
    "teacher, student or model"
    name: str
    identity: str
    relative_path: str | None = None
    "relative to the output folder that uses it; null for a hub model and for a server"
    checkpoint_id: str | None = None
    "id of the distillpipe checkpoint whose adapter was merged into the model; null for other models"


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a finished version."""

    name: str
    rows: int | None
    bytes: int
    sha256: str


class Manifest(msgspec.Struct):
    """The content of manifest.json. The file also has a `checksum`, so that edits by hand are noticed."""

    kind: Literal["traces", "predictions", "checkpoint"]
    stage: str
    version: str
    fingerprint: str
    takes_over: bool
    "whether rows of other versions may be reused; false with --fresh"
    options: dict[str, ResolvedOption]
    inputs: list[InputDataset]
    models: list[ModelUsed]
    created: str
    format: str = FORMAT
    id: str | None = None
    "order-independent hash of the kept rows, or of a checkpoint's files; null while unfinished"
    finished: str | None = None
    files: list[FileEntry] = []
    counts: Counts = msgspec.field(default_factory=Counts)
    metrics: dict[str, Any] | None = None
    licences: list[str] = []
    "licences of the teachers whose text is in the rows or in the training data; empty if unknown"
    libraries: dict[str, str] = {}
    user_code: dict[str, str] = {}
    "verifiers and rules of the user's own that decided on rows: name and hash of the file"
    template_time: str | None = None
    "what the clock of the chat template shows, ISO 8601, local; null where the template reads none"
    git_commit: str | None = None
    hardware: dict[str, Any] = {}


def read(folder: Path) -> Manifest:
    """Read the manifest of a version. Raises DataError if it is missing, damaged or edited by hand."""
    path = folder / "manifest.json"
    try:
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        if content.get("format") != FORMAT:
            raise DataError(
                f"{path}: format {content.get('format')!r}, this distillpipe reads {FORMAT!r}: "
                "install the version of distillpipe that wrote it, or a newer one"
            )
        manifest = msgspec.convert(content, Manifest)
        if content.pop("checksum", None) != content_hash(content):
            raise DataError(
                f"{path} was changed after it was written: its checksum differs; {_REMEDY}"
            )
        return manifest
    except (OSError, *NOT_DECODED) as error:
        problem = error.strerror if isinstance(error, OSError) else what_is_wrong(error)
        raise DataError(f"{path}: not a readable manifest ({problem}); {_REMEDY}") from error


def write(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest of a folder atomically."""
    path, temporary = folder / "manifest.json", folder / "manifest.json.new"
    content = escaped(msgspec.to_builtins(manifest))
    content["checksum"] = content_hash(content)
    with temporary.open("wb") as file:
        file.write(document(content))
        file.flush()
        sync_file(file.fileno(), temporary)
    temporary.replace(path)


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that results depend on, and of Python."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, Any]:
    """Processor type, system and number of cores of this machine, without importing torch."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": num_cores(),
    }


def git_commit() -> str | None:
    """The git commit of the distillpipe checkout that runs, None outside one.

    An environment inside another project's repository gives None: that commit says nothing about our code.
    """
    package = Path(distillpipe.__file__).resolve().parent
    command = ["git", "-C", str(package), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    top, _, commit = done.stdout.strip().rpartition("\n")
    is_ours = done.returncode == 0 and Path(top).resolve() == package.parent
    return commit if is_ours else None
