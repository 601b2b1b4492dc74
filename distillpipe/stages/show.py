"""`show`: what datasets hold, from their manifests; no file of rows is opened unless rows are asked for."""

from pathlib import Path
from typing import Any, NamedTuple

from distillpipe.base import terminal
from distillpipe.base.errors import UsageError
from distillpipe.base.progress import say
from distillpipe.base.records import Trace
from distillpipe.base.rowguard import InternalError, guarded
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store import versions
from distillpipe.data.store.manifest import Manifest
from distillpipe.reports import dataset_text, disk, rows, tables
from distillpipe.reports.lineage import ancestry
from distillpipe.reports.rows import RowQuery


class Shown(NamedTuple):
    """A version that a reference stands for."""

    name: str
    folder: Path
    manifest: Manifest


def show(references: list[str], query: RowQuery, *, as_json: bool) -> None:
    """Print a table of the stages, one of the scores, and all details where one version is meant.

    Where `query` selects rows, they are printed instead. Raises UsageError for what is no dataset, and
    for rows of several versions or of a checkpoint.
    """
    flag = query.flag
    found = [
        Shown(name, folder, manifests.read(folder))
        for reference in references
        for name, folder in _folders(reference)
    ]
    if flag is not None:
        _show_rows(_only(found, flag), query, as_json)
    elif as_json:
        terminal.put_json({"versions": [_as_data(shown) for shown in found]})
    else:
        tables.print_tables([(shown.name, shown.manifest) for shown in found])
        if len(found) == len(references) == 1:
            name, folder, manifest = found[0]
            lines = dataset_text.details(
                name, manifest, ancestry(folder, manifest), disk.describe(folder)
            )
            terminal.put(["", *lines])


def _folders(reference: str) -> list[tuple[str, Path]]:
    """Name and folder of each version that a reference stands for; eval's OUT stands for all in it."""
    path = Path(reference).absolute()
    if path.is_dir() and not versions.holds_versions(path):
        if versions.partials(path):
            return [(path.name, _newest(path))]
        inside = sorted(
            child
            for child in path.iterdir()
            if versions.finished(child) or versions.partials(child)
        )
        if len(inside) == 1:
            return [(path.name, _newest(inside[0]))]
        if inside:
            return [(f"{path.name}/{child.name}", _newest(child)) for child in inside]
    folder = versions.resolve(reference)
    return [(folder.parent.name, folder)]


def _newest(path: Path) -> Path:
    """The latest version in a folder that holds some, else the newest draft."""
    if versions.finished(path):
        return versions.resolve(str(path))
    say(f"{path}: unfinished, the command that makes it goes on with it")
    return versions.partials(path)[-1]


def _only(found: list[Shown], flag: str) -> Shown:
    """The one version whose rows can be shown."""
    if len(found) != 1:
        names = ", ".join(f"{shown.name} {shown.manifest.version}" for shown in found)
        raise UsageError(f"{flag} shows rows of one dataset, not of {names}: name one")
    if found[0].manifest.kind == "checkpoint":
        raise UsageError(f"{flag}: {found[0].folder} is a checkpoint, which holds no rows")
    return found[0]


def _show_rows(shown: Shown, query: RowQuery, as_json: bool) -> None:
    chosen = rows.choose(shown.folder, shown.manifest, query)
    if chosen.note is not None:
        say(chosen.note)
    if as_json:
        terminal.put_json({"rows": chosen.rows})
        return
    for row in chosen.rows:
        parts = guarded(_parts_of, row, whole=query.row is not None)
        if isinstance(parts, InternalError):
            parts = [
                f"{row.id}: cannot be shown ({parts.reason}): please report it; --json shows it"
            ]
        terminal.put(line for part in parts for line in part.split("\n"))


def _parts_of(row: Trace, *, whole: bool) -> list[str]:
    return list(dataset_text.row_lines(row, whole=whole))


def _as_data(shown: Shown) -> dict[str, Any]:
    name, folder, manifest = shown
    around = disk.describe(folder)
    return {
        "name": name,
        "path": str(folder),
        "manifest": manifest,
        "funnel": ancestry(folder, manifest),
        "latest": around.latest,
        "disk_bytes": around.disk_bytes[folder.name],
        "dataset_disk_bytes": around.disk_bytes,
        "partials": around.partials,
    }
