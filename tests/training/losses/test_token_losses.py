"""The loss against a loop that is too plain to be wrong."""

import math

import pytest
import torch

from distillpipe.training.losses.soft_losses import (
    DenseTargets,
    LiveTargets,
    Mixture,
    SoftTargets,
    dense_loss,
)
from distillpipe.training.losses.token_losses import SoftLoss, loss_sums
from distillpipe.training.rows.rows import IGNORED


def naive_loss(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Over logits (B, T, V): position t predicts the label of position t + 1."""
    total = 0.0
    for row, row_labels in zip(logits.tolist(), labels.tolist(), strict=True):
        for at, label in enumerate(row_labels[1:]):
            if label != IGNORED:
                total += math.log(sum(map(math.exp, row[at]))) - row[at][label]
    return total


@pytest.fixture
def head() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(6, 11, bias=False).requires_grad_()


LABELS = {
    "all positions": [[1, 2, 3, 4], [5, 6, 7, 8]],
    "prompts and padding": [[IGNORED, IGNORED, 3, 4], [IGNORED, 6, IGNORED, IGNORED]],
    "a row without loss": [[IGNORED] * 4, [IGNORED, 6, 7, 0]],
    "the last position only": [[IGNORED] * 3 + [10], [IGNORED] * 4],
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
def test_the_loss_is_the_sum_that_a_naive_loop_gives(head, labels) -> None:
    hidden = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1)) * 3
    labels = torch.tensor(labels)
    loss = loss_sums(hidden, head, labels).total
    assert loss.shape == ()
    assert loss.item() == pytest.approx(naive_loss(head(hidden), labels), rel=1e-5)


def test_even_logits_cost_the_logarithm_of_the_vocabulary_per_token() -> None:
    labels = torch.tensor([[IGNORED, 2, 3, IGNORED]])
    loss = loss_sums(torch.ones(1, 4, 6), torch.nn.Linear(6, 11).apply(zero), labels).total
    assert loss.item() == pytest.approx(2 * math.log(11))


def zero(module: torch.nn.Linear) -> None:
    torch.nn.init.zeros_(module.weight)
    torch.nn.init.zeros_(module.bias)


def test_a_label_of_the_first_position_has_nothing_before_it_and_does_not_count(head) -> None:
    hidden = torch.randn(1, 3, 6)
    with_first = loss_sums(hidden, head, torch.tensor([[9, 2, 3]])).total
    without = loss_sums(hidden, head, torch.tensor([[IGNORED, 2, 3]])).total
    assert with_first.item() == without.item()


@pytest.mark.parametrize("num_tokens", [1, 4])
def test_without_supervised_positions_the_loss_is_zero_and_has_a_gradient(head, num_tokens) -> None:
    hidden = torch.randn(2, num_tokens, 6)
    loss = loss_sums(hidden, head, torch.full((2, num_tokens), IGNORED)).total
    loss.backward()
    assert loss.item() == 0.0
    assert head.weight.grad.abs().sum().item() == 0.0


def test_the_gradient_is_that_of_the_naive_sum(head) -> None:
    hidden = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor(LABELS["prompts and padding"])
    loss_sums(hidden, head, labels).total.backward()
    gradient, head.weight.grad = head.weight.grad.clone(), None
    expected = sum(
        -torch.log_softmax(head(hidden[row, at - 1]), dim=-1)[labels[row, at]]
        for row, at in [(0, 2), (0, 3), (1, 1)]
    )
    expected.backward()
    assert torch.allclose(gradient, head.weight.grad, atol=1e-6)


def test_logits_are_made_for_supervised_positions_only(head) -> None:
    shapes = []
    head.register_forward_hook(lambda _module, given, _made: shapes.append(given[0].shape))
    loss_sums(torch.randn(2, 4, 6), head, torch.tensor(LABELS["prompts and padding"]))
    assert shapes == [(3, 6)]


def test_the_sum_over_several_forward_passes_is_that_of_one(head) -> None:
    hidden = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(3))
    labels = torch.tensor(LABELS["prompts and padding"])
    parts = [loss_sums(hidden[at : at + 1], head, labels[at : at + 1]).total for at in range(2)]
    assert sum(parts).item() == pytest.approx(loss_sums(hidden, head, labels).total.item())


def test_half_precision_logits_are_summed_in_float32(head) -> None:
    hidden = torch.randn(1, 400, 6, generator=torch.Generator().manual_seed(4)).bfloat16()
    labels = torch.arange(400)[None] % 11
    loss = loss_sums(hidden, head.bfloat16(), labels).total
    assert loss.dtype == torch.float32
    # the logits carry bfloat16's error, the sum of 399 of them does not
    assert loss.item() == pytest.approx(naive_loss(head(hidden).float(), labels), rel=1e-5)


def both_ways(
    head: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, chunk_logits: int
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The loss, divided as a step does it, and the gradients of states and head."""
    monkeypatch.setattr("distillpipe.training.losses.token_losses.CHUNK_LOGITS", chunk_logits)
    head.zero_grad()
    hidden = torch.randn(3, 40, 6, generator=torch.Generator().manual_seed(3)).requires_grad_()
    labels = torch.arange(120).view(3, 40) % 11
    labels[:, :7] = IGNORED
    loss = loss_sums(hidden * 2, head, labels).total
    (loss / 99).backward()
    trained = [weight.grad for weight in head.parameters() if weight.requires_grad]
    return loss, [hidden.grad, *(gradient.clone() for gradient in trained)]


@pytest.mark.parametrize("positions", [1, 10, 98, 99])
@pytest.mark.parametrize("bias", [False, True])
def test_logits_in_chunks_give_the_loss_and_the_gradients_of_all_at_once(
    monkeypatch: pytest.MonkeyPatch, positions: int, bias: bool
) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 11, bias=bias)
    dense, wanted = both_ways(head, monkeypatch, 2**27)
    chunked, found = both_ways(head, monkeypatch, 11 * positions)
    assert chunked.item() == pytest.approx(dense.item(), rel=1e-5)
    assert chunked.dtype == torch.float32
    assert len(found) == 2 + bias
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)


