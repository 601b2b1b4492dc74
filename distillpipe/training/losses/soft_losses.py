"""Logit distillation losses: the divergence of teacher and student distributions at each token.

Legend: N supervised positions, V vocabulary of the student, K labels of a position. p is the teacher's distribution and
q the student's, both at temperature T. Every loss is multiplied by T^2, so that the size of its gradient does not
depend on T (Hinton, Vinyals and Dean 2015, section 2).

    forward   KL(p || q), mean-seeking
    reverse   KL(q || p), mode-seeking (Gu et al. 2024, MiniLLM)
    js        beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q, 0 < beta < 1
              (Agarwal et al. 2024, GKD): js / beta tends to forward for beta -> 0, js / (1 - beta) to
              reverse for beta -> 1

Stored labels hold the K most likely tokens. **At T = 1** all other tokens form one bucket, whose probability is known for
both models. The divergence of these K + 1 probabilities is a lower bound of the true one, and does not change the
relative probabilities of tokens outside the K. **At other T** the probability of the bucket is unknown, so both sides are
normalised over the K tokens, which is a different, biased target. A live teacher has all V logits and is always exact.
"""

import math
from typing import Any, NamedTuple

import torch

from distillpipe.base.training_options import Divergence

NEVER = torch.finfo(torch.float32).min
"The log-probability of an impossible token; unlike -inf it has finite gradients."
MIN_REST = 1e-6
"Probability of the bucket when the labels, rounded to fp16, sum to 1 or more."


class Mixture(NamedTuple):
    """How one step mixes hard and soft loss."""

    weight: float
    "w: a token with a label has the loss w soft + (1 - w) hard, any other token hard"
    divergence: Divergence
    beta: float
    temperature: float


class SoftTargets(NamedTuple):
    """Stored soft labels of supervised tokens, in the order of the tokens."""

    tokens: torch.Tensor
    "(N, K) int32, ids in the student's vocabulary, -1 for a token that the student does not have"
    logprobs: torch.Tensor
    "(N, K) fp16, log-probabilities of the teacher at temperature 1"
    labelled: torch.Tensor
    "(N,) bool: the tokens that have a label"

    @property
    def num_labelled(self) -> int:
        return int(self.labelled.sum())

    def part(self, first: int, last: int) -> "SoftTargets":
        """Those of the tokens from `first` to before `last`."""
        return SoftTargets(*(tensor[first:last] for tensor in self))

    def to(self, device: torch.device) -> "SoftTargets":
        """The same on another device."""
        return SoftTargets(*(tensor.to(device, non_blocking=True) for tensor in self))


