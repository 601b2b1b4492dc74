"""Drawing tokens from logits, reproducibly. Shapes: A rows, V vocabulary, K largest logits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, np.dtype[Any]]
NUM_LARGEST = 128  # enough for top_p nearly always; all of the vocabulary is sorted only where not


def uniforms(seeds: Array, positions: Sequence[int]) -> Array:
    """A number in [0, 1) for each (seed, position), float32: a hash, so there is no state to keep.

    splitmix64 (Steele, Lea and Flood 2014), `seeds` as uint64.
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
    """One token a row, (A,): the nucleus of mass `top_p`, inverted at `uniform`."""
    greedy = logits.argmax(-1)  # not topk's first: of equal logits that is now one, now another
    if not temperature.any():
        return greedy
    largest, ids = logits.topk(min(NUM_LARGEST, logits.shape[1]))  # (A, K)
    scale = temperature.clamp(min=1e-6)[:, None]
    mass = torch.logsumexp(logits / scale, dim=-1, keepdim=True)
    probabilities = torch.exp(largest / scale - mass)
    cumulative = probabilities.cumsum(-1)
    is_whole = top_p >= 1  # a nucleus of all tokens, whose mass is known without them
    needed = torch.where(is_whole, uniform, top_p)
    if (cumulative[:, -1] < needed).any() and ids.shape[1] < logits.shape[1]:
        largest, ids = logits.sort(dim=-1, descending=True)
        probabilities = torch.exp(largest / scale - mass)
        cumulative = probabilities.cumsum(-1)
    inside = (cumulative - probabilities < top_p[:, None]).sum(
        -1
    )  # tokens of the nucleus, at least 1
    total = cumulative.gather(-1, inside[:, None] - 1).where(~is_whole[:, None], 1.0)
    drawn = torch.searchsorted(cumulative, uniform[:, None] * total, right=True)
    drawn = torch.minimum(drawn, inside[:, None] - 1)
    return torch.where(temperature > 0, ids.gather(-1, drawn)[:, 0], greedy)


def _mix(x: Array) -> Array:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = x ^ (x >> np.uint64(31))
    return mixed
