"""Graphics cards: what nvidia-smi says of them, and how fast they are by their names."""

import pytest

from distillpipe.base.devices import graphics_cards, peak_of


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

    assert graphics_cards() == gpus


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA A10G", None),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("Tesla T4", None),
    ],
)
def test_the_peak_of_a_device_is_found_by_its_name(name: str, peak: float | None) -> None:
    assert peak_of(name) == peak
