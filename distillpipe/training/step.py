"""One optimizer step: its rows in as few forward passes as they need, their losses, the gradient, the update."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from accelerate import Accelerator

from distillpipe.errors import EngineError
from distillpipe.records import TrainingOptions
from distillpipe.training.attention import implementation
from distillpipe.training.losses import token_loss_sum
from distillpipe.training.packing import Pass, capacity, packed_passes, padded_passes
from distillpipe.training.rows import Row
from distillpipe.training.student import base_model


def passes_of(
    model: Any, device: torch.device, options: TrainingOptions
) -> Callable[[list[Row]], list[Pass]]:
    """What puts the rows of a step into forward passes; the model's attention is set to suit."""
    attention = implementation(model.config, device, options.dtype)
    if attention is not None:
        model.set_attn_implementation(attention)
    split = padded_passes if attention is None else packed_passes
    return lambda rows: list(split(rows, capacity(options.max_length)))


def held_out_loss(
    accelerator: Accelerator,
    model: Any,
    passes: Iterable[Pass],
) -> float:
    """Mean loss over all supervised tokens of some passes; nothing is learnt from them."""
    loss_sum, num_supervised = 0.0, 0
    model.eval()
    with torch.no_grad():
        for one in passes:
            loss_sum += float(_loss_sum(accelerator, model, one))
            num_supervised += one.num_supervised
    model.train()
    return loss_sum / num_supervised


def _loss_sum(accelerator: Accelerator, model: Any, one: Pass) -> torch.Tensor:
    moved = one.to(accelerator.device)
    with accelerator.autocast():
        hidden = base_model(model)(input_ids=moved.ids, use_cache=False, **moved.places)
        return token_loss_sum(hidden.last_hidden_state, model.get_output_embeddings(), moved.labels)


def take_step(
    accelerator: Accelerator,
    model: Any,
    optimizer: Any,
    passes: list[Pass],
    options: TrainingOptions,
) -> tuple[float, float, int]:
    """One optimizer step: mean loss over its supervised tokens, norm of the gradient, their number."""
    num_supervised = sum(one.num_supervised for one in passes)
    losses = []
    for one in passes:
        loss = _loss_sum(accelerator, model, one)
        accelerator.backward(loss / num_supervised)
        losses.append(loss.detach())
    loss_sum = float(sum(losses))
    limit = options.max_grad_norm or math.inf
    norm = float(accelerator.clip_grad_norm_(model.parameters(), limit) or 0.0)
    if not math.isfinite(loss_sum + norm):
        raise EngineError(
            f"the loss is {loss_sum / num_supervised} and the norm of its gradient {norm}: "
            "the last state saved is kept; lower --learning-rate, or train with --dtype fp32"
        )
    optimizer.step()
    optimizer.zero_grad()
    return loss_sum / num_supervised, norm, num_supervised
