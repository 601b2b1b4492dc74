"""Our own templates, users' templates and those of other models: accepted or refused."""

import shutil

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from distillpipe.base.errors import UsageError
from distillpipe.base.options import Prompting
from distillpipe.base.records import Message, TokenCounts
from distillpipe.base.thinking import Tags
from distillpipe.models.chat import (
    TEMPLATES,
    Chat,
    chat_template_text,
    load_chat,
    with_template_text,
)
from distillpipe.models.delimiters import Turn

ASKED = [Message(role="user", content="14+6?")]
ANSWERED = Message(role="assistant", content="\\boxed{20}", reasoning_content="14+6=20.")
BARE = Message(role="assistant", content="\\boxed{20}")
HISTORY = [
    Message(role="system", content="Be brief."),
    Message(role="user", content="1+1?"),
    Message(role="assistant", content="2", reasoning_content="1+1=2."),
    *ASKED,
]

SPECIAL = {
    "chatml": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "llama3": [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ],
    "plain": ["<s>", "</s>"],
}
NAMED = {
    "chatml": {"eos_token": "<|endoftext|>"},
    "llama3": {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
    "plain": {"bos_token": "<s>", "eos_token": "</s>"},
}
"A base model's end token is not the one that its chat models end a turn with."


@pytest.fixture(scope="session")
def base_tokenizer():
    """A factory of byte-level BPE tokenizers without chat template, with the tokens of a family."""

    def make(family: str) -> PreTrainedTokenizerFast:
        model = Tokenizer(models.BPE())
        model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=SPECIAL[family],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        model.train_from_iterator(["user assistant system <think> </think> think boxed"], trainer)
        return PreTrainedTokenizerFast(tokenizer_object=model, **NAMED[family])

    return make


def ids(chat: Chat, text: str) -> list[int]:
    return chat.tokenizer(text, add_special_tokens=False)["input_ids"]


def rendered(chat: Chat, messages: list[Message]) -> str:
    """A whole conversation, rendered by the template itself."""
    given = [
        {"role": one.role, "content": one.content, "reasoning_content": one.reasoning_content}
        for one in messages
    ]
    return chat.tokenizer.apply_chat_template(given, tokenize=False)


THOUGHT = "<think>\n14+6=20.\n</think>\n\n\\boxed{20}"
OURS = {
    "chatml": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n"
        "<|im_start|>assistant\n2<|im_end|>\n<|im_start|>user\n14+6?<|im_end|>\n"
        "<|im_start|>assistant\n",
        "<|im_end|>",
        "\n",
    ),
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n1+1?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n2<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n14+6?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
        "",
    ),
    "plain": (
        "<s>System:\nBe brief.\n\nUser:\n1+1?\n\nAssistant:\n2</s>\nUser:\n14+6?\n\nAssistant:\n",
        "</s>",
        "\n",
    ),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_our_templates_render_conversations_like_this(base_tokenizer, name) -> None:
    chat = Chat(base_tokenizer(name), "base", chat_template=name)
    prompt, end, after = OURS[name]
    assert chat.prompt_ids(HISTORY) == ids(chat, prompt)
    assert chat.completion_ids(ANSWERED) == ids(chat, THOUGHT + end)
    assert chat.completion_ids(BARE) == ids(chat, "\\boxed{20}" + end)
    assert rendered(chat, [*HISTORY, ANSWERED]) == prompt + THOUGHT + end + after
    assert rendered(chat, [*HISTORY, BARE]) == prompt + "\\boxed{20}" + end + after


@pytest.mark.parametrize("name", TEMPLATES)
def test_base_models_end_with_their_own_or_the_templates_end_token(base_tokenizer, name) -> None:
    chat = Chat(base_tokenizer(name), "base", more_end_ids=[7], chat_template=name)
    (end,) = ids(chat, OURS[name][1])
    assert chat.end_ids == {7, chat.tokenizer.eos_token_id, end}
    assert chat.text(chat.completion_ids(ANSWERED)) == THOUGHT


