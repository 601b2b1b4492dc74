"""Hard and soft losses of tokens. Shapes: B lines, T tokens, V vocabulary, N supervised positions.

Logits are made for supervised positions only, and where they are many in chunks of them: 32,768 tokens of a
vocabulary of 152k are 20 GB in fp32, a chunk half a GB. The gradient of a chunk is taken as soon as its loss
is known, so no logits wait for the backward pass and none are made twice.
"""

from typing import Any, NamedTuple

import torch

from distillpipe.training.losses.soft_losses import (
    LiveTargets,
    Mixture,
    Reading,
    SoftTargets,
    read_logits,
    top_k_divergence,
)
from distillpipe.training.passes import CHUNK_LOGITS
from distillpipe.training.rows.rows import IGNORED


class Soft(NamedTuple):
    """What is learnt of a teacher at the supervised positions of a pass."""

    targets: SoftTargets | LiveTargets
    mixture: Mixture

    @property
    def num_distributions(self) -> int:
        """Over the whole vocabulary, that a chunk holds: the student's, and those of live teachers."""
        return 1 + (len(self.targets.teachers) if isinstance(self.targets, LiveTargets) else 0)

    def part(self, first: int, last: int) -> "Soft":
        """The same at the positions from `first` to before `last`."""
        return Soft(self.targets.part(first, last), self.mixture)


class LossSums(NamedTuple):
    """Sums, so that a step over several forward passes can divide by all its supervised tokens."""

    total: torch.Tensor
    "what is trained on, the only one with a gradient"
    hard: torch.Tensor
    "of the negative log-likelihoods of the labels"
    soft: torch.Tensor
    "of the soft losses at the positions that have one"


def loss_sums(
    hidden: torch.Tensor,  # (B, T, hidden size)
    head: torch.nn.Module,  # to (..., V)
    labels: torch.Tensor,  # (B, T), IGNORED where there is no loss
    soft: Soft | None = None,
) -> LossSums:
    """The sum of the negative log-likelihoods of the labels, each predicted one position before it.

    Where `soft` has targets the soft loss is mixed in, row by row as they stand.
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
                head, states[at:][:size], targets[at:][:size], soft and soft.part(at, at + size)
            )
            for at in starts
        ]
        return LossSums(*(torch.stack(one).sum() for one in zip(*parts, strict=True)))
    return LossSums(*_ChunkedSums.apply(head, targets, soft, size, states, *weights))  # type: ignore[no-untyped-call]


def _chunk_sums(
    head: torch.nn.Module, states: torch.Tensor, targets: torch.Tensor, soft: Soft | None
) -> LossSums:
    """The losses of some positions, fp32; hard and soft ones from the same logits."""
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
    """Hard and soft loss of each position, (N,) both, from one reading of the logits."""
    tokens = soft.tokens.long()
    read = torch.cat([targets[:, None], tokens.clamp(min=0)], -1)  # (N, 1 + K)
    found, whole = read_logits(logits, read)
    soft_losses = top_k_divergence(
        Reading(found[:, 1:], whole),
        logits.size(-1),
        tokens,
        soft.logprobs,
        divergence=mixture.divergence,
        beta=mixture.beta,
        temperature=mixture.temperature,
    )
    return whole - found[:, 0], soft_losses


class _ChunkedSums(torch.autograd.Function):
    """The sum over chunks of positions; their gradients are made in the forward pass and summed there."""

    @staticmethod
    def forward(
        ctx: Any,
        head: torch.nn.Module,
        targets: torch.Tensor,  # (N)
        soft: Soft | None,
        size: int,
        states: torch.Tensor,  # (N, hidden size)
        *weights: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        sums = torch.zeros(3, device=states.device)  # as in LossSums
        of_states = torch.empty_like(states)
        of_weights = [torch.zeros_like(weight) for weight in weights]
        for first in range(0, len(states), size):
            last = first + size
            chunk = states[first:last].detach().requires_grad_()
            with torch.enable_grad():
                losses = _chunk_sums(
                    head, chunk, targets[first:last], soft and soft.part(first, last)
                )
            found = torch.autograd.grad(losses.total, [chunk, *weights])
            sums += torch.stack(losses).detach()
            of_states[first:last] = found[0]
            for whole, of_chunk in zip(of_weights, found[1:], strict=True):
                whole += of_chunk
        ctx.gradients = [of_states, *of_weights]
        total, *parts = (one.clone() for one in sums)
        ctx.mark_non_differentiable(*parts)
        return (total, *parts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: torch.Tensor, *_: Any) -> tuple[torch.Tensor | None, ...]:
        """Scale what `forward` found, in place: the gradient of a large head is not held twice."""
        gradients, ctx.gradients = ctx.gradients, None
        return (None, None, None, None, *(gradient.mul_(outer) for gradient in gradients))
