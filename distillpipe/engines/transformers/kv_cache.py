"""The KV cache of the transformers engine, and the attention function that reads it.

Shapes: S slots, A active slots, H key-value heads, Hq query heads, L stored positions, D head size.
"""

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

ATTENTION = "distillpipe_slots"  # attn_implementation of a model that reads a KVCache


class KVCache:
    """Keys and values of all slots, (S, H, L, D) per layer.

    Replaces a cache of transformers. Each forward pass gets its positions and its mask from the caller, so the
    model needs only `update`.
    """

    def __init__(self, num_slots: int, device: torch.device) -> None:
        self._num_slots = num_slots
        self._device = device
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._first = self._end = self._span = 0
        self._lengths: torch.Tensor | None = None

    def write_prompts(self, first: int, end: int) -> None:
        """Announce that the next forward pass has whole prompts for the slots from `first` to `end`."""
        self._first, self._end, self._lengths = first, end, None

    def write_tokens(self, active: int, lengths: torch.Tensor, span: int) -> None:
        """Announce that the next forward pass has one token for each of the first `active` slots."""
        self._end, self._lengths, self._span = active, lengths, span
        self._rows = torch.arange(active, device=self._device)

    def copy(self, source: int, target: int, length: int) -> None:
        for layer in self._layers:
            for stored in layer:
                stored[target, :, :length] = stored[source, :, :length]

    def swap(self, slot: int, other: int, length: int) -> None:
        for layer in self._layers:
            for stored in layer:
                copied = stored[slot, :, :length].clone()
                stored[slot, :, :length] = stored[other, :, :length]
                stored[other, :, :length] = copied

    def clear(self, slot: int) -> None:
        """Zero a slot that holds nan, which would reach its next sequence even through a mask (0 * nan)."""
        for layer in self._layers:
            for stored in layer:
                stored[slot] = 0

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by each attention layer: store new keys and values, return all to attend to."""
        span = keys.shape[2] if self._lengths is None else self._span
        stored_keys, stored_values = self._layer_with_room(layer, keys, span)
        if self._lengths is None:
            stored_keys[self._first : self._end, :, :span] = keys
            stored_values[self._first : self._end, :, :span] = values
            return keys, values
        stored_keys[self._rows, :, self._lengths] = keys[:, :, 0]
        stored_values[self._rows, :, self._lengths] = values[:, :, 0]
        return stored_keys[: self._end, :, :span], stored_values[: self._end, :, :span]

    def get_seq_length(self, _layer: int = 0) -> int:
        return 0

    def _layer_with_room(
        self, layer: int, keys: torch.Tensor, span: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer's keys and values, grown to at least `span` positions."""
        if layer == len(self._layers):
            shape = (self._num_slots, keys.shape[1], 0, keys.shape[3])
            self._layers.append((keys.new_empty(shape), keys.new_empty(shape)))
        capacity = self._layers[layer][0].shape[2]
        if capacity < span:
            larger = max(span, 2 * capacity, 256)
            stored_keys, stored_values = self._layers[layer]
            self._layers[layer] = _grown(stored_keys, larger), _grown(stored_values, larger)
        return self._layers[layer]


def _grown(stored: torch.Tensor, capacity: int) -> torch.Tensor:
    num_slots, num_heads, length, head_size = stored.shape
    grown = stored.new_zeros(num_slots, num_heads, capacity, head_size)
    grown[:, :, :length] = stored
    return grown


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one new token per slot, with query heads that share keys as query positions.

    (A, Hq, 1, D) becomes (A, H, Hq/H, D), so grouped-query attention needs no copies of keys and values.
    """
    if query.shape[2] != 1 or attention_mask is None:
        result: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **others
        )
        return result
    num_slots, num_heads, _, head_size = query.shape
    grouped = query.view(num_slots, key.shape[1], num_heads // key.shape[1], head_size)
    output = torch.nn.functional.scaled_dot_product_attention(
        grouped, key, value, attn_mask=attention_mask, scale=scaling
    )
    return output.reshape(num_slots, 1, num_heads, head_size), None


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
