"""Finds the packages that model-written programs may import: from this environment, mounted read-only.

A package is a distribution, as for `pip install`. It consists of the files that its installer listed, and
brings its dependencies, without extras.
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
"Environment of a sandbox with packages: one thread for linear algebra, since many sandboxes run in parallel."
_KEPT = ("OPENBLAS_CORETYPE",)
"Variables taken from our environment: the type of the processor, if the library cannot detect it."
_ALONE = (".dist-info", ".egg-info", ".libs", ".data")
"Endings of folders that belong to a single package but are not modules."
_IMPORTED = re.compile(r"^[ \t]*(?:import|from)[ \t]+(.+)", re.MULTILINE)
_WORD = re.compile(r"\w+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SEPARATORS = re.compile(r"[-_.]+")


class Packages(NamedTuple):
    """Packages with their dependencies."""

    versions: tuple[tuple[str, str], ...] = ()
    "name and version of each, by name"
    paths: tuple[tuple[str, str], ...] = ()
    "paths on this machine, and their places in the sandbox's folder of packages"
    modules: tuple[str, ...] = ()
    "names to import, of the requested packages only"

    def binds(self, folder: str) -> Iterator[str]:
        """Arguments for bubblewrap that mount the packages in `folder`."""
        if not self.paths:
            return
        # Explicit permissions: else only bubblewrap could read the folders that it creates.
        parents = {parent for _, target in self.paths for parent in PurePosixPath(target).parents}
        for parent in sorted(parents):
            yield from ("--perms", "0755", "--dir", str(PurePosixPath(folder) / parent))
        for source, target in self.paths:
            yield from ("--ro-bind", source, f"{folder}/{target}")

    def link(self, folder: Path) -> None:
        """Create `folder` with links to the packages."""
        for source, target in self.paths:
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            (folder / target).symlink_to(source)

    def environment(self) -> dict[str, str]:
        """The environment variables of a sandbox with these packages; empty without packages."""
        if not self.paths:
            return {}
        return ENVIRONMENT | {name: os.environ[name] for name in _KEPT if name in os.environ}

    def imported_by(self, source: str) -> list[str]:
        """The modules of these packages that a program seems to import."""
        if not self.modules:
            return []
        words = {word for line in _IMPORTED.findall(source) for word in _WORD.findall(line)}
        return [name for name in self.modules if name in words]


NO_PACKAGES = Packages()


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """The versions of packages and their dependencies, by name; raises UsageError if one is not installed."""
    return dict(find_packages(tuple(names)).versions)


@functools.lru_cache(maxsize=16)
def find_packages(names: tuple[str, ...]) -> Packages:
    """Packages of this environment with their dependencies; raises UsageError if one is not installed."""
    if not names:
        return NO_PACKAGES
    packages: dict[str, metadata.Distribution] = {}
    for name in names:
        _add(packages, name, name)
    modules = {module for name in names for module in _modules_of(packages[_key(name)])}
    paths = {
        target: source for package in packages.values() for source, target in _paths_of(package)
    }
    return Packages(
        tuple(sorted((name, package.version) for name, package in packages.items())),
        tuple((source, target) for target, source in sorted(paths.items())),
        tuple(sorted(modules)),
    )


def _add(packages: dict[str, metadata.Distribution], name: str, requested: str) -> None:
    """Add a distribution and its dependencies; `requested` is the package that the user named."""
    key = _key(name)
    if key in packages:
        return
    try:
        package = packages[key] = metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        owner = metadata.packages_distributions().get(name, [name])[0]
        if name == requested and _key(owner) != key:
            raise UsageError(
                f"--code-packages {name}: {name} is a module of the package {owner}:"
                f" --code-packages {owner}"
            ) from None
        needed_by = "" if name == requested else f", which {requested} needs,"
        raise UsageError(
            f"--code-packages {requested}: the package {name!r}{needed_by} is not installed here: {install_command(name)}"
        ) from None
    for requirement in package.requires or []:
        specifier, _, condition = requirement.partition(";")
        dependency = _NAME.match(specifier.strip())
        if dependency is None or "extra" in condition:
            continue
        # A conditional dependency that is not installed is for another system.
        if not condition or _is_installed(dependency[0]):
            _add(packages, dependency[0], requested)


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        return False
    return True


def _key(name: str) -> str:
    """The normalized name of a package: `ruamel.yaml` and `Ruamel_YAML` are the same."""
    return _SEPARATORS.sub("-", name).lower()


def _files_of(package: metadata.Distribution) -> list[PurePosixPath]:
    """The files that the installer listed, relative to the folder of packages."""
    listed = [
        file for file in package.files or [] if ".." not in file.parts and not file.is_absolute()
    ]
    if not any(_is_module(file.parts[0]) for file in listed):
        raise UsageError(
            f"--code-packages: {package.metadata['Name']} is not installed as files (is it editable?): "
            "install it without --editable"
        )
    return [PurePosixPath(file) for file in listed]


def _is_module(name: str) -> bool:
    return not name.endswith((*_ALONE, ".pth")) and name != "__pycache__"


def _modules_of(package: metadata.Distribution) -> set[str]:
    """The names of the top-level modules of a package."""
    files = [file for file in _files_of(package) if _is_module(file.parts[0])]
    folders = {file.parts[0] for file in files if len(file.parts) > 1}
    singles = {file.name.partition(".")[0] for file in files if len(file.parts) == 1}
    # Single files count only if there is no folder: they may be scripts.
    return {name for name in folders or singles if name.isidentifier() and not name.startswith("_")}


def _paths_of(package: metadata.Distribution) -> Iterator[tuple[str, str]]:
    """The fewest folders and files that hold a package and nothing of another package."""
    files = _files_of(package)
    own = {file.parent for file in files if file.name == "__init__.py"}
    targets = set()
    for file in files:
        if "__pycache__" in file.parts[:1]:
            continue
        folders = [parent for parent in reversed(file.parents) if parent.name]
        own_folders = (
            folder for folder in folders if folder in own or folder.name.endswith(_ALONE)
        )
        # A folder without __init__.py may hold modules of other packages too: take single files.
        targets.add(next(own_folders, file))
    for target in sorted(targets):
        source = Path(str(package.locate_file(target))).resolve()
        if source.exists():
            yield str(source), str(target)
