"""The chat template that a checkpoint is saved with writes a training row to the ids that were trained on."""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from distillpipe.base.errors import UsageError
from distillpipe.base.records import Message, Trace
from distillpipe.models.chat import Chat, load_chat
from distillpipe.training.rows.rows import row_of
from distillpipe.training.rows.template import saved_template, writes_rows_exactly

SPELT = ["spelt", pytest.param("qwen2.5", marks=pytest.mark.reference)]
TAGGED = ["tagged", pytest.param("qwen3", marks=pytest.mark.reference)]
OPENED = ["opened", pytest.param("r1-distill-qwen", marks=pytest.mark.reference)]
FAMILIES = [*SPELT, *TAGGED, *OPENED, "llama-3-style"]
GOLDEN = Path(__file__).parents[2] / "golden"
LLAMA = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{{ message.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}\n"
)
SPECIAL = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
]


def bytes_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes with the special tokens of Llama-3: ids that need no file."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = Tokenizer(models.BPE({one: at for at, one in enumerate(alphabet)}, []))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    model.add_special_tokens([AddedToken(one, special=True) for one in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        bos_token=SPECIAL[0],
        eos_token="<|eot_id|>",
        chat_template=LLAMA,
        model_max_length=512,
    )


@pytest.fixture(scope="module")
def family_chat(family_chat: Callable[[str], Chat]) -> Callable[[str], Chat]:
    """The chat of a family, or of a tokenizer of bytes in the style of Llama-3."""
    llama = Chat(bytes_tokenizer(), "llama-3-style")
    return lambda name: llama if name == "llama-3-style" else family_chat(name)


def golden_rows(family: str) -> list[dict]:
    return json.loads((GOLDEN / f"rows-{family}.json").read_text("utf-8"))["rows"]


def given(messages: list[Message]) -> list[dict]:
    return [
        {name: value for name in one.__struct_fields__ if (value := getattr(one, name)) is not None}
        for one in messages
    ]


@pytest.fixture(scope="module")
def saved_chat(
    family_chat: Callable[[str], Chat], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Chat]:
    """The chat of a family as it comes back from a checkpoint."""

    @functools.cache
    def load(family: str) -> Chat:
        chat, folder = family_chat(family), tmp_path_factory.mktemp(family)
        own, chat.tokenizer.chat_template = chat.tokenizer.chat_template, saved_template(chat)
        chat.tokenizer.save_pretrained(folder)
        chat.tokenizer.chat_template = own
        return load_chat(folder, "student")

    return load


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_have_their_golden_ids_and_their_golden_span(family_chat, make_trace, family) -> None:
    chat = family_chat(family)
    for golden in golden_rows(family):
        messages = [Message(**one) for one in golden["messages"]]
        row = row_of(make_trace(messages=messages), chat)
        assert row.ids == golden["ids"]
        assert row.num_prompt == golden["num_prompt"]
        assert chat.decode(row.ids) == golden["text"]
        assert golden["text"].endswith(golden["supervised"])
        assert chat.decode(row.ids[row.num_prompt :]) == golden["supervised"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_saved_template_writes_a_row_to_the_ids_that_were_trained_on(
    family_chat, saved_chat, family
) -> None:
    chat = family_chat(family)
    assert not writes_rows_exactly(chat)
    saved = saved_chat(family)
    assert saved.turn == chat.turn
    assert saved.end_ids == chat.end_ids
    assert writes_rows_exactly(saved)
    for golden in golden_rows(family):
        messages = [Message(**one) for one in golden["messages"]]
        text = saved.tokenizer.apply_chat_template(given(messages), tokenize=False)
        assert text.removesuffix("\n") == golden["text"]
        if not golden["supervised"].startswith(
            "\n"
        ):  # which one token with the prompt's end may be
            assert saved.ids(text)[: len(golden["ids"])] == golden["ids"]
        prompt = saved.prompt_ids(messages[:-1], saved.mode_of(messages[-1]))
        own = chat.prompt_ids(messages[:-1], chat.mode_of(messages[-1]))
        assert prompt == own == golden["ids"][: golden["num_prompt"]]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "reasoning", ["\n\n14+6=20.\n ", " 漢字 😀 'quoted' {{ x }} ", "{% raw %}"]
)
def test_white_space_and_odd_text_of_a_row_are_written_as_they_were_trained_on(
    family_chat, saved_chat, make_trace, family, reasoning
) -> None:
    chat = family_chat(family)
    trace: Trace = make_trace(reasoning=reasoning, response="\n\\boxed{20}\n")
    row = row_of(trace, chat)
    saved = saved_chat(family)
    text = saved.tokenizer.apply_chat_template(given(trace.messages), tokenize=False)
    assert text.removesuffix("\n").removesuffix(chat.decode(row.ids)) == ""


TOOL_CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 14, "b": 6}}}
OTHERWISE = {
    "a question": [{"role": "user", "content": "14+6?"}],
    "a system prompt": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "14+6?"},
    ],
    "several turns": [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2", "reasoning_content": "1+1=2."},
        {"role": "user", "content": "14+6?"},
    ],
}


@pytest.mark.parametrize("messages", OTHERWISE.values(), ids=OTHERWISE.keys())
@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_is_no_last_turn_is_written_as_the_student_s_own_template_has_it(
    family_chat, saved_chat, family, asks, messages
) -> None:
    chat = family_chat(family)
    saved = saved_chat(family)
    own, wrapped = (
        one.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks)
        for one in (chat, saved)
    )
    assert wrapped == own


@pytest.mark.parametrize("family", [*SPELT, *TAGGED])
def test_tools_and_calls_of_them_go_through(family_chat, saved_chat, family) -> None:
    chat = family_chat(family)
    saved = saved_chat(family)
    messages = [
        {"role": "user", "content": "14+6?"},
        {"role": "assistant", "content": "", "tool_calls": [TOOL_CALL]},
    ]
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    own, wrapped = (
        one.tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)
        for one in (chat, saved)
    )
    assert "add" in own
    assert wrapped == own


@pytest.mark.parametrize("family", TAGGED)
def test_a_switch_of_the_student_s_own_template_still_works(saved_chat, family) -> None:
    saved = saved_chat(family)
    text = saved.tokenizer.apply_chat_template(
        OTHERWISE["a question"], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


@pytest.mark.parametrize("family", OPENED)
def test_a_turn_that_was_begun_by_hand_is_not_taken_for_a_row(saved_chat, family) -> None:
    saved = saved_chat(family)
    begun = [*OTHERWISE["a question"], {"role": "assistant", "content": "<think>\nLet me"}]
    text = saved.tokenizer.apply_chat_template(begun, tokenize=False, continue_final_message=True)
    assert text.endswith("><think>\nLet me")


def test_a_template_that_keeps_the_reasoning_is_saved_as_it_is(teacher_chat) -> None:
    assert writes_rows_exactly(teacher_chat)
    assert saved_template(teacher_chat) == teacher_chat.tokenizer.chat_template


def test_a_template_that_cannot_stand_inside_another_is_refused() -> None:
    """A block of jinja sees the messages that the whole template was given, not those of a part."""
    tokenizer = bytes_tokenizer()
    tokenizer.chat_template = f"{{% block all %}}{LLAMA}{{% endblock %}}"
    chat = Chat(tokenizer, "odd")
    with pytest.raises(
        UsageError, match="drops the reasoning, and a wrapper that keeps it changes"
    ):
        saved_template(chat)
    assert chat.tokenizer.chat_template == tokenizer.chat_template
