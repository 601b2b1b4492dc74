"""How much memory there is."""

import os
import re
from pathlib import Path

from distillpipe.errors import EngineError


def check_room(name: str, num_bytes: int, there: int) -> None:
    """Refuse a model whose weights alone are more than all the memory: before it is loaded, which would end us."""
    if num_bytes > there:
        raise EngineError(
            f"{name} takes {num_bytes / 1e9:,.1f} GB, and there are {there / 1e9:,.1f} GB of memory in all: "
            "take a smaller model, or --engine vllm with more GPUs"
        )


def all_memory() -> int:
    """Bytes of this machine's memory, used or not."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def free_memory() -> int:
    """Bytes of this machine's memory that programs can have: what is unused, and the cache of files."""
    try:
        found = re.search(
            r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="utf-8"), re.M
        )
    except OSError:  # not Linux
        found = None
    if found is None:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(found[1]) * 1024
