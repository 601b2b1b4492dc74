"""Labels from the embedded engine, with and without a budget: those of a fresh pass over the same tokens.

A pass goes over whole texts, unpadded and in fp32; what is stored differs by the rounding to fp16.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from distillpipe.base.errors import UsageError
from distillpipe.base.options import Budget, EngineOptions, Sampling
from distillpipe.base.records import Message
from distillpipe.data.store.labels import INSERTED, NO_TOKEN, SAMPLED, Labels
from distillpipe.engines import open_engine
from distillpipe.engines.base import Completion, Engine, Request
from distillpipe.engines.budget.engine import BudgetedEngine
from distillpipe.models import lookup
from distillpipe.models.chat import Chat

K = 20
FP16 = 2.0**-11  # relative rounding
SAMPLED_HOT = Sampling(temperature=1.3, top_p=0.9, max_tokens=100)


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    return repository / "data" / "quickstart" / "teacher"


@pytest.fixture(scope="module")
def prompts(repository: Path, teacher_chat: Chat) -> list[list[int]]:
    path = repository / "data" / "quickstart" / "problems-test.jsonl"
    texts = [json.loads(line)["problem"] for line in path.read_bytes().splitlines()[:8]]
    return [teacher_chat.prompt_ids([Message(role="user", content=text)]) for text in texts]


@pytest.fixture(scope="module")
def fresh(folder: Path) -> Any:
    """The teacher as transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def open_teacher(folder: Path, chat: Chat, num_slots: int = 5, k: int | None = K) -> Engine:
    options = EngineOptions(engine="transformers", concurrency=num_slots)
    return open_engine(lookup.find(str(folder), "--teacher"), chat, options, soft_labels=k)


def requests(
    prompts: list[list[int]], sampling: Sampling = SAMPLED_HOT, k: int | None = K
) -> Iterator[Request]:
    for at, ids in enumerate(prompts):
        yield Request(str(at), ids, sampling, at, soft_labels=k)


def completions(engine: Engine, asked: Iterator[Request]) -> dict[str, Completion]:
    return {one.key: one for one in engine.complete(asked) if isinstance(one, Completion)}


def check(labels: Labels, expected: torch.Tensor) -> None:
    """What is stored is what a fresh pass gives, up to fp16; `expected` is (T, V)."""
    largest = expected.topk(labels.k).values.numpy()
    rounding = FP16 * np.abs(largest) + 1e-3
    assert (np.abs(labels.top_logprobs.astype(np.float32) - largest) <= rounding).all()
    own = expected.gather(-1, torch.from_numpy(labels.tokens.astype(np.int64))[:, None])[:, 0]
    assert np.allclose(labels.own_logprobs.astype(np.float32), own, rtol=FP16, atol=1e-3)
    at_its_place = expected.gather(-1, torch.from_numpy(labels.top_tokens.astype(np.int64)))
    assert np.allclose(at_its_place, largest, atol=1e-3)  # equal ones may change places


def test_labels_are_those_of_a_fresh_pass_at_temperature_1(
    folder: Path,
    teacher_chat: Chat,
    prompts: list[list[int]],
    fresh: Any,
    log_probabilities: Callable[..., torch.Tensor],
    total_variation: Callable[..., np.ndarray[Any, Any]],
) -> None:
    found = completions(open_teacher(folder, teacher_chat), requests(prompts))
    distances = []
    for at, prompt in enumerate(prompts):
        one = found[str(at)]
        assert one.labels is not None
        assert one.labels.tokens.tolist() == one.token_ids
        assert (one.labels.flags == SAMPLED).all()
        expected = log_probabilities(fresh, prompt, one.token_ids)
        check(one.labels, expected)
        distances.append(total_variation(one.labels, expected))
    all_of_them = np.concatenate(distances)
    print(f"total variation: mean {all_of_them.mean():.1e}, max {all_of_them.max():.1e}")
    assert len(all_of_them) > 300
    assert all_of_them.mean() <= 1e-3
    assert all_of_them.max() <= 1e-3


