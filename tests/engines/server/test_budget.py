"""Budgets on a server: prompts rendered here, token ids in and out, each round a request that is paid for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.dataset import read_traces
from distillpipe.models.chat import Chat

Body = dict[str, Any]
Distill = Callable[..., Any]
BUDGET = ("--num-waits", 1, "--min-reasoning-tokens", 15, "--max-reasoning-tokens", 30)


class Model:
    """A served model that always thinks the same; it keeps what it was asked and what it counted."""

    def __init__(self, chat: Chat, sent: Any, **changes: Any) -> None:
        self._chat, self._sent, self._changes = chat, sent, changes
        self.num_prompt = self.num_completion = 0
        self.asked: list[str] = []

    def __call__(self, body: Body, _attempt: int) -> Any:
        asked = self._chat.text(body["prompt"])
        self.asked.append(asked)
        said = "\n\n\\boxed{10}<|im_end|>"
        if not asked.endswith("</think>"):
            said = f"5+5=10.\n</think>{said}"
        ids = self._chat.tokenizer(said, add_special_tokens=False)["input_ids"][
            : body["max_tokens"]
        ]
        stop = next((at for at, one in enumerate(ids) if one in body["stop_token_ids"]), None)
        ids = ids if stop is None else ids[: stop + 1]
        self.num_prompt += len(body["prompt"])
        self.num_completion += len(ids)
        choice = {
            "text": "unread", "token_ids": ids, "finish_reason": "length" if stop is None else "stop"
        }  # fmt: skip
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(ids)}
        answer = {"model": "m", "choices": [choice | self._changes], "usage": usage}
        return self._sent(body=json.dumps(answer).encode())


@pytest.fixture
def generate(distill: Distill, tmp_path: Path, repository: Path) -> Distill:
    """`generate(server, *options)` asks a server for twenty rows, with the shipped teacher's tokenizer."""
    problems = tmp_path / "problems.jsonl"
    rows = ({"problem": f"What is {at}+1?", "answer": str(at + 1)} for at in range(20))
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(server: Any, *options: object) -> Any:
        return distill(
            "generate", problems, "--teacher", "teacher", "--base-url", server.url, "--out",
            tmp_path / "out", "--max-tokens", 64, "--concurrency", 8, "--prompt-template", "{problem}",
            "--tokenizer", repository / "data" / "quickstart" / "teacher", *options,
        )  # fmt: skip

    return run


def test_a_thought_is_continued_over_completions_and_every_round_is_paid_for(
    serve: Any, sent: Any, generate: Distill, teacher_chat: Chat, tmp_path: Path
) -> None:
    model = Model(teacher_chat, sent)
    server = serve(model)
    done = generate(server, *BUDGET, "--price-input", 1, "--price-output", 2)

    assert done.code == 0, done.err
    assert "control 100.0%: 20 of 20 completions have 15 to 30 reasoning tokens" in done.err
    assert "; 20 waits, 0 ends forced" in done.err
    rows = list(read_traces(str(tmp_path / "out")))
    for row in rows:
        assert (row.reasoning, row.response) == ("5+5=10.\nWait5+5=10.", "\\boxed{10}")
        assert (row.num_waits, row.forced_end, row.served_by) == (1, False, "m")
        assert row.num_tokens.reasoning == 1 + 7 + 1 + 7  # white space, twice the line, the wait
    assert len({row.row_key for row in rows}) == 20
    assert len(server.bodies) == 60  # the thought, the thought after the wait, the response
    assert f"${(model.num_prompt + 2 * model.num_completion) / 1e6:.2g} billed: " in done.err
    first = server.bodies[0]
    assert "messages" not in first
    assert model.asked[0].endswith("<|im_start|>assistant\n<think>\n")
    (close,) = teacher_chat.tokenizer("</think>", add_special_tokens=False)["input_ids"]
    assert close in first["stop_token_ids"]
    assert (first["return_token_ids"], first["skip_special_tokens"]) == (True, False)


def test_prompts_can_be_rendered_here_without_a_budget(
    serve: Any, sent: Any, generate: Distill, teacher_chat: Chat, tmp_path: Path
) -> None:
    model = Model(teacher_chat, sent)
    server = serve(model)
    assert generate(server).code == 0
    assert {row.response for row in read_traces(str(tmp_path / "out"))} == {"\\boxed{10}"}
    assert {asked[-22:] for asked in model.asked} == {"<|im_start|>assistant\n"}
    assert len(server.bodies) == 20