def test_tags_of_a_base_model_are_plain_text_and_counted_by_encoding(base_tokenizer) -> None:
    chat = Chat(base_tokenizer("llama3"), "base", chat_template="llama3")
    completion = chat.completion_ids(ANSWERED)
    assert len(ids(chat, "<think>")) > 1
    counted = chat.count([1], completion, chat.split(chat.text(completion)))
    assert counted == TokenCounts(
        prompt=1,
        reasoning=len(ids(chat, "14+6=20.")),
        response=len(ids(chat, "\\boxed{20}")),
        total=1 + len(completion),
    )


def test_a_template_is_saved_with_the_tokenizer(base_tokenizer, tmp_path) -> None:
    chat = Chat(base_tokenizer("llama3"), "base", chat_template="llama3")
    chat.tokenizer.save_pretrained(tmp_path)
    again = load_chat(tmp_path, "student")
    assert again.turn == chat.turn
    assert again.end_ids == chat.end_ids
    assert again.prompt_ids(HISTORY) == chat.prompt_ids(HISTORY)


@pytest.mark.parametrize(
    ("family", "asked", "missing", "fits"),
    [
        ("llama3", "chatml", "<|im_start|>", "llama3"),
        ("plain", "chatml", "<|im_start|>", "plain"),
        ("chatml", "llama3", "<|start_header_id|>", "chatml"),
    ],
)
def test_a_template_with_missing_tokens_is_refused_with_a_hint(
    base_tokenizer, family, asked, missing, fits
) -> None:
    with pytest.raises(UsageError) as error:
        Chat(base_tokenizer(family), "my/base", chat_template=asked)
    assert str(error.value) == (
        f"--chat-template {asked} writes {missing}, which is not a single token of the tokenizer of "
        f"my/base: give --chat-template {fits}"
    )


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_tokenizer_without_a_template_is_told_which_to_give(base_tokenizer, family) -> None:
    with pytest.raises(UsageError) as error:
        Chat(base_tokenizer(family), "my/base")
    assert str(error.value) == (
        "my/base has no chat template: give --chat-template chatml|llama3|plain or a jinja file "
        f"({family} fits its tokenizer)"
    )


def test_an_unknown_token_is_no_token_of_a_template() -> None:
    model = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<unk>", eos_token="</s>")
    with pytest.raises(UsageError, match="plain fits its tokenizer"):
        Chat(tokenizer, "my/base")


HEADER = "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
PROMPT = "<|start_header_id|>assistant<|end_header_id|>\n\n"


def llama(body: str, prompt: str = PROMPT) -> str:
    """A template like Llama-3's, with `body` as the code for a turn."""
    turns = "{% for m in messages %}" + HEADER + body + "<|eot_id|>{% endfor %}"
    return "{{ bos_token }}" + turns + "{% if add_generation_prompt %}" + prompt + "{% endif %}"


