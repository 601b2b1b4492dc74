"""Losses. Shapes: B lines, T tokens, V vocabulary, N supervised positions. Soft labels will join here.

Logits are made for supervised positions only, and where they are many in chunks of them: 32,768 tokens of a
vocabulary of 152k are 20 GB in fp32, a chunk half a GB. The gradient of a chunk is taken as soon as its loss
is known, so no logits wait for the backward pass and none are made twice.
"""

from typing import Any

import torch

IGNORED = -100  # label of a position without loss
CHUNK_LOGITS = 2**27  # numbers in the logits of a chunk


def token_loss_sum(
    hidden: torch.Tensor,  # (B, T, hidden size)
    head: torch.nn.Module,  # to (..., V)
    labels: torch.Tensor,  # (B, T), IGNORED where there is no loss
) -> torch.Tensor:
    """The sum of the negative log-likelihoods of the labels, each predicted one position before it.

    A sum, so that a step over several forward passes can divide by all its supervised tokens.
    """
    targets = labels[:, 1:]
    supervised = targets != IGNORED
    states, targets = hidden[:, :-1][supervised], targets[supervised]  # (N, hidden size), (N)
    weights = [weight for weight in head.parameters() if weight.requires_grad]
    vocabulary = max((weight.shape[0] for weight in head.parameters()), default=1)
    size = max(1, CHUNK_LOGITS // vocabulary)
    if len(states) <= size:
        return _chunk_loss(head, states, targets)
    if not torch.is_grad_enabled():
        starts = range(0, len(states), size)
        parts = [_chunk_loss(head, states[at:][:size], targets[at:][:size]) for at in starts]
        return torch.stack(parts).sum()
    total: torch.Tensor = _ChunkedLoss.apply(  # type: ignore[no-untyped-call]
        head, targets, size, states, *weights
    )
    return total


def _chunk_loss(head: torch.nn.Module, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of some positions, fp32; a loss against soft labels takes its place here."""
    logits = head(states).float()  # (N, V)
    return torch.nn.functional.cross_entropy(logits, targets, reduction="sum")


class _ChunkedLoss(torch.autograd.Function):
    """The sum over chunks of positions; their gradients are made in the forward pass and summed there."""

    @staticmethod
    def forward(
        ctx: Any,
        head: torch.nn.Module,
        targets: torch.Tensor,  # (N)
        size: int,
        states: torch.Tensor,  # (N, hidden size)
        *weights: torch.Tensor,
    ) -> torch.Tensor:
        total = torch.zeros((), device=states.device)
        of_states = torch.empty_like(states)
        of_weights = [torch.zeros_like(weight) for weight in weights]
        for first in range(0, len(states), size):
            chunk = states[first : first + size].detach().requires_grad_()
            with torch.enable_grad():
                loss = _chunk_loss(head, chunk, targets[first : first + size])
            found = torch.autograd.grad(loss, [chunk, *weights])
            total += loss.detach()
            of_states[first : first + size] = found[0]
            for sum_, part in zip(of_weights, found[1:], strict=True):
                sum_ += part
        ctx.gradients = [of_states, *of_weights]
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scale what `forward` found, in place: the gradient of a large head is not held twice."""
        gradients, ctx.gradients = ctx.gradients, None
        return (None, None, None, *(gradient.mul_(outer) for gradient in gradients))
