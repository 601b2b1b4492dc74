"""`distill doctor`: what it says of this machine, with and without what it looks for."""

import importlib.util
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from distillpipe.base.errors import MissingDependencyError
from distillpipe.base.requirements import install_command, requirements
from distillpipe.stages import doctor as stage
from distillpipe.verify.code import sandbox as sandboxes


def test_it_says_everything_as_one_json_object(distill) -> None:
    done = distill("doctor", "--json")
    said = json.loads(done.out)

    assert done.code == 0
    assert set(said) == set(stage.Machine.__struct_fields__)
    assert set(said["engines"]) == {"transformers", "vllm", "openai"}
    assert set(said["methods"]) == {"full", "lora", "qlora"}
    assert set(said["extras"]) == {"math verdicts", "hub datasets", "problem clusters"}
    assert said["auto_engine"] in ("transformers", "vllm")
    assert said["packages"]["torch"]
    assert said["num_cores"] >= 1
    assert said["memory_bytes"] > said["available_memory_bytes"] > 0
    assert said["free_disk_bytes"] > 0


def test_it_tells_people_the_same_in_lines(distill) -> None:
    done = distill("doctor")

    assert done.code == 0
    names = (
        "sandbox",
        "engine vllm",
        "engine auto",
        "method qlora",
        "math verdicts",
        "torch",
        "cores",
    )
    for name in (*names, "memory", "disk", "model cache", "GPUs"):
        assert any(line.startswith(name) for line in done.out.splitlines()), name


def test_it_says_whether_the_sandbox_works(distill) -> None:
    try:
        sandboxes.find_sandbox()
    except MissingDependencyError as error:
        expected = {"works": False, "detail": str(error)}
    else:
        expected = {"works": True, "detail": "a program was run in it"}

    assert json.loads(distill("doctor", "--json").out)["sandbox"] == expected


def test_without_bubblewrap_it_names_the_command_that_installs_it(
    distill, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sandboxes._try_out.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))

    done = distill("doctor")

    assert done.code == 0
    assert "bubblewrap is not installed" in done.out
    assert sandboxes.install_command() in done.out


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ({"ID": "debian"}, "apt-get install bubblewrap"),
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, "apt-get install bubblewrap"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "dnf install bubblewrap"),
        ({"ID": "arch"}, "pacman -S bubblewrap"),
        ({"ID": "alpine"}, "apk add bubblewrap"),
        ({"ID": "opensuse-leap", "ID_LIKE": "suse opensuse"}, "zypper install bubblewrap"),
        ({"ID": "other"}, "install the package bubblewrap"),
    ],
)
def test_each_distribution_has_its_command(monkeypatch, release, command) -> None:
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: release)

    assert sandboxes.install_command() == command


# ---------------------------------------------------------------- what is installed

NOWHERE = "a-package-that-is-nowhere"
CARD = stage.Gpu(name="H100", memory_bytes=1)


@pytest.mark.parametrize(
    ("packages", "needs_gpu", "gpus", "expected"),
    [
        (("pytest",), False, [], (True, f"pytest {pytest.__version__}")),
        (("pytest",), True, [CARD], (True, f"pytest {pytest.__version__}")),
        (("pytest",), True, [], (False, f"no CUDA GPU (pytest {pytest.__version__})")),
        (
            ("pytest", NOWHERE),
            True,
            [CARD],
            (False, f"{NOWHERE} not installed: {install_command(NOWHERE)}"),
        ),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_installs_it(
    packages, needs_gpu, gpus, expected
) -> None:
    found = stage._check(packages, needs_gpu, gpus)

    assert (found.works, found.detail) == expected


def test_each_package_that_doctor_asks_for_has_a_tested_range() -> None:
    checks = (*stage.ENGINES.values(), *stage.METHODS.values(), *stage.EXTRAS.values())

    assert {name for packages, _ in checks for name in packages} <= set(requirements())


def test_a_package_that_is_newer_than_tested_is_a_warning(
    distill, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    newer = tmp_path / "torch-99.1.dist-info"
    newer.mkdir()
    (newer / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 99.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    tested = requirements()["torch"].specifier

    (warning,) = json.loads(distill("doctor", "--json").out)["newer_than_tested"]
    (line,) = [line for line in distill("doctor").out.splitlines() if "warning" in line]
    said, _, version = warning.rpartition(" ")
    assert said == "torch 99.1 is newer than the newest tested version"
    assert tested.contains(version)
    assert not tested.contains(f"{version.split('.')[0]}.{int(version.split('.')[1]) + 1}")
    assert line.endswith(warning)


def test_the_cache_of_models_is_where_the_hub_keeps_it(monkeypatch, tmp_path) -> None:
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert stage._model_cache() == Path.home() / ".cache" / "huggingface" / "hub"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert stage._model_cache() == tmp_path / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert stage._model_cache() == tmp_path / "home" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    assert stage._model_cache() == tmp_path / "cache"
    assert stage._free_bytes(tmp_path / "cache" / "not" / "there") > 0


def test_it_answers_where_torch_is_not_installed(tmp_path: Path, repository: Path) -> None:
    """In an environment that has typer, msgspec, rich and what they need, packaging and psutil."""
    needed = ("msgspec", "typer", "rich", "click", "shellingham", "annotated_doc", "markdown_it",
              "mdurl", "pygments", "typing_extensions.py", "pydantic", "pydantic_core",
              "annotated_types", "typing_inspection", "packaging", "psutil", "distillpipe")  # fmt: skip
    for name in needed:
        found = importlib.util.find_spec(name.removesuffix(".py"))
        if found is not None and found.origin is not None:
            origin = Path(found.origin)
            whole = origin if found.submodule_search_locations is None else origin.parent
            (tmp_path / whole.name).symlink_to(whole)
    there = metadata.distribution("distillpipe")._path  # type: ignore[attr-defined]
    (tmp_path / there.name).symlink_to(there)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
    program += "from distillpipe.cli.app import main; sys.argv = ['distill', 'doctor']; main()"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    command = install_command("torch", "transformers")
    (line,) = [line for line in done.stdout.splitlines() if "engine transformers" in line]
    assert "torch, transformers not installed: " in line
    assert line.endswith(command[command.index("'torch") :])
