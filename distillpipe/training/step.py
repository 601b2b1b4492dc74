"""One optimizer step: its rows in as few forward passes as they need, their losses, the gradient, the update.

Several processes, each with some of the step's rows, take the step together: DDP and FSDP average gradients over
processes, so each multiplies its share of the loss by their number. What comes out is the gradient of the mean over all
supervised tokens of the step, however the rows were split.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator

from distillpipe.errors import EngineError, UsageError
from distillpipe.records import TrainingOptions
from distillpipe.training.attention import implementation
from distillpipe.training.losses import token_loss_sum
from distillpipe.training.packing import Pass, capacity, packed_passes, padded_passes
from distillpipe.training.rows import Row
from distillpipe.training.student import base_model


class TokenLoss(torch.nn.Module):
    """A student and its loss as one module: DDP and FSDP act where a module's own forward begins and ends."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, one: Pass) -> torch.Tensor:
        """The sum of the losses of the supervised tokens of a pass."""
        hidden = base_model(self.model)(input_ids=one.ids, use_cache=False, **one.places)
        head = self.model.get_output_embeddings()
        return token_loss_sum(hidden.last_hidden_state, head, one.labels)


def passes_of(
    model: Any, device: torch.device, options: TrainingOptions
) -> Callable[[list[Row]], list[Pass]]:
    """What puts the rows of a step into forward passes; the model's attention is set to suit.

    Raises UsageError for --packing where the model's rows have to be padded.
    """
    attention = None
    if options.packing is not False:
        attention = implementation(model.config, device, options.dtype)
    if attention is not None:
        model.set_attn_implementation(attention)
    elif options.packing:
        raise UsageError(
            f"--packing: rows of a {model.config.model_type} on {device.type} in {options.dtype} cannot be "
            "kept apart in one line: leave it out, and they are padded"
        )
    split = padded_passes if attention is None else packed_passes
    return lambda rows: list(split(rows, capacity(options.max_length))) if rows else []


def held_out_loss_sum(accelerator: Accelerator, model: Any, passes: Iterable[Pass]) -> float:
    """The sum of the losses of some passes in this process; nothing is learnt from them."""
    model.eval()
    with torch.no_grad():
        found = sum(float(_loss_sum(accelerator, model, one)) for one in passes)
    model.train()
    return found


def _loss_sum(accelerator: Accelerator, model: Any, one: Pass) -> torch.Tensor:
    with accelerator.autocast():
        loss: torch.Tensor = model(one.to(accelerator.device))
    return loss


def take_step(
    accelerator: Accelerator,
    model: Any,
    optimizer: Any,
    passes: list[Pass],
    num_supervised: int,
    options: TrainingOptions,
) -> tuple[float, float]:
    """One optimizer step: mean loss over its supervised tokens, and norm of the gradient.

    `passes` are this process's, as many as every other has; `num_supervised` are the tokens of all.
    """
    losses = []
    for number, one in enumerate(passes, start=1):
        is_last = number == len(passes)
        with nullcontext() if is_last else accelerator.no_sync(model):
            loss = _loss_sum(accelerator, model, one)
            accelerator.backward(loss * (accelerator.num_processes / num_supervised))
        losses.append(loss.detach())
    loss_sum = float(accelerator.reduce(torch.stack(losses).sum()))
    limit = options.max_grad_norm or math.inf
    total: Any = accelerator.clip_grad_norm_(model.parameters(), limit)
    norm = float(total.full_tensor() if hasattr(total, "full_tensor") else total)
    if not math.isfinite(loss_sum + norm):
        raise EngineError(
            f"the loss is {loss_sum / num_supervised} and the norm of its gradient {norm}: "
            "the last state saved is kept; lower --learning-rate, or train with --dtype fp32"
        )
    optimizer.step()
    optimizer.zero_grad()
    return loss_sum / num_supervised, norm
