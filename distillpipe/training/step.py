"""One optimizer step: its rows in as few forward passes as they need, their losses, the gradient, the update."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator

from distillpipe.errors import EngineError
from distillpipe.records import TrainingOptions
from distillpipe.training.attention import implementation
from distillpipe.training.losses import IGNORED, LossSums, loss_sums
from distillpipe.training.packing import Pass, capacity, packed_passes, padded_passes
from distillpipe.training.rows import Row
from distillpipe.training.student import base_model
from distillpipe.training.teaching import HiddenSums, Lesson


class PassLosses(NamedTuple):
    """Sums over the tokens, or rows, of a pass."""

    tokens: LossSums
    hidden: HiddenSums | None
    num_labelled: int
    "tokens with a soft loss"


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
            loss_sum += float(_pass_losses(accelerator, model, one).tokens.total)
            num_supervised += one.num_supervised
    model.train()
    return loss_sum / num_supervised


def _pass_losses(
    accelerator: Accelerator, model: Any, one: Pass, lesson: Lesson | None = None
) -> PassLosses:
    """The losses of a pass, one forward pass of the student, and of each live teacher."""
    moved = one.to(accelerator.device)
    with accelerator.autocast():
        soft, seen, wants_layers = None, [], False
        if lesson is not None:
            teaching = lesson.teaching
            seen, wants_layers = teaching.see(one), teaching.wants_layers
            soft = teaching.soft(one, seen, lesson.mixture, accelerator.device)
        out = base_model(model)(
            input_ids=moved.ids, use_cache=False, output_hidden_states=wants_layers, **moved.places
        )
        head = model.get_output_embeddings()
        tokens = loss_sums(out.last_hidden_state, head, moved.labels, soft)
        hidden = None
        if lesson is not None and seen:
            hidden = lesson.teaching.hidden(one, out, moved.labels[:, 1:] != IGNORED, seen)
    return PassLosses(tokens, hidden, 0 if soft is None else soft.targets.num_labelled)


def take_step(
    accelerator: Accelerator,
    model: Any,
    optimizer: Any,
    passes: list[Pass],
    options: TrainingOptions,
    lesson: Lesson | None = None,
) -> StepLosses:
    """One optimizer step on the mean loss over its supervised tokens; see `teaching` for what a lesson adds."""
    num_supervised = sum(one.num_supervised for one in passes)
    num_rows = sum(len(one.rows) for one in passes)
    found = []
    total = torch.zeros((), device=accelerator.device)
    for one in passes:
        losses = _pass_losses(accelerator, model, one, lesson)
        loss = losses.tokens.total / num_supervised
        if lesson is not None and losses.hidden is not None:
            given, (feature, relation) = lesson.teaching.options, losses.hidden
            loss = loss + given.feature_weight * feature / num_supervised
            loss = loss + given.relation_weight * relation / num_rows
        accelerator.backward(loss)
        total += loss.detach()
        found.append(_detached(losses))
    loss_of_step = float(total)
    limit = options.max_grad_norm or math.inf
    trained = list(model.parameters())
    if lesson is not None:
        trained += lesson.teaching.projections.parameters()
    norm = float(accelerator.clip_grad_norm_(trained, limit) or 0.0)
    if not math.isfinite(loss_of_step + norm):
        raise EngineError(
            f"the loss is {loss_of_step} and the norm of its gradient {norm}: "
            "the last state saved is kept; lower --learning-rate, or train with --dtype fp32"
        )
    optimizer.step()
    optimizer.zero_grad()
    taught = {} if lesson is None else _taught(found, lesson, num_supervised, num_rows)
    return StepLosses(loss_of_step, norm, num_supervised, taught)


def _detached(losses: PassLosses) -> PassLosses:
    """The same without what a gradient needs."""
    hidden = losses.hidden
    return PassLosses(
        LossSums(*(one.detach() for one in losses.tokens)),
        None if hidden is None else HiddenSums(*(one.detach() for one in hidden)),
        losses.num_labelled,
    )


def _taught(
    found: list[PassLosses], lesson: Lesson, num_supervised: int, num_rows: int
) -> dict[str, float | None]:
    """What losses.jsonl says of a step beside its loss; null what was not learnt."""
    given, mixture = lesson.teaching.options, lesson.mixture
    num_labelled = sum(one.num_labelled for one in found)
    hidden = [one.hidden for one in found if one.hidden is not None]
    feature, relation = (
        (float(sum(part)) for part in zip(*hidden, strict=True)) if hidden else (0, 0)
    )
    return {
        "hard_loss": float(sum(one.tokens.hard for one in found)) / num_supervised,
        "soft_loss": float(sum(one.tokens.soft for one in found)) / num_labelled
        if num_labelled
        else None,
        "kd_weight": mixture.weight,
        "kd_temperature": mixture.temperature,
        "feature_loss": feature / num_supervised if given.feature_weight else None,
        "relation_loss": relation / num_rows if given.relation_weight else None,
    }
