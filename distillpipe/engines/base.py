"""What an engine is: an iterator of requests in, an iterator of completions out, as they finish."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from distillpipe.records import FinishReason, Sampling


class Request(NamedTuple):
    """One completion that is wanted."""

    key: str
    "the row key; comes back with the completion"
    prompt_ids: list[int]
    sampling: Sampling
    seed: int
    "the same seed and prompt draw the same uniform numbers, whatever else is in flight"


class Completion(NamedTuple):
    """One completion, token ids in hand, the end token included where there was one."""

    key: str
    token_ids: list[int]
    finish_reason: FinishReason


class Engine(Protocol):
    """Samples completions. Raises EngineError when it dies; what it has yielded stays valid."""

    description: str
    "which engine on what: `transformers on cpu`"
    context_length: int
    "tokens of prompt and completion together that the model can take"

    def complete(self, requests: Iterator[Request]) -> Iterator[Completion]:
        """Completions in the order they finish.

        Requests are pulled lazily, a bounded number is in flight. A completion that would outgrow
        the context ends there by `length`. A prompt must be shorter than `context_length`.
        """
        ...
