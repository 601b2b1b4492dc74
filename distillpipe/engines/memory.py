"""How much memory there is."""

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
    import psutil

    return int(psutil.virtual_memory().total)


def free_memory() -> int:
    """Bytes of this machine's memory that programs can have: what is unused, and the cache of files."""
    import psutil

    return int(psutil.virtual_memory().available)
