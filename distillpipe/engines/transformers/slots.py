"""The sequences in flight in the embedded engine, and those that have just ended.

What a sequence has stored stays until its slot is needed: a round that goes on with it (`Request.limit`) takes
the slot up again, and what was added meanwhile goes through the model a token a step, beside the others.
Shapes: A active slots, L stored positions, V vocabulary.
"""

from collections import deque
from typing import Any

import numpy as np
import torch

from distillpipe.base.records import FinishReason
from distillpipe.engines.base import Completion, Failure, Request, ends_in_loop
from distillpipe.engines.transformers.draw import draw_tokens, uniforms
from distillpipe.engines.transformers.kv_cache import Store
from distillpipe.engines.transformers.labels import Capture, likely

SPAN_STEP = 32  # stored positions are attended to in multiples of this
NOT_A_TOKEN = -1  # drawn where the logits are nan or infinite
MAX_ADDED_TOKENS = 32  # of a round that takes a slot up again: more are read faster in one pass


class Slots:
    """The sequences in flight. Active slots are the first `num_active`; a freed one is filled from the end."""

    def __init__(
        self,
        model: Any,
        num_slots: int,
        context: int,
        device: torch.device,
        soft_labels: int | None = None,
    ) -> None:
        self._model = model
        self._context = context
        self._device = device
        self._requests: list[Request] = []
        self._tokens: list[list[int]] = []
        self._added: list[deque[int]] = []
        "ends of prompts that are still to go through the model, of active slots"
        self._kept: dict[int, list[int]] = {}
        "tokens that a slot which is not active still holds"
        self._store = Store(num_slots, device)
        self._lengths = torch.zeros(num_slots, dtype=torch.long, device=device)
        self._last = torch.zeros(num_slots, dtype=torch.long, device=device)
        self._temperature = torch.zeros(num_slots, device=device)
        self._top_p = torch.ones(num_slots, device=device)
        self._seeds = np.zeros(num_slots, dtype=np.uint64)
        self._capture = None if soft_labels is None else Capture(num_slots, soft_labels)

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
            self._set_sampling(first + row, request)
        self._lengths[first:end] = lengths
        self._requests += group
        self._tokens += [[] for _ in group]
        self._added += [deque() for _ in group]
        for slot in range(first, end):
            self._kept.pop(slot, None)
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
            if not tokens:
                continue
            reason = self._finish_reason(slot, end_ids)
            if tokens[-1] == NOT_A_TOKEN:
                error = (
                    f"the model's logits are no numbers at token {len(tokens)} of the completion"
                )
                finished.append(Failure(request.key, error))
                self._store.clear(slot)
                self._free(slot)
            elif reason is not None:
                labels = self._capture.take(slot, tokens) if self._capture else None
                finished.append(Completion(request.key, tokens, reason, labels=labels))
                self._free(slot, is_kept=request.limit is not None)
        return finished

    @torch.inference_mode()
    def resume(self, requests: list[Request]) -> list[Request]:
        """Take up again the sequences that requests go on with, if they are still there; the others come back."""
        others = []
        for request in requests:
            found = self._kept_for(request)
            if found is None:
                others.append(request)
            else:
                self._take_up(request, *found)
        return others

    def _kept_for(self, request: Request) -> tuple[int, int] | None:
        """The slot that holds most of a request's prompt, and how many tokens of it."""
        if request.limit is None:
            return None
        shared = {slot: _num_shared(request.prompt_ids, ids) for slot, ids in self._kept.items()}
        slot = max(shared, key=lambda slot: shared[slot], default=None)
        if slot is None or len(request.prompt_ids) - shared[slot] > MAX_ADDED_TOKENS:
            return None
        return slot, shared[slot]

    def _take_up(self, request: Request, slot: int, num_stored: int) -> None:
        new = self.num_active
        del self._kept[slot]
        if slot != new:
            there = self._kept.pop(new, None)
            self._store.swap(slot, new, max(num_stored, len(there or ())))
            if there is not None:
                self._kept[slot] = there
        self._lengths[new] = num_stored
        self._last[new] = request.prompt_ids[num_stored]
        self._set_sampling(new, request)
        self._requests.append(request)
        self._tokens.append([])
        self._added.append(deque(request.prompt_ids[num_stored + 1 :]))

    def _set_sampling(self, slot: int, request: Request) -> None:
        self._temperature[slot] = request.sampling.temperature
        self._top_p[slot] = request.sampling.top_p
        self._seeds[slot] = request.seed

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
        if self._capture is not None:
            self._label(logits, tokens, first, end)
        tokens = tokens.where(are_numbers, NOT_A_TOKEN)
        self._last[first:end] = tokens
        for slot, token in enumerate(tokens.tolist(), start=first):
            if self._added[slot]:  # what was drawn is not ours: the prompt has its own next token
                self._last[slot] = self._added[slot].popleft()
            else:
                self._tokens[slot].append(token)

    def _label(self, logits: torch.Tensor, tokens: torch.Tensor, first: int, end: int) -> None:
        """Note the labels of what was drawn, but for what is not ours: that is written over."""
        assert self._capture is not None
        positions = [len(drawn) for drawn in self._tokens[first:end]]
        found = likely(logits, tokens, self._capture.k)
        self._capture.write(range(first, end), positions, found)

    def _finish_reason(self, slot: int, end_ids: frozenset[int]) -> FinishReason | None:
        request, tokens = self._requests[slot], self._tokens[slot]
        if tokens[-1] in end_ids or tokens[-1] in request.stop_ids:
            return "stop"
        room = self._context - len(request.prompt_ids)
        if len(tokens) >= min(request.max_tokens, room):
            return "length"
        is_loop = request.sampling.stop_loops and ends_in_loop(tokens)
        return "repetition" if is_loop else None

    def _free(self, slot: int, *, is_kept: bool = False) -> None:
        """Fill a slot from the end; what it holds is at the end then, for the round that may go on with it."""
        last = self.num_active - 1
        length = int(self._lengths[slot])
        ids = [*self._requests[slot].prompt_ids, *self._tokens[slot]][:length]
        if slot != last:
            self._requests[slot], self._tokens[slot] = self._requests[last], self._tokens[last]
            self._added[slot] = self._added[last]
            if is_kept:
                self._store.swap(slot, last, max(length, int(self._lengths[last])))
            else:
                self._store.copy(last, slot, int(self._lengths[last]))
            for values in (self._lengths, self._last, self._temperature, self._top_p):
                values[slot] = values[last]
            self._seeds[slot] = self._seeds[last]
            if self._capture is not None:
                self._capture.exchange(slot, last)
        self._requests.pop()
        self._tokens.pop()
        self._added.pop()
        if is_kept:
            self._kept[last] = ids


def _num_shared(prompt_ids: list[int], ids: list[int]) -> int:
    """How many tokens both begin with; the last one of a prompt has to go through the model in any case."""
    most = min(len(prompt_ids) - 1, len(ids))
    if prompt_ids[:most] == ids[:most]:
        return most
    return next(at for at in range(most) if prompt_ids[at] != ids[at])
