"""The transformers engine: samples from any causal language model of transformers, on the CPU or one GPU.

Continuous batching: each sequence has a slot in one cache, and a slot is refilled when its sequence ends, so
short completions do not wait for long ones. Random numbers are a hash of (request seed, position), so a
completion does not depend on the other sequences in the batch.
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
from distillpipe.engines.transformers.labels import score_requests
from distillpipe.engines.transformers.output_head import output_head
from distillpipe.engines.transformers.slot_cache import ATTENTION
from distillpipe.engines.transformers.slot_model import tried
from distillpipe.engines.transformers.slots import Slots
from distillpipe.models import loading
from distillpipe.models.chat import Chat
from distillpipe.models.lookup import Model, count_weights

PREFILL_TOKENS = 16384  # padded prompt tokens in one forward pass
MEMORY_SHARE = 0.5  # of the free memory that the KV cache may take
NO_MEMORY = "can't allocate memory"  # torch has no exception type for this on the CPU
REFILL_SHARE = 8  # prompts are prefilled when one slot in this many is free


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
        with _memory_errors(model.name, "take a smaller model, or --engine vllm with more GPUs"):
            self._model.to(self._device).eval()
        config = self._model.config.get_text_config()
        self.context_length = _context_length(config, model.name, max_model_len)
        self._head = output_head(self._model, model.name)
        self._trial = tried(self._model, model.name, self._device)
        self._vocab_size = self._model.get_input_embeddings().num_embeddings
        self.description = f"transformers on {self._device}"
        self._end_ids = chat.end_ids
        self._num_slots = num_slots
        self._name = model.name

    def complete(self, requests: Iterator[Request | None]) -> Generator[Outcome, None, None]:
        """See `Engine.complete`."""
        with _memory_errors(self._name, "give a smaller --concurrency or --max-tokens"):
            yield from self._complete(requests)

    def _complete(self, requests: Iterator[Request | None]) -> Iterator[Outcome]:
        first = next(requests, None)
        if first is None:
            return
        requests = chain([first], requests)
        num_slots = self._num_slots_that_fit(min(first.sampling.max_tokens, self.context_length))
        soft_labels = first.soft_labels
        slots = Slots(
            self._model, self._head, num_slots, self.context_length, self._device, soft_labels
        )
        waiting: list[Request] = []  # for prefill, which delays all active sequences
        is_exhausted = False
        while slots.num_active or waiting or not is_exhausted:
            num_free = num_slots - slots.num_active - len(waiting)
            if not is_exhausted and num_free:
                pulled, is_exhausted = _pull(requests, num_free)
                to_sample: list[Request] = []
                to_score: list[Request] = []
                for request in pulled:
                    if refusal := refusal_of_unknown_token(request, self._vocab_size):
                        yield refusal
                    elif request.completion_ids is not None:
                        to_score.append(request)
                    else:
                        to_sample.append(request)
                yield from score_requests(self._model, self._head, to_score, self._device)
                waiting += slots.resume(to_sample)  # continuing rounds start at once
            has_room = num_slots - slots.num_active >= num_slots / REFILL_SHARE
            if waiting and (has_room or not slots.num_active):
                for group in _prefill_groups(waiting, of_one_length=self._trial.has_states):
                    slots.prefill(group)
                waiting = []
            elif slots.num_active:
                slots.step()
            yield from slots.take_finished(self._end_ids)

    def _num_slots_that_fit(self, longest: int) -> int:
        """The requested number of slots, or as many sequences of `longest` tokens as fit into free memory."""
        num_bytes = self._trial.bytes_per_token * max(longest, 1) + self._trial.bytes_per_slot
        if self._device.type == "cuda":
            free = torch.cuda.mem_get_info(self._device)[0]
        else:
            free = free_memory()
        fit = int(free * MEMORY_SHARE / max(num_bytes, 1))
        if fit < self._num_slots:
            say(f"{max(fit, 1)} concurrent sequences: memory holds no more of {longest:,} tokens")
        return max(1, min(self._num_slots, fit))


@contextmanager
def _memory_errors(name: str, remedy: str) -> Iterator[None]:
    """Turn torch's out-of-memory errors into an EngineError with a remedy."""
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
            f"{name} could not be loaded: its config.json has no context length (max_position_embeddings "
            f"is {longest!r})"
        )
    if max_model_len is not None and max_model_len > longest:
        raise UsageError(
            f"--max-model-len {max_model_len:,} is more than the model's context of {longest:,} tokens"
        )
    return max_model_len or longest


def _pull(requests: Iterator[Request | None], limit: int) -> tuple[list[Request], bool]:
    """Up to `limit` requests that are available now, and whether the iterator is exhausted."""
    pulled: list[Request] = []
    for request in islice(requests, limit):
        if request is None:
            return pulled, False
        pulled.append(request)
    return pulled, len(pulled) < limit


def _prefill_groups(requests: list[Request], *, of_one_length: bool) -> Iterator[list[Request]]:
    """Group requests of similar length, or of one length, whose padded prompts fit into one forward pass."""
    group: list[Request] = []
    for request in sorted(requests, key=lambda request: len(request.prompt_ids)):
        length = len(request.prompt_ids)
        is_full = (len(group) + 1) * length > PREFILL_TOKENS
        if group and (is_full or (of_one_length and length != len(group[0].prompt_ids))):
            yield group
            group = []
        group.append(request)
    if group:
        yield group
