"""One optimizer step: its rows in as few forward passes as they need, their losses, the gradient, the update."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator

from distillpipe.distillation import scheduled
from distillpipe.errors import EngineError
from distillpipe.records import Distillation, TrainingOptions
from distillpipe.training.attention import implementation
from distillpipe.training.losses import LossSums, Soft, loss_sums
from distillpipe.training.packing import Pass, capacity, packed_passes, padded_passes
from distillpipe.training.rows import Row
from distillpipe.training.soft_losses import Mixture
from distillpipe.training.soft_rows import SoftRows
from distillpipe.training.student import base_model


class Teaching(NamedTuple):
    """What the rows of a step have from a teacher beside their text."""

    soft_rows: SoftRows
    mixture: Mixture


class StepLosses(NamedTuple):
    """What came of a step."""

    loss: float
    "mean over the supervised tokens"
    grad_norm: float
    supervised_tokens: int
    taught: dict[str, Any]
    "fields of a line of losses.jsonl that only a teacher adds"


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
            loss_sum += float(_loss_sums(accelerator, model, one)[0].total)
            num_supervised += one.num_supervised
    model.train()
    return loss_sum / num_supervised


def _loss_sums(
    accelerator: Accelerator, model: Any, one: Pass, teaching: Teaching | None = None
) -> tuple[LossSums, int]:
    """The losses of a pass, and how many of its tokens have a soft label."""
    soft = _soft(one, teaching, accelerator.device)
    moved = one.to(accelerator.device)
    with accelerator.autocast():
        hidden = base_model(model)(input_ids=moved.ids, use_cache=False, **moved.places)
        head = model.get_output_embeddings()
        found = loss_sums(hidden.last_hidden_state, head, moved.labels, soft)
    return found, 0 if soft is None else soft.targets.num_labelled


def teaching_at(
    done: int, total: int, options: Distillation | None, soft_rows: SoftRows | None
) -> Teaching | None:
    """What is learnt of the teacher in the step after `done` of `total`: the last one has the end values."""
    if options is None or soft_rows is None:
        return None
    share = done / (total - 1) if total > 1 else 0.0
    schedule = options.kd_schedule
    mixture = Mixture(
        scheduled(schedule, options.kd_weight, options.kd_weight_end, share),
        options.kd_divergence,
        options.kd_beta,
        scheduled(schedule, options.kd_temperature, options.kd_temperature_end, share),
    )
    return Teaching(soft_rows, mixture)


def take_step(
    accelerator: Accelerator,
    model: Any,
    optimizer: Any,
    passes: list[Pass],
    options: TrainingOptions,
    teaching: Teaching | None = None,
) -> StepLosses:
    """One optimizer step on the mean loss over its supervised tokens."""
    num_supervised = sum(one.num_supervised for one in passes)
    sums, num_labelled = [], 0
    for one in passes:
        found, labelled = _loss_sums(accelerator, model, one, teaching)
        num_labelled += labelled
        accelerator.backward(found.total / num_supervised)
        sums.append(torch.stack(found).detach())
    loss, hard_loss, soft_loss = torch.stack(sums).sum(0).tolist()
    limit = options.max_grad_norm or math.inf
    norm = float(accelerator.clip_grad_norm_(model.parameters(), limit) or 0.0)
    if not math.isfinite(loss + norm):
        raise EngineError(
            f"the loss is {loss / num_supervised} and the norm of its gradient {norm}: "
            "the last state saved is kept; lower --learning-rate, or train with --dtype fp32"
        )
    optimizer.step()
    optimizer.zero_grad()
    return StepLosses(
        loss / num_supervised,
        norm,
        num_supervised,
        {}
        if teaching is None
        else {
            "hard_loss": hard_loss / num_supervised,
            "soft_loss": soft_loss / num_labelled if num_labelled else None,
            "kd_weight": teaching.mixture.weight,
            "kd_temperature": teaching.mixture.temperature,
        },
    )


def _soft(one: Pass, teaching: Teaching | None, device: torch.device) -> Soft | None:
    """The soft labels of a pass; None where its rows have none."""
    targets = None if teaching is None else teaching.soft_rows.targets(one.rows)
    if teaching is None or targets is None:
        return None
    return Soft(targets.to(device), teaching.mixture)
