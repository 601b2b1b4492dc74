"""Soft losses: how far the student's next-token distribution is from the teacher's, position by position.

Legend: N supervised positions, V vocabulary of the student, K labels of a position. p is the teacher's
distribution and q the student's, both at temperature T; every loss is multiplied by T^2, so that its gradient
keeps its size (Hinton, Vinyals and Dean 2015, section 2).

    forward   KL(p || q), mean-seeking
    reverse   KL(q || p), mode-seeking (Gu et al. 2024, MiniLLM)
    js        beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q, 0 < beta < 1
              (Agarwal et al. 2024, GKD): js / beta goes to forward for beta -> 0, js / (1 - beta) to
              reverse for beta -> 1

Stored labels hold the K most likely tokens. **At T = 1** the rest of the vocabulary is one bucket, whose mass
is known on both sides: the divergence of the buckets is a lower bound of the true one, and no token outside
the K is pulled or pushed apart from the others. **At other T** the mass of the rest is not known, so both sides
are normalised over the K tokens; that is another, biased, target. A live teacher has all V and is exact always.
"""

import math
from typing import Any, NamedTuple

import torch

from distillpipe.base.training_options import Divergence

NEVER = torch.finfo(torch.float32).min
"The log of no probability; unlike -inf it has gradients."
MIN_REST = 1e-6
"Mass of the rest where labels, rounded to fp16, add up to 1 or more."


class Mixture(NamedTuple):
    """How hard and soft loss go together in one step."""

    weight: float
    "w: at a token with a label the loss is w soft + (1 - w) hard, at others hard"
    divergence: Divergence
    beta: float
    temperature: float


class SoftTargets(NamedTuple):
    """The soft labels of supervised tokens, in the order of the tokens."""

    tokens: torch.Tensor
    "(N, K) int32, ids in the student's vocabulary, -1 where it has no such token"
    logprobs: torch.Tensor
    "(N, K) fp16, of the teacher at temperature 1"
    labelled: torch.Tensor
    "(N,) bool: the tokens that have a label"

    @property
    def num_labelled(self) -> int:
        return int(self.labelled.sum())

    def part(self, first: int, last: int) -> "SoftTargets":
        """Those of the tokens from `first` to before `last`."""
        return SoftTargets(*(one[first:last] for one in self))

    def to(self, device: torch.device) -> "SoftTargets":
        """The same on another device."""
        return SoftTargets(*(one.to(device, non_blocking=True) for one in self))


