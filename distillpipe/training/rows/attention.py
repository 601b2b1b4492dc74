"""Attention over packed rows: no token attends to another row.

It is registered with transformers under a name of its own, which also keeps transformers from building a T x T mask. On
CUDA it calls torch's variable-length kernel, or flash-attn if that is installed. On the CPU it calls causal attention
once a row, which was faster than padding inside the attention and than a block-diagonal mask.

Shapes: T tokens of all rows together, H heads, K key and value heads, D head size.
"""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.utils import is_flash_attn_2_available

varlen_attn: Any
try:  # torch 2.10 and newer
    from torch.nn.attention.varlen import varlen_attn
except ImportError:
    varlen_attn = None

PACKED = "distillpipe_packed"
# Families whose layers mix tokens by plain attention only. Elsewhere a recurrent layer would carry state from one row
# to the next, and attention sinks or soft caps would be lost: rows of families not listed here are padded.
FAMILIES = ("llama", "mistral", "phi3", "qwen2", "qwen3", "qwen3_moe", "olmo2", "granite")


def implementation(config: Any, device: torch.device, dtype: str) -> str | None:
    """The attention implementation for packed rows; None if the rows of this model have to be padded.

    The CUDA kernels do not support fp32, and torch's kernel does not support dropout.
    """
    if config.model_type not in FAMILIES or getattr(config, "attention_dropout", None):
        return None
    if device.type != "cuda":
        return PACKED
    if dtype != "bf16":
        return None
    if is_flash_attn_2_available():
        return "flash_attention_2"
    return None if varlen_attn is None else PACKED


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
