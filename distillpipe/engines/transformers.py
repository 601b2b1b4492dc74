"""The embedded engine: any causal language model of transformers, on CPU or one GPU.

Sequences live in slots of one key-value store and a slot is refilled when its sequence ends, so short
completions never wait for long ones. Random numbers are a hash of (seed of the request, position): what a
request draws does not depend on its neighbours. Shapes: A active slots, L stored positions, V vocabulary.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from distillpipe.chat import Chat
from distillpipe.engines.base import (
    Completion,
    Failure,
    Outcome,
    Request,
    refusal_of_unknown_token,
)
from distillpipe.engines.draw import draw_tokens, uniforms
from distillpipe.engines.loops import ends_in_loop
from distillpipe.engines.memory import free_memory
from distillpipe.engines.store import ATTENTION, Store
from distillpipe.errors import EngineError, UsageError, first_line
from distillpipe.models import Model
from distillpipe.progress import say
from distillpipe.records import FinishReason

disable_progress_bar()  # of loading, which is quick and would break our own

SPAN_STEP = 32  # stored positions are attended to in multiples of this
PREFILL_TOKENS = 16384  # padded prompt tokens in one forward pass
MEMORY_SHARE = 0.5  # of the free memory that keys and values may take
NOT_A_TOKEN = -1  # drawn where the logits are nan or infinite
NO_MEMORY = "can't allocate memory"  # torch's error on the CPU has no type of its own
REFILL_SHARE = 8  # new sequences are let in when one slot in this many is free


class TransformersEngine:
    """Loads a model and samples from it; see `engines.base.Engine`."""

    def __init__(
        self, model: Model, chat: Chat, num_slots: int, max_model_len: int | None = None
    ) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._model: Any = AutoModelForCausalLM.from_pretrained(
                model.weights_folder,
                dtype="auto" if self._device.type == "cuda" else torch.float32,
                attn_implementation=ATTENTION,
            )
            if model.base_folder is not None:
                self._model = _with_adapter(self._model, model.folder)
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            raise EngineError(f"{model.name} could not be loaded: {first_line(error)}") from error
        with _memory_named(model.name, "take a smaller model, or --engine vllm with more GPUs"):
            self._model.to(self._device).eval()
        config = self._model.config
        if set(getattr(config, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
            raise EngineError(
                f"{model.name} has layers other than full attention, which the transformers engine "
                "does not keep in slots"
            )
        self.context_length = _context_length(config, max_model_len)
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
        slots = _Slots(self._model, num_slots, self.context_length, self._device)
        exhausted = False
        while slots.num_active or not exhausted:
            num_free = num_slots - slots.num_active
            pulled: list[Request] = []
            if not exhausted and (num_free >= num_slots / REFILL_SHARE or not slots.num_active):
                pulled, exhausted = _pull(requests, num_free)
            if pulled:
                refusals = [refusal_of_unknown_token(one, self._vocab_size) for one in pulled]
                yield from filter(None, refusals)
                admitted = [
                    one for one, refusal in zip(pulled, refusals, strict=True) if not refusal
                ]
                for group in _grouped(admitted):
                    slots.prefill(group)
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


def _with_adapter(model: Any, adapter: Path) -> Any:
    """The model with an adapter's weights added to its own, in memory."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, adapter).merge_and_unload()


def _context_length(config: Any, max_model_len: int | None) -> int:
    longest = int(config.max_position_embeddings)
    if max_model_len is not None and max_model_len > longest:
        raise UsageError(
            f"--max-model-len {max_model_len:,} is more than the model's context of {longest:,} tokens"
        )
    return max_model_len or longest


