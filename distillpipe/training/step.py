"""One optimizer step: pack its rows into forward passes, compute losses and gradients, update the weights.

With several processes, each has some rows of the step. DDP and FSDP average gradients over processes, so each process
multiplies its share of the loss by their number. The result is the gradient of the mean over all supervised tokens of
the step, however the rows were split.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator

from distillpipe.base.errors import EngineError, UsageError
from distillpipe.base.training_options import TrainingOptions
from distillpipe.engines.transformers.output_head import LogitChange, OutputHead
from distillpipe.training.losses.token_losses import loss_sums
from distillpipe.training.passes import capacity
from distillpipe.training.rows.attention import implementation
from distillpipe.training.rows.packing import Pass, packed_passes, padded_passes
from distillpipe.training.rows.rows import Row
from distillpipe.training.student import without_adapter
from distillpipe.training.teachers.teaching import HiddenSums, PassTargets, StepDistillation


class PassSums(NamedTuple):
    """Loss sums of a forward pass; only `total` has a gradient."""

    total: torch.Tensor
    "the sum to train on; divided by the supervised tokens of the step, see `teaching`"
    hard: torch.Tensor
    soft: torch.Tensor
    feature: torch.Tensor
    relation: torch.Tensor
    num_labelled: torch.Tensor
    "tokens with a soft loss"


class StepLosses(NamedTuple):
    """The losses of a step."""

    loss: float
    "mean over the supervised tokens"
    grad_norm: float
    distillation: dict[str, Any]
    "the fields of losses.jsonl that only distillation fills"


class StudentLoss(torch.nn.Module):
    """A student and its loss as one module, because DDP and FSDP hook into the forward of the outermost module."""

    def __init__(
        self, model: Any, logit_change: LogitChange, projections: torch.nn.Module | None = None
    ) -> None:
        """`projections`: learned maps between hidden sizes, see `teaching`."""
        super().__init__()
        self.model = model
        self.projections = projections
        self._logit_change = logit_change

    def forward(self, batch: Pass, teachers: PassTargets | None = None) -> PassSums:
        """The losses of a pass; without targets of teachers, only the hard loss."""
        soft = None if teachers is None else teachers.soft
        out = without_adapter(self.model).base_model(
            input_ids=batch.ids,
            use_cache=False,
            output_hidden_states=teachers is not None and teachers.step.loss.compares_layers,
            **batch.model_inputs,
        )
        head = OutputHead(self.model.get_output_embeddings(), self._logit_change)
        tokens = loss_sums(out.last_hidden_state, head, batch.labels, soft)
        total = tokens.total
        hidden = HiddenSums(*torch.zeros(2, device=total.device))
        if teachers is not None and teachers.outputs:
            hidden = teachers.step.loss.hidden(batch, out, teachers)
            total = total + teachers.step.weighted(hidden)
        elif self.projections is not None:  # DDP waits for their gradients in every pass
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
    model: Any, device: torch.device, options: TrainingOptions, say: Callable[[str], None]
) -> Callable[[list[Row]], list[Pass]]:
    """Return the function that packs or pads rows into passes; sets the model's attention to match.

    `say` is called with the reason if rows have to be padded. Raises UsageError if --packing is given and the model needs padding.
    """
    split = padded_passes
    if options.packing is not False:
        packing = implementation(model.config, device, options.dtype)
        if packing.attention is not None:
            model.set_attn_implementation(packing.attention)
            split = packed_passes
        elif options.packing:
            raise UsageError(
                f"--packing: {packing.reason}: leave --packing out, and rows are padded"
            )
        else:
            say(f"rows are padded, not packed: {packing.reason}")
    return lambda rows: list(split(rows, capacity(options.max_length))) if rows else []


def held_out_loss_sum(accelerator: Accelerator, model: Any, passes: Iterable[Pass]) -> float:
    """The sum of the losses of some passes in this process, without gradients."""
    model.eval()
    with torch.no_grad():
        loss_sum = sum(float(_sums(accelerator, model, batch).total) for batch in passes)
    model.train()
    return loss_sum


def _sums(
    accelerator: Accelerator, model: Any, batch: Pass, distillation: StepDistillation | None = None
) -> PassSums:
    """The losses of a pass; an empty pass only keeps this process in step with the others."""
    moved = batch.to(accelerator.device)
    with accelerator.autocast():
        targets = distillation.targets(moved) if distillation is not None and batch.rows else None
        sums: PassSums = model(moved._replace(rows=[]), targets)
    return sums


def take_step(  # noqa: PLR0913 - one process of several
    accelerator: Accelerator,
    model: Any,
    optimizer: Any,
    passes: list[Pass],
    num_supervised: int,
    options: TrainingOptions,
    distillation: StepDistillation | None = None,
) -> StepLosses:
    """One optimizer step on the mean loss over its supervised tokens.

    `passes` are those of this process, equally many in each; `num_supervised` counts the tokens of all processes.
    """
    losses = []
    for number, batch in enumerate(passes, start=1):
        is_last = number == len(passes)
        with nullcontext() if is_last else accelerator.no_sync(model):
            pass_sums = _sums(accelerator, model, batch, distillation)
            accelerator.backward(pass_sums.total * (accelerator.num_processes / num_supervised))
        losses.append(torch.stack(pass_sums).detach())
    sums = accelerator.reduce(torch.stack(losses).sum(0)).tolist()
    loss = sums[0] / num_supervised
    limit = options.max_grad_norm or math.inf
    total: Any = accelerator.clip_grad_norm_(model.parameters(), limit)
    norm = float(total.full_tensor() if hasattr(total, "full_tensor") else total)
    if not math.isfinite(loss + norm):
        raise EngineError(
            f"the loss is {loss} and the gradient norm {norm}: the last saved state is kept; "
            "lower --learning-rate, or train with --dtype fp32"
        )
    optimizer.step()
    optimizer.zero_grad()
    kd_losses = {} if distillation is None else distillation.line(sums[1:], num_supervised)
    return StepLosses(loss, norm, kd_losses)
