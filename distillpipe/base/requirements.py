"""What distillpipe requires, read from its own package metadata.

Install commands and the newest tested versions are made from the metadata, so pyproject.toml is the only list.
"""

import functools
import shlex
import shutil
import sys
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "distillpipe"


@functools.cache
def requirements() -> dict[str, "Requirement"]:
    """Each package that distillpipe or one of its extras requires, by its name; the extra `dev` is left out.

    Empty if distillpipe is not installed, for example if only its folder is on the path.
    """
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    parsed = [Requirement(line) for line in lines]
    return {needed.name: needed for needed in parsed if 'extra == "dev"' not in str(needed.marker)}


def install_command(*packages: str) -> str:
    """The command that installs packages into this environment, in the versions that were tested.

    `pip install 'bitsandbytes>=0.50,<0.51'`. A package that distillpipe does not require has no range.
    """
    return " ".join([_installer(), *(shlex.quote(_with_range(name)) for name in packages)])


def installed_version(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def newer_than_tested() -> list[str]:
    """One sentence for each installed package that is newer than what this release was tested with."""
    from packaging.version import Version

    warnings = []
    for name, requirement in requirements().items():
        version = installed_version(name)
        for limit in requirement.specifier:
            if version is None or limit.operator != "<":
                continue
            bound = Version(limit.version).release
            # compared as numbers, so that 2.14.0rc1 is newer than 2.13 too
            if Version(version).release[: len(bound)] >= bound:
                tested = ".".join(map(str, (*bound[:-1], bound[-1] - 1)))
                warnings.append(
                    f"{name} {version} is newer than the newest tested version {tested}"
                )
    return warnings


def _with_range(name: str) -> str:
    """`bitsandbytes>=0.50,<0.51`: the lower bound first."""
    requirement = requirements().get(name)
    limits = sorted(map(str, requirement.specifier), reverse=True) if requirement else []
    return name + ",".join(limits)


def _installer() -> str:
    """`pip install` of this environment, whether or not the shell has activated it."""
    python = Path(sys.executable)
    if util.find_spec("pip") is None:  # an environment made by uv
        return f"uv pip install --python {shlex.quote(str(python))}"
    pip = shutil.which("pip")
    if pip is not None and Path(pip).parent == python.parent:
        return "pip install"
    return f"{shlex.quote(str(python))} -m pip install"
