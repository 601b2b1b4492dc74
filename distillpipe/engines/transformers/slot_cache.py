"""What the model remembers of the sequences in all slots, and the attention function that reads it.

Attention layers keep the keys and values of all positions. Recurrent layers (Gated DeltaNet, Mamba, short
convolutions) keep a state of fixed size, which cannot be taken back to an earlier position.

Shapes: S slots, A active slots, H key-value heads, Hq query heads, L stored positions, D head size.
"""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

ATTENTION = "distillpipe_slots"  # attn_implementation of a model that reads a SlotCache


class LayerStates:
    """The states of one recurrent layer, (S, ...) each; read by the model as a cache layer of transformers."""

    record_past = False  # of transformers: states are never taken back

    def __init__(self, cache: "SlotCache") -> None:
        self._cache = cache
        self._conv: dict[int, torch.Tensor] = {}
        self._recurrent: dict[int, torch.Tensor] = {}

    @property
    def conv_states(self) -> Mapping[int, torch.Tensor]:
        """The last inputs of each convolution, for the slots of this forward pass; written in place."""
        return {index: stored[self._cache.rows] for index, stored in self._conv.items()}

    @property
    def recurrent_states(self) -> Mapping[int, torch.Tensor]:
        """The recurrent states, for the slots of this forward pass; written in place."""
        return {index: stored[self._cache.rows] for index, stored in self._recurrent.items()}

    @property
    def stored(self) -> list[torch.Tensor]:
        return [*self._conv.values(), *self._recurrent.values()]

    def write_conv(self, index: int, inputs: torch.Tensor, kernel_size: int) -> torch.Tensor:
        """Add `inputs` (A, channels, tokens); returns them behind the earlier ones that the convolution needs."""
        if self._cache.has_previous_state():
            inputs = torch.cat([self._conv[index][self._cache.rows], inputs], dim=-1)
        else:
            missing = max(0, kernel_size - inputs.shape[-1])
            inputs = torch.nn.functional.pad(inputs, (missing, 0))
        self._write(self._conv, index, inputs[..., -kernel_size:])
        return inputs

    def write_recurrent(self, index: int, states: torch.Tensor) -> torch.Tensor:
        return self._write(self._recurrent, index, states)

    def _write(
        self, states_by_index: dict[int, torch.Tensor], index: int, states: torch.Tensor
    ) -> torch.Tensor:
        if index not in states_by_index:
            shape = (self._cache.num_slots, *states.shape[1:])
            states_by_index[index] = states.new_zeros(shape)
        written = states_by_index[index][self._cache.rows]
        written.copy_(states)
        return written


