"""Text that is there, scored by a model: one forward pass over prompt and completion gives all its labels.

Shapes: B texts, T tokens of the longest, N tokens of completions, V vocabulary, K labels a token.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from distillpipe.data.store.labels import SAMPLED, Labels
from distillpipe.engines.base import Completion, Failure, Request

PASS_TOKENS = 16384  # of padded texts in one forward pass
BLOCK_NUMBERS = 1 << 26  # of logits at a time: a quarter of a GiB in fp32, whatever the vocabulary


class Text(NamedTuple):
    """A completion behind its prompt, neither of them empty."""

    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]

    @property
    def num_tokens(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


def scored(
    model: Any, requests: Sequence[Request], device: torch.device
) -> Iterator[Completion | Failure]:
    """The completions that requests bring with them, and their labels."""
    texts = [Text(one.prompt_ids, one.completion_ids or ()) for one in requests]
    k = max((one.soft_labels or 0 for one in requests), default=0)
    for at, labels in score(model, texts, k, device):
        request, tokens = requests[at], list(texts[at].completion_ids)
        if labels is None:
            yield Failure(request.key, "the model's logits of this text are no numbers")
        else:
            wanted = labels.top(request.soft_labels or 0)
            yield Completion(request.key, tokens, "stop", labels=wanted)


def score(
    model: Any, texts: Sequence[Text], k: int, device: torch.device
) -> Iterator[tuple[int, Labels | None]]:
    """The place of each text in `texts` and its labels; null where the logits are no numbers.

    Texts of like length go through the model together. `model` is a causal language model of transformers;
    its whole vocabulary at temperature 1 is what the log-probabilities, taken in fp32, are of. K is at most
    the size of the vocabulary.
    """
    for group in _grouped(texts):
        yield from zip(group, _score([texts[at] for at in group], model, k, device), strict=True)


@torch.inference_mode()
def _score(
    texts: Sequence[Text], model: Any, k: int, device: torch.device
) -> Iterator[Labels | None]:
    ids = torch.zeros(
        len(texts), max(text.num_tokens for text in texts), dtype=torch.long
    )  # (B, T), padded behind
    before = torch.zeros_like(
        ids, dtype=torch.bool
    )  # the position that foretells a completion's token
    for row, (prompt, completion) in enumerate(texts):
        ids[row, : len(prompt) + len(completion)] = torch.tensor([*prompt, *completion])
        before[row, len(prompt) - 1 : len(prompt) + len(completion) - 1] = True
    hidden = model.base_model(input_ids=ids.to(device), use_cache=False).last_hidden_state
    own = torch.tensor([token for text in texts for token in text.completion_ids], device=device)
    top_tokens, top_logprobs, own_logprobs = labels_of(
        model.get_output_embeddings(), hidden[before.to(device)], own, k
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


def labels_of(
    head: Any, hidden: torch.Tensor, own: torch.Tensor, k: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Top tokens and their log-probabilities, (N, K), and those of the tokens `own`, (N,).

    `hidden`, (N, hidden size), is what the output embeddings `head` take; logits are made in blocks.
    """
    num_tokens = head.weight.shape[0]
    block = max(1, BLOCK_NUMBERS // num_tokens)
    found: list[tuple[torch.Tensor, ...]] = []
    for states, tokens in zip(torch.split(hidden, block), torch.split(own, block), strict=True):
        logits = head(states).float()  # (block, V)
        total = logits.logsumexp(-1, keepdim=True)
        top = logits.topk(k)
        own_logprobs = logits.gather(1, tokens[:, None]) - total
        found.append((top.indices, top.values - total, own_logprobs[:, 0]))
    indices, logprobs, owned = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    return (
        indices.numpy().astype(np.uint32), logprobs.half().numpy(), owned.half().numpy(),
    )  # fmt: skip


def _grouped(texts: Sequence[Text]) -> Iterator[list[int]]:
    """Places of texts of like length, the longest first, that fit into one forward pass."""
    group: list[int] = []
    longest = 0
    for at in sorted(range(len(texts)), key=lambda at: -texts[at].num_tokens):
        if group and (len(group) + 1) * longest > PASS_TOKENS:
            yield group
            group = []
        longest = longest if group else texts[at].num_tokens
        group.append(at)
    if group:
        yield group


# The labels of what is drawn, kept beside the sequences in flight.
#
# Shapes: A rows of logits, V vocabulary, K labels a token.


FIRST_LENGTH = 64  # tokens that there is room for at first; doubled as often as needed
Array = np.ndarray[Any, np.dtype[Any]]


class Likely(NamedTuple):
    """What a model says of one token each."""

    tokens: Array  # (A, K) uint32, the most likely first
    logprobs: Array  # (A, K) float16
    own: Array  # (A,) float16, of the token that was drawn


def likely(logits: torch.Tensor, drawn: torch.Tensor, k: int) -> Likely:
    """The `k` most likely tokens under the whole vocabulary at temperature 1.

    `logits` (A, V) are float32, as the model gave them; `drawn` (A,) are tokens.
    """
    total = logits.logsumexp(-1, keepdim=True)
    largest = logits.topk(k)
    own = logits.gather(-1, drawn[:, None]) - total
    return Likely(
        largest.indices.cpu().numpy().astype(np.uint32),
        (largest.values - total).half().cpu().numpy(),
        own[:, 0].half().cpu().numpy(),
    )


class Capture:
    """Labels of the sequences in some slots, as long as they are in flight."""

    def __init__(self, num_slots: int, k: int) -> None:
        self.k = k
        self._rows = np.arange(num_slots)
        "where the labels of each slot are"
        self._labels = _empty(num_slots, FIRST_LENGTH, k)

    def write(self, slots: Sequence[int], positions: Sequence[int], found: Likely) -> None:
        """Note the labels of one more token of several slots, each at its position."""
        length = self._labels.own.shape[1]
        if positions and max(positions) >= length:
            longer = _empty(len(self._rows), 2 * length, self.k)
            for old, new in zip(self._labels, longer, strict=True):
                new[:, :length] = old
            self._labels = longer
        rows = self._rows[slots]
        for kept, values in zip(self._labels, found, strict=True):
            kept[rows, positions] = values

    def exchange(self, slot: int, other: int) -> None:
        """Let two slots change places."""
        self._rows[[slot, other]] = self._rows[[other, slot]]

    def take(self, slot: int, tokens: Sequence[int]) -> Labels:
        """The labels of a slot, which has drawn these tokens."""
        row, length = self._rows[slot], len(tokens)
        return Labels(
            np.array(tokens, np.uint32),
            np.full(length, SAMPLED, np.uint8),
            *(kept[row, :length].copy() for kept in self._labels),
        )


def _empty(num_slots: int, length: int, k: int) -> Likely:
    return Likely(
        np.empty((num_slots, length, k), np.uint32),
        np.empty((num_slots, length, k), np.float16),
        np.empty((num_slots, length), np.float16),
    )
