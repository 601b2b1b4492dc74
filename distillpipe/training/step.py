"""One optimizer step: its rows in as few forward passes as they need, their losses, the gradient, the update.

Several processes, each with some of the step's rows, take the step together: DDP and FSDP average gradients over
processes, so each multiplies its share of the loss by their number. What comes out is the gradient of the mean over all
supervised tokens of the step, however the rows were split.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator

from distillpipe.base.errors import EngineError, UsageError
from distillpipe.base.training_options import TrainingOptions
from distillpipe.training.losses.token_losses import loss_sums
from distillpipe.training.passes import capacity
from distillpipe.training.rows.attention import implementation
from distillpipe.training.rows.packing import Pass, packed_passes, padded_passes
from distillpipe.training.rows.rows import Row
from distillpipe.training.student import base_model
from distillpipe.training.teachers.teaching import HiddenSums, Lesson, Look


class PassSums(NamedTuple):
    """Of a pass; only `total` has a gradient."""

    total: torch.Tensor
    "what is trained on: to be divided by the supervised tokens of the step, see `teaching`"
    hard: torch.Tensor
    soft: torch.Tensor
    feature: torch.Tensor
    relation: torch.Tensor
    num_labelled: torch.Tensor
    "tokens with a soft loss"


class StepLosses(NamedTuple):
    """What came of a step."""

    loss: float
    "mean over the supervised tokens"
    grad_norm: float
    taught: dict[str, Any]
    "fields of a line of losses.jsonl that only a teacher adds"


class StudentLoss(torch.nn.Module):
    """A student and its loss as one module: DDP and FSDP act where a module's own forward begins and ends."""

    def __init__(self, model: Any, projections: torch.nn.Module | None = None) -> None:
        """`projections`: what a lesson trains besides, see `teaching`."""
        super().__init__()
        self.model = model
        self.projections = projections

    def forward(self, one: Pass, look: Look | None = None) -> PassSums:
        """The losses of a pass; without a look at teachers the hard one alone."""
        soft = None if look is None else look.soft
        out = base_model(self.model)(
            input_ids=one.ids,
            use_cache=False,
            output_hidden_states=look is not None and look.lesson.teaching.wants_layers,
            **one.places,
        )
        head = self.model.get_output_embeddings()
        tokens = loss_sums(out.last_hidden_state, head, one.labels, soft)
        total = tokens.total
        hidden = HiddenSums(*torch.zeros(2, device=total.device))
        if look is not None and look.seen:
            hidden = look.lesson.teaching.hidden(one, out, look)
            total = total + look.lesson.weighted(hidden)
        elif self.projections is not None:  # whose gradients DDP waits for
            total = total + sum(0.0 * weight.sum() for weight in self.projections.parameters())
        labelled = 0.0 if soft is None else float(soft.targets.num_labelled)
        return PassSums(
            total,
            tokens.hard,
            tokens.soft,
            hidden.feature.detach(),
            hidden.relation.detach(),
            torch.tensor(labelled, device=total.device),
        )


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
        found = sum(float(_sums(accelerator, model, one).total) for one in passes)
    model.train()
    return found


def _sums(
    accelerator: Accelerator, model: Any, one: Pass, lesson: Lesson | None = None
) -> PassSums:
    """The losses of a pass; one without rows only keeps step with the passes of other processes."""
    moved = one.to(accelerator.device)
    with accelerator.autocast():
        look = lesson.look(moved) if lesson is not None and one.rows else None
        found: PassSums = model(moved._replace(rows=[]), look)
    return found


def take_step(  # noqa: PLR0913 - one process of several
    accelerator: Accelerator,
    model: Any,
    optimizer: Any,
    passes: list[Pass],
    num_supervised: int,
    options: TrainingOptions,
    lesson: Lesson | None = None,
) -> StepLosses:
    """One optimizer step on the mean loss over its supervised tokens.

    `passes` are this process's, as many as every other has; `num_supervised` are the tokens of all.
    """
    losses = []
    for number, one in enumerate(passes, start=1):
        is_last = number == len(passes)
        with nullcontext() if is_last else accelerator.no_sync(model):
            found = _sums(accelerator, model, one, lesson)
            accelerator.backward(found.total * (accelerator.num_processes / num_supervised))
        losses.append(torch.stack(found).detach())
    sums = accelerator.reduce(torch.stack(losses).sum(0)).tolist()
    loss = sums[0] / num_supervised
    limit = options.max_grad_norm or math.inf
    total: Any = accelerator.clip_grad_norm_(model.parameters(), limit)
    norm = float(total.full_tensor() if hasattr(total, "full_tensor") else total)
    if not math.isfinite(loss + norm):
        raise EngineError(
            f"the loss is {loss} and the norm of its gradient {norm}: "
            "the last state saved is kept; lower --learning-rate, or train with --dtype fp32"
        )
    optimizer.step()
    optimizer.zero_grad()
    taught = {} if lesson is None else lesson.line(sums[1:], num_supervised)
    return StepLosses(loss, norm, taught)
