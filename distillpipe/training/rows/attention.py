"""Attention over packed rows: no token attends to another row.

It is registered with transformers under a name of its own, which also keeps transformers from building a T x T mask. On
CUDA it calls torch's variable-length kernel, or flash-attn if that is installed. On the CPU it calls causal attention
once a row, which was faster than padding inside the attention and than a block-diagonal mask.

Shapes: T tokens of all rows together, H heads, K key and value heads, D head size.
"""

from collections.abc import Sequence
from copy import deepcopy
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.utils import is_flash_attn_2_available

from distillpipe.engines.transformers.slot_cache import attend_with_sinks
from distillpipe.models import loading

varlen_attn: Any
try:  # torch 2.10 and newer
    from torch.nn.attention.varlen import varlen_attn
except ImportError:
    varlen_attn = None

PACKED = "distillpipe_packed"
# Families whose layers mix tokens by attention only, and hand a sliding window to the attention function. Soft caps of
# the attention scores (Gemma 2) and windows that stand in the mask only (Llama 4) would be lost.
FAMILIES = (
    "llama", "mistral", "ministral3", "phi3", "qwen2", "qwen3", "qwen3_moe", "olmo2", "olmo3", "granite",
    "smollm3", "gemma3_text", "gemma4_text", "glm4_moe", "seed_oss", "exaone4", "cohere2", "apertus",
)  # fmt: skip
SINKS = ("gpt_oss",)  # attention sinks, which the CUDA kernels for packed rows do not have
# Recurrent layers carry their state from one row to the next, unless their kernels take the bounds of the rows.
RECURRENT = (
    "qwen3_5_text", "qwen3_5_moe_text", "qwen3_next", "olmo_hybrid", "lfm2", "nemotron_h", "granitemoehybrid",
    "falcon_h1", "bamba",
)  # fmt: skip
TRIAL_LENGTHS = (70, 50)  # tokens of two packed rows; recurrent kernels work in chunks of 64
TRIAL_LAYERS, TRIAL_VOCABULARY = 4, 64


class Packing(NamedTuple):
    """How the rows of a model are put into forward passes."""

    attention: str | None
    "the attention implementation for packed rows; None if rows have to be padded"
    reason: str = ""
    "why they are padded"


def implementation(config: Any, device: torch.device, dtype: str) -> Packing:
    """How the rows of a model with this config are packed, or why they have to be padded.

    The CUDA kernels do not support fp32, and torch's kernel does not support dropout.
    """
    config = config.get_text_config()
    family, on_cuda = config.model_type, device.type == "cuda"
    if family not in (*FAMILIES, *SINKS, *RECURRENT):
        return Packing(None, f"it is not known how to keep packed rows of a {family} apart")
    if getattr(config, "attention_dropout", None):
        return Packing(None, "attention dropout is not possible in packed rows")
    if on_cuda and family in SINKS:
        return Packing(None, "attention sinks are not possible in packed rows on a GPU")
    if on_cuda and dtype != "bf16":
        return Packing(None, f"packed rows need --dtype bf16 on a GPU, not {dtype}")
    if on_cuda and not is_flash_attn_2_available() and varlen_attn is None:
        return Packing(None, "packed rows need torch 2.10 or flash-attn")
    attention = "flash_attention_2" if on_cuda and is_flash_attn_2_available() else PACKED
    if family in RECURRENT and leaks(config, device, dtype, attention):
        return Packing(
            None,
            f"the recurrent layers of a {family} carry state from one packed row to the next here (kernels that "
            "do not: flash-linear-attention, causal-conv1d and mamba-ssm, on a GPU)",
        )
    return Packing(attention)


def bounds(lengths: Sequence[int]) -> dict[str, Any]:
    """Keyword arguments of a model that keep packed rows of these lengths apart, named as in transformers.

    Attention and Gated DeltaNet read `cu_seq_lens`, convolutions and Mamba `seq_idx`.
    """
    starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)  # (rows + 1)
    rows = torch.arange(len(lengths), dtype=torch.int32)
    return {
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "cu_seq_lens_q": starts,
        "cu_seq_lens_k": starts,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        "seq_idx": rows.repeat_interleave(torch.tensor(lengths))[None],
    }


