"""Licences of teachers, and whether they allow training on the teacher's output.

licences.toml summarises the terms, each as of its date, in our words. It is not legal advice, and terms change.
The name of a licence is its tag on the hub (`mit`, `llama3.1`), else a name for the provider's terms.
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
from distillpipe.data.store.dataset import Dataset
from distillpipe.models.lookup import AnyModel, Model

FILE = Path(__file__).with_name("licences.toml")
TITLE_CHARACTERS = 80  # at most, of the first line of a LICENSE file
READ_BYTES = 1 << 20  # at most, of a model card or a LICENSE file
_HEADER = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)
_FIELD = r"""^{}:[ \t]*(?:\n[ \t]*-[ \t]*)?["']?([\w.+ -]+)"""


class Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a licence says about training on a model's output."""

    licence: str
    models: str
    "regular expression for the names of models on servers"
    names: str
    "regular expression for the names of the licence"
    training: Literal["allowed", "restricted", "forbidden"]
    says: str
    source: str
    date: datetime.date
    "when the source said it"
    notice: str = ""
    "what the card of a model trained on outputs has to show"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    terms: tuple[Terms, ...]


@functools.cache
def all_terms() -> tuple[Terms, ...]:
    """The terms of the file, in its order: the first that matches wins."""
    return msgspec.toml.decode(FILE.read_bytes(), type=_File).terms


def of_teacher(model: AnyModel, given: str | None) -> tuple[str, ...]:
    """The licences of a teacher's output: `given` by the user, else from the model's files or the table.

    A checkpoint of ours has the licences of its teachers. Empty if nothing is known.
    """
    if given is not None:
        return (given,)
    if not isinstance(model, Model):
        terms = next((terms for terms in all_terms() if _matches(terms.models, model.name)), None)
        return () if terms is None else (terms.licence,)
    if (model.folder / "manifest.json").is_file():
        return tuple(manifests.read(model.folder).licences)
    for folder in dict.fromkeys((model.folder, model.weights_folder)):
        if (licence := _of_card(folder) or _of_file(folder)) is not None:
            return (licence,)
    return ()


def of_inputs(inputs: Iterable[Dataset]) -> tuple[str, ...]:
    """The licences in the manifests of a stage's inputs, each once."""
    licences = (
        licence for dataset in inputs if dataset.manifest for licence in dataset.manifest.licences
    )
    return tuple(dict.fromkeys(licences))


def warn(licences: Sequence[str]) -> None:
    """Print a warning for licences that forbid training on the output, a note for those that restrict it."""
    for licence in licences:
        terms = next((terms for terms in all_terms() if _matches(terms.names, licence)), None)
        if terms is not None and terms.training != "allowed":
            kind = "warning" if terms.training == "forbidden" else "note"
            say(
                f"{kind}: licence {licence}: {terms.says} ({terms.source}, as of {terms.date}; "
                "generate --teacher-licence states your own licence)"
            )


def notices(licences: Sequence[str]) -> list[str]:
    """What the card of a model trained on outputs under these licences has to show, each once."""
    found = (
        next((terms for terms in all_terms() if _matches(terms.names, licence)), None)
        for licence in licences
    )
    return list(
        dict.fromkeys(terms.notice for terms in found if terms is not None and terms.notice)
    )


def _matches(pattern: str, name: str) -> bool:
    return re.search(pattern, name, re.IGNORECASE) is not None


def _of_card(folder: Path) -> str | None:
    """The licence in the header of a model card: `license_name` if it is there, else `license`."""
    path = folder / "README.md"
    header = _HEADER.search(_beginning(path)) if path.is_file() else None
    if header is None:
        return None
    fields = (
        re.search(_FIELD.format(name), header[1], re.MULTILINE)
        for name in ("license_name", "license")
    )
    return next((match[1].strip() for match in fields if match is not None), None)


def _of_file(folder: Path) -> str | None:
    """The first line with text of a LICENSE file."""
    for path in filter(Path.is_file, sorted(folder.glob("LICENSE*"))):
        for line in _beginning(path).splitlines():
            if line.strip():
                return line.strip()[:TITLE_CHARACTERS]
    return None


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(READ_BYTES).decode("utf-8", "replace")
