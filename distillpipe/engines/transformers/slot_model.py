"""A causal language model that reads the slots of a cache: positions, masks, and a trial at start.

Shapes: A sequences, Q tokens of a sequence in this forward pass, L stored positions.
"""

from typing import Any

import torch

from distillpipe.base.errors import EngineError
from distillpipe.engines.transformers.slot_cache import SlotCache

SPAN_STEP = 32  # attention spans are multiples of this
TRIAL_IDS = (1, 2, 3, 4, 5)
TOLERANCE = {torch.float32: 1e-3}  # of the largest number in the last hidden state
LOW_PRECISION_TOLERANCE = 0.1
FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
WITHOUT_MASK = (
    "linear_attention",
    "conv",
    "moe",
    "mlp",
)  # recurrent layers and layers that mix no tokens
KINDS = (FULL, SLIDING, CHUNKED, *WITHOUT_MASK, "hybrid", "hybrid_sliding")


class SlotModel:
    """The layers of a model below its head, with a cache of `num_slots` slots."""

    def __init__(self, model: Any, num_slots: int, device: torch.device) -> None:
        self.cache = SlotCache(num_slots, device)
        self._layers = model.base_model
        self._config = model.config.get_text_config()
        self._device = device

    def read_prompts(self, ids: torch.Tensor, first: int) -> torch.Tensor:
        """The last hidden states (A, Q, hidden) of whole prompts (A, Q), padded on the right, in slots from `first` on.

        Recurrent layers read padding as text, so prompts need one length where the cache has states.
        """
        self.cache.write_prompts(first, first + len(ids))
        positions = torch.arange(ids.shape[1], device=self._device)
        return self._read(ids, positions[None], positions)

    def read_tokens(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """The last hidden states (A, hidden) of one more token for each of the first A slots.

        `lengths` (A): how many tokens each slot has read before.
        """
        span = -(-(int(lengths.max()) + 1) // SPAN_STEP) * SPAN_STEP
        self.cache.write_tokens(len(ids), lengths, span)
        stored = torch.arange(span, device=self._device)
        return self._read(ids[:, None], lengths[:, None], stored)[:, -1]

    def _read(
        self, ids: torch.Tensor, positions: torch.Tensor, stored: torch.Tensor
    ) -> torch.Tensor:
        hidden: torch.Tensor = self._layers(
            input_ids=ids,
            position_ids=positions,
            attention_mask=_masks(self._config, positions, stored),
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        return hidden


@torch.inference_mode()
def tried(model: Any, name: str, device: torch.device) -> SlotCache:
    """The cache of a short text that was read token by token, whose shapes say what memory a token needs.

    Raises EngineError for a model that reads the text otherwise without a cache: its layers need more than masks
    and states.
    """
    kinds = sorted(set(_kinds(model.config.get_text_config())) - set(KINDS))
    slots = SlotModel(model, 1, device)
    ids = torch.tensor([TRIAL_IDS], device=device)
    agrees, reason = False, f"which has layers of the kind {', '.join(kinds)}"
    if not kinds:
        try:
            hidden = slots.read_prompts(ids[:, :2], 0)[:, -1]
            for number in range(2, len(TRIAL_IDS)):
                hidden = slots.read_tokens(ids[:, number], torch.tensor([number], device=device))
            whole = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, -1]
            allowed = TOLERANCE.get(whole.dtype, LOW_PRECISION_TOLERANCE) * whole.abs().max()
            is_broken = not whole.isfinite().all()  # each completion fails with its own error
            agrees = is_broken or bool((hidden - whole).abs().max() <= allowed)
            reason = "its layers need a cache of their own"
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a family that we do not know may raise anything
            reason = f"which raised {type(error).__name__}: {error}"
    if not agrees:
        raise EngineError(
            f"{name}: the transformers engine does not support a {model.config.model_type}, {reason}: give "
            "--engine vllm"
        )
    return slots.cache


def _masks(
    config: Any,
    queries: torch.Tensor,  # (1 or A, Q): positions of the tokens of this pass
    keys: torch.Tensor,  # (L): positions that are stored
) -> torch.Tensor | dict[str, torch.Tensor | None] | None:
    """The bool mask (1 or A, 1, Q, L) of all layers, or a mask by kind of layer as transformers' models take it."""
    query, key = queries[:, None, :, None], keys[None, None, None, :]
    causal = key <= query
    kinds = _kinds(config)
    if set(kinds) == {FULL}:
        return causal
    if set(kinds) <= set(WITHOUT_MASK):
        return None
    window = getattr(config, "sliding_window", None)
    chunk = getattr(config, "attention_chunk_size", None)
    by_kind: dict[str, torch.Tensor | None] = dict.fromkeys(WITHOUT_MASK)
    by_kind[FULL] = causal
    by_kind[SLIDING] = causal if window is None else causal & (key > query - window)
    by_kind[CHUNKED] = causal if chunk is None else causal & (key // chunk == query // chunk)
    if not getattr(config, "layer_types", None):  # one mask for all layers
        mask = by_kind[kinds[0]]
        assert mask is not None
        return mask
    return by_kind


def _kinds(config: Any) -> list[str]:
    """The kind of each layer, or one that stands for all."""
    if kinds := getattr(config, "layer_types", None):
        return list(kinds)
    if getattr(config, "sliding_window", None) is not None:
        return [SLIDING]
    return [CHUNKED if getattr(config, "attention_chunk_size", None) is not None else FULL]