class SlotCache:
    """Keys and values of attention layers, (S, H, L, D) each, and states of recurrent layers.

    Replaces a cache of transformers. Each forward pass gets its positions and its masks from the caller, so the
    model needs only the methods below.
    """

    def __init__(self, num_slots: int, device: torch.device) -> None:
        self.num_slots = num_slots
        self.rows = slice(0, 0)
        "the slots of this forward pass"
        self.layers: dict[int, LayerStates] = {}
        "by the index of the layer: those with a state"
        self._device = device
        self._keys_values: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._span = 0
        self._lengths: torch.Tensor | None = None

    @property
    def has_states(self) -> bool:
        """Whether a layer is recurrent: prompts in one pass then need the same length."""
        return bool(self.layers)

    @property
    def bytes_per_token(self) -> int:
        """Of the keys and values of one position."""
        return sum(
            stored.shape[1] * stored.shape[3] * stored.itemsize
            for layer in self._keys_values.values()
            for stored in layer
        )

    @property
    def bytes_per_slot(self) -> int:
        """Of the states of one sequence, however long it is."""
        return sum(stored[0].nbytes for layer in self.layers.values() for stored in layer.stored)

    def write_prompts(self, first: int, end: int) -> None:
        """Announce that the next forward pass has whole prompts for the slots from `first` to `end`."""
        self.rows, self._lengths = slice(first, end), None

    def write_tokens(self, active: int, lengths: torch.Tensor, span: int) -> None:
        """Announce that the next forward pass has one token for each of the first `active` slots."""
        self.rows, self._lengths, self._span = slice(0, active), lengths, span
        self._numbers = torch.arange(active, device=self._device)

    def copy(self, source: int, target: int, length: int) -> None:
        for stored in self._positions(length):
            stored[target] = stored[source]

    def swap(self, slot: int, other: int, length: int) -> None:
        for stored in self._positions(length):
            copied = stored[slot].clone()
            stored[slot] = stored[other]
            stored[other] = copied

    def clear(self, slot: int) -> None:
        """Zero a slot that holds nan, which would reach its next sequence even through a mask (0 * nan)."""
        for stored in self._positions(None):
            stored[slot] = 0

    def _positions(self, length: int | None) -> list[torch.Tensor]:
        """Everything that is stored, by slot: of keys and values the first `length` positions."""
        keys_values = [
            stored[:, :, :length] for layer in self._keys_values.values() for stored in layer
        ]
        return keys_values + [stored for layer in self.layers.values() for stored in layer.stored]

    # Called by the layers of the model.

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store new keys and values of an attention layer, return all to attend to."""
        span = keys.shape[2] if self._lengths is None else self._span
        stored_keys, stored_values = self._layer_with_room(layer, keys, values, span)
        if self._lengths is None:
            stored_keys[self.rows, :, :span] = keys
            stored_values[self.rows, :, :span] = values
            return keys, values
        stored_keys[self._numbers, :, self._lengths] = keys[:, :, 0]
        stored_values[self._numbers, :, self._lengths] = values[:, :, 0]
        return stored_keys[self.rows, :, :span], stored_values[self.rows, :, :span]

    def update_conv_state(
        self,
        inputs: torch.Tensor,
        layer_idx: int,
        state_idx: int = 0,
        conv_kernel_size: int | None = None,
        **_: Any,
    ) -> torch.Tensor:
        """Store new inputs of a convolution; see `LayerStates.write_conv`."""
        states = self.layers.setdefault(layer_idx, LayerStates(self))
        return states.write_conv(state_idx, inputs, conv_kernel_size or inputs.shape[-1])

    def update_recurrent_state(
        self, states: torch.Tensor, layer_idx: int, state_idx: int = 0, **_: Any
    ) -> torch.Tensor:
        """Store the state of a recurrent layer behind the last token."""
        layer = self.layers.setdefault(layer_idx, LayerStates(self))
        return layer.write_recurrent(state_idx, states)

    def has_previous_state(self, *_: Any, **__: Any) -> bool:
        """Whether the sequences of this forward pass go on."""
        return self._lengths is not None

    def get_seq_length(self, _layer: int = 0) -> int:
        return 0  # positions are given

    def _layer_with_room(
        self, layer: int, keys: torch.Tensor, values: torch.Tensor, span: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer's keys and values, grown to at least `span` positions."""
        stored = self._keys_values.get(layer)
        capacity = 0 if stored is None else stored[0].shape[2]
        if stored is None or capacity < span:
            larger = max(span, 2 * capacity, 256)
            parts = [
                new.new_zeros(self.num_slots, new.shape[1], larger, new.shape[3])
                for new in (keys, values)
            ]
            if stored is not None:
                for part, old in zip(parts, stored, strict=True):
                    part[:, :, :capacity] = old
            stored = self._keys_values[layer] = (parts[0], parts[1])
        return stored


def _attend(  # noqa: PLR0913 - the interface of transformers
    module: Any,
    query: torch.Tensor,  # (A, Hq, tokens, D)
    key: torch.Tensor,  # (A, H, L, D)
    value: torch.Tensor,  # (A, H, L, D)
    attention_mask: torch.Tensor | None,  # bool, (1 or A, 1, tokens, L)
    scaling: float | None = None,
    s_aux: torch.Tensor | None = None,  # (Hq): attention sinks, as in gpt-oss
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of the tokens of a prompt, or of one new token per slot."""
    if s_aux is not None:
        return attend_with_sinks(query, key, value, attention_mask, scaling, s_aux), None
    if query.shape[2] != 1 or attention_mask is None:
        result: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **others
        )
        return result
    # Query heads that share keys become query positions, (A, H, Hq/H, D), so that no keys are copied.
    num_slots, num_heads, _, head_size = query.shape
    grouped = query.view(num_slots, key.shape[1], num_heads // key.shape[1], head_size)
    output = torch.nn.functional.scaled_dot_product_attention(
        grouped, key, value, attn_mask=attention_mask, scale=scaling
    )
    return output.reshape(num_slots, 1, num_heads, value.shape[3]), None


def attend_with_sinks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    sinks: torch.Tensor,
) -> torch.Tensor:
    """Attention with a sink per head: one more key whose score is the sink and whose value is zero."""
    num_rows, num_heads, num_tokens, _ = query.shape
    scores = torch.zeros(num_rows, num_heads, num_tokens, key.shape[2] + 1, device=query.device)
    if mask is None and num_tokens > 1:  # transformers leaves out the mask of a whole text
        mask = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=query.device).tril()
    if mask is not None:
        scores[..., :-1].masked_fill_(~mask, -torch.inf)
    scores[..., -1] = sinks.float()[:, None]
    output = torch.nn.functional.scaled_dot_product_attention(
        query,
        torch.nn.functional.pad(key, (0, 0, 0, 1)),
        torch.nn.functional.pad(value, (0, 0, 0, 1)),
        attn_mask=scores.to(query.dtype),
        scale=scaling,
        enable_gqa=key.shape[1] != num_heads,
    )
    return output.transpose(1, 2)


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
