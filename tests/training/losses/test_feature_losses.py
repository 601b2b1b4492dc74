"""Losses on hidden states against sums written out, and what of them must not matter."""

import math

import pytest
import torch

from distillpipe.training.losses.feature_losses import (
    MAX_TOKENS,
    feature_loss_sum,
    relation_loss,
    relation_loss_sum,
)

N, S, H = 7, 5, 3
LABELLED = torch.tensor([True, True, False, True, True, True, True])
ROWS = [("a", 4), ("b", 3)]


def states(seed: int, width: int, number: int = N) -> torch.Tensor:
    return torch.randn(number, width, generator=torch.Generator().manual_seed(seed))


def cosine(one: list[float], other: list[float]) -> float:
    dot = sum(x * y for x, y in zip(one, other, strict=True))
    return dot / math.sqrt(sum(x * x for x in one) * sum(y * y for y in other))


def test_mse_is_the_mean_over_the_width_and_the_sum_over_the_tokens_that_both_have() -> None:
    ours, theirs = states(1, H), states(2, H)
    wanted = sum(
        sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / H
        for a, b, has in zip(ours.tolist(), theirs.tolist(), LABELLED.tolist(), strict=True)
        if has
    )
    assert feature_loss_sum(ours, theirs, LABELLED, "mse").item() == pytest.approx(wanted, rel=1e-5)


def test_cosine_is_one_minus_the_similarity() -> None:
    ours, theirs = states(1, H), states(2, H)
    wanted = sum(
        1 - cosine(a, b)
        for a, b, has in zip(ours.tolist(), theirs.tolist(), LABELLED.tolist(), strict=True)
        if has
    )
    found = feature_loss_sum(ours, theirs, LABELLED, "cosine")
    assert found.item() == pytest.approx(wanted, rel=1e-5)
    assert feature_loss_sum(3 * theirs, theirs, LABELLED, "cosine").item() == pytest.approx(
        0, abs=1e-5
    )


def written_out(ours: list[list[float]], theirs: list[list[float]]) -> float:
    """The mean over all pairs of two different ones."""
    pairs = [(i, j) for i in range(len(ours)) for j in range(len(ours)) if i != j]
    difference = [cosine(ours[i], ours[j]) - cosine(theirs[i], theirs[j]) for i, j in pairs]
    return sum(one**2 for one in difference) / len(pairs)


def test_relation_compares_the_similarities_of_all_pairs_whatever_the_widths() -> None:
    ours, theirs = states(1, S), states(2, H)
    wanted = written_out(ours.tolist(), theirs.tolist())
    assert relation_loss(ours, theirs).item() == pytest.approx(wanted, rel=1e-5)
    rotated = torch.linalg.qr(states(3, S, S)).Q
    assert relation_loss(ours, 2 * ours @ rotated).item() == pytest.approx(0, abs=1e-10)


def test_pairs_of_tokens_stay_within_their_row_and_rows_are_compared_by_their_means() -> None:
    ours, theirs = states(1, S), states(2, H)
    tokens = [[0, 1, 3], [4, 5, 6]]
    within = sum(written_out(ours[at].tolist(), theirs[at].tolist()) for at in tokens)
    means = [[part[at].mean(0).tolist() for at in tokens] for part in (ours, theirs)]
    wanted = within + 2 * written_out(*means)
    found = relation_loss_sum(ours, theirs, LABELLED, ROWS)
    assert found.item() == pytest.approx(wanted, rel=1e-5)


def test_one_token_or_none_that_both_have_is_no_relation_and_has_a_gradient() -> None:
    ours, theirs = states(1, S).requires_grad_(), states(2, H)
    for labelled in (torch.zeros(N, dtype=torch.bool), torch.arange(N) == 3):
        loss = relation_loss_sum(ours, theirs, labelled, ROWS)
        loss.backward()
        assert loss.item() == 0
        assert ours.grad.abs().sum().item() == 0
    assert feature_loss_sum(ours, states(2, S), torch.zeros(N, dtype=torch.bool), "mse").item() == 0


def test_of_a_long_row_the_same_tokens_are_compared_every_time() -> None:
    ours, theirs = (states(seed, S, 1000).requires_grad_() for seed in (1, 2))
    every = torch.ones(1000, dtype=torch.bool)
    seen = []
    for name in ("a", "a", "b"):
        ours.grad = None
        relation_loss_sum(ours, theirs, every, [(name, 1000)]).backward()
        seen.append(ours.grad.abs().sum(-1).nonzero()[:, 0].tolist())
    assert len(seen[0]) == MAX_TOKENS
    assert seen[0] == seen[1] != seen[2]