class _Slots:
    """The sequences in flight. Active slots are the first `num_active`; a freed one is filled from the end."""

    def __init__(self, model: Any, num_slots: int, context: int, device: torch.device) -> None:
        self._model = model
        self._context = context
        self._device = device
        self._requests: list[Request] = []
        self._tokens: list[list[int]] = []
        self._store = Store(num_slots, device)
        self._lengths = torch.zeros(num_slots, dtype=torch.long, device=device)
        self._last = torch.zeros(num_slots, dtype=torch.long, device=device)
        self._temperature = torch.zeros(num_slots, device=device)
        self._top_p = torch.ones(num_slots, device=device)
        self._seeds = np.zeros(num_slots, dtype=np.uint64)

    @property
    def num_active(self) -> int:
        return len(self._requests)

    @torch.inference_mode()
    def prefill(self, group: list[Request]) -> None:
        """Take new sequences in: one forward pass over their right-padded prompts."""
        first, end = self.num_active, self.num_active + len(group)
        lengths = torch.tensor([len(request.prompt_ids) for request in group], device=self._device)
        ids = torch.zeros(len(group), int(lengths.max()), dtype=torch.long, device=self._device)
        for row, request in enumerate(group):
            ids[row, : len(request.prompt_ids)] = torch.tensor(request.prompt_ids)
            slot = first + row
            self._temperature[slot] = request.sampling.temperature
            self._top_p[slot] = request.sampling.top_p
            self._seeds[slot] = request.seed
        self._lengths[first:end] = lengths
        self._requests += group
        self._tokens += [[] for _ in group]
        self._store.write_prompts(first, end)
        positions = torch.arange(ids.shape[1], device=self._device)
        hidden = self._model.base_model(
            input_ids=ids,
            position_ids=positions[None],
            attention_mask=(positions[None] <= positions[:, None])[None, None],  # causal
            past_key_values=self._store,
            use_cache=True,
        ).last_hidden_state
        last = hidden[torch.arange(len(group), device=self._device), lengths - 1]  # (A, hidden)
        self._draw(last, first, end)

    @torch.inference_mode()
    def step(self) -> None:
        """One more token for every active sequence."""
        active = self.num_active
        lengths = self._lengths[:active]
        span = -(-(int(lengths.max()) + 1) // SPAN_STEP) * SPAN_STEP
        self._store.write_tokens(active, lengths, span)
        mask = torch.arange(span, device=self._device)[None] <= lengths[:, None]  # (A, L)
        hidden = self._model.base_model(
            input_ids=self._last[:active, None],
            position_ids=lengths[:, None],
            attention_mask=mask[:, None, None],
            past_key_values=self._store,
            use_cache=True,
        ).last_hidden_state
        self._lengths[:active] += 1
        self._draw(hidden[:, -1], 0, active)

    @torch.inference_mode()
    def take_finished(self, end_ids: frozenset[int]) -> list[Completion | Failure]:
        """The sequences that have ended; their slots are free afterwards."""
        finished: list[Completion | Failure] = []
        for slot in reversed(range(self.num_active)):
            request, tokens = self._requests[slot], self._tokens[slot]
            reason = self._finish_reason(slot, end_ids)
            if tokens[-1] == NOT_A_TOKEN:
                error = (
                    f"the model's logits are no numbers at token {len(tokens)} of the completion"
                )
                finished.append(Failure(request.key, error))
                self._store.clear(slot)
            elif reason is not None:
                finished.append(Completion(request.key, tokens, reason))
            else:
                continue
            self._free(slot)
        return finished

    def _draw(self, hidden: torch.Tensor, first: int, end: int) -> None:
        logits = self._model.get_output_embeddings()(hidden).float()  # (A, V)
        are_numbers = logits.amax(-1).isfinite()
        if not are_numbers.all():
            logits = logits.where(are_numbers[:, None], 0.0)
        drawn = uniforms(
            self._seeds[first:end], [len(tokens) for tokens in self._tokens[first:end]]
        )
        tokens = draw_tokens(
            logits,
            self._temperature[first:end],
            self._top_p[first:end],
            torch.from_numpy(drawn).to(self._device),
        )
        tokens = tokens.where(are_numbers, NOT_A_TOKEN)
        self._last[first:end] = tokens
        for slot, token in enumerate(tokens.tolist(), start=first):
            self._tokens[slot].append(token)

    def _finish_reason(self, slot: int, end_ids: frozenset[int]) -> FinishReason | None:
        request, tokens = self._requests[slot], self._tokens[slot]
        if tokens[-1] in end_ids or tokens[-1] in request.stop_ids:
            return "stop"
        room = self._context - len(request.prompt_ids)
        if len(tokens) >= min(request.max_tokens, room):
            return "length"
        is_loop = request.sampling.stop_loops and ends_in_loop(tokens)
        return "repetition" if is_loop else None

    def _free(self, slot: int) -> None:
        last = self.num_active - 1
        if slot != last:
            self._requests[slot], self._tokens[slot] = self._requests[last], self._tokens[last]
            self._store.copy(last, slot, int(self._lengths[last]))
            for values in (self._lengths, self._last, self._temperature, self._top_p):
                values[slot] = values[last]
            self._seeds[slot] = self._seeds[last]
        self._requests.pop()
        self._tokens.pop()


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
