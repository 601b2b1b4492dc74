"""Counting tokens in batches on all cores gives the same as one by one."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from distillpipe.base.records import Message, TokenCounts, Trace
from distillpipe.models import tokens
from distillpipe.models.chat import Chat
from distillpipe.models.tokens import counted

MakeTrace = Callable[..., Trace]


def one_by_one(trace: Trace, chat: Chat) -> TokenCounts:
    """Counts from the ids of the whole turn and the text that they decode to."""
    *asked, answered = trace.messages
    ids = chat.completion_ids(answered)
    text = chat.text(ids)
    if trace.is_truncated:
        text = text if trace.response else text.removesuffix(chat.turn.middle)
        ids = chat.ids(text)
    return chat.count(chat.prompt_ids(asked), ids, chat.split(text))


@pytest.fixture(scope="module")
def real(reference_rows: Callable[..., Any], make_trace: MakeTrace) -> list[Trace]:
    return [
        make_trace(problem=row["problem"], reasoning=row["reasoning"], response=row["answer_text"])
        for row in reference_rows("traces/r1_mmlu_pro_mcq.jsonl")[:40]
    ]


def with_all_ends(rows: list[Trace], make_trace: MakeTrace) -> list[Trace]:
    """These rows and made-up ones: each kind of end, with none, one or both of reasoning and response."""
    made = [
        make_trace(reasoning=reasoning, response=response)
        for reasoning in (None, "14+6=20.\n\n價格 ")
        for response in ("", "\\boxed{20}", " 20\n")
    ]
    cut = [msgspec.structs.replace(row, finish_reason="length") for row in [*rows[::8], *made]]
    asked = Message(role="system", content="Think.")
    told = [msgspec.structs.replace(row, messages=[asked, *row.messages]) for row in made]
    return [*rows, *made, *cut, *told]


@pytest.mark.parametrize("name", ["opened", "tagged", "spelt"])
def test_counts_of_batches_are_those_of_the_rows(
    name: str, make_trace: MakeTrace, make_traces: Callable[[int], list[Trace]],
    family_chat: Callable[[str], Chat], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    rows = with_all_ends(make_traces(40), make_trace)
    check_counts(rows, family_chat(name), 500, monkeypatch)


@pytest.mark.reference
@pytest.mark.parametrize("name", ["r1-distill-qwen", "qwen3", "qwen2.5"])
def test_counts_of_batches_of_real_traces_are_those_of_the_rows(
    real: list[Trace], name: str, make_trace: MakeTrace,
    family_chat: Callable[[str], Chat], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    check_counts(with_all_ends(real, make_trace), family_chat(name), 5_000, monkeypatch)


def check_counts(
    rows: list[Trace], chat: Chat, batch_characters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "BATCH_CHARACTERS", batch_characters)
    found = list(counted(rows, chat))

    assert [row.num_tokens for row in found] == [one_by_one(row, chat) for row in rows]
    uncounted = [msgspec.structs.replace(row, num_tokens=None) for row in rows]
    assert [msgspec.structs.replace(row, num_tokens=None) for row in found] == uncounted


def test_no_rows_are_no_rows(teacher_chat: Chat) -> None:
    assert list(counted([], teacher_chat)) == []
