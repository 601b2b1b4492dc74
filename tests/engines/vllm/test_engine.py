"""vLLM itself, on the CPU, with the shipped teacher: the same tokens as the embedded engine's.

Starting it lasts most of a minute, so most tests share one engine, with room for 8 sequences.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from distillpipe.base.errors import EngineError
from distillpipe.base.options import Budget, EngineOptions, Sampling
from distillpipe.base.records import Message, Trace
from distillpipe.base.training_options import TrainingOptions, TrainingRun
from distillpipe.data.store import labels
from distillpipe.engines import open_engine
from distillpipe.engines.base import Completion, Engine, Outcome, Refusal, Request
from distillpipe.engines.budget.engine import BudgetedEngine
from distillpipe.models import lookup
from distillpipe.models.chat import Chat, load_chat
from distillpipe.stages.run import Run
from distillpipe.stages.sft import sft

pytestmark = pytest.mark.vllm

GREEDY = Sampling(temperature=0, top_p=1, max_tokens=160)
SAMPLED = Sampling(temperature=1.5, top_p=0.95, max_tokens=160)
K = 40  # labels a token: more than vLLM gives unless it is told
CAPACITY = 12  # of an engine that runs 8 sequences


@pytest.fixture(scope="module", autouse=True)
def little_memory() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        yield


@pytest.fixture(scope="module")
def shipped(repository: Path) -> Path:
    return repository / "data" / "quickstart"


@pytest.fixture(scope="module")
def prompts(shipped: Path, teacher_chat: Chat) -> list[list[int]]:
    lines = (shipped / "problems-test.jsonl").read_bytes().splitlines()[:20]
    texts = [json.loads(line)["problem"] for line in lines]
    return [teacher_chat.prompt_ids([Message(role="user", content=text)]) for text in texts]


def open_folder(
    folder: Path, chat: Chat, engine: str, soft_labels: int | None = None, **options: object
) -> Engine:
    given = EngineOptions(engine=engine, **{"concurrency": 8, **options})
    model = lookup.find(str(folder), "--teacher")
    return open_engine(model, chat, given, soft_labels=soft_labels)


@pytest.fixture(scope="module")
def engine(shipped: Path, teacher_chat: Chat) -> Iterator[Engine]:
    yield open_folder(shipped / "teacher", teacher_chat, "vllm", soft_labels=K)


@pytest.fixture(scope="module")
def embedded(shipped: Path, teacher_chat: Chat) -> Engine:
    return open_folder(shipped / "teacher", teacher_chat, "transformers")


def complete(
    engine: Engine, prompts: list[list[int]], sampling: Sampling, first_seed: int = 0
) -> dict[str, Completion]:
    requests = [Request(str(at), ids, sampling, first_seed + at) for at, ids in enumerate(prompts)]
    return {completion.key: completion for completion in engine.complete(iter(requests))}


def num_equal(one: dict[str, Completion], other: dict[str, Completion]) -> int:
    assert one.keys() == other.keys()
    return sum(one[key] == other[key] for key in one)


def test_greedy_completions_are_those_of_the_embedded_engine(
    engine: Engine, embedded: Engine, prompts: list[list[int]], teacher_chat: Chat
) -> None:
    found, expected = complete(engine, prompts, GREEDY), complete(embedded, prompts, GREEDY)
    assert found == expected
    for completion in found.values():  # the special tokens are there, and the end token is the last
        assert "<think>" in teacher_chat.text(completion.token_ids)
        assert completion.finish_reason == "stop"
        assert completion.token_ids[-1] in teacher_chat.end_ids


def test_labels_are_those_of_the_embedded_engine_whatever_the_temperature(
    engine: Engine, embedded: Engine, prompts: list[list[int]]
) -> None:
    def labelled(asked: Engine, sampling: Sampling) -> dict[str, Completion]:
        requests = (
            Request(str(at), ids, sampling, at, soft_labels=K) for at, ids in enumerate(prompts)
        )
        return {one.key: one for one in asked.complete(requests)}

    barely_warm = Sampling(temperature=0.01, top_p=0.5, max_tokens=60)  # draws the likeliest
    found, expected = labelled(engine, barely_warm), labelled(embedded, barely_warm)
    num_equal_texts = 0
    for key, one in found.items():
        assert one.labels is not None
        assert one.labels.k == K
        assert one.labels.tokens.tolist() == one.token_ids
        assert (one.labels.flags == labels.SAMPLED).all()
        other = expected[key]
        if one.token_ids == other.token_ids:
            num_equal_texts += 1
            assert np.allclose(one.labels.own_logprobs, other.labels.own_logprobs, atol=0.02)
            ours, theirs = one.labels.top_logprobs, other.labels.top_logprobs
            assert np.allclose(ours.astype(float), theirs.astype(float), atol=0.02)
            assert (one.labels.top_tokens == other.labels.top_tokens).mean() > 0.99
    assert num_equal_texts >= len(prompts) - 1
    probabilities = np.exp(found["0"].labels.top_logprobs.astype(float)).sum(axis=1)
    assert (probabilities < 1.002).all()


def test_a_completion_that_is_there_gets_the_labels_of_the_embedded_engine(
    engine: Engine, embedded: Engine, prompts: list[list[int]]
) -> None:
    there = {key: one.token_ids for key, one in complete(embedded, prompts, SAMPLED).items()}
    room = engine.context_length - len(prompts[0])
    there["0"] = (there["0"] * room)[:room]  # all that the context holds

    def scored(by: Engine) -> dict[str, Completion]:
        requests = (
            Request(key, prompts[int(key)], SAMPLED, 0, soft_labels=K, completion_ids=ids)
            for key, ids in there.items()
        )
        return {one.key: one for one in by.complete(requests)}

    found, expected = scored(engine), scored(embedded)
    assert found.keys() == expected.keys() == there.keys()
    for key, one in found.items():
        assert one.labels is not None
        assert one.labels.tokens.tolist() == one.token_ids == there[key]
        ours, theirs = one.labels, expected[key].labels
        if key == "0":  # vLLM samples a token behind a text: the last one has no label
            assert ours.flags.tolist() == [labels.SAMPLED] * (room - 1) + [labels.UNLABELLED]
            ours, theirs = ours.first(room - 1), theirs.first(room - 1)
        for name in ("own_logprobs", "top_logprobs"):
            pair = (np.exp(getattr(side, name).astype(float)) for side in (ours, theirs))
            assert np.allclose(*pair, atol=1e-3)
        assert (ours.top_tokens[:, 0] == theirs.top_tokens[:, 0]).mean() > 0.99


def test_the_same_seeds_draw_the_same_completions_and_others_draw_others(
    engine: Engine, prompts: list[list[int]]
) -> None:
    found = complete(engine, prompts, SAMPLED)
    again = complete(engine, prompts, SAMPLED)
    other = complete(engine, prompts, SAMPLED, first_seed=100)
    assert num_equal(found, again) >= len(prompts) - 1  # neighbours change low bits
    assert num_equal(found, other) < len(prompts) // 2


def test_completions_come_as_they_end_and_requests_are_pulled_as_there_is_room(
    engine: Engine, prompts: list[list[int]]
) -> None:
    pulled = 0

    def lazily() -> Iterator[Request]:
        nonlocal pulled
        for number, ids in enumerate([*prompts, *prompts]):
            pulled += 1
            sampling = Sampling(temperature=0, top_p=1, max_tokens=5 if number else 160)
            yield Request(str(number), ids, sampling, 0)

    completions = engine.complete(lazily())
    first = next(completions)
    assert pulled == CAPACITY
    keys = [first.key, *(completion.key for completion in completions)]
    assert sorted(keys, key=int) == [str(number) for number in range(2 * len(prompts))]
    assert keys.index("0") > CAPACITY  # the long one, which was the first to be asked for


def test_a_completion_ends_by_length_at_its_limit_and_where_the_context_ends(
    engine: Engine, prompts: list[list[int]]
) -> None:
    assert engine.context_length == 1024
    (short,) = complete(
        engine, prompts[:1], Sampling(temperature=0, top_p=1, max_tokens=7)
    ).values()
    assert (len(short.token_ids), short.finish_reason) == (7, "length")
    full = (prompts[0] * 100)[: 1024 - 5]
    (last,) = complete(engine, [full], Sampling(temperature=0, top_p=1, max_tokens=500)).values()
    assert (len(last.token_ids), last.finish_reason) == (5, "length")


def test_a_loop_is_ended_where_the_embedded_engine_ends_it(
    engine: Engine, embedded: Engine
) -> None:
    """Out of its depth, the teacher repeats itself."""
    looping = [[token] * 30 for token in (20, 40, 90, 430)]
    sampling = Sampling(temperature=0, top_p=1, max_tokens=900, stop_loops=True)
    found = complete(engine, looping, sampling)
    assert found == complete(embedded, looping, sampling)
    assert "repetition" in {completion.finish_reason for completion in found.values()}
    free = Sampling(temperature=0, top_p=1, max_tokens=900)
    longer = complete(engine, looping, free)
    for key, completion in found.items():
        if completion.finish_reason == "repetition":
            assert longer[key].finish_reason == "length"
            assert len(completion.token_ids) < len(longer[key].token_ids)


def test_thoughts_keep_to_a_budget_as_those_of_the_embedded_engine_do(
    engine: Engine, embedded: Engine, prompts: list[list[int]], teacher_chat: Chat
) -> None:
    budget = Budget(
        num_waits=1, min_reasoning_tokens=50, max_reasoning_tokens=70, wait_text="Wait, ", end_text="",
        end_at="step",
    )  # fmt: skip
    found = complete(BudgetedEngine(engine, teacher_chat, budget), prompts, GREEDY)
    expected = complete(BudgetedEngine(embedded, teacher_chat, budget), prompts, GREEDY)
    assert num_equal(found, expected) >= len(prompts) - 1  # a near-tie may fall otherwise
    assert sum(one.num_waits for one in found.values()) >= len(prompts) // 2
    assert any(one.forced_end for one in found.values())
    for one in found.values():
        parts = teacher_chat.split(teacher_chat.text(one.token_ids))
        assert 50 <= teacher_chat.count([], one.token_ids, parts).reasoning <= 70
        assert one.finish_reason == "stop"


class Noting:
    """An engine, and all that it was asked for and gave."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.description, self.context_length = engine.description, engine.context_length
        self.rounds: dict[str, list[tuple[list[int], Completion]]] = defaultdict(list)
        "of each row: what the engine went on from, and what it sampled"

    def complete(self, requests: Iterator[Request | None]) -> Generator[Outcome, None, None]:
        asked: dict[str, list[int]] = {}

        def noted() -> Iterator[Request | None]:
            for request in requests:
                if request is not None:
                    asked[request.key] = request.prompt_ids
                yield request

        for outcome in self._engine.complete(noted()):
            assert isinstance(outcome, Completion)
            self.rounds[outcome.key.partition("-")[0]].append((asked[outcome.key], outcome))
            yield outcome

    def sampled(self, key: str, text: list[int]) -> dict[int, tuple[labels.Labels, int]]:
        """The places of `text` whose token was sampled behind just what stands before it: its labels."""
        found = {}
        for before, outcome in self.rounds[key]:
            assert outcome.labels is not None
            whole = [*before, *outcome.token_ids]
            for at in range(len(before), len(whole)):
                if text[: at + 1] == whole[: at + 1]:
                    found[at] = outcome.labels, at - len(before)
        return found


