"""What stands beside the rows of a version: how it was made, from what, and what came of it."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Literal

import msgspec

from distillpipe.decoding import NOT_DECODED, what_is_wrong
from distillpipe.distributions import Distribution
from distillpipe.encoding import document, escaped
from distillpipe.errors import DataError
from distillpipe.filesystem import sync_file
from distillpipe.hashing import content_hash

FORMAT = "distillpipe/1"
LIBRARIES = ("distillpipe", "torch", "transformers", "accelerate", "peft", "math-verify", "msgspec")

_HOW_TO_MEND = "put the original back, or move the folder away and make the version again"


class ResolvedOption(msgspec.Struct, frozen=True):
    """The value of one option and where it came from."""

    value: Any
    source: Literal["flag", "environment", "recipe", "default", "protocol", "benchmark", "derived"]
    "the last three: left at its default, and set by --protocol, by the table of benchmarks, or by the student"


class InputDataset(msgspec.Struct, frozen=True):
    """A dataset or file that a stage read."""

    path: str
    version: str | None
    "`v3`, or null for a plain file"
    id: str
    relative_path: str | None = None
    "from the folder of the versions that were made of it: holds when both are moved together"


class ModelUsed(msgspec.Struct, frozen=True):
    """A model that a stage used."""

    role: str
    "teacher, student or model"
    name: str
    identity: str
    relative_path: str | None = None
    "from the folder of the versions that it was used for; null for a hub model and a served one"
    checkpoint_id: str | None = None
    "of the checkpoint of ours whose adapter was merged into the model; null for other models"


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a finished version."""

    name: str
    rows: int | None
    bytes: int
    sha256: str


class Dropped(msgspec.Struct):
    """Rows and tokens that one reason cost."""

    rows: int = 0
    tokens: int = 0


class TeacherCounts(msgspec.Struct):
    """What came of the rows of one teacher; read are those kept and those dropped."""

    rows_kept: int = 0
    tokens_kept: int = 0
    dropped: dict[str, int] = {}
    "rows by reason"

    @property
    def rows_read(self) -> int:
        return self.rows_kept + sum(self.dropped.values())


class Counts(msgspec.Struct):
    """Sums over all runs of a version."""

    rows_read: int = 0
    rows_kept: int = 0
    rows_rejected: int = 0
    rows_reused: int = 0
    tokens_kept: int = 0
    "completion tokens of the rows kept; for sft the supervised tokens trained on"
    rows_uncounted: int = 0
    "of the rows kept: those whose tokens nobody counted; no sum of tokens has them"
    tokens_sampled: int = 0
    "completion tokens that the engine made for this version"
    tokens_scored: int = 0
    "completion tokens, there already, that a teacher scored for this version"
    rows_labelled: int = 0
    "of the rows kept: those with soft labels"
    cost_dollars: float | None = None
    "what a server was paid at most: the two sums below; null where no prices were given"
    billed_dollars: float | None = None
    "what it says that it bills; null where no prices were given, or before this was kept apart"
    reserved_dollars: float | None = None
    "for requests whose bills are unknown: their worst case, or what the text that came can have cost"
    unknown_bills: int = 0
    "such requests: lost answers, answers that the server did not count believably"
    rows_with_key: int = 0
    "of all rows, kept and rejected: those that hold the API key, as the server sent it"
    seconds: float = 0.0
    "wall clock from the opening of the version, model loading included"
    seconds_working: float = 0.0
    "the part of it that sampled or trained"
    rows_by_input: list[int] = []
    "of the rows kept, those of each input that sft was given, in their order"
    rows_cut: int = 0
    "of the rows kept: those that sft cut at --max-length"
    tokens_cut: int = 0
    "what they lost"
    rows_taught: int = 0
    "of the rows kept: those that sft has soft labels, or a live teacher, for"
    tokens_taught: int = 0
    "their supervised tokens that have one"
    dropped: dict[str, Dropped] = {}
    teachers: dict[str, TeacherCounts] = {}
    "by the name in the rows, `unknown` where they have none"
    num_internal_errors: int = 0
    "rows, kept or rejected, that met an exception of distillpipe itself"
    verdicts: dict[str, int] = {}
    "of the rows kept; empty where nothing was judged"
    num_waits: int = 0
    "ends of reasoning that were replaced in the rows kept"
    forced_ends: int = 0
    "rows kept whose reasoning was ended for the model"
    rows_within_budget: int | None = None
    "rows kept whose reasoning has a length that was asked for; null where there was no budget"
    reasoning_tokens: Distribution | None = None
    "of the rows kept; null while unfinished or where nothing was counted"
    completion_tokens: Distribution | None = None

    @property
    def control(self) -> float | None:
        """The share of rows within the budget (s1, Muennighoff et al. 2025, section 3.2); null without one."""
        if self.rows_within_budget is None or not self.rows_kept:
            return None
        return self.rows_within_budget / self.rows_kept


class Manifest(msgspec.Struct):
    """The content of manifest.json, which adds a `checksum` of it all: an edit by hand is noticed."""

    kind: Literal["traces", "predictions", "checkpoint"]
    stage: str
    version: str
    fingerprint: str
    takes_over: bool
    "false for a version opened with --fresh"
    options: dict[str, ResolvedOption]
    inputs: list[InputDataset]
    models: list[ModelUsed]
    created: str
    format: str = FORMAT
    id: str | None = None
    "hash of the rows kept, whatever their order, or of a checkpoint's files; null while unfinished"
    finished: str | None = None
    files: list[FileEntry] = []
    counts: Counts = msgspec.field(default_factory=Counts)
    metrics: dict[str, Any] | None = None
    licences: list[str] = []
    "of the teachers whose text is in the rows, or was trained on; empty where none is known"
    libraries: dict[str, str] = {}
    git_commit: str | None = None
    hardware: dict[str, Any] = {}


def read(folder: Path) -> Manifest:
    """The manifest of a version's folder; a DataError names the file where it cannot be read."""
    path = folder / "manifest.json"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        if found.get("format") != FORMAT:
            raise DataError(
                f"{path}: format {found.get('format')!r}, this distillpipe reads {FORMAT!r}: "
                "install the version of distillpipe that wrote it, or a newer one"
            )
        manifest = msgspec.convert(found, Manifest)
        if found.pop("checksum", None) != content_hash(found):
            raise DataError(
                f"{path} was changed after it was written: its checksum differs; {_HOW_TO_MEND}"
            )
        return manifest
    except (OSError, *NOT_DECODED) as error:
        said = error.strerror if isinstance(error, OSError) else what_is_wrong(error)
        raise DataError(f"{path}: not a readable manifest ({said}); {_HOW_TO_MEND}") from error


def write(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest of a folder in one step."""
    path, temporary = folder / "manifest.json", folder / "manifest.json.new"
    content = escaped(msgspec.to_builtins(manifest))
    content["checksum"] = content_hash(content)
    with temporary.open("wb") as file:
        file.write(document(content))
        file.flush()
        sync_file(file.fileno(), temporary)
    temporary.replace(path)


def library_versions() -> dict[str, str]:
    """Installed versions of what the results depend on."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, Any]:
    """Processor, cores and system of this machine; no import of torch for it."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
    }


def git_commit() -> str | None:
    """The commit of the checkout this code runs from, null outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