class DenseTargets(NamedTuple):
    """A live teacher at supervised tokens: its logits are made by its head, chunk by chunk."""

    states: torch.Tensor
    "(N, hidden size) its last hidden states"
    labelled: torch.Tensor
    "(N,) bool: the tokens that it has too"
    head: torch.nn.Module
    tokens: tuple[torch.Tensor, torch.Tensor] | int
    "the ids of the tokens that both have, its own and the student's; a number: the first so many"

    def part(self, first: int, last: int) -> "DenseTargets":
        """Those of the tokens from `first` to before `last`."""
        return self._replace(states=self.states[first:last], labelled=self.labelled[first:last])

    def losses(self, logits: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        """The loss at each token, (N,), over the tokens that both have: exact where those are all."""
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
    """Live teachers at supervised tokens; the loss is the weighted mean over those that have a token."""

    teachers: tuple[DenseTargets, ...]
    weights: tuple[float, ...]

    @property
    def labelled(self) -> torch.Tensor:
        """(N,) bool: the tokens that at least one of them has."""
        return torch.stack([one.labelled for one in self.teachers]).any(0)

    @property
    def num_labelled(self) -> int:
        return int(self.labelled.sum())

    def part(self, first: int, last: int) -> "LiveTargets":
        """Those of the tokens from `first` to before `last`."""
        return LiveTargets(tuple(one.part(first, last) for one in self.teachers), self.weights)

    def losses(self, logits: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        """The loss at each token, (N,); 0 where no teacher has it."""
        total = whole = torch.zeros(len(logits), device=logits.device)
        for teacher, weight in zip(self.teachers, self.weights, strict=True):
            share = weight * teacher.labelled
            total = total + share * teacher.losses(logits, mixture)
            whole = whole + share
        return total / whole.masked_fill(whole == 0, 1.0)


class Reading(NamedTuple):
    """What a loss of a few tokens needs of the logits."""

    found: torch.Tensor
    "(N, K) the logits of those tokens"
    whole: torch.Tensor
    "(N,) the logarithm of the sum over the vocabulary"


def read_logits(logits: torch.Tensor, tokens: torch.Tensor) -> Reading:
    """The logits (N, V) at `tokens` (N, K) and their log-sum; its gradient fills the vocabulary once.

    So hard and soft loss together cost what a cross-entropy costs.
    """
    return Reading(*_Read.apply(logits, tokens))  # type: ignore[no-untyped-call]


class _Read(torch.autograd.Function):
    """The gradient of the log-sum is the softmax, and that of the logits read is added to it in place."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        whole = logits.logsumexp(-1)
        ctx.save_for_backward(logits, tokens, whole)
        return logits.gather(-1, tokens), whole

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, of_found: torch.Tensor, of_whole: torch.Tensor
    ) -> tuple[torch.Tensor, None]:
        logits, tokens, whole = ctx.saved_tensors
        gradient = (logits - whole[:, None]).exp_().mul_(of_whole[:, None])
        return gradient.scatter_add_(-1, tokens, of_found), None


def top_k_divergence(  # noqa: PLR0913 - a loss and what shapes it
    reading: Reading,
    num_logits: int,
    tokens: torch.Tensor,  # (N, K) ids in the student's vocabulary, -1 where it has no such token
    logprobs: torch.Tensor,  # (N, K) of the teacher at temperature 1
    *,
    divergence: Divergence,
    beta: float,
    temperature: float,
) -> torch.Tensor:  # (N,)
    """The loss at each position from the teacher's K most likely tokens.

    `reading` holds the student's logits at `tokens`; a token of -1, which the student lacks, may have been read
    anywhere and counts with the rest. A position that has no other tokens loses nothing.
    """
    missing = tokens < 0
    if temperature == 1.0:
        teacher = _with_rest(logprobs.float().masked_fill(missing, NEVER), num_logits)
        within = (reading.found - reading.whole[:, None]).masked_fill(missing, NEVER)
        return _divergence(teacher, _with_rest(within, num_logits), divergence, beta)
    # masked after the division: NEVER over a temperature below 1 were -inf, and its gradient nan
    teacher = (logprobs.float() / temperature).masked_fill(missing, NEVER).log_softmax(-1)
    student = (reading.found / temperature).masked_fill(missing, NEVER).log_softmax(-1)
    return temperature**2 * _divergence(teacher, student, divergence, beta)


def dense_loss(
    logits: torch.Tensor,  # (N, V) of the student
    teacher_logits: torch.Tensor,  # (N, V) in the same order of tokens
    *,
    divergence: Divergence = "forward",
    beta: float = 0.5,
    temperature: float = 1.0,
) -> torch.Tensor:  # (N,)
    """The loss at each position from the teacher's whole distribution."""
    teacher = (teacher_logits.float() / temperature).log_softmax(-1)
    student = (logits.float() / temperature).log_softmax(-1)
    return temperature**2 * _divergence(teacher, student, divergence, beta)


def _with_rest(log_p: torch.Tensor, vocabulary: int) -> torch.Tensor:  # (N, K) to (N, K + 1)
    """Log-probabilities with that of all other tokens behind them; none is left where K = V.

    Rounding can make the K add up to 1 or more: the rest is MIN_REST then.
    """
    if log_p.size(-1) >= vocabulary:
        return log_p
    total = log_p.logsumexp(-1, keepdim=True)
    rest = (-torch.expm1(total.clamp(max=math.log1p(-MIN_REST)))).log()
    return torch.cat([log_p, rest], -1)


def _divergence(
    log_p: torch.Tensor, log_q: torch.Tensor, divergence: Divergence, beta: float
) -> torch.Tensor:
    """Between two distributions over the last axis, both as log-probabilities."""
    if divergence == "forward":
        return _kl(log_p, log_q)
    if divergence == "reverse":
        return _kl(log_q, log_p)
    mixed = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    return beta * _kl(log_p, mixed) + (1 - beta) * _kl(log_q, mixed)


def _kl(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL(p || q); what has no mass in p adds nothing, whatever q says."""
    p = log_p.exp()
    difference = torch.where(p > 0, log_p - log_q, 0.0)
    return (p * difference).sum(-1)