def test_chunks_leave_a_frozen_head_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 11, bias=False).requires_grad_(False)
    _, wanted = both_ways(head, monkeypatch, 2**27)
    _, found = both_ways(head, monkeypatch, 11 * 10)
    assert head.weight.grad is None
    assert torch.allclose(found[0], wanted[0], rtol=1e-5, atol=1e-6)


def test_chunks_under_autocast_sum_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 11, bias=False)
    with torch.autocast("cpu", torch.bfloat16):
        dense, wanted = both_ways(head, monkeypatch, 2**27)
        chunked, found = both_ways(head, monkeypatch, 11 * 10)
    assert chunked.item() == pytest.approx(dense.item(), rel=1e-5)
    assert found[1].dtype == torch.float32
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=0.02, atol=0.02)


def test_no_more_logits_than_a_chunk_has_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    head = torch.nn.Linear(6, 11, bias=False)
    made = []
    head.register_forward_hook(lambda _module, _inputs, logits: made.append(tuple(logits.shape)))
    both_ways(head, monkeypatch, 11 * 40)
    assert made == [(40, 11), (40, 11), (19, 11)]


# with soft labels


def soft_of(logits: torch.Tensor, k: int, mixture: Mixture) -> SoftLoss:
    """The k most likely tokens of logits (N, V), none at the second position."""
    logprobs, tokens = logits.log_softmax(-1).topk(k)
    labelled = torch.ones(len(logits), dtype=torch.bool)
    labelled[1], tokens[1] = False, -1
    return SoftLoss(SoftTargets(tokens, logprobs, labelled), mixture)


MIXTURES = {
    "forward": Mixture(0.6, "forward", 0.5, 1.0),
    "reverse": Mixture(0.3, "reverse", 0.5, 2.0),
    "js": Mixture(1.0, "js", 0.2, 1.0),
}


