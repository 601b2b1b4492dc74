"""`make setup`: what it would run, what it remembers, and bubblewrap where it can be had without a password."""

import os
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

Make = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def checkout(tmp_path: Path, repository: Path) -> Path:
    """What make reads of a checkout, without an environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(repository / name, tmp_path)
    (tmp_path / "scripts").mkdir()
    for name in ("setup_bubblewrap.sh", "check_extras.py"):
        shutil.copy(repository / "scripts" / name, tmp_path / "scripts")
    return tmp_path


@pytest.fixture
def make(checkout: Path) -> Make:
    """`make("setup", "EXTRAS=vllm")` in the checkout."""
    environment = {name: os.environ[name] for name in os.environ if name not in ("EXTRAS", "MAKEFLAGS")}  # fmt: skip

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["make", *arguments],
            cwd=checkout, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def installed(checkout: Path, extras: str) -> None:
    """As where `make setup EXTRAS=...` has installed."""
    (checkout / ".venv").mkdir(exist_ok=True)
    (checkout / ".venv" / "installed").write_text(extras + "\n")


@pytest.mark.parametrize(
    ("before", "arguments", "extras"),
    [
        (None, [], "[dev]"),
        (None, ["EXTRAS=vllm"], "[dev,vllm]"),
        ("", [], None),
        ("", ["EXTRAS=vllm,wandb"], "[dev,vllm,wandb]"),
        ("vllm", [], None),  # what was asked for once stays
        ("vllm", ["EXTRAS=vllm"], None),
        ("vllm", ["EXTRAS=wandb"], "[dev,wandb]"),
        ("vllm", ["EXTRAS="], "[dev]"),
    ],
)
@pytest.mark.parametrize("target", ["setup", "test", "lint", "quickstart"])
def test_only_other_extras_install_again(
    checkout: Path, make: Make, target: str, before: str | None, arguments: list[str], extras: str | None
) -> None:  # fmt: skip
    if before is not None:
        installed(checkout, before)

    lines = make("-n", target, *arguments).stdout.splitlines()

    commands = [line for line in lines if "pip install" in line]
    if extras is None:
        assert commands == []
    else:
        (command,) = commands
        assert command.endswith(f"--constraint constraints.txt --editable '.{extras}'")
        assert f"echo '{extras[5:-1]}' > .venv/installed" in lines


def test_a_change_of_the_project_installs_the_same_extras_again(checkout: Path, make: Make) -> None:
    installed(checkout, "vllm")
    later = (checkout / ".venv" / "installed").stat().st_mtime + 1
    os.utime(checkout / "pyproject.toml", (later, later))

    assert "'.[dev,vllm]'" in make("-n", "test").stdout


def test_an_unknown_extra_is_an_error_before_anything_is_made(checkout: Path, make: Make) -> None:
    done = make("setup", "EXTRAS=report,vlm")

    assert done.returncode != 0
    assert "EXTRAS=report,vlm: no extra 'vlm': there are vllm, qlora, hub," in done.stderr
    assert not (checkout / ".venv").exists()


def test_the_first_command_on_a_machine_sees_to_bubblewrap_once(make: Make) -> None:
    for target in ("setup", "test"):
        lines = make("-n", target).stdout.splitlines()
        assert lines.count("scripts/setup_bubblewrap.sh") == 1


def test_later_only_setup_sees_to_bubblewrap(checkout: Path, make: Make) -> None:
    installed(checkout, "")

    assert "scripts/setup_bubblewrap.sh" in make("-n", "setup").stdout
    assert "scripts/setup_bubblewrap.sh" not in make("-n", "test").stdout


# ---------------------------------------------------------------- bubblewrap

SYSTEM = ("bash", "env", "mktemp", "rm", "tail", "true")
SUDO = '[ "$1" = -n ] || exit 1; shift; echo "sudo $*" >> "$CALLS"; exec "$@"'
INSTALLS = 'echo "{name} $*" >> "$CALLS"'
FAILS = 'echo "{name} $*" >> "$CALLS"; echo no such package >&2; exit 100'


@pytest.mark.parametrize(
    ("programs", "uid", "calls", "said"),
    [
        ({"bwrap": "", "apt-get": INSTALLS}, 0, [], ""),
        ({"apt-get": INSTALLS}, 0, ["apt-get update -qq", "apt-get install -y bubblewrap"],
         "bubblewrap: installed (apt-get install -y bubblewrap)"),
        ({"dnf": INSTALLS}, 0, ["dnf install -y bubblewrap"],
         "bubblewrap: installed (dnf install -y bubblewrap)"),
        ({"dnf": INSTALLS, "sudo": SUDO}, 1000,
         ["sudo true", "sudo env DEBIAN_FRONTEND=noninteractive dnf install -y bubblewrap",
          "dnf install -y bubblewrap"],
         "bubblewrap: installed (dnf install -y bubblewrap)"),
        ({"apt-get": INSTALLS, "sudo": "exit 1"}, 1000, [],
         "bubblewrap: not installed; to verify programs written by models, run: sudo apt-get install -y bubblewrap"),
        ({"apt-get": INSTALLS}, 1000, [],
         "bubblewrap: not installed; to verify programs written by models, run: sudo apt-get install -y bubblewrap"),
        ({"apt-get": FAILS}, 0, ["apt-get update -qq", "apt-get install -y bubblewrap"],
         "no such package\nbubblewrap: could not be installed; to verify programs written by models, "
         "run: apt-get install -y bubblewrap"),
        ({}, 0, [],
         "bubblewrap: not installed; install the package bubblewrap to verify programs written by models"),
        ({"uname": "echo Darwin", "apt-get": INSTALLS}, 0, [],
         "bubblewrap: it exists only for Linux, so programs written by models cannot run here"),
    ],
    ids=["there", "apt", "dnf", "sudo", "sudo asks", "no sudo", "fails", "neither", "macOS"],
)  # fmt: skip
def test_bubblewrap_is_installed_where_nobody_is_asked(
    tmp_path: Path, repository: Path, programs: dict[str, str], uid: int, calls: list[str], said: str
) -> None:  # fmt: skip
    """The programs of a machine are scripts that write down how they were called."""
    for name in SYSTEM:
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    for name, body in ({"uname": "echo Linux", "id": f"echo {uid}"} | programs).items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body.format(name=name)}\n")
        (tmp_path / name).chmod(0o755)
    log = tmp_path / "calls"
    log.touch()

    done = subprocess.run(
        [tmp_path / "bash", repository / "scripts" / "setup_bubblewrap.sh"],
        env={"PATH": str(tmp_path), "CALLS": str(log)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, said, "")
    assert log.read_text().splitlines() == calls


# ---------------------------------------------------------------- the wheel


def test_every_data_file_of_the_package_is_packed(repository: Path) -> None:
    """By the patterns of package-data; `make check-wheel` compares with a wheel that was built."""
    settings = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["setuptools"]
    package = repository / "distillpipe"
    packed = {
        path for pattern in settings["package-data"]["distillpipe"] for path in package.glob(pattern)
    }  # fmt: skip
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "distillpipe"],
        cwd=repository, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    data = {repository / name for name in listed.split("\0") if name and not name.endswith(".py")}
    data = {path for path in data if path.exists()}

    assert package / "py.typed" in data
    assert data == packed
