"""Mapping the tokens of tokenizers to each other."""

# ruff: noqa: RUF001 - DeepSeek writes its special tokens with bars that look like others

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from distillpipe.base.errors import UsageError
from distillpipe.data.store.labels import Vocabulary
from distillpipe.models.chat import Chat
from distillpipe.models.vocabulary import NOT_THERE, counterparts, token_bytes, vocabulary_of

Chats = Callable[[str], Chat]
TEXT = "So \\boxed{\\frac{1}{2}} ≈ 0.5, 中文 and é.\n\n<think>\tdef f(x):\n    return x²"


class Set(NamedTuple):
    """Families of one ordinary vocabulary, by what they do."""

    spelt: str
    tagged: str
    opened: str
    num_ordinary: int
    roles: list[tuple[str, str]]
    "a special token of `opened`, and which of `tagged` has its part"
    no_part: tuple[str, str]
    "one of `opened` that nothing stands for, and one of `tagged` that begins a turn"


SETS = [
    Set(
        "spelt", "tagged", "opened", 474,
        [("<|over|>", "<|im_end|>"), ("<think>", "<think>"), ("</think>", "</think>")],
        ("<|asks|>", "<|im_start|>"),
    ),
    pytest.param(
        Set(
            "qwen2.5", "qwen3", "r1-distill-qwen", 151_643,
            [
                ("<｜end▁of▁sentence｜>", "<|im_end|>"), ("<think>", "<think>"),
                ("</think>", "</think>"), ("<|fim_prefix|>", "<|fim_prefix|>"),
            ],
            ("<｜User｜>", "<|im_start|>"),
        ),
        marks=pytest.mark.reference,
    ),
]  # fmt: skip


@pytest.fixture(params=SETS, ids=["own", "real"])
def names(request: pytest.FixtureRequest) -> Set:
    return request.param


def test_the_same_family_shares_its_ordinary_tokens(family_chat: Chats, names: Set) -> None:
    found = [vocabulary_of(family_chat(name)) for name in names[:3]]
    assert {one.ordinary for one in found} == {found[0].ordinary}
    assert {one.num_ordinary for one in found} == {names.num_ordinary}


def test_special_tokens_go_to_the_student_s_by_their_role(family_chat: Chats, names: Set) -> None:
    teacher, student = family_chat(names.opened), family_chat(names.tagged)
    found = counterparts(vocabulary_of(teacher), vocabulary_of(student))
    assert np.array_equal(found[: names.num_ordinary], np.arange(names.num_ordinary))

    def both(text: str, other: str) -> tuple[int, int]:
        ids = teacher.tokenizer.convert_tokens_to_ids([text])
        return int(found[ids[0]]), student.tokenizer.convert_tokens_to_ids([other])[0]

    for text, other in names.roles:
        mapped, wanted = both(text, other)
        assert mapped == wanted, text
    assert both(*names.no_part)[0] == NOT_THERE


def test_tags_that_the_student_spells_have_no_token_there(family_chat: Chats, names: Set) -> None:
    teacher = vocabulary_of(family_chat(names.opened))
    found = counterparts(teacher, vocabulary_of(family_chat(names.spelt)))
    assert teacher.think_close is not None
    assert found[teacher.think_close] == NOT_THERE


def test_no_two_tokens_go_to_one() -> None:
    def with_ends(*ends: int) -> Vocabulary:
        special = {10: "<end>", 11: "<turn>"}
        return Vocabulary("same", 10, special, ends, None, None)

    found = counterparts(with_ends(11, 10), with_ends(10))
    assert found.tolist() == [*range(10), NOT_THERE, 10]


def test_another_ordinary_vocabulary_is_refused(
    family_chat: Chats, teacher_chat: Chat, names: Set
) -> None:
    said = f"another vocabulary than the student's .{names.num_ordinary:,} ordinary tokens"
    with pytest.raises(UsageError, match=said):
        counterparts(vocabulary_of(family_chat(names.spelt)), vocabulary_of(teacher_chat))


@pytest.mark.parametrize("at", range(3))
def test_the_bytes_of_the_tokens_are_the_bytes_of_the_text(
    family_chat: Chats, names: Set, at: int
) -> None:
    tokenizer = family_chat(names[at]).tokenizer
    known = token_bytes(tokenizer)
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert b"".join(known[token] for token in ids) == TEXT.encode()


def test_byte_fallback_and_spaces_are_read_too() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    pieces = {"<0x0A>": 0, "▁the": 1, "中": 2, "<0xE4>": 3}
    plain = Tokenizer(models.BPE(vocab=pieces, merges=[], byte_fallback=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain)
    found = token_bytes(tokenizer)
    assert [found[token] for token in range(4)] == [b"\n", b" the", "中".encode(), b"\xe4"]