@torch.no_grad()
def leaks(config: Any, device: torch.device, dtype: str, attention: str) -> bool:
    """Whether another first row changes what a model of this config reads in the second of two packed rows.

    The answer depends on the kernels, not on the weights: a model of few layers with random weights is tried.
    """
    small = deepcopy(config)
    small.vocab_size, small.pad_token_id = TRIAL_VOCABULARY, None
    small.num_hidden_layers = min(TRIAL_LAYERS, config.num_hidden_layers)
    if kinds := getattr(config, "layer_types", None):  # a recurrent one must be among them
        recurrent = [kind for kind in kinds if kind != "full_attention"]
        small.layer_types = [*recurrent[:1], *kinds][: small.num_hidden_layers]
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.device(device),
    ):
        torch.manual_seed(0)
        model = loading.build(small, dtype=torch.float32, attn_implementation=attention)
        layers = model.base_model.eval()
        first, second = (torch.randint(TRIAL_VOCABULARY, (1, length)) for length in TRIAL_LENGTHS)
        inputs = {
            name: value.to(device) if torch.is_tensor(value) else value
            for name, value in bounds(TRIAL_LENGTHS).items()
        }
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bf16"):
            one, other = (
                layers(
                    input_ids=torch.cat([row, second], 1), use_cache=False, **inputs
                ).last_hidden_state[:, TRIAL_LENGTHS[0] :]
                for row in (first, (first + 1) % TRIAL_VOCABULARY)
            )
    return not torch.equal(one, other)


def packed_attention(  # noqa: PLR0913 - the interface of transformers
    module: torch.nn.Module,
    query: torch.Tensor,  # (1, H, T, D)
    key: torch.Tensor,  # (1, K, T, D)
    value: torch.Tensor,  # (1, K, T, D)
    attention_mask: None,
    *,
    cu_seq_lens_q: torch.Tensor,  # (rows + 1), int32: the start of each row, and the end of the last
    max_length_q: int,
    scaling: float | None = None,
    sliding_window: int | None = None,
    s_aux: torch.Tensor | None = None,  # (H): attention sinks
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row, (1, T, H, D); the signature is that of transformers' AttentionInterface."""
    if query.is_cuda:
        # (T, ., D)
        query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
        if query.dtype == torch.float32:  # rotary angles are fp32 under autocast
            half = torch.get_autocast_dtype("cuda")
            query, key, value = query.to(half), key.to(half), value.to(half)
        mixed = varlen_attn(
            query,
            key,
            value,
            cu_seq_lens_q,
            cu_seq_lens_q,
            max_length_q,
            max_length_q,
            scale=scaling,
            window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return mixed[None], None
    lengths = cu_seq_lens_q.diff().tolist()
    rows = []  # we split instead of slicing, because the gradient of each slice would allocate all of T
    for q, k, v in zip(
        *(torch.split_with_sizes(tensor, lengths, dim=2) for tensor in (query, key, value)),
        strict=True,
    ):
        window = _window(q.shape[2], sliding_window, query.device)
        if s_aux is not None:
            rows.append(attend_with_sinks(q, k, v, window, scaling, s_aux).transpose(1, 2))
            continue
        rows.append(
            scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=window,
                is_causal=window is None,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        )
    return torch.cat(rows, dim=2).transpose(1, 2), None


def _window(length: int, size: int | None, device: torch.device) -> torch.Tensor | None:
    """The mask of a row that is longer than the sliding window: a token attends to itself and `size` - 1 before it."""
    if size is None or length <= size:
        return None
    positions = torch.arange(length, device=device)
    distance = positions[:, None] - positions[None, :]
    return (distance >= 0) & (distance < size)


AttentionInterface.register(PACKED, packed_attention)