class DenseTargets(NamedTuple):
    """The distribution of a live teacher at supervised tokens; its head computes the logits chunk by chunk."""

    states: torch.Tensor
    "(N, hidden size) its last hidden states"
    labelled: torch.Tensor
    "(N,) bool: the tokens that the teacher has too"
    head: torch.nn.Module
    tokens: tuple[torch.Tensor, torch.Tensor] | int
    "ids of the tokens that both have, in the teacher's and in the student's vocabulary; a number n: ids 0 to n - 1"

    def part(self, first: int, last: int) -> "DenseTargets":
        """Those of the tokens from `first` to before `last`."""
        return self._replace(states=self.states[first:last], labelled=self.labelled[first:last])

    def losses(self, logits: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        """The loss at each token, (N,), over the shared vocabulary; exact if the vocabularies are equal."""
        with torch.no_grad():
            theirs = self.head(self.states)
        if isinstance(self.tokens, int):
            theirs, ours = theirs[:, : self.tokens], logits[:, : self.tokens]
        else:
            theirs, ours = theirs[:, self.tokens[0]], logits[:, self.tokens[1]]
        return dense_loss(
            ours,
            theirs,
            divergence=mixture.divergence,
            beta=mixture.beta,
            temperature=mixture.temperature,
        )


class LiveTargets(NamedTuple):
    """Several live teachers; the loss of a token is the weighted mean over the teachers that have it."""

    teachers: tuple[DenseTargets, ...]
    weights: tuple[float, ...]

    @property
    def labelled(self) -> torch.Tensor:
        """(N,) bool: the tokens that at least one teacher has."""
        return torch.stack([teacher.labelled for teacher in self.teachers]).any(0)

    @property
    def num_labelled(self) -> int:
        return int(self.labelled.sum())

    def part(self, first: int, last: int) -> "LiveTargets":
        """Those of the tokens from `first` to before `last`."""
        return LiveTargets(
            tuple(teacher.part(first, last) for teacher in self.teachers), self.weights
        )

    def losses(self, logits: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        """The loss at each token, (N,); 0 if no teacher has it."""
        total = weight_sum = torch.zeros(len(logits), device=logits.device)
        for teacher, weight in zip(self.teachers, self.weights, strict=True):
            share = weight * teacher.labelled
            total = total + share * teacher.losses(logits, mixture)
            weight_sum = weight_sum + share
        return total / weight_sum.masked_fill(weight_sum == 0, 1.0)


class TokenLogits(NamedTuple):
    """The logits of some tokens, and the normalizer of all."""

    selected: torch.Tensor
    "(N, K) logits of the selected tokens"
    log_sum: torch.Tensor
    "(N,) log-sum-exp over the vocabulary"


def read_logits(logits: torch.Tensor, tokens: torch.Tensor) -> TokenLogits:
    """Gather the logits (N, V) at `tokens` (N, K) and compute their log-sum-exp.

    The gradient fills the (N, V) array once, so hard and soft loss together cost no more than one cross-entropy.
    """
    return TokenLogits(*_Read.apply(logits, tokens))  # type: ignore[no-untyped-call]


class _Read(torch.autograd.Function):
    """The gradient of the log-sum-exp is the softmax; the gradient of the gathered logits is added in place."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        log_sum = logits.logsumexp(-1)
        ctx.save_for_backward(logits, tokens, log_sum)
        return logits.gather(-1, tokens), log_sum

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, selected_gradient: torch.Tensor, log_sum_gradient: torch.Tensor
    ) -> tuple[torch.Tensor, None]:
        logits, tokens, log_sum = ctx.saved_tensors
        gradient = (logits - log_sum[:, None]).exp_().mul_(log_sum_gradient[:, None])
        return gradient.scatter_add_(-1, tokens, selected_gradient), None


def top_k_divergence(  # noqa: PLR0913 - a loss and what shapes it
    reading: TokenLogits,
    num_logits: int,
    tokens: torch.Tensor,  # (N, K) ids in the student's vocabulary, -1 for a token that it does not have
    logprobs: torch.Tensor,  # (N, K) of the teacher at temperature 1
    *,
    divergence: Divergence,
    beta: float,
    temperature: float,
) -> torch.Tensor:  # (N,)
    """The loss (N,) at each position, from the teacher's K most likely tokens.

    `reading` holds the student's logits at `tokens`. A token of -1 is masked, whatever logit was read for it, and counts
    as part of the bucket. A position where all tokens are -1 has a loss of 0.
    """
    missing = tokens < 0
    if temperature == 1.0:
        teacher = _with_rest(logprobs.float().masked_fill(missing, NEVER), num_logits)
        within = (reading.selected - reading.log_sum[:, None]).masked_fill(missing, NEVER)
        return _divergence(teacher, _with_rest(within, num_logits), divergence, beta)
    # mask after the division: NEVER divided by a temperature below 1 is -inf, whose gradient is nan
    teacher = (logprobs.float() / temperature).masked_fill(missing, NEVER).log_softmax(-1)
    student = (reading.selected / temperature).masked_fill(missing, NEVER).log_softmax(-1)
    return temperature**2 * _divergence(teacher, student, divergence, beta)


def dense_loss(
    logits: torch.Tensor,  # (N, V) of the student
    teacher_logits: torch.Tensor,  # (N, V) in the same order of tokens
    *,
    divergence: Divergence = "forward",
    beta: float = 0.5,
    temperature: float = 1.0,
) -> torch.Tensor:  # (N,)
    """The loss (N,) at each position, from the teacher's full distribution."""
    teacher = (teacher_logits.float() / temperature).log_softmax(-1)
    student = (logits.float() / temperature).log_softmax(-1)
    return temperature**2 * _divergence(teacher, student, divergence, beta)


def _with_rest(log_p: torch.Tensor, vocabulary: int) -> torch.Tensor:  # (N, K) to (N, K + 1)
    """Append the log-probability of all other tokens; nothing is appended if K = V.

    Rounding can make the K probabilities sum to 1 or more; the rest is then MIN_REST.
    """
    if log_p.size(-1) >= vocabulary:
        return log_p
    total = log_p.logsumexp(-1, keepdim=True)
    rest = (-torch.expm1(total.clamp(max=math.log1p(-MIN_REST)))).log()
    return torch.cat([log_p, rest], -1)


def _divergence(
    log_p: torch.Tensor, log_q: torch.Tensor, divergence: Divergence, beta: float
) -> torch.Tensor:
    """The divergence of two distributions over the last axis, given as log-probabilities."""
    if divergence == "forward":
        return _kl(log_p, log_q)
    if divergence == "reverse":
        return _kl(log_q, log_p)
    mixed = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    return beta * _kl(log_p, mixed) + (1 - beta) * _kl(log_q, mixed)


def _kl(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL(p || q); tokens with p = 0 add nothing, whatever q is."""
    p = log_p.exp()
    difference = torch.where(p > 0, log_p - log_q, 0.0)
    return (p * difference).sum(-1)