@pytest.mark.parametrize(
    "changes",
    [
        {"max_reasoning_tokens": 60, "end_text": "So:"},
        {"min_reasoning_tokens": 70, "max_reasoning_tokens": 90, "end_at": "token"},
    ],
    ids=str,
)
def test_labels_of_a_forced_completion_are_those_that_vllm_gave_and_what_was_inserted_has_none(
    engine: Engine,
    shipped: Path,
    prompts: list[list[int]],
    teacher_chat: Chat,
    log_probabilities: Callable[..., torch.Tensor],
    total_variation: Callable[..., np.ndarray[Any, Any]],
    changes: dict[str, Any],
) -> None:
    budget = Budget(**{
        "num_waits": 1, "min_reasoning_tokens": 0, "wait_text": "\nWait,", "end_text": "", "end_at": "step",
        **changes,
    })  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(shipped / "teacher", dtype=torch.float32)
    noting = Noting(engine)
    requests = (
        Request(str(at), ids, SAMPLED, at, soft_labels=20) for at, ids in enumerate(prompts)
    )
    found = {
        one.key: one for one in BudgetedEngine(noting, teacher_chat, budget).complete(requests)
    }
    assert len(found) == len(prompts)
    num_inserted, distances = 0, []
    for key, one in found.items():
        prompt, given = prompts[int(key)], one.labels
        given.check()
        assert given.k == 20
        assert given.tokens.tolist() == one.token_ids
        sampled = noting.sampled(key, [*prompt, *one.token_ids])
        fresh = log_probabilities(model, prompt, one.token_ids)
        for at, token in enumerate(one.token_ids):
            top, logprobs, own = (part[at] for part in given[2:])
            if at + len(prompt) not in sampled:
                assert given.flags[at] == labels.INSERTED
                assert (top == labels.NO_TOKEN).all()
                assert np.isneginf([*logprobs, own]).all()
                num_inserted += 1
                continue
            assert given.flags[at] == labels.SAMPLED
            theirs, place = sampled[at + len(prompt)]
            assert theirs.tokens[place] == token
            assert own == theirs.own_logprobs[place]
            assert top.tolist() == theirs.top_tokens[place].tolist()
            assert logprobs.tolist() == theirs.top_logprobs[place].tolist()
            if token in top:
                assert logprobs[top == token] == [own]
            assert np.exp(float(own)) == pytest.approx(fresh[at, token].exp().item(), abs=1e-3)
        drawn = given.flags == labels.SAMPLED
        of_drawn = labels.Labels(*(part[drawn] for part in given))
        distances.append(total_variation(of_drawn, fresh[torch.from_numpy(drawn)]))
    assert np.concatenate(distances).max() <= 1e-3
    assert any(one.num_waits for one in found.values())
    assert any(one.forced_end for one in found.values())
    assert num_inserted > 0


