"""Where tokens come from. Each engine's module has one heavy import, and is imported only when it is used."""

from distillpipe.chat import Chat
from distillpipe.engines.base import Completion, Engine, Request
from distillpipe.errors import UsageError
from distillpipe.models import Model
from distillpipe.records import EngineOptions

__all__ = ["Completion", "Engine", "Request", "open_engine"]


def open_engine(model: Model, chat: Chat, options: EngineOptions) -> Engine:
    """The engine that `options` ask for, its model loaded."""
    match options.engine:
        case "auto" | "transformers":
            from distillpipe.engines.transformers import TransformersEngine

            return TransformersEngine(model, chat, options.concurrency)
        case unknown:
            raise UsageError(f"no engine {unknown!r}: there are auto, transformers")
