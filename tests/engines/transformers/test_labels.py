"""Labels of existing texts against a plain fp32 forward pass of the shipped teacher."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from distillpipe.base.records import Message
from distillpipe.data.store.labels import SAMPLED, Labels
from distillpipe.engines.transformers import labels as teacher_forcing
from distillpipe.engines.transformers.labels import Text, score
from distillpipe.engines.transformers.output_head import LogitChange, OutputHead, output_head
from distillpipe.models.chat import Chat

CPU = torch.device("cpu")
THOUGHTS = [
    ("Tom has 14 coins. Tom finds 6 coins. How many coins does Tom have now?", "14+6=20.", "20"),
    ("Mia has 3 pens. How many pens does Mia have now?", "3=3.", "3"),
    ("Ben has 40 nuts. Ben eats 17 nuts. How many are left?", "40-17=23. Wait, 23 it is.", "23"),
    ("1+1?", "", "2"),
]


@pytest.fixture(scope="module")
def model(repository: Path) -> Any:
    folder = repository / "data" / "quickstart" / "teacher"
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def texts(teacher_chat: Chat) -> list[Text]:
    return [
        Text(
            teacher_chat.prompt_ids([Message(role="user", content=problem)]),
            teacher_chat.completion_ids(
                Message(role="assistant", content=response, reasoning_content=reasoning)
            ),
        )
        for problem, reasoning, response in THOUGHTS
    ]


def in_order(model: Any, texts: list[Text], k: int) -> list[Labels]:
    found = dict(score(model, output_head(model, "it"), texts, k, CPU))
    assert sorted(found) == list(range(len(texts)))
    assert None not in found.values()
    return [found[at] for at in sorted(found)]  # type: ignore[misc]


@pytest.mark.parametrize("block_numbers", [1 << 26, 3 * 512, 1])
@pytest.mark.parametrize("pass_tokens", [16384, 150, 1])
def test_labels_are_those_of_a_plain_pass_however_the_work_is_cut(
    model: Any,
    texts: list[Text],
    pass_tokens: int,
    block_numbers: int,
    monkeypatch,
    log_probabilities,
    total_variation,
) -> None:
    monkeypatch.setattr(teacher_forcing, "PASS_TOKENS", pass_tokens)
    monkeypatch.setattr(teacher_forcing, "BLOCK_NUMBERS", block_numbers)
    for text, labels in zip(texts, in_order(model, texts, 20), strict=True):
        expected = log_probabilities(model, text.prompt_ids, text.completion_ids)
        labels.check()
        assert labels.tokens.tolist() == text.completion_ids
        assert set(labels.flags.tolist()) == {SAMPLED}
        assert total_variation(labels, expected).max() < 1e-3
        own = expected.gather(1, torch.tensor(text.completion_ids)[:, None])[:, 0].numpy()
        assert np.allclose(labels.own_logprobs, own, rtol=1e-3, atol=1e-4)  # of fp16, of fp32


def test_the_most_likely_token_is_the_first(
    model: Any, texts: list[Text], log_probabilities
) -> None:
    for text, labels in zip(texts, in_order(model, texts, 5), strict=True):
        expected = log_probabilities(model, text.prompt_ids, text.completion_ids)
        assert labels.top_tokens[:, 0].tolist() == expected.argmax(-1).tolist()
        assert (np.diff(labels.top_logprobs.astype(np.float32), axis=1) <= 0).all()


def test_all_of_the_vocabulary_is_the_whole_distribution(model: Any, texts: list[Text]) -> None:
    labels = in_order(model, texts[:1], 512)[0]
    assert np.allclose(np.exp(labels.top_logprobs.astype(np.float64)).sum(1), 1, atol=1e-3)
    assert all(len(set(row)) == 512 for row in labels.top_tokens.tolist())


def test_a_model_whose_logits_are_no_numbers_gives_no_labels(texts: list[Text]) -> None:
    class Broken:
        """A model that has gone wrong in one text of two."""

        @staticmethod
        def base_model(input_ids: torch.Tensor, use_cache: bool) -> Any:
            hidden = torch.ones(*input_ids.shape, 4)
            hidden[1, 30:] = math.nan
            return type("Output", (), {"last_hidden_state": hidden})

    long, short = sorted(texts, key=lambda text: text.num_tokens)[-2:][::-1]
    head = OutputHead(torch.nn.Linear(4, 512), LogitChange())
    found = dict(score(Broken(), head, [long, short], 3, CPU))
    assert found[1] is None
    assert found[0] is not None
