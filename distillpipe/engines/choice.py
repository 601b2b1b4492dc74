"""Which engine samples."""

from importlib.util import find_spec

from distillpipe.errors import MissingDependencyError, UsageError
from distillpipe.progress import say
from distillpipe.records import EngineOptions
from distillpipe.requirements import install_command


def choose(options: EngineOptions) -> str:
    """The name of the engine; `auto` is vllm where there are vLLM and CUDA, else transformers, and is said.

    Raises UsageError for options that only vLLM has, MissingDependencyError where it is not installed.
    """
    name = options.engine
    if name == "auto":
        name, reason = _best()
        say(f"engine: {name} ({reason})")
    if name == "vllm" and not find_spec("vllm"):
        raise MissingDependencyError(
            f"--engine vllm needs vLLM, which is not installed: {install_command('vllm')}"
        )
    if name != "vllm" and (options.replicas > 1 or options.tensor_parallel_size > 1):
        raise UsageError(
            f"--replicas and --tensor-parallel-size are for --engine vllm, not for {name}"
        )
    return name


def _best() -> tuple[str, str]:
    """The best engine that this machine has, and why it is."""
    if not find_spec("vllm"):
        slow = f"; it is many times faster: {install_command('vllm')}" if _has_cuda() else ""
        return "transformers", f"vLLM is not installed{slow}"
    if not _has_cuda():
        return "transformers", "there is no CUDA GPU"
    return "vllm", "vLLM is installed and there is a CUDA GPU"


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
