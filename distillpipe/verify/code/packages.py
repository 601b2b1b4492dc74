"""Packages that model-written programs may import: from this environment, read-only, and no others of it.

A package is what `pip install` takes: its files are those that its installer has listed, and with it come
the packages that it needs, but for its extras.
"""

import functools
import os
import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from distillpipe.base.errors import UsageError
from distillpipe.base.requirements import install_command

ENVIRONMENT = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"), "1"
)
"Of a sandbox with packages: one thread for linear algebra, as many sandboxes run side by side."
_KEPT = ("OPENBLAS_CORETYPE",)
"Variables of ours that say what processor this is, where the library cannot tell."
_ALONE = (".dist-info", ".egg-info", ".libs", ".data")
"Endings of folders that belong to one package, though they are no module."
_IMPORTED = re.compile(r"^[ \t]*(?:import|from)[ \t]+(.+)", re.MULTILINE)
_WORD = re.compile(r"\w+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SEPARATORS = re.compile(r"[-_.]+")


class Packages(NamedTuple):
    """Packages that were found, with what they need."""

    versions: tuple[tuple[str, str], ...] = ()
    "name and version of each, by name"
    paths: tuple[tuple[str, str], ...] = ()
    "what is shown of this machine, and where below the folder of packages"
    modules: tuple[str, ...] = ()
    "names to import of the packages that were asked for"

    def binds(self, folder: str) -> Iterator[str]:
        """Arguments for bubblewrap that show them below `folder`; folders that it makes itself only it may read."""
        if not self.paths:
            return
        parents = {parent for _, target in self.paths for parent in PurePosixPath(target).parents}
        for parent in sorted(parents):
            yield from ("--perms", "0755", "--dir", str(PurePosixPath(folder) / parent))
        for source, target in self.paths:
            yield from ("--ro-bind", source, f"{folder}/{target}")

    def link(self, folder: Path) -> None:
        """Make `folder`, with links to them."""
        for source, target in self.paths:
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            (folder / target).symlink_to(source)

    def environment(self) -> dict[str, str]:
        """Variables of a sandbox that has them."""
        if not self.paths:
            return {}
        return ENVIRONMENT | {name: os.environ[name] for name in _KEPT if name in os.environ}

    def imported_by(self, source: str) -> list[str]:
        """The modules that a program seems to import."""
        if not self.modules:
            return []
        words = {word for line in _IMPORTED.findall(source) for word in _WORD.findall(line)}
        return [name for name in self.modules if name in words]


NO_PACKAGES = Packages()


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """The versions of packages and of what they need, by name; a UsageError for one that is not installed."""
    return dict(find_packages(tuple(names)).versions)


@functools.lru_cache(maxsize=16)
def find_packages(names: tuple[str, ...]) -> Packages:
    """Packages of this environment with what they need; a UsageError for one that is not installed."""
    if not names:
        return NO_PACKAGES
    found: dict[str, metadata.Distribution] = {}
    for name in names:
        _add(found, name, name)
    modules = {module for name in names for module in _modules_of(found[_key(name)])}
    paths = {target: source for one in found.values() for source, target in _paths_of(one)}
    return Packages(
        tuple(sorted((name, one.version) for name, one in found.items())),
        tuple((source, target) for target, source in sorted(paths.items())),
        tuple(sorted(modules)),
    )


def _add(found: dict[str, metadata.Distribution], name: str, asked_for: str) -> None:
    """Add a distribution and what it needs."""
    key = _key(name)
    if key in found:
        return
    try:
        one = found[key] = metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        owner = metadata.packages_distributions().get(name, [name])[0]
        if name == asked_for and _key(owner) != key:
            raise UsageError(
                f"--code-packages {name}: {name} is a module of the package {owner}:"
                f" --code-packages {owner}"
            ) from None
        needs = "" if name == asked_for else f", which {asked_for} needs,"
        raise UsageError(
            f"--code-packages {asked_for}: the package {name!r}{needs} is not installed here: {install_command(name)}"
        ) from None
    for requirement in one.requires or []:
        needed, _, condition = requirement.partition(";")
        name_found = _NAME.match(needed.strip())
        if name_found is None or "extra" in condition:
            continue
        # what is needed under a condition, and is not here, is for another system
        if not condition or _is_installed(name_found[0]):
            _add(found, name_found[0], asked_for)


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        return False
    return True


def _key(name: str) -> str:
    """One spelling of a package's name: `ruamel.yaml` and `Ruamel_YAML` are one."""
    return _SEPARATORS.sub("-", name).lower()


def _files_of(one: metadata.Distribution) -> list[PurePosixPath]:
    """The files that its installer has listed, below the folder that it was installed in."""
    listed = [file for file in one.files or [] if ".." not in file.parts and not file.is_absolute()]
    if not any(_is_module(file.parts[0]) for file in listed):
        raise UsageError(
            f"--code-packages: {one.metadata['Name']} is not installed as files (is it editable?): "
            "install it without --editable"
        )
    return [PurePosixPath(file) for file in listed]


def _is_module(name: str) -> bool:
    return not name.endswith((*_ALONE, ".pth")) and name != "__pycache__"


def _modules_of(one: metadata.Distribution) -> set[str]:
    """Names of the modules at its top; those that are a single file (scripts are) only if there are no others."""
    files = [file for file in _files_of(one) if _is_module(file.parts[0])]
    folders = {file.parts[0] for file in files if len(file.parts) > 1}
    singles = {file.name.partition(".")[0] for file in files if len(file.parts) == 1}
    return {name for name in folders or singles if name.isidentifier() and not name.startswith("_")}


def _paths_of(one: metadata.Distribution) -> Iterator[tuple[str, str]]:
    """The fewest folders and files that hold it and nothing of another package."""
    files = _files_of(one)
    own = {file.parent for file in files if file.name == "__init__.py"}
    targets = set()
    for file in files:
        if "__pycache__" in file.parts[:1]:
            continue
        folders = [parent for parent in reversed(file.parents) if parent.name]
        is_own = (one for one in folders if one in own or one.name.endswith(_ALONE))
        targets.add(next(is_own, file))  # a folder that is no package may hold others' modules
    for target in sorted(targets):
        source = Path(str(one.locate_file(target))).resolve()
        if source.exists():
            yield str(source), str(target)
