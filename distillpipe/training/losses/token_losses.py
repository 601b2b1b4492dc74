"""Hard and soft losses of tokens, chunk by chunk.

Shapes: B rows of a batch, T tokens, V vocabulary, N supervised positions. We compute logits at supervised positions
only, in chunks: 32,768 tokens with a vocabulary of 152k are 20 GB in fp32, a chunk is half a GB. The gradient of a
chunk is computed right after its loss, so no logits are kept for the backward pass and none are computed twice.
"""

from typing import Any, NamedTuple

import torch

from distillpipe.training.losses.soft_losses import (
    LiveTargets,
    Mixture,
    SoftTargets,
    TokenLogits,
    read_logits,
    top_k_divergence,
)
from distillpipe.training.passes import CHUNK_LOGITS
from distillpipe.training.rows.rows import IGNORED


class SoftLoss(NamedTuple):
    """The teachers' targets at the supervised positions of a pass, and how to mix them with the hard loss."""

    targets: SoftTargets | LiveTargets
    mixture: Mixture

    @property
    def num_distributions(self) -> int:
        """Distributions over the whole vocabulary in a chunk: the student's and those of live teachers."""
        return 1 + (len(self.targets.teachers) if isinstance(self.targets, LiveTargets) else 0)

    def part(self, first: int, last: int) -> "SoftLoss":
        """The same at the positions from `first` to before `last`."""
        return SoftLoss(self.targets.part(first, last), self.mixture)


class LossSums(NamedTuple):
    """Sums of losses; a step of several forward passes divides them by all its supervised tokens."""

    total: torch.Tensor
    "the sum to train on, the only one with a gradient"
    hard: torch.Tensor
    "negative log-likelihoods of the labels"
    soft: torch.Tensor
    "soft losses at the positions that have a target"


def loss_sums(
    hidden: torch.Tensor,  # (B, T, hidden size)
    head: torch.nn.Module,  # to (..., V)
    labels: torch.Tensor,  # (B, T), IGNORED at positions without loss
    soft: SoftLoss | None = None,
) -> LossSums:
    """Sum the losses of a pass; the state at a position predicts the label of the next one.

    `soft` adds soft losses at the positions that have a target, in the order of the supervised positions.
    """
    targets = labels[:, 1:]
    supervised = targets != IGNORED
    states, targets = hidden[:, :-1][supervised], targets[supervised]  # (N, hidden size), (N)
    weights = [weight for weight in head.parameters() if weight.requires_grad]
    vocabulary = max((weight.shape[0] for weight in head.parameters()), default=1)
    copies = 1 if soft is None else soft.num_distributions
    size = max(1, CHUNK_LOGITS // (copies * vocabulary))
    if len(states) <= size:
        return LossSums(*_chunk_sums(head, states, targets, soft))
    if not torch.is_grad_enabled():
        starts = range(0, len(states), size)
        parts = [
            _chunk_sums(
                head,
                states[first:][:size],
                targets[first:][:size],
                soft and soft.part(first, first + size),
            )
            for first in starts
        ]
        return LossSums(*(torch.stack(values).sum() for values in zip(*parts, strict=True)))
    return LossSums(*_ChunkedSums.apply(head, targets, soft, size, states, *weights))  # type: ignore[no-untyped-call]


def _chunk_sums(
    head: torch.nn.Module, states: torch.Tensor, targets: torch.Tensor, soft: SoftLoss | None
) -> LossSums:
    """The losses of some positions in fp32; hard and soft losses share the logits."""
    logits = head(states).float()  # (N, V)
    if soft is None:
        loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        return LossSums(loss, loss.detach(), loss.new_zeros(()))
    targets_of_teacher, mixture = soft
    labelled = targets_of_teacher.labelled
    if isinstance(targets_of_teacher, SoftTargets):
        hard_losses, soft_losses = _top_k_losses(logits, targets, targets_of_teacher, mixture)
    else:
        hard_losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        soft_losses = targets_of_teacher.losses(logits, mixture)
    total = torch.lerp(hard_losses, soft_losses, mixture.weight * labelled.float()).sum()
    return LossSums(total, hard_losses.detach().sum(), (soft_losses.detach() * labelled).sum())


def _top_k_losses(
    logits: torch.Tensor, targets: torch.Tensor, soft: SoftTargets, mixture: Mixture
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hard and soft loss of each position, both (N,), from one read of the logits."""
    tokens = soft.tokens.long()
    read = torch.cat([targets[:, None], tokens.clamp(min=0)], -1)  # (N, 1 + K)
    reading = read_logits(logits, read)
    soft_losses = top_k_divergence(
        TokenLogits(reading.selected[:, 1:], reading.log_sum),
        logits.size(-1),
        tokens,
        soft.logprobs,
        divergence=mixture.divergence,
        beta=mixture.beta,
        temperature=mixture.temperature,
    )
    return reading.log_sum - reading.selected[:, 0], soft_losses


class _ChunkedSums(torch.autograd.Function):
    """Sum losses over chunks; the gradients are computed chunk by chunk in the forward pass and summed."""

    @staticmethod
    def forward(
        ctx: Any,
        head: torch.nn.Module,
        targets: torch.Tensor,  # (N)
        soft: SoftLoss | None,
        size: int,
        states: torch.Tensor,  # (N, hidden size)
        *weights: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        sums = torch.zeros(3, device=states.device)  # as in LossSums
        state_gradients = torch.empty_like(states)
        weight_gradients = [torch.zeros_like(weight) for weight in weights]
        for first in range(0, len(states), size):
            last = first + size
            chunk = states[first:last].detach().requires_grad_()
            with torch.enable_grad():
                losses = _chunk_sums(
                    head, chunk, targets[first:last], soft and soft.part(first, last)
                )
            chunk_gradients = torch.autograd.grad(losses.total, [chunk, *weights])
            sums += torch.stack(losses).detach()
            state_gradients[first:last] = chunk_gradients[0]
            for weight_gradient, chunk_gradient in zip(
                weight_gradients, chunk_gradients[1:], strict=True
            ):
                weight_gradient += chunk_gradient
        ctx.gradients = [state_gradients, *weight_gradients]
        total, *parts = (loss_sum.clone() for loss_sum in sums)
        ctx.mark_non_differentiable(*parts)
        return (total, *parts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: torch.Tensor, *_: Any) -> tuple[torch.Tensor | None, ...]:
        """Scale the gradients from `forward` in place, so that the gradient of a large head exists only once."""
        gradients, ctx.gradients = ctx.gradients, None
        return (None, None, None, None, *(gradient.mul_(outer) for gradient in gradients))
