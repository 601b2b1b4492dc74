"""`show`: describe datasets from their manifests. Files of rows are read only if rows are asked for."""

from pathlib import Path
from typing import Any, NamedTuple

from distillpipe.base import terminal
from distillpipe.base.errors import UsageError
from distillpipe.base.progress import say
from distillpipe.base.rowguard import InternalError, guarded
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store import versions
from distillpipe.data.store.manifest import Manifest
from distillpipe.reports import dataset_text, disk, rows, tables
from distillpipe.reports.lineage import ancestry
from distillpipe.reports.rows import RowQuery


class Shown(NamedTuple):
    """A version that a reference names."""

    name: str
    folder: Path
    manifest: Manifest


def show(references: list[str], query: RowQuery, *, as_json: bool) -> None:
    """Print a table of stages and one of scores; for a single version also its details.

    If `query` selects rows, print them instead. Raises UsageError for a reference that names no dataset, and for rows
    of several versions or of a checkpoint.
    """
    flag = query.flag
    versions_shown = [
        Shown(name, folder, manifests.read(folder))
        for reference in references
        for name, folder in _folders(reference)
    ]
    if flag is not None:
        _show_rows(_only(versions_shown, flag), query, as_json)
    elif as_json:
        terminal.put_json({"versions": [_as_data(shown) for shown in versions_shown]})
    else:
        tables.print_tables([(shown.name, shown.manifest) for shown in versions_shown])
        if len(versions_shown) == len(references) == 1:
            name, folder, manifest = versions_shown[0]
            lines = dataset_text.details(
                name, manifest, ancestry(folder, manifest), disk.describe(folder)
            )
            terminal.put(["", *lines])


def _folders(reference: str) -> list[tuple[str, Path]]:
    """Name and folder of each version that a reference names: for the OUT of an eval, those of all benchmarks."""
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
    """The latest version in a folder, the newest draft if no version is finished."""
    if versions.finished(path):
        return versions.resolve(str(path))
    say(f"{path}: unfinished, the command that makes it goes on with it")
    return versions.partials(path)[-1]


def _only(versions_shown: list[Shown], flag: str) -> Shown:
    """The single version, whose rows can be shown."""
    if len(versions_shown) != 1:
        names = ", ".join(f"{shown.name} {shown.manifest.version}" for shown in versions_shown)
        raise UsageError(f"{flag} shows rows of one dataset, not of {names}: name one")
    if versions_shown[0].manifest.kind == "checkpoint":
        raise UsageError(f"{flag}: {versions_shown[0].folder} is a checkpoint, which holds no rows")
    return versions_shown[0]


def _show_rows(shown: Shown, query: RowQuery, as_json: bool) -> None:
    chosen = rows.choose(shown.folder, shown.manifest, query)
    if chosen.note is not None:
        say(chosen.note)
    if as_json:
        terminal.put_json({"rows": chosen.rows})
        return
    whole = query.row is not None
    for row in chosen.rows:
        texts = guarded(lambda shown: [*dataset_text.row_lines(shown, whole=whole)], row)
        if isinstance(texts, InternalError):
            texts = [
                f"{row.id}: cannot be shown ({texts.reason}): please report it; --json shows it"
            ]
        terminal.put(line for text in texts for line in text.split("\n"))


def _as_data(shown: Shown) -> dict[str, Any]:
    name, folder, manifest = shown
    on_disk = disk.describe(folder)
    return {
        "name": name,
        "path": str(folder),
        "manifest": manifest,
        "funnel": ancestry(folder, manifest),
        "latest": on_disk.latest,
        "disk_bytes": on_disk.disk_bytes[folder.name],
        "dataset_disk_bytes": on_disk.disk_bytes,
        "partials": on_disk.partials,
    }
