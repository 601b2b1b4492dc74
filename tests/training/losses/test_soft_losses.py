"""Soft losses against sums written out in double precision, closed limits, and each other."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distillpipe.base.training_options import Divergence
from distillpipe.training.distillation import scheduled_value
from distillpipe.training.losses.soft_losses import (
    dense_loss,
    read_logits,
    top_k_divergence,
)

N, V, K = 5, 40, 6
DIVERGENCES = [("forward", 0.5), ("reverse", 0.5), ("js", 0.5), ("js", 0.2)]


def logits_of(seed: int, scale: float = 2.0, n: int = N) -> torch.Tensor:
    return scale * torch.randn(n, V, generator=torch.Generator().manual_seed(seed))


def top_k(teacher: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    logprobs, tokens = teacher.log_softmax(-1).topk(k, -1)
    return tokens, logprobs


def top_k_loss(
    logits: torch.Tensor,  # (N, V)
    tokens: torch.Tensor,  # (N, K)
    logprobs: torch.Tensor,  # (N, K)
    divergence: Divergence = "forward",
    beta: float = 0.5,
    temperature: float = 1.0,
) -> torch.Tensor:
    """The logits are read as training reads them."""
    return top_k_divergence(
        read_logits(logits, tokens.clamp(min=0)), logits.size(-1), tokens, logprobs,
        divergence=divergence, beta=beta, temperature=temperature,
    )  # fmt: skip


def written_out(p: list[float], q: list[float], divergence: str, beta: float) -> float:
    def kl(a: list[float], b: list[float]) -> float:
        return sum(x * math.log(x / y) for x, y in zip(a, b, strict=True) if x > 0)

    m = [beta * x + (1 - beta) * y for x, y in zip(p, q, strict=True)]
    return {
        "forward": kl(p, q),
        "reverse": kl(q, p),
        "js": beta * kl(p, m) + (1 - beta) * kl(q, m),
    }[divergence]


@pytest.mark.parametrize(("divergence", "beta"), DIVERGENCES)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_dense_loss_is_the_sum_over_the_vocabulary(divergence, beta, temperature) -> None:
    student, teacher = logits_of(1), logits_of(2)
    found = dense_loss(student, teacher, divergence=divergence, beta=beta, temperature=temperature)
    p = (teacher.double() / temperature).softmax(-1).tolist()
    q = (student.double() / temperature).softmax(-1).tolist()
    expected = [
        temperature**2 * written_out(a, b, divergence, beta) for a, b in zip(p, q, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("divergence", "beta"), DIVERGENCES)
def test_the_rest_of_the_vocabulary_is_one_bucket(divergence, beta) -> None:
    student, teacher = logits_of(1), logits_of(2)
    tokens, logprobs = top_k(teacher, K)
    found = top_k_loss(student, tokens, logprobs, divergence=divergence, beta=beta)
    p = logprobs.double().exp()
    q = student.double().softmax(-1).gather(-1, tokens)
    buckets = [torch.cat([x, 1 - x.sum(-1, keepdim=True)], -1).tolist() for x in (p, q)]
    expected = [written_out(a, b, divergence, beta) for a, b in zip(*buckets, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("divergence", "beta"), DIVERGENCES)
def test_other_temperatures_look_at_the_labelled_tokens_only(divergence, beta) -> None:
    student, teacher = logits_of(1), logits_of(2)
    tokens, logprobs = top_k(teacher, K)
    found = top_k_loss(student, tokens, logprobs, divergence=divergence, beta=beta, temperature=2.0)
    p = (teacher.double().gather(-1, tokens) / 2).softmax(-1).tolist()
    q = (student.double().gather(-1, tokens) / 2).softmax(-1).tolist()
    expected = [4 * written_out(a, b, divergence, beta) for a, b in zip(p, q, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("divergence", "beta"), DIVERGENCES)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_labels_of_all_tokens_give_the_dense_loss_and_gradient(
    divergence, beta, temperature
) -> None:
    options = {"divergence": divergence, "beta": beta, "temperature": temperature}
    teacher = logits_of(2)
    tokens, logprobs = top_k(teacher, V)
    dense, sparse = (logits_of(1).requires_grad_() for _ in range(2))
    loss = dense_loss(dense, teacher, **options)
    other = top_k_loss(sparse, tokens, logprobs, **options)
    loss.sum().backward()
    other.sum().backward()
    assert torch.allclose(loss, other, atol=1e-5)
    assert dense.grad is not None
    assert sparse.grad is not None
    assert torch.allclose(dense.grad, sparse.grad, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, V), which=st.sampled_from(DIVERGENCES))
def test_the_bucketed_loss_is_a_lower_bound(seed: int, k: int, which: tuple[str, float]) -> None:
    divergence, beta = which
    student, teacher = logits_of(seed), logits_of(seed + 1)
    dense = dense_loss(student, teacher, divergence=divergence, beta=beta)  # type: ignore[arg-type]
    found = top_k_loss(student, *top_k(teacher, k), divergence=divergence, beta=beta)  # type: ignore[arg-type]
    assert bool((found <= dense + 1e-4).all())
    assert bool((found >= -1e-5).all())


def test_a_student_like_its_teacher_loses_nothing() -> None:
    teacher = logits_of(2)
    for divergence, beta in DIVERGENCES:
        for temperature in (1.0, 3.0):
            options = {"divergence": divergence, "beta": beta, "temperature": temperature}
            loss = top_k_loss(teacher, *top_k(teacher, K), **options)
            assert loss.abs().max() < 1e-5


def test_a_high_temperature_compares_logits() -> None:
    """T^2 KL goes to half the variance over the vocabulary of the difference of the logits."""
    student, teacher = logits_of(1), logits_of(2)
    difference = (student - teacher).double()
    expected = difference.var(-1, correction=0) / 2
    for divergence in ("forward", "reverse"):
        found = dense_loss(student, teacher, divergence=divergence, temperature=1000.0)
        assert found.tolist() == pytest.approx(expected.tolist(), rel=0.05)


def test_js_goes_to_forward_and_reverse_at_its_ends() -> None:
    student, teacher = logits_of(1, 0.5), logits_of(2, 0.5)
    near = 1e-3
    forward = dense_loss(student, teacher, divergence="forward")
    reverse = dense_loss(student, teacher, divergence="reverse")
    low = dense_loss(student, teacher, divergence="js", beta=near) / near
    high = dense_loss(student, teacher, divergence="js", beta=1 - near) / near
    assert low.tolist() == pytest.approx(forward.tolist(), rel=0.02)
    assert high.tolist() == pytest.approx(reverse.tolist(), rel=0.02)
    even = dense_loss(student, teacher, divergence="js")
    assert torch.allclose(even, dense_loss(teacher, student, divergence="js"))


@pytest.mark.parametrize(("divergence", "beta"), DIVERGENCES)
def test_a_token_that_the_student_lacks_counts_with_the_rest(divergence, beta) -> None:
    student, teacher = logits_of(1), logits_of(2)
    tokens, logprobs = top_k(teacher, K)
    lacking = tokens.clone()
    lacking[:, 2] = -1
    others = [0, 1, 3, 4, 5]
    found = top_k_loss(student, lacking, logprobs, divergence=divergence, beta=beta)
    expected = top_k_loss(
        student, tokens[:, others], logprobs[:, others], divergence=divergence, beta=beta
    )
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("divergence", "beta"), DIVERGENCES)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_position_without_labels_teaches_nothing_and_breaks_nothing(
    divergence, beta, temperature
) -> None:
    student = logits_of(1).requires_grad_()
    tokens, logprobs = top_k(logits_of(2), K)
    tokens[0], logprobs[0] = -1, -math.inf
    tokens[1, 1] = -1  # some of a position
    loss = top_k_loss(
        student, tokens, logprobs, divergence=divergence, beta=beta, temperature=temperature
    )
    loss.sum().backward()
    assert student.grad is not None
    assert loss[0].item() == pytest.approx(0, abs=1e-6)
    assert student.grad[0].abs().max() == 0
    assert torch.isfinite(student.grad).all()
    assert student.grad[1:].abs().max() > 0


@pytest.mark.parametrize(("divergence", "beta"), DIVERGENCES)
def test_labels_that_rounding_lifts_over_one_give_a_finite_gradient(divergence, beta) -> None:
    student = logits_of(1).requires_grad_()
    tokens, _ = top_k(logits_of(2), K)
    over = torch.full((N, K), math.log(1.0003 / K))
    top_k_loss(student, tokens, over, divergence=divergence, beta=beta).sum().backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize(
    ("schedule", "done", "value"),
    [
        ("constant", 0.0, 5.0), ("constant", 1.0, 5.0),
        ("linear", 0.0, 5.0), ("linear", 0.25, 4.0), ("linear", 1.0, 1.0),
        ("cosine", 0.0, 5.0), ("cosine", 0.5, 3.0), ("cosine", 1.0, 1.0),
        ("cosine", 0.25, 3 + math.sqrt(2)), ("linear", 1.5, 1.0),
    ],
)  # fmt: skip
def test_a_schedule_goes_from_start_to_end(schedule, done, value) -> None:
    assert scheduled_value(schedule, 5.0, 1.0, done) == pytest.approx(value)
