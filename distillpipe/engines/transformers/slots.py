"""The batch of the transformers engine: one slot per sequence in flight.

The cache of an ended sequence stays until its slot is needed. A round that continues the sequence
(`Request.limit`) takes the slot again. Tokens that were added in between are fed to the model one per step, in
the same batch as the other sequences. Shapes: A active slots, L stored positions, V vocabulary.
"""

from collections import deque
from typing import Any

import numpy as np
import torch

from distillpipe.base.records import FinishReason
from distillpipe.engines.base import Completion, Failure, Request, ends_in_loop
from distillpipe.engines.transformers.draw import draw_tokens, uniforms
from distillpipe.engines.transformers.labels import LabelBuffer, top_tokens
from distillpipe.engines.transformers.output_head import OutputHead
from distillpipe.engines.transformers.slot_model import SlotModel

NOT_A_TOKEN = -1  # sampled where the logits are nan or infinite
MAX_ADDED_TOKENS = 32  # per continuing round: more are faster in a new prefill


class Slots:
    """The sequences in flight. The first `num_active` slots are active; a freed one is filled from the end."""

    def __init__(
        self,
        model: Any,
        head: OutputHead,
        num_slots: int,
        context: int,
        device: torch.device,
        soft_labels: int | None = None,
    ) -> None:
        self._model = SlotModel(model, num_slots, device)
        self._cache = self._model.cache
        self._head = head
        self._context = context
        self._device = device
        self._requests: list[Request] = []
        self._tokens: list[list[int]] = []
        self._added: list[deque[int]] = []
        "per active slot: the rest of the prompt that the model has not read yet"
        self._kept: dict[int, list[int]] = {}
        "per inactive slot: the tokens that its cache still holds"
        self._lengths = torch.zeros(num_slots, dtype=torch.long, device=device)
        self._last = torch.zeros(num_slots, dtype=torch.long, device=device)
        self._temperature = torch.zeros(num_slots, device=device)
        self._top_p = torch.ones(num_slots, device=device)
        self._seeds = np.zeros(num_slots, dtype=np.uint64)
        self._label_buffer = None if soft_labels is None else LabelBuffer(num_slots, soft_labels)

    @property
    def num_active(self) -> int:
        return len(self._requests)

    @torch.inference_mode()
    def prefill(self, group: list[Request]) -> None:
        """Add new sequences: one forward pass over their right-padded prompts, of equal length for recurrent layers."""
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
        hidden = self._model.read_prompts(ids, first)
        last = hidden[torch.arange(len(group), device=self._device), lengths - 1]  # (A, hidden)
        self._draw(last, first, end)

    @torch.inference_mode()
    def step(self) -> None:
        """Sample one more token of every active sequence."""
        active = self.num_active
        hidden = self._model.read_tokens(self._last[:active], self._lengths[:active])
        self._lengths[:active] += 1
        self._draw(hidden, 0, active)

    @torch.inference_mode()
    def take_finished(self, end_ids: frozenset[int]) -> list[Completion | Failure]:
        """Return the sequences that have ended and free their slots."""
        finished: list[Completion | Failure] = []
        for slot in reversed(range(self.num_active)):
            request, tokens = self._requests[slot], self._tokens[slot]
            if not tokens:  # the model has not read the whole prompt yet
                continue
            reason = self._finish_reason(slot, end_ids)
            if tokens[-1] == NOT_A_TOKEN:
                error = (
                    f"the model's logits are not finite at token {len(tokens)} of the completion"
                )
                finished.append(Failure(request.key, error))
                self._cache.clear(slot)
                self._free(slot)
            elif reason is not None:
                labels = self._label_buffer.take(slot, tokens) if self._label_buffer else None
                finished.append(Completion(request.key, tokens, reason, labels=labels))
                self._free(slot, is_kept=request.limit is not None)
        return finished

    @torch.inference_mode()
    def resume(self, requests: list[Request]) -> list[Request]:
        """Continue sequences whose slots still hold their prompts; returns the other requests."""
        others = []
        for request in requests:
            match = self._matching_slot(request)
            if match is None:
                others.append(request)
            else:
                self._reactivate(request, *match)
        return others

    def _matching_slot(self, request: Request) -> tuple[int, int] | None:
        """The inactive slot that holds most of a request's prompt, and how many tokens of it."""
        if request.limit is None:
            return None
        shared = {slot: _num_shared(request.prompt_ids, ids) for slot, ids in self._kept.items()}
        if (
            self._cache.has_states
        ):  # a state cannot be taken back: all that the slot has read must be in the prompt
            shared = {slot: num for slot, num in shared.items() if num == len(self._kept[slot])}
        slot = max(shared, key=lambda slot: shared[slot], default=None)
        if slot is None or len(request.prompt_ids) - shared[slot] > MAX_ADDED_TOKENS:
            return None
        return slot, shared[slot]

    def _reactivate(self, request: Request, slot: int, num_stored: int) -> None:
        new = self.num_active
        del self._kept[slot]
        if slot != new:
            displaced = self._kept.pop(new, None)
            self._cache.swap(slot, new, max(num_stored, len(displaced or ())))
            if displaced is not None:
                self._kept[slot] = displaced
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
        logits = self._head(hidden)  # (A, V)
        is_finite = logits.amax(-1).isfinite()
        if not is_finite.all():
            logits = logits.where(is_finite[:, None], 0.0)
        positions = [len(tokens) for tokens in self._tokens[first:end]]
        uniform = uniforms(self._seeds[first:end], positions)
        tokens = draw_tokens(
            logits,
            self._temperature[first:end],
            self._top_p[first:end],
            torch.from_numpy(uniform).to(self._device),
        )
        if self._label_buffer is not None:
            # while a prompt is still read, labels are overwritten like the token, at the same position
            labels = top_tokens(logits, tokens, self._label_buffer.k)
            self._label_buffer.write(range(first, end), positions, labels)
        tokens = tokens.where(is_finite, NOT_A_TOKEN)
        self._last[first:end] = tokens
        for slot, token in enumerate(tokens.tolist(), start=first):
            if self._added[slot]:  # the prompt has its own next token: the sampled one is discarded
                self._last[slot] = self._added[slot].popleft()
            else:
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

    def _free(self, slot: int, *, is_kept: bool = False) -> None:
        """Free a slot and fill it from the end. With `is_kept` its cache moves to the end, for a later round."""
        last = self.num_active - 1
        length = int(self._lengths[slot])
        ids = [*self._requests[slot].prompt_ids, *self._tokens[slot]][:length]
        if slot != last:
            self._requests[slot], self._tokens[slot] = self._requests[last], self._tokens[last]
            self._added[slot] = self._added[last]
            if is_kept:
                self._cache.swap(slot, last, max(length, int(self._lengths[last])))
            else:
                self._cache.copy(last, slot, int(self._lengths[last]))
            for values in (self._lengths, self._last, self._temperature, self._top_p):
                values[slot] = values[last]
            self._seeds[slot] = self._seeds[last]
            if self._label_buffer is not None:
                self._label_buffer.swap(slot, last)
        self._requests.pop()
        self._tokens.pop()
        self._added.pop()
        if is_kept:
            self._kept[last] = ids


def _num_shared(prompt_ids: list[int], ids: list[int]) -> int:
    """Length of the common prefix, without the prompt's last token, which the model must read in any case."""
    longest = min(len(prompt_ids) - 1, len(ids))
    if prompt_ids[:longest] == ids[:longest]:
        return longest
    return next(index for index in range(longest) if prompt_ids[index] != ids[index])
