"""How much memory there is."""

import resource
import sys

from distillpipe.base.errors import EngineError


def check_room(name: str, num_bytes: int, there: int) -> None:
    """Refuse a model whose weights alone are more than all the memory: before it is loaded, which would end us."""
    if num_bytes > there:
        raise EngineError(
            f"{name} takes {num_bytes / 1e9:,.1f} GB, and there are {there / 1e9:,.1f} GB of memory in all: "
            "take a smaller model, or --engine vllm with more GPUs"
        )


def all_memory() -> int:
    """Bytes of this machine's memory, used or not."""
    import psutil

    return int(psutil.virtual_memory().total)


def free_memory() -> int:
    """Bytes of this machine's memory that programs can have: what is unused, and the cache of files."""
    import psutil

    return int(psutil.virtual_memory().available)


def peak_memory() -> int:
    """Of this process or the largest that it started and that has ended."""
    unit = 1 if sys.platform == "darwin" else 1024
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return unit * max(resource.getrusage(one).ru_maxrss for one in who)


def peak_gpu_memory() -> int | None:
    """What torch held in this process; null where it held none, as where vLLM runs in another."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    devices = range(torch.cuda.device_count())
    return sum(int(torch.cuda.max_memory_allocated(device)) for device in devices)
