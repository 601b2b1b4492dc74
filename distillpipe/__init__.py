"""distillpipe distils a reasoning model into a small one: generate, filter, sft, evaluate; see `distillpipe.api`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distillpipe.api import (
        Evaluation,
        Result,
        compare,
        evaluate,
        filter,
        generate,
        label,
        read_traces,
        sft,
    )
    from distillpipe.base.errors import DistillError

__version__ = "0.1.0"
__all__ = [
    "DistillError",
    "Evaluation",
    "Result",
    "__version__",
    "compare",
    "evaluate",
    "filter",
    "generate",
    "label",
    "read_traces",
    "sft",
]


def __getattr__(name: str) -> Any:
    """Import the API when it is asked for: `import distillpipe` alone loads nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'distillpipe' has no attribute {name!r}")
    if name == "DistillError":
        from distillpipe.base import errors

        return errors.DistillError
    from distillpipe import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return __all__