DROPS = llama("{{ m.content | trim }}")
IN_TAGS = llama(
    "{% if m.reasoning_content %}[THINK]{{ m.reasoning_content | trim }}[/THINK]\n{% endif %}"
    "{{ m.content | trim }}"
)
NAMED_TAGS = llama(
    "{% if m.reasoning_content %}<|begin_of_thought|>\n{{ m.reasoning_content }}\n"
    "<|end_of_thought|>\n{% endif %}{{ m.content }}"
)
OPENED_IN_TAGS = llama(
    "{% if m.role == 'assistant' %}[THINK]\n{{ m.reasoning_content }}\n[/THINK]\n{% endif %}"
    "{{ m.content }}",
    PROMPT + "[THINK]\n",
)
OPENED_WITHOUT_LINE_FEED = llama(
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m.content }}",
    PROMPT + "<think>",
)
OPENED_AND_DROPS = llama("{{ m.content.split('</think>')[-1] }}", PROMPT + "<think>\n")
END = "<|eot_id|>"
THINK = Tags("<think>", "</think>")
LEARNT = {
    "drops": (DROPS, Turn(THINK, False, "<think>\n", "\n</think>\n\n", "", END)),
    "in other tags, trimmed": (
        IN_TAGS,
        Turn(Tags("[THINK]", "[/THINK]"), False, "[THINK]", "[/THINK]\n", "", END),
    ),
    "in tags that are no pair": (
        NAMED_TAGS,
        Turn(
            Tags("<|begin_of_thought|>", "<|end_of_thought|>"),
            False,
            "<|begin_of_thought|>\n",
            "\n<|end_of_thought|>\n",
            "",
            END,
        ),
    ),
    "opened by the prompt": (
        OPENED_IN_TAGS,
        Turn(Tags("[THINK]", "[/THINK]"), True, "", "\n[/THINK]\n", "\n[/THINK]\n", END),
    ),
    "opened by the prompt, which stops short of the line feed": (
        OPENED_WITHOUT_LINE_FEED,
        Turn(THINK, True, "\n", "\n</think>\n\n", "\n</think>\n\n", END),
    ),
    "opened by the prompt and dropped": (
        OPENED_AND_DROPS,
        Turn(THINK, True, "", "\n</think>\n\n", "\n</think>\n\n", END),
    ),
    "written without delimiters": (
        llama("{{ m.reasoning_content }}{{ m.content }}"),
        Turn(THINK, False, "<think>\n", "\n</think>\n\n", "", END),
    ),
    "ended with nothing": (
        "{% for m in messages %}{{ m.content }}{% endfor %}",
        Turn(THINK, False, "<think>\n", "\n</think>\n\n", "", ""),
    ),
}


@pytest.fixture
def chat_with(base_tokenizer, tmp_path):
    """A factory of Llama-3-like base models with the template of a file."""

    def make(template: str) -> Chat:
        path = tmp_path / "mine.jinja"
        path.write_text(template, "utf-8")
        return Chat(base_tokenizer("llama3"), "base", chat_template=str(path))

    return make


@pytest.mark.parametrize(("template", "turn"), LEARNT.values(), ids=LEARNT.keys())
def test_how_a_template_writes_a_turn_is_learnt_from_what_it_renders(
    chat_with, template, turn
) -> None:
    assert chat_with(template).turn == turn


@pytest.mark.parametrize(("template", "turn"), LEARNT.values(), ids=LEARNT.keys())
@pytest.mark.parametrize("answered", [ANSWERED, BARE], ids=["reasoning", "none"])
def test_a_turn_splits_into_what_it_was_written_from(chat_with, template, turn, answered) -> None:
    chat = chat_with(template)
    parts = chat.split(chat.text(chat.completion_ids(answered)))
    assert (parts.reasoning or None, parts.response) == (
        answered.reasoning_content,
        answered.content,
    )


@pytest.mark.parametrize(
    "template", [IN_TAGS, NAMED_TAGS, OPENED_IN_TAGS, OPENED_WITHOUT_LINE_FEED]
)
def test_rows_equal_what_a_template_with_reasoning_renders(chat_with, template) -> None:
    chat = chat_with(template)
    row = [*chat.prompt_ids(HISTORY), *chat.completion_ids(ANSWERED)]
    assert chat.tokenizer.decode(row) == rendered(chat, [*HISTORY, ANSWERED])


def test_white_space_that_a_template_trims_stays_in_the_row(chat_with) -> None:
    chat = chat_with(IN_TAGS)
    message = Message(role="assistant", content=" 20 ", reasoning_content="14+6=20.\n")
    assert chat.text(chat.completion_ids(message)) == "[THINK]14+6=20.\n[/THINK]\n 20 "


