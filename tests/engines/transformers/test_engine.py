"""The transformers engine against `model.generate`, on the shipped teacher and random models."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from distillpipe.base.errors import EngineError, UsageError
from distillpipe.base.options import EngineOptions, Sampling
from distillpipe.base.records import Message
from distillpipe.base.thinking import split
from distillpipe.engines import open_engine
from distillpipe.engines.base import Completion, Engine, Failure, Refusal, Request
from distillpipe.models import lookup
from distillpipe.models.chat import Chat

SHAPE = {
    "vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 128, "head_dim": 16,
    "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
PROBLEMS = [
    " ".join([f"Mia has {a} pens.", *(f"Mia finds {b} pens." for b in range(2, 3 + a % 4))])
    + " How many pens does Mia have now?"
    for a in range(3, 23)
]


def open_folder(folder: Path, chat: Chat, num_slots: int) -> Engine:
    options = EngineOptions(engine="auto", concurrency=num_slots)
    return open_engine(lookup.find(str(folder), "--teacher"), chat, options)


def requests_of(chat: Chat, temperature: float, max_tokens: int = 60) -> list[Request]:
    sampling = Sampling(temperature=temperature, top_p=0.95, max_tokens=max_tokens)
    prompts = [chat.prompt_ids([Message(role="user", content=text)]) for text in PROBLEMS]
    return [Request(str(at), ids, sampling, at) for at, ids in enumerate(prompts)]


def by_key(completions: Iterator[Completion]) -> dict[str, Completion]:
    return {completion.key: completion for completion in completions}


@pytest.fixture(scope="module")
def teacher_folder(repository: Path) -> Path:
    return repository / "data" / "quickstart" / "teacher"


@pytest.mark.parametrize(
    "num_slots",
    [6, pytest.param(1, marks=pytest.mark.slow), pytest.param(64, marks=pytest.mark.slow)],
)
def test_greedy_completions_are_those_of_generate(
    teacher_folder: Path, teacher_chat: Chat, num_slots: int
) -> None:
    model = AutoModelForCausalLM.from_pretrained(teacher_folder, dtype=torch.float32)
    requests = requests_of(teacher_chat, temperature=0.0)[:10]
    found = by_key(open_folder(teacher_folder, teacher_chat, num_slots).complete(iter(requests)))
    for request in requests:
        ids = torch.tensor([request.prompt_ids])
        whole = model.generate(ids, max_new_tokens=60, do_sample=False)[0].tolist()
        assert found[request.key].token_ids == whole[len(request.prompt_ids) :]
        ended = whole[-1] in teacher_chat.end_ids
        assert found[request.key].finish_reason == ("stop" if ended else "length")


@pytest.mark.parametrize(
    "config", [Qwen2Config(**SHAPE), LlamaConfig(**SHAPE), Qwen3Config(**SHAPE)]
)
def test_every_architecture_decodes_in_slots_as_it_does_in_transformers(
    tmp_path: Path, teacher_chat: Chat, config: PreTrainedConfig
) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model.save_pretrained(tmp_path)
    found = by_key(open_folder(tmp_path, teacher_chat, 4).complete(
        iter(requests_of(teacher_chat, temperature=0.0, max_tokens=20))
    ))  # fmt: skip
    for request in requests_of(teacher_chat, temperature=0.0):
        ids = torch.tensor([[*request.prompt_ids, *found[request.key].token_ids]])
        with torch.no_grad():
            logits = model(ids).logits[0, len(request.prompt_ids) - 1 : -1]
        chosen = logits.gather(-1, ids[0, len(request.prompt_ids) :, None])[:, 0]
        assert torch.allclose(chosen, logits.max(-1).values, atol=1e-4)


def test_a_seed_draws_the_same_whatever_is_beside_it(
    teacher_folder: Path, teacher_chat: Chat
) -> None:
    requests = requests_of(teacher_chat, temperature=1.0)[:10]
    alone = by_key(open_folder(teacher_folder, teacher_chat, 1).complete(iter(requests)))
    crowd = by_key(open_folder(teacher_folder, teacher_chat, 10).complete(iter(requests)))
    equal = sum(alone[key].token_ids == crowd[key].token_ids for key in alone)
    assert equal >= len(alone) - 1  # neighbours change low bits, and a draw can fall between them


def test_other_seeds_draw_other_completions(teacher_folder: Path, teacher_chat: Chat) -> None:
    request = requests_of(teacher_chat, temperature=1.5)[0]
    many = [request._replace(key=str(seed), seed=seed) for seed in range(20)]
    found = open_folder(teacher_folder, teacher_chat, 20).complete(iter(many))
    assert len({tuple(completion.token_ids) for completion in found}) > 5


def test_requests_are_pulled_no_faster_than_slots_get_free(
    teacher_folder: Path, teacher_chat: Chat
) -> None:
    pulled = 0

    def lazily() -> Iterator[Request]:
        nonlocal pulled
        for request in requests_of(teacher_chat, temperature=0.0, max_tokens=8):
            pulled += 1
            yield request

    completions = open_folder(teacher_folder, teacher_chat, 4).complete(lazily())
    next(completions)
    assert pulled == 4
    assert len(list(completions)) == len(PROBLEMS) - 1


def test_a_completion_ends_where_the_context_ends(tmp_path: Path, teacher_chat: Chat) -> None:
    torch.manual_seed(0)
    config = Qwen2Config(**{**SHAPE, "max_position_embeddings": 40})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    engine = open_folder(tmp_path, teacher_chat, 2)
    request = Request("0", [7] * 30, Sampling(temperature=0, top_p=1, max_tokens=1000), 0)
    (completion,) = engine.complete(iter([request]))
    assert engine.context_length == 40
    assert len(completion.token_ids) <= 10
    assert completion.finish_reason == "length" or completion.token_ids[-1] in teacher_chat.end_ids


@pytest.mark.slow
def test_slots_are_as_many_as_the_memory_holds_and_every_request_is_answered(
    teacher_folder: Path,
    teacher_chat: Chat,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("distillpipe.engines.transformers.engine.MEMORY_SHARE", 1e-12)
    engine = open_folder(teacher_folder, teacher_chat, 16)
    found = by_key(engine.complete(iter(requests_of(teacher_chat, temperature=0.0))))
    assert len(found) == len(PROBLEMS)
    assert "1 concurrent sequences" in capsys.readouterr().err


def test_no_requests_give_no_completions(teacher_folder: Path, teacher_chat: Chat) -> None:
    assert list(open_folder(teacher_folder, teacher_chat, 4).complete(iter([]))) == []


def test_broken_weights_are_an_error_that_names_the_model(
    tmp_path: Path, teacher_folder: Path, teacher_chat: Chat
) -> None:
    (tmp_path / "config.json").write_bytes((teacher_folder / "config.json").read_bytes())
    weights = (teacher_folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:-1000])
    with pytest.raises(UsageError, match="is truncated"):
        open_folder(tmp_path, teacher_chat, 4)


def test_a_prompt_with_a_token_that_the_model_lacks_is_refused_and_the_others_are_done(
    teacher_folder: Path, teacher_chat: Chat
) -> None:
    requests = requests_of(teacher_chat, temperature=0.0, max_tokens=5)
    requests[3] = requests[3]._replace(prompt_ids=[7, 100_000, 7])
    found = by_key(open_folder(teacher_folder, teacher_chat, 2).complete(iter(requests)))
    vocab_size = json.loads((teacher_folder / "config.json").read_text())["vocab_size"]
    said = f"token 100000, and the model has {vocab_size}"
    assert found.pop("3") == Refusal("3", "prompt_token_unknown_to_model", said)
    assert len(found) == len(requests) - 1
    assert all(isinstance(one, Completion) for one in found.values())


def the_gpu_s_error(*_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has ...")


def the_cpu_s_error(*_: object) -> None:
    torch.empty(1 << 55)


@pytest.mark.parametrize("fail", [the_gpu_s_error, the_cpu_s_error])
def test_no_memory_left_is_one_line_with_the_remedy(
    teacher_folder: Path, teacher_chat: Chat, fail: Callable[..., None]
) -> None:
    engine = open_folder(teacher_folder, teacher_chat, 4)
    engine._model.base_model.register_forward_pre_hook(fail)
    with pytest.raises(EngineError, match=r"out of memory with .*teacher: .* --conc") as raised:
        list(engine.complete(iter(requests_of(teacher_chat, temperature=0.0))))
    assert "\n" not in str(raised.value)


def test_an_unknown_engine_is_refused(teacher_folder: Path, teacher_chat: Chat) -> None:
    model = lookup.find(str(teacher_folder), "--teacher")
    with pytest.raises(UsageError, match="--engine 'steam' does not exist: use auto, openai"):
        open_engine(model, teacher_chat, EngineOptions(engine="steam", concurrency=1))


def test_the_teacher_reasons_and_stops(teacher_folder: Path, teacher_chat: Chat) -> None:
    found = by_key(open_folder(teacher_folder, teacher_chat, 20).complete(
        iter(requests_of(teacher_chat, temperature=0.0, max_tokens=200))
    ))  # fmt: skip
    assert [completion.finish_reason for completion in found.values()] == ["stop"] * len(PROBLEMS)
    parts = split(teacher_chat.text(found["0"].token_ids))
    assert parts[0] == "<think>\n"
    assert parts[1].startswith("Mia starts with 3.")
    assert parts[2] == "\n</think>\n\n"


# ---------------------------------------------------------------- rounds of one completion


@pytest.mark.slow
@pytest.mark.parametrize("num_slots", [1, 3, 64])
def test_a_round_goes_on_in_the_slot_as_it_would_after_a_prompt_read_anew(
    teacher_folder: Path, teacher_chat: Chat, num_slots: int
) -> None:
    """Each request goes on after its first 9 to 14 tokens, less two, and with five others."""
    engine = open_folder(teacher_folder, teacher_chat, num_slots)
    requests = requests_of(teacher_chat, temperature=0.0, max_tokens=20)[:8]
    added = teacher_chat.tokenizer("\nWait, ", add_special_tokens=False)["input_ids"]

    def going_on(first: dict[str, Completion]) -> list[Request]:
        return [
            one._replace(
                key=f"{one.key} on",
                prompt_ids=one.prompt_ids + first[one.key].token_ids[:-2] + added,
            )
            for one in requests
        ]

    whole = [one._replace(limit=9 + int(one.key) % 6) for one in requests]
    first = by_key(engine.complete(iter(whole)))
    expected = by_key(engine.complete(iter(going_on(first))))

    waiting: list[Request] = []
    found: dict[str, Completion] = {}

    def rounds() -> Iterator[Request | None]:
        for one in whole:
            yield from waiting
            waiting.clear()
            yield one
        while len(found) < 2 * len(whole):
            yield waiting.pop() if waiting else None

    passes = []
    engine._model.base_model.register_forward_pre_hook(
        lambda _, __, given: passes.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    for completion in engine.complete(rounds()):
        found[completion.key] = completion
        if not completion.key.endswith(" on"):
            (request,) = (one for one in going_on(first) if one.key == f"{completion.key} on")
            waiting.append(request._replace(limit=20))

    assert {key: found[key] for key in first} == first
    assert {key: found[key] for key in expected} == expected
    num_read = sum(one > 1 for one in passes)
    assert num_read <= len(requests), "no prompt was read anew"


# ---------------------------------------------------------------- logits that are no numbers


NOT_A_NUMBER = float("nan")
UNTIED = {
    **SHAPE,
    "tie_word_embeddings": False,
}  # else a row of the embedding is one of the head too


def model_with_nan(folder: Path, repository: Path, token: int | None) -> Path:
    """A random model with the shipped tokenizer; one token's embedding, or every weight, is NaN."""
    teacher = repository / "data" / "quickstart" / "teacher"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(teacher / name, folder / name)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(Qwen2Config(**UNTIED), dtype=torch.float32)
    with torch.no_grad():
        if token is None:
            for parameter in model.parameters():
                parameter.fill_(NOT_A_NUMBER)
        else:
            model.get_input_embeddings().weight[token] = NOT_A_NUMBER
            model.get_output_embeddings().weight[token] = 0.0  # so that it is never drawn
    model.save_pretrained(folder)
    return folder


