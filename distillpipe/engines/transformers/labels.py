"""Soft labels of the transformers engine: scored for existing completions, captured while sampling.

Shapes: B texts, T tokens of the longest text, N completion tokens, A rows of logits, V vocabulary, K labels
per token.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from distillpipe.data.store.labels import SAMPLED, Labels
from distillpipe.engines.base import Completion, Failure, Request
from distillpipe.engines.transformers.output_head import OutputHead

PASS_TOKENS = 16384  # of padded texts in one forward pass
BLOCK_NUMBERS = (
    1 << 26
)  # logits in memory at a time: a quarter of a GiB in fp32, for any vocabulary


class Text(NamedTuple):
    """A prompt and its completion, both not empty."""

    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]

    @property
    def num_tokens(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


def score_requests(
    model: Any, head: OutputHead, requests: Sequence[Request], device: torch.device
) -> Iterator[Completion | Failure]:
    """Label the completions that the requests hold."""
    texts = [Text(request.prompt_ids, request.completion_ids or ()) for request in requests]
    k = max((request.soft_labels or 0 for request in requests), default=0)
    for index, labels in score(model, head, texts, k, device):
        request, tokens = requests[index], list(texts[index].completion_ids)
        if labels is None:
            yield Failure(request.key, "the model's logits of this text are not finite")
        else:
            top_labels = labels.top(request.soft_labels or 0)
            yield Completion(request.key, tokens, "stop", labels=top_labels)


def score(
    model: Any, head: OutputHead, texts: Sequence[Text], k: int, device: torch.device
) -> Iterator[tuple[int, Labels | None]]:
    """Yield the index of each text and its labels; None if its logits are not finite.

    `model` is a causal language model of transformers. One forward pass labels several texts of similar length.
    Log-probabilities are over the whole vocabulary at temperature 1, in fp32. K is at most the size of the
    vocabulary.
    """
    for group in _pass_groups(texts):
        labels = _score([texts[index] for index in group], model, head, k, device)
        yield from zip(group, labels, strict=True)


@torch.inference_mode()
def _score(
    texts: Sequence[Text], model: Any, head: OutputHead, k: int, device: torch.device
) -> Iterator[Labels | None]:
    longest = max(text.num_tokens for text in texts)
    ids = torch.zeros(len(texts), longest, dtype=torch.long)  # (B, T), right-padded
    # the hidden state at a position predicts the next token: these predict the completion's
    is_before = torch.zeros_like(ids, dtype=torch.bool)  # (B, T)
    for row, (prompt, completion) in enumerate(texts):
        ids[row, : len(prompt) + len(completion)] = torch.tensor([*prompt, *completion])
        is_before[row, len(prompt) - 1 : len(prompt) + len(completion) - 1] = True
    hidden = model.base_model(input_ids=ids.to(device), use_cache=False).last_hidden_state
    own = torch.tensor([token for text in texts for token in text.completion_ids], device=device)
    top_tokens, top_logprobs, own_logprobs = _top_of_hidden(
        head, hidden[is_before.to(device)], own, k
    )
    starts = np.cumsum([len(text.completion_ids) for text in texts])[:-1]
    for text, *parts in zip(
        texts,
        np.split(top_tokens, starts),
        np.split(top_logprobs, starts),
        np.split(own_logprobs, starts),
        strict=True,
    ):
        tokens = np.array(text.completion_ids, np.uint32)
        flags = np.full(len(tokens), SAMPLED, np.uint8)
        labels = Labels(tokens, flags, parts[0], parts[1], parts[2])
        yield labels if np.isfinite(labels.top_logprobs[:, 0]).all() else None


def _top_of_hidden(
    head: OutputHead, hidden: torch.Tensor, own: torch.Tensor, k: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The top tokens and their log-probabilities, (N, K), and those of the tokens `own`, (N,).

    `hidden` is (N, hidden size). Logits are computed in blocks.
    """
    block = max(1, BLOCK_NUMBERS // head.num_embeddings)
    blocks: list[tuple[torch.Tensor, ...]] = []
    for states, tokens in zip(torch.split(hidden, block), torch.split(own, block), strict=True):
        logits = head(states)  # (block, V)
        total = logits.logsumexp(-1, keepdim=True)
        top = logits.topk(k)
        own_logits = logits.gather(1, tokens[:, None])
        blocks.append((top.indices, top.values - total, (own_logits - total)[:, 0]))
    indices, top_logprobs, own_logprobs = (
        torch.cat(parts).cpu() for parts in zip(*blocks, strict=True)
    )
    return (
        indices.numpy().astype(np.uint32), top_logprobs.half().numpy(), own_logprobs.half().numpy(),
    )  # fmt: skip


def _pass_groups(texts: Sequence[Text]) -> Iterator[list[int]]:
    """Indices of texts of similar length, the longest first, that fit into one forward pass."""
    group: list[int] = []
    longest = 0
    for index in sorted(range(len(texts)), key=lambda index: -texts[index].num_tokens):
        if group and (len(group) + 1) * longest > PASS_TOKENS:
            yield group
            group = []
        longest = longest if group else texts[index].num_tokens
        group.append(index)
    if group:
        yield group


# Labels of sampled tokens, kept while their sequences are in flight.


FIRST_LENGTH = 64  # tokens to allocate at first; doubled when needed
Array = np.ndarray[Any, np.dtype[Any]]


class TopTokens(NamedTuple):
    """The labels of one token in each of several rows."""

    tokens: Array  # (A, K) uint32, the most likely first
    logprobs: Array  # (A, K) float16
    own: Array  # (A,) float16, of the sampled token


def top_tokens(logits: torch.Tensor, sampled: torch.Tensor, k: int) -> TopTokens:
    """The `k` most likely tokens, with log-probabilities over the whole vocabulary at temperature 1.

    `logits` (A, V) are the model's raw logits in float32; `sampled` (A,) are tokens.
    """
    total = logits.logsumexp(-1, keepdim=True)
    largest = logits.topk(k)
    own = logits.gather(-1, sampled[:, None]) - total
    return TopTokens(
        largest.indices.cpu().numpy().astype(np.uint32),
        (largest.values - total).half().cpu().numpy(),
        own[:, 0].half().cpu().numpy(),
    )


class LabelBuffer:
    """Labels of the sequences in each slot, while they are in flight."""

    def __init__(self, num_slots: int, k: int) -> None:
        self.k = k
        self._rows = np.arange(num_slots)
        "the row of each slot in the arrays"
        self._arrays = _empty(num_slots, FIRST_LENGTH, k)

    def write(self, slots: Sequence[int], positions: Sequence[int], labels: TopTokens) -> None:
        """Store the labels of one more token in each of several slots, at its position."""
        length = self._arrays.own.shape[1]
        if positions and max(positions) >= length:
            longer = _empty(len(self._rows), 2 * length, self.k)
            for old, new in zip(self._arrays, longer, strict=True):
                new[:, :length] = old
            self._arrays = longer
        rows = self._rows[slots]
        for array, values in zip(self._arrays, labels, strict=True):
            array[rows, positions] = values

    def swap(self, slot: int, other: int) -> None:
        """Exchange two slots."""
        self._rows[[slot, other]] = self._rows[[other, slot]]

    def take(self, slot: int, tokens: Sequence[int]) -> Labels:
        """The labels of the tokens that were sampled in a slot."""
        row, length = self._rows[slot], len(tokens)
        return Labels(
            np.array(tokens, np.uint32),
            np.full(length, SAMPLED, np.uint8),
            *(array[row, :length].copy() for array in self._arrays),
        )


def _empty(num_slots: int, length: int, k: int) -> TopTokens:
    return TopTokens(
        np.empty((num_slots, length, k), np.uint32),
        np.empty((num_slots, length, k), np.float16),
        np.empty((num_slots, length), np.float16),
    )
