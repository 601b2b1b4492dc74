"""Which engine samples."""

from importlib.util import find_spec

from distillpipe.errors import MissingDependencyError, UsageError
from distillpipe.records import EngineOptions


def choose(options: EngineOptions) -> str:
    """The name of the engine; `auto` is vllm where there are vLLM and CUDA, else transformers.

    Raises UsageError for options that only vLLM has, MissingDependencyError where it is not installed.
    """
    name = options.engine
    if name == "auto":
        name = "vllm" if find_spec("vllm") and _has_cuda() else "transformers"
    if name == "vllm" and not find_spec("vllm"):
        raise MissingDependencyError(
            "--engine vllm needs vLLM, which is not installed: pip install 'distillpipe[vllm]'"
        )
    if name != "vllm" and (options.replicas > 1 or options.tensor_parallel_size > 1):
        raise UsageError(
            f"--replicas and --tensor-parallel-size are for --engine vllm, not for {name}"
        )
    return name


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