def test_a_model_of_nan_fails_every_request_and_the_run_says_why_and_is_not_finished(
    tmp_path: Path, repository: Path, distill: Callable[..., Any]
) -> None:
    folder = model_with_nan(tmp_path / "model", repository, token=None)
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(json.dumps({"problem": text}) + "\n" for text in PROBLEMS[:3]))
    error = "the model's logits are not finite at token 1 of the completion"
    for flag in ([], ["--accept-errors"]):
        done = distill(
            "generate", problems, "--teacher", folder, "--max-tokens", 4, "--out", tmp_path / "out", *flag
        )  # fmt: skip

        assert done.code == 3
        assert done.err.splitlines()[-1].startswith(f"error: 3 rows failed (the first: {error}), ")
    lines = (tmp_path / "out/v1.partial/errors.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["error"] for line in lines] == [error] * 3
    assert [path.name for path in (tmp_path / "out").glob("v*")] == ["v1.partial"]


@pytest.mark.parametrize(
    "num_slots", [2, *(pytest.param(one, marks=pytest.mark.slow) for one in (1, 5, 64))]
)
def test_a_request_whose_logits_are_no_numbers_fails_alone_whoever_has_its_slot_afterwards(
    tmp_path: Path, repository: Path, teacher_chat: Chat, num_slots: int
) -> None:
    rare = 300
    requests = requests_of(teacher_chat, temperature=0.0, max_tokens=12)
    assert not any(rare in request.prompt_ids for request in requests)
    requests = [
        request._replace(prompt_ids=[*request.prompt_ids[:-3], rare, *request.prompt_ids[-3:]])
        if at % 4 == 0
        else request
        for at, request in enumerate(requests)
    ]
    folder = model_with_nan(tmp_path / "model", repository, token=rare)
    found = by_key(open_folder(folder, teacher_chat, num_slots).complete(iter(requests)))

    failed = [request.key for request in requests if isinstance(found[request.key], Failure)]
    assert failed == [request.key for request in requests[::4]]


def test_a_model_larger_than_the_memory_is_refused_before_it_is_loaded(
    tmp_path: Path, teacher_folder: Path, teacher_chat: Chat
) -> None:
    num_bytes = 1 << 42  # a file with a hole: it takes no disk
    tensor = {"dtype": "BF16", "shape": [num_bytes // 2], "data_offsets": [0, num_bytes]}
    header = json.dumps({"weight": tensor}).encode()
    shutil.copy(teacher_folder / "config.json", tmp_path / "config.json")
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + num_bytes)
    with pytest.raises(
        EngineError, match=r"take 8,796\.1 GB, and this machine has [\d.,]+ GB of memory"
    ):
        open_folder(tmp_path, teacher_chat, 4)