def test_a_prompt_with_a_token_that_the_model_lacks_is_refused_and_the_others_are_done(
    engine: Engine, prompts: list[list[int]], shipped: Path
) -> None:
    vocab_size = json.loads((shipped / "teacher" / "config.json").read_text())["vocab_size"]
    found = complete(engine, [*prompts[:3], [7, vocab_size, 7], *prompts[3:]], GREEDY)
    said = f"token {vocab_size}, and the model has {vocab_size}"
    assert found.pop("3") == Refusal("3", "prompt_token_unknown_to_model", said)
    assert len(found) == len(prompts)
    assert {completion.finish_reason for completion in found.values()} == {"stop"}


def test_the_engine_says_what_it_is(engine: Engine) -> None:
    assert engine.description.startswith("vllm 0.")
    assert engine.description.endswith(" on cpu")


def write_adapter(base: Path, folder: Path) -> tuple[Path, Path]:
    """An adapter that changes what the model says, and the two merged."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(r=12, lora_alpha=24, target_modules="all-linear", task_type="CAUSAL_LM")
    wrapped = get_peft_model(model, config)
    for name, weights in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.05)
    wrapped.save_pretrained(folder / "adapter")
    shutil.copytree(base, folder / "merged")
    wrapped.merge_and_unload().save_pretrained(folder / "merged")
    return folder / "adapter", folder / "merged"


def test_an_adapter_samples_as_the_merged_model_does(
    tmp_path: Path,
    shipped: Path,
    teacher_chat: Chat,
    embedded: Engine,
    prompts: list[list[int]],
) -> None:
    adapter, merged = write_adapter(shipped / "teacher", tmp_path)
    expected = complete(open_folder(merged, teacher_chat, "transformers"), prompts, GREEDY)
    assert num_equal(expected, complete(embedded, prompts, GREEDY)) < len(prompts)
    for name in ("transformers", "vllm"):
        found = complete(open_folder(adapter, teacher_chat, name), prompts, GREEDY)
        assert num_equal(found, expected) >= len(prompts) - 1, name  # a near-tie may fall otherwise


TRAINING = TrainingOptions(
    method="full", rank=4, alpha=4, learning_rate=1e-2, scheduler="constant", warmup=0.0,
    weight_decay=0.0, max_grad_norm=1.0, epochs=1, max_steps=2, batch_size=4, max_length=2048,
    dtype="fp32", chat_template=None, seed=1,
)  # fmt: skip


def test_what_sft_writes_is_served_as_it_lies_there(
    tmp_path: Path, shipped: Path, make_traces: Callable[..., list[Trace]], prompts: list[list[int]]
) -> None:
    """A model whose context was stretched, and then an adapter of it, merged: one start of vLLM for both."""
    path = tmp_path / "traces.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in make_traces(8)))
    full = msgspec.structs.replace(TRAINING, rope_theta=100_000.0)
    sft([str(path)], str(shipped / "teacher"), tmp_path / "full", full, Run())
    lora, merge = msgspec.structs.replace(TRAINING, method="lora"), TrainingRun(merge=True)
    sft([str(path)], str(tmp_path / "full"), tmp_path / "lora", lora, Run(), merge)
    folder = tmp_path / "lora" / "latest" / "merged"
    config = json.loads((folder / "config.json").read_bytes())
    assert config["rope_parameters"]["rope_theta"] == 100_000.0
    chat = load_chat(folder, "student")
    expected = complete(open_folder(folder, chat, "transformers"), prompts, GREEDY)
    found = complete(open_folder(folder, chat, "vllm"), prompts, GREEDY)
    assert num_equal(found, expected) >= len(prompts) - 1  # a near-tie may fall otherwise


def test_a_model_that_vllm_does_not_know_is_one_line(
    tmp_path: Path, shipped: Path, teacher_chat: Chat
) -> None:
    folder = shutil.copytree(shipped / "teacher", tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["OddForCausalLM"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match=r"could not load .*odd: .*OddForCausalLM") as raised:
        open_folder(folder, teacher_chat, "vllm")
    assert "--engine transformers may know the model" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_context_longer_than_the_model_s_is_one_line(shipped: Path, teacher_chat: Chat) -> None:
    with pytest.raises(EngineError, match="give a smaller --max-model-len"):
        open_folder(shipped / "teacher", teacher_chat, "vllm", max_model_len=5000)


def test_too_little_memory_for_the_cache_is_one_line(
    shipped: Path, teacher_chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "500")
    with pytest.raises(EngineError, match=r"Available memory .* give a smaller --max-model-len"):
        open_folder(shipped / "teacher", teacher_chat, "vllm")
