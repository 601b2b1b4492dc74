"""Graphics cards: which there are, and how fast they are. Nothing heavy is imported."""

import re
import shutil
import subprocess

NVIDIA_SMI_SECONDS = 20
# bf16 without sparsity, in operations per second, from NVIDIA's data sheets. The first name that the device's name
# contains is used.
PEAKS = (
    ("B200", 2250e12), ("GH200", 989e12), ("H200", 989e12), ("H100 PCIe", 756e12), ("H100 NVL", 835e12),
    ("H100", 989e12), ("A100", 312e12), ("L40S", 362e12), ("L4", 121e12), ("A10", 125e12), ("RTX 5090", 209e12),
    ("RTX 4090", 165e12), ("RTX 3090", 71e12),
)  # fmt: skip


def graphics_cards() -> list[tuple[str, int]]:
    """Name and bytes of memory of each card that nvidia-smi knows; empty without it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(
            query, capture_output=True, encoding="utf-8", errors="replace", check=True,
            timeout=NVIDIA_SMI_SECONDS,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    cards = (line.rpartition(",") for line in output.splitlines())
    return [
        (name.strip(), int(memory) << 20 if memory.strip().isdigit() else 0)
        for name, _, memory in cards
        if name
    ]


def peak_of(name: str) -> float | None:
    """The peak bf16 operations per second of a device with this name; None if unknown."""
    if "Laptop" in name:  # other devices with the same name
        return None
    return next((peak for model, peak in PEAKS if re.search(rf"\b{model}\b", name)), None)
