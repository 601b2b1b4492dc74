"""Mapping the tokens of real tokenizers to each other."""

# ruff: noqa: RUF001 - DeepSeek writes its special tokens with bars that look like others

from collections.abc import Callable

import numpy as np
import pytest

from distillpipe.base.errors import UsageError
from distillpipe.data.store.labels import Vocabulary
from distillpipe.models.chat import Chat
from distillpipe.models.vocabulary import NOT_THERE, counterparts, token_bytes, vocabulary_of

Chats = Callable[[str], Chat]
TEXT = "So \\boxed{\\frac{1}{2}} ≈ 0.5, 中文 and é.\n\n<think>\tdef f(x):\n    return x²"


def test_the_same_family_shares_its_ordinary_tokens(shared_chat: Chats) -> None:
    found = [vocabulary_of(shared_chat(name)) for name in ("qwen2.5", "qwen3", "r1-distill-qwen")]
    assert {one.ordinary for one in found} == {found[0].ordinary}
    assert {one.num_ordinary for one in found} == {151_643}


def test_r1s_special_tokens_go_to_qwens_by_their_role(shared_chat: Chats) -> None:
    teacher, student = shared_chat("r1-distill-qwen"), shared_chat("qwen3")
    found = counterparts(vocabulary_of(teacher), vocabulary_of(student))
    assert np.array_equal(found[:151_643], np.arange(151_643))

    def both(text: str, other: str) -> tuple[int, int]:
        ids = teacher.tokenizer.convert_tokens_to_ids([text])
        return int(found[ids[0]]), student.tokenizer.convert_tokens_to_ids([other])[0]

    for text, other in [
        ("<｜end▁of▁sentence｜>", "<|im_end|>"), ("<think>", "<think>"), ("</think>", "</think>"),
        ("<|fim_prefix|>", "<|fim_prefix|>"),
    ]:  # fmt: skip
        mapped, wanted = both(text, other)
        assert mapped == wanted, text
    assert both("<｜User｜>", "<|im_start|>")[0] == NOT_THERE


def test_qwen25_has_no_token_for_the_tags(shared_chat: Chats) -> None:
    teacher = vocabulary_of(shared_chat("r1-distill-qwen"))
    found = counterparts(teacher, vocabulary_of(shared_chat("qwen2.5")))
    assert teacher.think_close is not None
    assert found[teacher.think_close] == NOT_THERE


def test_no_two_tokens_go_to_one() -> None:
    def with_ends(*ends: int) -> Vocabulary:
        special = {10: "<end>", 11: "<turn>"}
        return Vocabulary("same", 10, special, ends, None, None)

    found = counterparts(with_ends(11, 10), with_ends(10))
    assert found.tolist() == [*range(10), NOT_THERE, 10]


def test_another_ordinary_vocabulary_is_refused(shared_chat: Chats, teacher_chat: Chat) -> None:
    with pytest.raises(
        UsageError, match=r"another vocabulary than the student's .151,643 ordinary tokens"
    ):
        counterparts(vocabulary_of(shared_chat("qwen2.5")), vocabulary_of(teacher_chat))


@pytest.mark.parametrize("name", ["qwen2.5", "qwen3", "r1-distill-qwen"])
def test_the_bytes_of_the_tokens_are_the_bytes_of_the_text(shared_chat: Chats, name: str) -> None:
    tokenizer = shared_chat(name).tokenizer
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