def test_without_an_ending_of_the_template_a_turn_ends_with_eos(chat_with) -> None:
    chat = chat_with("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert chat.completion_ids(BARE) == [*ids(chat, "\\boxed{20}"), chat.tokenizer.eos_token_id]
    assert chat.end_ids == {chat.tokenizer.eos_token_id}


BROKEN = {
    "a tag that is never closed": (
        "{% for m in messages %}\n{{ m.content }",
        r"line 2: unexpected '}'",
    ),
    "an error that it raises": (
        "{{ raise_exception('no user may speak') }}",
        "no user may speak",
    ),
    "a key that is none": ("{{ messages[0].name + 'x' }}", "'dict object' has no attribute 'name'"),
}


@pytest.mark.parametrize(("template", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_template_that_cannot_be_rendered_is_refused_in_one_line(
    chat_with, template, reason
) -> None:
    with pytest.raises(UsageError) as error:
        chat_with(template)
    message = str(error.value)
    assert message.startswith("--chat-template /")
    assert f"mine.jinja cannot render the messages (user): {reason}" in message
    assert message.endswith("; correct the template, or give another --chat-template")
    assert "\n" not in message


def test_a_conversation_that_the_template_refuses_is_a_usage_error(chat_with) -> None:
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    chat = chat_with(refuses + DROPS)
    with pytest.raises(UsageError, match=r"the messages \(system, user\): no system"):
        chat.prompt_ids([Message(role="system", content="Be brief."), *ASKED])


@pytest.mark.parametrize(
    "template",
    [
        "",
        "{{ messages[0].content }}",
        "{% for m in messages %}{% if m.role != 'user' %}{{ m.content }}{% endif %}{% endfor %}",
    ],
)
def test_a_template_that_leaves_messages_out_is_refused(chat_with, template) -> None:
    with pytest.raises(UsageError, match="does not render the text of all messages"):
        chat_with(template)


def test_a_template_whose_prompt_does_not_begin_the_turn_is_refused(chat_with) -> None:
    with pytest.raises(UsageError, match="before a response, but not at the end of a prompt"):
        chat_with(llama("{{ m.content }}", prompt=""))


def test_a_name_gives_the_text_of_our_template_and_a_file_its_own(tmp_path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{{ é }}", "utf-8")
    assert "<|im_start|>" in chat_template_text("chatml")
    assert len({chat_template_text(name) for name in TEMPLATES}) == len(TEMPLATES)
    assert chat_template_text(str(path)) == "{{ é }}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("llama-3", "no such file; did you mean llama3? Give one of chatml, llama3, plain, or a"),
        ("nothing/like.jinja", "no such file; give one of chatml, llama3, plain, or a jinja file"),
    ],
)
def test_an_unknown_template_is_told_the_nearest_name(name, message) -> None:
    with pytest.raises(UsageError) as error:
        chat_template_text(name)
    assert str(error.value).startswith(f"--chat-template {name}: {message}")


def test_a_template_that_cannot_be_read_is_refused_in_one_line(tmp_path) -> None:
    path = tmp_path / "latin.jinja"
    path.write_bytes(b"\xe9")
    for unreadable in (tmp_path, path):
        with pytest.raises(UsageError) as error:
            chat_template_text(str(unreadable))
        assert str(error.value).startswith(f"--chat-template {unreadable} cannot be read (")
        assert "\n" not in str(error.value)


def test_a_fingerprint_sees_the_text_of_a_template_not_its_place(tmp_path) -> None:
    def prompting(chat_template: str | None) -> Prompting:
        return Prompting(
            problem_field=None,
            answer_field=None,
            verifier=None,
            prompt_template="{problem}",
            system_prompt=None,
            chat_template=chat_template,
        )

    copy = tmp_path / "copy.jinja"
    copy.write_text(chat_template_text("plain"), "utf-8")
    by_name, by_file = (
        with_template_text(prompting("plain")),
        with_template_text(prompting(str(copy))),
    )
    assert by_name == by_file == prompting(chat_template_text("plain"))
    assert with_template_text(prompting(None)) == prompting(None)


def test_a_template_that_is_given_replaces_the_model_s_own(repository, tmp_path) -> None:
    shipped = repository / "data" / "quickstart" / "teacher"
    for name in ("chat_template.jinja", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(shipped / name, tmp_path / name)
    own, plain = load_chat(tmp_path, "teacher"), load_chat(tmp_path, "teacher", "plain")
    assert own.prompt_ids(ASKED) == ids(
        own, "<|im_start|>user\n14+6?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert plain.prompt_ids(ASKED) == ids(plain, "User:\n14+6?\n\nAssistant:\n")
