"""Memory of the machine and of this process."""

import resource
import sys
from contextlib import suppress
from pathlib import Path

from distillpipe.base.errors import EngineError


def check_room(name: str, num_bytes: int, total: int) -> None:
    """Raise EngineError for a model whose weights alone exceed the memory: loading it would kill this process."""
    if num_bytes > total:
        raise EngineError(
            f"the weights of {name} take {num_bytes / 1e9:,.1f} GB, and this machine has "
            f"{total / 1e9:,.1f} GB of memory: use a smaller model, or --engine vllm with more GPUs"
        )


def limit_memory(num_bytes: int) -> None:
    """Let this process allocate `num_bytes` beyond its present size, if the system can limit it."""
    # OSError: there is no /proc, as on macOS; ValueError: the limit is lower already
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + num_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def all_memory() -> int:
    """Bytes of this machine's memory."""
    import psutil

    return int(psutil.virtual_memory().total)


def free_memory() -> int:
    """Bytes of memory that programs can still get: unused memory and the file cache."""
    import psutil

    return int(psutil.virtual_memory().available)


def peak_memory() -> int:
    """Peak resident bytes of this process, or of its largest child process that has ended."""
    unit = 1 if sys.platform == "darwin" else 1024
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return unit * max(resource.getrusage(target).ru_maxrss for target in who)


def peak_gpu_memory() -> int | None:
    """Peak bytes that torch allocated on GPUs in this process; None if it used none (vLLM runs in another process)."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    devices = range(torch.cuda.device_count())
    return sum(int(torch.cuda.max_memory_allocated(device)) for device in devices)
