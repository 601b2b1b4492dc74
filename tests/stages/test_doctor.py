"""`distill doctor`: what it says of this machine, with and without what it looks for."""

import json
from pathlib import Path

import pytest

from distillpipe.errors import MissingDependencyError
from distillpipe.stages import doctor as stage
from distillpipe.verify import sandbox as sandboxes


def test_it_says_everything_as_one_json_object(distill) -> None:
    done = distill("doctor", "--json")
    said = json.loads(done.out)

    assert done.code == 0
    assert set(said) == set(stage.Machine.__struct_fields__)
    assert set(said["engines"]) == {"transformers", "vllm", "openai"}
    assert said["packages"]["torch"]
    assert said["num_cores"] >= 1
    assert said["memory_bytes"] > said["available_memory_bytes"] > 0
    assert said["free_disk_bytes"] > 0


def test_it_tells_people_the_same_in_lines(distill) -> None:
    done = distill("doctor")

    assert done.code == 0
    for name in ("sandbox", "engine vllm", "torch", "cores", "memory", "disk", "GPUs"):
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


@pytest.mark.parametrize(
    ("script", "gpus"),
    [
        ("echo 'NVIDIA H100 80GB HBM3, 81559'", [("NVIDIA H100 80GB HBM3", 81559 << 20)]),
        ("echo 'A, 1'; echo 'B, [N/A]'", [("A", 1 << 20), ("B", 0)]),
        ("echo 'no devices'; exit 9", []),
        ("true", []),
    ],
)
def test_graphics_cards_are_what_nvidia_smi_says(monkeypatch, tmp_path, script, gpus) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert [(gpu.name, gpu.memory_bytes) for gpu in stage._gpus()] == gpus
