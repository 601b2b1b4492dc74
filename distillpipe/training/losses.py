"""Losses. Shapes: B rows, T tokens, V vocabulary, N supervised positions. Soft labels will join here."""

import torch

IGNORED = -100  # label of a position without loss


def token_loss_sum(
    hidden: torch.Tensor,  # (B, T, hidden size)
    head: torch.nn.Module,  # to (..., V)
    labels: torch.Tensor,  # (B, T), IGNORED where there is no loss
) -> torch.Tensor:
    """The sum of the negative log-likelihoods of the labels, each predicted one position before it.

    A sum, so that a step over several forward passes can divide by all its supervised tokens. Logits
    are made for supervised positions only.
    """
    targets = labels[:, 1:]
    supervised = targets != IGNORED
    logits = head(hidden[:, :-1][supervised])  # (N, V)
    return torch.nn.functional.cross_entropy(logits.float(), targets[supervised], reduction="sum")