def test_a_server_that_returns_no_ids_is_one_line_with_the_remedy(
    serve: Any, sent: Any, generate: Distill, teacher_chat: Chat
) -> None:
    done = generate(serve(Model(teacher_chat, sent, token_ids=None)), *BUDGET)
    assert done.code == 1
    assert "returns no token ids, which --tokenizer needs" in done.err.splitlines()[-1]


def test_another_tokenizer_than_the_server_s_is_found_out(
    serve: Any, sent: Any, generate: Distill, teacher_chat: Chat
) -> None:
    model = Model(teacher_chat, sent)

    def counts_one_more(body: Body, attempt: int) -> Any:
        answer = json.loads(model(body, attempt).body)
        answer["usage"]["prompt_tokens"] += 1
        return sent(body=json.dumps(answer).encode())

    done = generate(serve(counts_one_more), *BUDGET)
    assert done.code == 1
    assert "give the --tokenizer of the model that it serves" in done.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("usage", "is_known"),
    [
        (None, False), ({}, False), ({"prompt_tokens": -1, "completion_tokens": 5}, False),
        ({"prompt_tokens": 10**26, "completion_tokens": 5}, False), ({"prompt_tokens": 0, "completion_tokens": 9}, True),
    ],
    ids=str,
)  # fmt: skip
def test_rows_are_counted_here_whatever_a_server_counts(
    serve: Any,
    sent: Any,
    generate: Distill,
    teacher_chat: Chat,
    tmp_path: Path,
    usage: Any,
    is_known: bool,
) -> None:
    model = Model(teacher_chat, sent)

    def with_usage(body: Body, attempt: int) -> Any:
        return sent(
            body=json.dumps(json.loads(model(body, attempt).body) | {"usage": usage}).encode()
        )

    done = generate(serve(with_usage), *BUDGET, "--price-input", 1, "--price-output", 2)
    counts = manifests.read(tmp_path / "out" / "v1").counts
    assert done.code == 0, done.err
    assert {row.num_tokens.reasoning for row in read_traces(str(tmp_path / "out"))} == {16}
    assert counts.unknown_bills == (0 if is_known else 60)
    assert 0 < counts.cost_dollars < 60 * (200 + 2 * 64) / 1e6


@pytest.mark.parametrize(
    "ids", [None, "ids", [1, "a"], [-1], [2**40], [1.5], {}, [1] * 65], ids=lambda ids: str(ids)[:9]
)
def test_odd_ids_among_good_ones_are_asked_for_again(
    serve: Any, sent: Any, generate: Distill, teacher_chat: Chat, tmp_path: Path, ids: Any
) -> None:
    model = Model(teacher_chat, sent)

    def react(body: Body, attempt: int) -> Any:
        answer = json.loads(model(body, attempt).body)
        if attempt == 1 and any(f"{at}+1?" in model.asked[-1] for at in (12, 15, 18)):
            answer["choices"][0]["token_ids"] = ids
        return sent(body=json.dumps(answer).encode())

    server = serve(react)
    done = generate(server)
    assert done.code == 0, done.err
    assert {row.response for row in read_traces(str(tmp_path / "out"))} == {"\\boxed{10}"}
    assert len(server.bodies) == 20 + 3


def test_a_budget_on_a_server_without_a_tokenizer_is_a_usage_error_that_names_the_ways_out(
    serve: Any, sent: Any, distill: Distill, tmp_path: Path
) -> None:
    server = serve(lambda *_: sent())
    (tmp_path / "problems.jsonl").write_text('{"problem": "What is 1+1?"}\n')
    done = distill(
        "generate", tmp_path / "problems.jsonl", "--teacher", "teacher", "--base-url", server.url,
        "--out", tmp_path / "out", *BUDGET, "--max-tokens", 64,
    )  # fmt: skip
    assert done.code == 2
    assert "needs --tokenizer MODEL" in done.err
    assert '{"thinking_token_budget": 4096}' in done.err
    assert not server.bodies


def test_a_tokenizer_for_a_model_that_is_loaded_is_a_usage_error(
    distill: Distill, tmp_path: Path, tiny_model: Path
) -> None:
    (tmp_path / "problems.jsonl").write_text('{"problem": "What is 1+1?"}\n')
    done = distill(
        "generate", tmp_path / "problems.jsonl", "--teacher", tiny_model, "--out", tmp_path / "out",
        "--tokenizer", tiny_model,
    )  # fmt: skip
    assert done.code == 2
    assert "--tokenizer needs a server" in done.err
