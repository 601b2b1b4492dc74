"""`doctor`: what this machine can run, found by trying where it is cheap, and how to get the rest.

Nothing heavy is imported: versions come from the packages' metadata, graphics cards from nvidia-smi.
"""

import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import msgspec

from distillpipe.errors import MissingDependencyError
from distillpipe.forecast import size
from distillpipe.records import Record
from distillpipe.verify.sandbox import find_sandbox

PACKAGES = ("torch", "transformers", "accelerate", "peft", "datasets", "trl", "math-verify")
ENGINES = {
    "transformers": ("transformers", "pip install distillpipe"),
    "vllm": ("vllm", "pip install 'distillpipe[vllm]'"),
    "openai": ("openai", "pip install 'distillpipe[openai]'"),
}
NVIDIA_SMI_SECONDS = 20


class Check(Record, frozen=True, kw_only=True):
    """Whether something works here."""

    works: bool
    detail: str
    "its version where it works, else why it does not and what to do"


class Gpu(Record, frozen=True, kw_only=True):
    name: str
    memory_bytes: int


class Machine(Record, frozen=True, kw_only=True):
    """What `distill doctor --json` says."""

    sandbox: Check
    engines: dict[str, Check]
    packages: dict[str, str | None]
    "name: version, null where it is not installed"
    python: str
    system: str
    num_cores: int
    "cores that this process may use"
    memory_bytes: int
    available_memory_bytes: int
    free_disk_bytes: int
    "where the command was called"
    gpus: list[Gpu]


def doctor(*, as_json: bool) -> None:
    """Print what was found. A part that is missing is a line in the answer, never an error."""
    machine = examine()
    if as_json:
        said = msgspec.json.format(msgspec.json.encode(machine), indent=1).decode()
    else:
        said = "\n".join(lines(machine))
    sys.stdout.write(said + "\n")


def examine() -> Machine:
    memory = _memory()
    return Machine(
        sandbox=_sandbox(),
        engines={name: _engine(*needs) for name, needs in ENGINES.items()},
        packages={name: _version(name) for name in PACKAGES},
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        num_cores=len(os.sched_getaffinity(0)),
        memory_bytes=memory.get("MemTotal", 0),
        available_memory_bytes=memory.get("MemAvailable", 0),
        free_disk_bytes=shutil.disk_usage(Path.cwd()).free,
        gpus=_gpus(),
    )


def lines(machine: Machine) -> list[str]:
    """The same for people: a line each."""
    gpus = ", ".join(f"{gpu.name} ({size(gpu.memory_bytes)})" for gpu in machine.gpus)
    rows = [
        ("sandbox", _said(machine.sandbox)),
        *((f"engine {name}", _said(check)) for name, check in machine.engines.items()),
        ("python", machine.python),
        *((name, version or "not installed") for name, version in machine.packages.items()),
        ("system", machine.system),
        ("cores", str(machine.num_cores)),
        (
            "memory",
            f"{size(machine.memory_bytes)}, {size(machine.available_memory_bytes)} available",
        ),
        ("disk", f"{size(machine.free_disk_bytes)} free here"),
        ("GPUs", gpus or "none"),
    ]
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {value}" for name, value in rows]


def _said(check: Check) -> str:
    return f"works, {check.detail}" if check.works else f"does not work: {check.detail}"


def _sandbox() -> Check:
    try:
        find_sandbox()
    except MissingDependencyError as error:
        return Check(works=False, detail=str(error))
    return Check(works=True, detail="a program was run in it")


def _engine(package: str, install: str) -> Check:
    version = _version(package)
    if version is None:
        return Check(works=False, detail=f"not installed: {install}")
    return Check(works=True, detail=f"{package} {version} is installed")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _memory() -> dict[str, int]:
    """Bytes by the kernel's names, empty where there is no /proc/meminfo."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return {}
    pairs = (line.split(":") for line in path.read_text().splitlines())
    return {name: int(rest.split()[0]) * 1024 for name, rest in pairs}


def _gpus() -> list[Gpu]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            query, capture_output=True, text=True, check=True, timeout=NVIDIA_SMI_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return []
    found = [line.rpartition(",") for line in done.stdout.splitlines()]
    return [
        Gpu(name=name.strip(), memory_bytes=int(memory) << 20 if memory.strip().isdigit() else 0)
        for name, _, memory in found
        if name
    ]
