"""Licences of teachers, and what they say of training a model on what the teacher wrote.

licences.toml has what the terms said on the date of each entry, in our words; it is no legal advice, and terms
change. A licence is known by the name that the hub gives it (`mit`, `llama3.1`), else by that of the terms.
"""

import datetime
import functools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from distillpipe.base.progress import say
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store import versions
from distillpipe.models.lookup import AnyModel, Model

FILE = Path(__file__).with_name("licences.toml")
TITLE_CHARACTERS = 80  # of a LICENSE file's first line
READ_BYTES = 1 << 20  # of a card or a LICENSE file
_HEADER = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)
_FIELD = r"""^{}:[ \t]*(?:\n[ \t]*-[ \t]*)?["']?([\w.+ -]+)"""


class Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Terms that say something of training on a model's outputs."""

    licence: str
    models: str
    "a pattern of the names that servers give the models"
    names: str
    "a pattern of the names of the licence"
    training: Literal["allowed", "restricted", "forbidden"]
    says: str
    source: str
    date: datetime.date
    "when the source said it"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    terms: tuple[Terms, ...]


@functools.cache
def all_terms() -> tuple[Terms, ...]:
    """The terms of the file, in its order: the first that matches wins."""
    return msgspec.toml.decode(FILE.read_bytes(), type=_File).terms


def of_teacher(model: AnyModel, given: str | None) -> tuple[str, ...]:
    """The licences of what a teacher writes: as `given`, else as the model's files or the table say.

    Empty where nothing is known. Of a checkpoint of ours they are those of its teachers.
    """
    if given is not None:
        return (given,)
    if not isinstance(model, Model):
        found = next((one for one in all_terms() if _matches(one.models, model.name)), None)
        return () if found is None else (found.licence,)
    if (model.folder / "manifest.json").is_file():
        return tuple(manifests.read(model.folder).licences)
    for folder in dict.fromkeys((model.folder, model.weights_folder)):
        if (licence := _of_card(folder) or _of_file(folder)) is not None:
            return (licence,)
    return ()


def of_inputs(references: Iterable[str]) -> tuple[str, ...]:
    """The licences that the inputs of a stage carry on, each once."""
    folders = [versions.resolve(one) for one in references if versions.plain_file(one) is None]
    carried = (licence for folder in folders for licence in manifests.read(folder).licences)
    return tuple(dict.fromkeys(carried))


def warn(licences: Sequence[str]) -> None:
    """Say where terms forbid training on what was written under them, or ask something for it."""
    for licence in licences:
        found = next((one for one in all_terms() if _matches(one.names, licence)), None)
        if found is not None and found.training != "allowed":
            kind = "warning" if found.training == "forbidden" else "note"
            say(
                f"{kind}: licence {licence}: {found.says} ({found.source}, as of {found.date}; "
                "--teacher-licence of generate says what holds for you)"
            )


def _matches(pattern: str, name: str) -> bool:
    return re.search(pattern, name, re.IGNORECASE) is not None


def _of_card(folder: Path) -> str | None:
    """What the header of a model card says: `license_name` where `license` is `other`."""
    path = folder / "README.md"
    header = _HEADER.search(_beginning(path)) if path.is_file() else None
    if header is None:
        return None
    fields = (
        re.search(_FIELD.format(name), header[1], re.MULTILINE)
        for name in ("license_name", "license")
    )
    return next((found[1].strip() for found in fields if found is not None), None)


def _of_file(folder: Path) -> str | None:
    """The first line of a LICENSE file."""
    for path in filter(Path.is_file, sorted(folder.glob("LICENSE*"))):
        for line in _beginning(path).splitlines():
            if line.strip():
                return line.strip()[:TITLE_CHARACTERS]
    return None


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(READ_BYTES).decode("utf-8", "replace")
