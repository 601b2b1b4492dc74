"""Reproducible sampling from logits: temperature and nucleus. Shapes: A rows, V vocabulary, K largest logits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, np.dtype[Any]]
NUM_LARGEST = 128  # nearly always enough for top_p; otherwise the whole vocabulary is sorted


def uniforms(seeds: Array, positions: Sequence[int]) -> Array:
    """A float32 number in [0, 1) for each (seed, position): a hash, so there is no generator state.

    splitmix64 (Steele, Lea and Flood 2014); `seeds` are uint64.
    """
    with np.errstate(over="ignore"):
        steps = np.asarray(positions, dtype=np.uint64) + np.uint64(1)
        x = _mix(seeds * np.uint64(0x9E3779B97F4A7C15)) + steps * np.uint64(0xD1342543DE82EF95)
        x = _mix(x)
    return ((x >> np.uint64(40)).astype(np.float32)) / np.float32(1 << 24)


def draw_tokens(
    logits: torch.Tensor,  # (A, V) float32
    temperature: torch.Tensor,  # (A,), 0 is greedy
    top_p: torch.Tensor,  # (A,)
    uniform: torch.Tensor,  # (A,) in [0, 1)
) -> torch.Tensor:
    """Nucleus sampling: one token per row, (A,).

    The nucleus is the smallest set of most likely tokens whose probabilities sum to `top_p`. The token is the
    inverse of its cumulative distribution at `uniform`.
    """
    greedy = logits.argmax(-1)  # not the first of topk, which varies between equal logits
    if not temperature.any():
        return greedy
    largest, ids = logits.topk(min(NUM_LARGEST, logits.shape[1]))  # (A, K)
    scale = temperature.clamp(min=1e-6)[:, None]
    normalizer = torch.logsumexp(logits / scale, dim=-1, keepdim=True)
    probabilities = torch.exp(largest / scale - normalizer)
    cumulative = probabilities.cumsum(-1)
    is_full = top_p >= 1  # the nucleus is the whole vocabulary, whose probability is 1
    needed = torch.where(is_full, uniform, top_p)
    if (cumulative[:, -1] < needed).any() and ids.shape[1] < logits.shape[1]:
        largest, ids = logits.sort(dim=-1, descending=True)
        probabilities = torch.exp(largest / scale - normalizer)
        cumulative = probabilities.cumsum(-1)
    is_inside = cumulative - probabilities < top_p[:, None]
    nucleus_size = is_inside.sum(-1)  # at least 1
    total = cumulative.gather(-1, nucleus_size[:, None] - 1).where(~is_full[:, None], 1.0)
    rank = torch.searchsorted(cumulative, uniform[:, None] * total, right=True)
    rank = torch.minimum(rank, nucleus_size[:, None] - 1)
    return torch.where(temperature > 0, ids.gather(-1, rank)[:, 0], greedy)


def _mix(x: Array) -> Array:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = x ^ (x >> np.uint64(31))
    return mixed
