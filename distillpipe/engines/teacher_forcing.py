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
