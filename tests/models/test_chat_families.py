"""Families of chat templates: golden ids, exact prefixes, real completions.

`golden/chat-*.json` holds texts that were written out by hand, and their ids by the tokenizer alone. The three
families of our own behave as the three real ones do, which are tested where the reference data is.
"""

import json
import unicodedata
from pathlib import Path

import pytest

from distillpipe.base.records import Message
from distillpipe.base.thinking import Split, split

REAL = ["qwen2.5", "qwen3", "r1-distill-qwen"]
FAMILIES = [
    "spelt", "tagged", "opened", *(pytest.param(name, marks=pytest.mark.reference) for name in REAL),
]  # fmt: skip
TAGGED = ["tagged", pytest.param("qwen3", marks=pytest.mark.reference)]
SPELT = ["spelt", pytest.param("qwen2.5", marks=pytest.mark.reference)]
OPENED = ["opened", pytest.param("r1-distill-qwen", marks=pytest.mark.reference)]
PROMPTS = ["question", "system prompt", "two turns"]
COMPLETIONS = ["reasoning", "no reasoning"]


def golden(family: str) -> dict:
    path = Path(__file__).parents[1] / "golden" / f"chat-{family}.json"
    return json.loads(path.read_text("utf-8"))


def messages_of(prompt: dict) -> list[Message]:
    return [Message(**message) for message in prompt["messages"]]


def template_ids(chat, messages: list[Message]) -> list[int]:
    """A whole conversation, rendered by the template itself."""
    given = [
        {"role": one.role, "content": one.content, "reasoning_content": one.reasoning_content}
        for one in messages
    ]
    text = chat.tokenizer.apply_chat_template(given, tokenize=False)
    return chat.tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_has_its_golden_ids(family_chat, family, name) -> None:
    chat, prompt = family_chat(family), golden(family)["prompts"][name]
    assert chat.prompt_ids(messages_of(prompt)) == prompt["ids"]
    assert chat.tokenizer.decode(prompt["ids"]) == prompt["text"]


