"""How much memory there is."""

import os
import re
from pathlib import Path


def free_memory() -> int:
    """Bytes of this machine's memory that programs can have: what is unused, and the cache of files."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
    except OSError:  # not Linux
        found = None
    if found is None:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(found[1]) * 1024