@pytest.mark.slow
def test_asking_for_labels_changes_no_token(
    folder: Path, teacher_chat: Chat, prompts: list[list[int]]
) -> None:
    labelled = completions(open_teacher(folder, teacher_chat), requests(prompts))
    plain = completions(open_teacher(folder, teacher_chat, k=None), requests(prompts, k=None))
    assert {key: one.token_ids for key, one in labelled.items()} == {
        key: one.token_ids for key, one in plain.items()
    }
    assert all(one.labels is None for one in plain.values())


def test_the_whole_vocabulary_can_be_kept(
    folder: Path,
    teacher_chat: Chat,
    prompts: list[list[int]],
    fresh: Any,
    log_probabilities: Callable[..., torch.Tensor],
) -> None:
    size = fresh.config.vocab_size
    engine = open_teacher(folder, teacher_chat, k=size)
    found = completions(engine, requests(prompts[:3], k=size))
    for key, one in found.items():
        assert one.labels is not None
        check(one.labels, log_probabilities(fresh, prompts[int(key)], one.token_ids))
        sums = np.exp(one.labels.top_logprobs.astype(np.float64)).sum(-1)
        assert np.allclose(sums, 1, atol=2e-3)


def test_more_labels_than_the_vocabulary_has_tokens_are_refused(
    folder: Path, teacher_chat: Chat, fresh: Any
) -> None:
    size = fresh.config.vocab_size
    message = rf"--soft-labels {size + 1}: the vocabulary of .*teacher has {size} tokens"
    with pytest.raises(UsageError, match=message):
        open_teacher(folder, teacher_chat, k=size + 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_waits": 2, "max_reasoning_tokens": 60, "end_text": "So:"},
        pytest.param({"min_reasoning_tokens": 70, "num_waits": 1}, marks=pytest.mark.slow),
        pytest.param({"max_reasoning_tokens": 40, "end_at": "token"}, marks=pytest.mark.slow),
        pytest.param({"max_reasoning_tokens": 0}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_labels_of_a_forced_completion_are_over_its_tokens_and_what_was_inserted_has_none(
    folder: Path,
    teacher_chat: Chat,
    prompts: list[list[int]],
    fresh: Any,
    log_probabilities: Callable[..., torch.Tensor],
    changes: dict[str, object],
) -> None:
    asked = Budget(**{
        "num_waits": 0, "min_reasoning_tokens": 0, "max_reasoning_tokens": None,
        "wait_text": "\nWait,", "end_text": "", "end_at": "step", **changes,
    })  # fmt: skip
    engine = BudgetedEngine(open_teacher(folder, teacher_chat), teacher_chat, asked)
    found = completions(engine, requests(prompts))
    assert len(found) == len(prompts)
    wait = teacher_chat.ids(asked.wait_text)
    num_inserted = 0
    for key, one in found.items():
        labels = one.labels
        assert labels is not None
        assert labels.tokens.tolist() == one.token_ids
        expected = log_probabilities(fresh, prompts[int(key)], one.token_ids)
        drawn = labels.flags == SAMPLED
        check(Labels(*(part[drawn] for part in labels)), expected[torch.from_numpy(drawn)])
        inserted = Labels(*(part[~drawn] for part in labels))
        assert (inserted.flags == INSERTED).all()
        assert (inserted.top_tokens == NO_TOKEN).all()
        assert np.isneginf(inserted.top_logprobs).all()
        assert np.isneginf(inserted.own_logprobs).all()
        num_inserted += len(inserted.tokens)
        if one.num_waits:
            places = [
                at
                for at in range(len(one.token_ids))
                if one.token_ids[at : at + len(wait)] == wait
                and (labels.flags[at : at + len(wait)] == INSERTED).all()
            ]
            if one.forced_end:  # which may have cut a wait away
                assert len(places) <= one.num_waits
            else:
                assert len(places) == one.num_waits
    assert num_inserted > 0
