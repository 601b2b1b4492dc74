"""Real tokenizers with their own templates: golden ids, exact prefixes, real completions.

`golden/chat-*.json` holds texts that were written out by hand, and their ids by the tokenizer alone.
"""

import json
import unicodedata
from pathlib import Path

import pytest

from distillpipe.base.records import Message
from distillpipe.base.thinking import split

FAMILIES = ["qwen2.5", "qwen3", "r1-distill-qwen"]
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
def test_a_prompt_has_its_golden_ids(shared_chat, family, name) -> None:
    chat, prompt = shared_chat(family), golden(family)["prompts"][name]
    assert chat.prompt_ids(messages_of(prompt)) == prompt["ids"]
    assert chat.tokenizer.decode(prompt["ids"]) == prompt["text"]


@pytest.mark.parametrize("name", COMPLETIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_completion_has_its_golden_ids(shared_chat, family, name) -> None:
    chat, completion = shared_chat(family), golden(family)["completions"][name]
    assert chat.completion_ids(Message(**completion["message"])) == completion["ids"]
    assert chat.tokenizer.decode(completion["ids"]) == completion["text"]


@pytest.mark.parametrize("name", COMPLETIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_completion_splits_into_the_message_that_it_was_written_from(
    shared_chat, family, name
) -> None:
    chat, completion = shared_chat(family), golden(family)["completions"][name]
    parts = chat.split(chat.text(completion["ids"]))
    message = Message(**completion["message"])
    assert (parts.reasoning or None, parts.response) == (message.reasoning_content, message.content)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("completion", COMPLETIONS)
def test_rows_are_what_a_template_that_keeps_the_reasoning_renders(
    shared_chat, teacher_chat, prompt, completion
) -> None:
    known = golden("qwen3")
    asked = messages_of(known["prompts"][prompt])
    answered = Message(**known["completions"][completion]["message"])
    for chat in (shared_chat("qwen3"), teacher_chat):
        rendered = template_ids(chat, [*asked, answered])
        (line_feed,) = chat.tokenizer("\n", add_special_tokens=False)["input_ids"]
        assert [*chat.prompt_ids(asked), *chat.completion_ids(answered), line_feed] == rendered


def test_rows_without_reasoning_are_what_a_template_that_drops_it_renders(shared_chat) -> None:
    chat, known = shared_chat("qwen2.5"), golden("qwen2.5")
    asked = messages_of(known["prompts"]["question"])
    answered = Message(**known["completions"]["no reasoning"]["message"])
    rendered = template_ids(chat, [*asked, answered])
    assert [*chat.prompt_ids(asked), *chat.completion_ids(answered), 198] == rendered


def test_prompts_of_r1_distill_are_those_that_others_logged_with_one_first_token(
    shared_chat, shared_rows
) -> None:
    chat = shared_chat("r1-distill-qwen")
    today, before_think_was_forced = shared_rows("tokenizers/r1-distill-qwen/golden_ids.jsonl")
    for logged, forced in ((today, []), (before_think_was_forced, [151648, 198])):
        twice, first, *rest = logged["ids_from_encode_of_rendered_text"]
        assert twice == first == chat.tokenizer.bos_token_id
        messages = [Message(**message) for message in logged["messages"]]
        assert chat.prompt_ids(messages) == [first, *rest, *forced]


@pytest.mark.parametrize(
    ("family", "opened", "tags_are_tokens"),
    [("qwen2.5", False, False), ("qwen3", False, True), ("r1-distill-qwen", True, True)],
)
def test_what_is_learnt_of_a_family(shared_chat, family, opened, tags_are_tokens) -> None:
    chat = shared_chat(family)
    assert chat.turn.opened == opened
    assert chat.turn.tags == ("<think>", "</think>")
    counts = [len(chat.tokenizer(tag)["input_ids"]) for tag in chat.turn.tags]
    first_tokens = 1 if family == "r1-distill-qwen" else 0
    assert (max(counts) - first_tokens == 1) == tags_are_tokens
    assert chat.end_ids == {chat.tokenizer.eos_token_id}


def test_a_thought_that_r1_distill_does_not_close_is_no_answer(shared_chat) -> None:
    text = "So \\boxed{20}, or is it"
    assert shared_chat("r1-distill-qwen").split(text) == ("", text, "", "")
    assert shared_chat("qwen3").split(text) == ("", "", "", text)


TRACES = ["math500_r1_family", "rl3b_think_greedy", "instruct3b_greedy"]


@pytest.fixture(scope="session")
def raw_traces(shared_rows):
    """Real completions, by how they mark the reasoning."""
    return {
        name: [row for row in shared_rows(f"traces/{name}.jsonl") if row.get("raw")]
        for name in TRACES
    }


@pytest.mark.parametrize("name", TRACES)
def test_the_parts_of_real_traces_add_up_to_what_the_model_wrote(raw_traces, name) -> None:
    for row in raw_traces[name]:
        for opened in (False, True):
            assert "".join(split(row["raw"], opened=opened)) == row["raw"]


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


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_of_a_prompt_and_of_what_a_model_wrote_decode_to_both(
    shared_chat, raw_traces, family
) -> None:
    chat = shared_chat(family)
    prompt = golden(family)["prompts"]["question"]
    for name in TRACES:
        for row in raw_traces[name][::23]:
            completion = chat.tokenizer(row["raw"], add_special_tokens=False)["input_ids"]
            written = unicodedata.normalize("NFC", row["raw"])
            assert chat.text(completion) == written
            assert chat.text([*prompt["ids"], *completion]) == prompt["text"] + written


@pytest.mark.parametrize("family", FAMILIES)
def test_messages_of_real_traces_make_rows_that_split_into_them_again(
    shared_chat, raw_traces, family
) -> None:
    chat = shared_chat(family)
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