@pytest.mark.parametrize("chunk", [2**27, 2 * 11])
@pytest.mark.parametrize("mixture", MIXTURES.values(), ids=MIXTURES.keys())
def test_labels_of_all_tokens_give_loss_and_gradient_of_the_whole_distributions(
    head, mixture, chunk, monkeypatch
) -> None:
    monkeypatch.setattr("distillpipe.training.losses.token_losses.CHUNK_LOGITS", chunk)
    labels = torch.tensor(LABELS["prompts and padding"])
    draw = torch.Generator().manual_seed(1)
    hidden = (torch.randn(2, 4, 6, generator=draw) * 3).requires_grad_()
    teacher = torch.randn(3, 11, generator=draw) * 3
    found = loss_sums(hidden, head, labels, soft_of(teacher, 11, mixture))
    found.total.backward()
    gradients = [hidden.grad.clone(), head.weight.grad.clone()]
    hidden.grad, head.weight.grad = None, None

    logits = head(torch.stack([hidden[0, 1], hidden[0, 2], hidden[1, 0]]))
    hard = torch.nn.functional.cross_entropy(logits, torch.tensor([3, 4, 6]), reduction="none")
    options = {"divergence": mixture.divergence, "beta": mixture.beta}
    soft = dense_loss(logits, teacher, temperature=mixture.temperature, **options)
    weight = mixture.weight * torch.tensor([1.0, 0.0, 1.0])
    wanted = ((1 - weight) * hard + weight * soft).sum()
    wanted.backward()
    assert found.total.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert found.hard.item() == pytest.approx(hard.sum().item(), rel=1e-5)
    assert found.soft.item() == pytest.approx((soft[0] + soft[2]).item(), rel=1e-5)
    for gradient, other in zip(gradients, (hidden.grad, head.weight.grad), strict=True):
        assert torch.allclose(gradient, other, atol=1e-5)


@pytest.mark.parametrize("chunk", [2**27, 22])
def test_a_live_teacher_whose_special_tokens_are_others_is_compared_by_the_tokens_both_have(
    head, chunk, monkeypatch
) -> None:
    monkeypatch.setattr("distillpipe.training.losses.token_losses.CHUNK_LOGITS", chunk)
    mixture = MIXTURES["forward"]
    labels = torch.tensor(LABELS["prompts and padding"])
    hidden = (torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1))).requires_grad_()
    teacher = torch.nn.Linear(4, 13, bias=False)
    states, labelled = torch.randn(3, 4), torch.tensor([True, True, False])
    ids = torch.tensor([0, 1, 2, 3, 12, 5]), torch.tensor([0, 1, 2, 3, 4, 10])
    target = LiveTargets((DenseTargets(states, labelled, teacher, ids),), (1.0,))
    found = loss_sums(hidden, head, labels, SoftLoss(target, mixture))
    found.total.backward()
    assert teacher.weight.grad is None
    assert hidden.grad.isfinite().all()
    logits = head(torch.stack([hidden[0, 1], hidden[0, 2]])).detach()
    wanted = dense_loss(logits[:, ids[1]], teacher(states[:2]).detach()[:, ids[0]])
    assert found.soft.item() == pytest.approx(wanted.sum().item(), rel=1e-5)
    same = target._replace(teachers=(target.teachers[0]._replace(tokens=11),))
    found = loss_sums(hidden, head, labels, SoftLoss(same, mixture))
    logits = head(torch.stack([hidden[0, 1], hidden[0, 2]])).detach()
    wanted = dense_loss(logits, teacher(states[:2]).detach()[:, :11])
    assert found.soft.item() == pytest.approx(wanted.sum().item(), rel=1e-5)


def test_what_is_measured_without_a_gradient_is_the_same_in_chunks(head, monkeypatch) -> None:
    hidden, teacher = torch.randn(2, 4, 6), torch.randn(3, 11)
    labels = torch.tensor(LABELS["prompts and padding"])
    soft = soft_of(teacher, 4, MIXTURES["js"])
    with torch.no_grad():
        whole = loss_sums(hidden, head, labels, soft)
        monkeypatch.setattr("distillpipe.training.losses.token_losses.CHUNK_LOGITS", 11)
        parts = loss_sums(hidden, head, labels, soft)
    assert torch.allclose(torch.stack(whole), torch.stack(parts), rtol=1e-5)
