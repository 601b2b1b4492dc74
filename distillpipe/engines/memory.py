"""How much memory there is."""

import os


def free_memory() -> int:
    """Bytes of this machine's memory that nothing uses."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