@pytest.mark.parametrize("name", COMPLETIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_completion_has_its_golden_ids(family_chat, family, name) -> None:
    chat, completion = family_chat(family), golden(family)["completions"][name]
    assert chat.completion_ids(Message(**completion["message"])) == completion["ids"]
    assert chat.tokenizer.decode(completion["ids"]) == completion["text"]


@pytest.mark.parametrize("name", COMPLETIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_completion_splits_into_the_message_it_was_made_from(family_chat, family, name) -> None:
    chat, completion = family_chat(family), golden(family)["completions"][name]
    parts = chat.split(chat.text(completion["ids"]))
    message = Message(**completion["message"])
    assert (parts.reasoning or None, parts.response) == (message.reasoning_content, message.content)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("completion", COMPLETIONS)
@pytest.mark.parametrize("family", TAGGED)
def test_rows_are_what_a_template_that_keeps_the_reasoning_renders(
    family_chat, teacher_chat, family, prompt, completion
) -> None:
    known = golden(family)
    asked = messages_of(known["prompts"][prompt])
    answered = Message(**known["completions"][completion]["message"])
    for chat in (family_chat(family), teacher_chat):
        rendered = template_ids(chat, [*asked, answered])
        (line_feed,) = chat.tokenizer("\n", add_special_tokens=False)["input_ids"]
        assert [*chat.prompt_ids(asked), *chat.completion_ids(answered), line_feed] == rendered


@pytest.mark.parametrize("family", SPELT)
def test_without_reasoning_rows_equal_what_the_template_renders(family_chat, family) -> None:
    chat, known = family_chat(family), golden(family)
    asked = messages_of(known["prompts"]["question"])
    answered = Message(**known["completions"]["no reasoning"]["message"])
    rendered = template_ids(chat, [*asked, answered])
    line_feed = chat.ids("\n")
    assert [*chat.prompt_ids(asked), *chat.completion_ids(answered), *line_feed] == rendered


@pytest.mark.reference
def test_r1_distill_prompts_equal_logged_ones_with_one_bos_token(
    family_chat, reference_rows
) -> None:
    chat = family_chat("r1-distill-qwen")
    today, before_think_was_forced = reference_rows("tokenizers/r1-distill-qwen/golden_ids.jsonl")
    for logged, forced in ((today, []), (before_think_was_forced, [151648, 198])):
        twice, first, *rest = logged["ids_from_encode_of_rendered_text"]
        assert twice == first == chat.tokenizer.bos_token_id
        messages = [Message(**message) for message in logged["messages"]]
        assert chat.prompt_ids(messages) == [first, *rest, *forced]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_learnt_of_a_family(family_chat, family) -> None:
    opened = family in ("opened", "r1-distill-qwen")
    tags_are_tokens = family not in ("spelt", "qwen2.5")
    chat = family_chat(family)
    assert chat.turn.opened == opened
    assert chat.turn.tags == ("<think>", "</think>")
    assert all(len(chat.ids(tag)) == 1 for tag in chat.turn.tags) == tags_are_tokens
    assert chat.end_ids == {chat.tokenizer.eos_token_id}


UNCLOSED = "So \\boxed{20}, or is it"


@pytest.mark.parametrize("family", OPENED)
def test_an_opened_thought_that_is_not_closed_is_no_answer(family_chat, family) -> None:
    assert family_chat(family).split(UNCLOSED) == Split("", UNCLOSED, "", "")


@pytest.mark.parametrize("family", TAGGED)
def test_where_the_model_opens_the_thought_it_is_an_answer(family_chat, family) -> None:
    assert family_chat(family).split(UNCLOSED) == Split("", "", "", UNCLOSED)


TRACES = ["math500_r1_family", "rl3b_think_greedy", "instruct3b_greedy"]


@pytest.fixture(scope="session")
def raw_traces(reference_rows):
    """Real completions, by how they mark the reasoning."""
    return {
        name: [row for row in reference_rows(f"traces/{name}.jsonl") if row.get("raw")]
        for name in TRACES
    }


@pytest.mark.reference
@pytest.mark.parametrize("name", TRACES)
def test_the_parts_of_real_traces_add_up_to_what_the_model_wrote(raw_traces, name) -> None:
    for row in raw_traces[name]:
        for opened in (False, True):
            assert "".join(split(row["raw"], opened=opened)) == row["raw"]


@pytest.mark.reference
@pytest.mark.parametrize("name", TRACES)
def test_real_traces_split_as_their_format_says(raw_traces, name) -> None:
    for row in raw_traces[name]:
        opened = row["think_format"] == "no_open_tag"
        parts = split(row["raw"], opened=opened)
        has = (parts.opening.strip() != "", parts.middle != "", parts.response != "")
        match row["think_format"]:
            case "tags":
                assert has[:2] == (True, True)
            case "no_open_tag":
                assert has[:2] == (False, True)
            case "unclosed":
                assert has == (True, False, False)
            case "no_tags":
                assert has == (False, False, True)


@pytest.mark.reference
@pytest.mark.parametrize("family", REAL)
def test_ids_of_a_prompt_and_of_what_a_model_wrote_decode_to_both(
    family_chat, raw_traces, family
) -> None:
    chat = family_chat(family)
    prompt = golden(family)["prompts"]["question"]
    for name in TRACES:
        for row in raw_traces[name][::23]:
            completion = chat.tokenizer(row["raw"], add_special_tokens=False)["input_ids"]
            written = unicodedata.normalize("NFC", row["raw"])
            assert chat.text(completion) == written
            assert chat.text([*prompt["ids"], *completion]) == prompt["text"] + written


@pytest.mark.reference
@pytest.mark.parametrize("family", REAL)
def test_messages_of_real_traces_make_rows_that_split_into_them_again(
    family_chat, raw_traces, family
) -> None:
    chat = family_chat(family)
    for row in raw_traces["math500_r1_family"][::7]:
        parts = split(row["raw"], opened=row["think_format"] == "no_open_tag")
        message = Message(
            role="assistant",
            content=parts.response,
            reasoning_content=parts.reasoning or None,
        )
        again = chat.split(chat.text(chat.completion_ids(message)))
        assert again.reasoning == unicodedata.normalize("NFC", parts.reasoning)
        assert again.response == unicodedata.normalize("NFC", parts.response)
