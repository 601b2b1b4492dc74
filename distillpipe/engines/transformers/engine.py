"""The embedded engine: any causal language model of transformers, on CPU or one GPU.

Sequences live in slots of one key-value store and a slot is refilled when its sequence ends, so short
completions never wait for long ones. Random numbers are a hash of (seed of the request, position): what a
request draws does not depend on its neighbours.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import torch

from distillpipe.base.errors import EngineError, UsageError, first_line
from distillpipe.base.memory import all_memory, check_room, free_memory
from distillpipe.base.progress import say
from distillpipe.engines.base import (
    Outcome,
    Request,
    refusal_of_unknown_token,
)
from distillpipe.engines.transformers.kv_cache import ATTENTION
from distillpipe.engines.transformers.labels import scored
from distillpipe.engines.transformers.slots import Slots
from distillpipe.models import loading
from distillpipe.models.chat import Chat
from distillpipe.models.lookup import Model, count_weights

PREFILL_TOKENS = 16384  # padded prompt tokens in one forward pass
MEMORY_SHARE = 0.5  # of the free memory that keys and values may take
NO_MEMORY = "can't allocate memory"  # torch's error on the CPU has no type of its own
REFILL_SHARE = 8  # new sequences are let in when one slot in this many is free


class TransformersEngine:
    """Loads a model and samples from it; see `engines.base.Engine`."""

    def __init__(
        self, model: Model, chat: Chat, num_slots: int, max_model_len: int | None = None
    ) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self._device.type == "cpu":
            num_bytes = torch.float32.itemsize * count_weights(model.weights_folder)
            check_room(model.name, num_bytes, all_memory())
        self._model: Any = loading.load_whole_model(
            model,
            dtype="auto" if self._device.type == "cuda" else torch.float32,
            attn_implementation=ATTENTION,
        )
        with _memory_named(model.name, "take a smaller model, or --engine vllm with more GPUs"):
            self._model.to(self._device).eval()
        config = self._model.config
        if set(getattr(config, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
            raise EngineError(
                f"{model.name} has layers other than full attention, which the transformers engine "
                "does not keep in slots"
            )
        self.context_length = _context_length(config, model.name, max_model_len)
        self._vocab_size = self._model.get_input_embeddings().num_embeddings
        self.description = f"transformers on {self._device}"
        self._end_ids = chat.end_ids
        self._num_slots = num_slots
        self._name = model.name

    def complete(self, requests: Iterator[Request | None]) -> Generator[Outcome, None, None]:
        """See `Engine.complete`."""
        with _memory_named(self._name, "give a smaller --concurrency or --max-tokens"):
            yield from self._complete(requests)

    def _complete(self, requests: Iterator[Request | None]) -> Iterator[Outcome]:
        first = next(requests, None)
        if first is None:
            return
        requests = chain([first], requests)
        num_slots = self._num_slots_that_fit(min(first.sampling.max_tokens, self.context_length))
        soft_labels = first.soft_labels
        slots = Slots(self._model, num_slots, self.context_length, self._device, soft_labels)
        waiting: list[Request] = []  # new sequences: a pass over prompts holds up all others
        exhausted = False
        while slots.num_active or waiting or not exhausted:
            num_free = num_slots - slots.num_active - len(waiting)
            if not exhausted and num_free:
                pulled, exhausted = _pull(requests, num_free)
                refusals = [refusal_of_unknown_token(one, self._vocab_size) for one in pulled]
                yield from filter(None, refusals)
                admitted = [
                    one for one, refusal in zip(pulled, refusals, strict=True) if not refusal
                ]
                there = [one for one in admitted if one.completion_ids is not None]
                yield from scored(self._model, there, self._device)
                admitted = [one for one in admitted if one.completion_ids is None]
                waiting += slots.resume(admitted)  # what goes on does so at once
            is_enough = num_slots - slots.num_active >= num_slots / REFILL_SHARE
            if waiting and (is_enough or not slots.num_active):
                for group in _grouped(waiting):
                    slots.prefill(group)
                waiting = []
            elif slots.num_active:
                slots.step()
            yield from slots.take_finished(self._end_ids)

    def _num_slots_that_fit(self, longest: int) -> int:
        """As many slots as were asked for, or as the free memory holds with completions of `longest`."""
        config = self._model.config
        heads = config.num_key_value_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        bytes_per_token = 2 * config.num_hidden_layers * heads * size * self._model.dtype.itemsize
        if self._device.type == "cuda":
            free = torch.cuda.mem_get_info(self._device)[0]
        else:
            free = free_memory()
        fit = int(free * MEMORY_SHARE / (bytes_per_token * max(longest, 1)))
        if fit < self._num_slots:
            say(f"{max(fit, 1)} sequences at once: the memory holds no more of {longest:,} tokens")
        return max(1, min(self._num_slots, fit))


@contextmanager
def _memory_named(name: str, remedy: str) -> Iterator[None]:
    """Turn torch's ways of saying that there is no memory left into an EngineError."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and NO_MEMORY not in str(error):
            raise
        raise EngineError(f"out of memory with {name}: {remedy} ({first_line(error)})") from error


def _context_length(config: Any, name: str, max_model_len: int | None) -> int:
    longest = getattr(config, "max_position_embeddings", None)
    if not isinstance(longest, int) or longest < 1:
        raise EngineError(
            f"{name} could not be loaded: its config.json names no context (max_position_embeddings is "
            f"{longest!r})"
        )
    if max_model_len is not None and max_model_len > longest:
        raise UsageError(
            f"--max-model-len {max_model_len:,} is more than the model's context of {longest:,} tokens"
        )
    return max_model_len or longest


def _pull(requests: Iterator[Request | None], most: int) -> tuple[list[Request], bool]:
    """Up to `most` requests that there are now, and whether there will be no other."""
    pulled: list[Request] = []
    for request in islice(requests, most):
        if request is None:
            return pulled, False
        pulled.append(request)
    return pulled, len(pulled) < most


def _grouped(requests: list[Request]) -> Iterator[list[Request]]:
    """Groups of requests of like length whose padded prompts fit into one forward pass."""
    group: list[Request] = []
    for request in sorted(requests, key=lambda request: len(request.prompt_ids)):
        if group and (len(group) + 1) * len(request.prompt_ids) > PREFILL_TOKENS:
            yield group
            group = []
        group.append(request)
    if group:
        yield group
