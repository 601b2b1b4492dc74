"""Keys and values of the sequences in flight, and the attention that reads them.

Shapes: S slots, A active slots, H key-value heads, Hq query heads, L stored positions, D head size.
"""

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

ATTENTION = "distillpipe_slots"  # what a model is loaded with to read a Store


class Store:
    """Keys and values of all slots, (S, H, L, D) a layer.

    Stands in for a cache of transformers: every forward pass brings its own positions and its own mask,
    so `update` is all that the model asks of it.
    """

    def __init__(self, num_slots: int, device: torch.device) -> None:
        self._num_slots = num_slots
        self._device = device
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._first = self._end = self._span = 0
        self._lengths: torch.Tensor | None = None

    def write_prompts(self, first: int, end: int) -> None:
        """The next forward pass brings whole prompts for the slots from `first` to `end`."""
        self._first, self._end, self._lengths = first, end, None

    def write_tokens(self, active: int, lengths: torch.Tensor, span: int) -> None:
        """The next forward pass brings one token for each of the first `active` slots."""
        self._end, self._lengths, self._span = active, lengths, span
        self._rows = torch.arange(active, device=self._device)

    def copy(self, source: int, target: int, length: int) -> None:
        for layer in self._layers:
            for stored in layer:
                stored[target, :, :length] = stored[source, :, :length]

    def swap(self, one: int, other: int, length: int) -> None:
        for layer in self._layers:
            for stored in layer:
                held = stored[one, :, :length].clone()
                stored[one, :, :length] = stored[other, :, :length]
                stored[other, :, :length] = held

    def clear(self, slot: int) -> None:
        """Forget what a slot holds: nan would reach its next sequence even through a mask (0 * nan)."""
        for layer in self._layers:
            for stored in layer:
                stored[slot] = 0

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by each attention layer: store what is new, return all to attend to."""
        span = keys.shape[2] if self._lengths is None else self._span
        stored_keys, stored_values = self._with_room(layer, keys, span)
        if self._lengths is None:
            stored_keys[self._first : self._end, :, :span] = keys
            stored_values[self._first : self._end, :, :span] = values
            return keys, values
        stored_keys[self._rows, :, self._lengths] = keys[:, :, 0]
        stored_values[self._rows, :, self._lengths] = values[:, :, 0]
        return stored_keys[: self._end, :, :span], stored_values[: self._end, :, :span]

    def get_seq_length(self, _layer: int = 0) -> int:
        return 0

    def _with_room(
        self, layer: int, keys: torch.Tensor, span: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer's keys and values, grown to at least `span` positions."""
        if layer == len(self._layers):
            shape = (self._num_slots, keys.shape[1], 0, keys.shape[3])
            self._layers.append((keys.new_empty(shape), keys.new_empty(shape)))
        capacity = self._layers[layer][0].shape[2]
        if capacity < span:
            wanted = max(span, 2 * capacity, 256)
            self._layers[layer] = (
                _grown(self._layers[layer][0], wanted), _grown(self._layers[layer][1], wanted)
            )  # fmt: skip
        return self._layers[layer]


def _grown(stored: torch.Tensor, capacity: int) -> torch.Tensor:
    slots, heads, length, size = stored.shape
    grown = stored.new_zeros(slots, heads, capacity, size)
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
    """Attention of one new token a slot: query heads that share keys become query positions.

    So grouped-query attention needs no copies of keys and values: (A, Hq, 1, D) is (A, H, Hq/H, D).
    """
    if query.shape[2] != 1 or attention_mask is None:
        plain: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **others
        )
        return plain
    batch, heads, _, size = query.shape
    folded = query.view(batch, key.shape[1], heads // key.shape[1], size)
    output = torch.nn.functional.scaled_dot_product_attention(
        folded, key, value, attn_mask=attention_mask, scale=scaling
    )
    return output.reshape(batch, 1, heads, size), None


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
