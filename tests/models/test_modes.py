"""Thinking and not thinking: what is switched on, what options say, and what a completion is written as."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from distillpipe.base.errors import UsageError
from distillpipe.base.option import build
from distillpipe.base.options import TemplateOptions, template_variables
from distillpipe.base.records import Message
from distillpipe.models.chat import Chat, load_chat

DATA = Path(__file__).parent / "data"
ASKED = [Message(role="user", content="14+6?")]
REASONED = Message(role="assistant", content="It is 20.", reasoning_content="14+6=20.")
BARE = Message(role="assistant", content="It is 20.")


@pytest.fixture
def chat_of(repository):
    """A factory: the shipped teacher's tokenizer with a template of `data`."""

    def make(name: str, **options) -> Chat:
        folder = repository / "data" / "quickstart" / "teacher"
        template = str(DATA / f"{name}.jinja")
        return load_chat(folder, "teacher", template, TemplateOptions(**options))

    return make


SWITCHED = {
    "off-closes": ("<think>", "<think></think>"),
    "exaone-4": ("<think>\n", "<think>\n\n</think>\n\n"),
    "glm": ("<think>", "<think></think>\n"),
    "deepseek-v3.1": ("<think>", "</think>"),
    "mode-names": ("<think>", "<think></think>"),
    "negated": ("assistant\n", "<think></think>"),
}


@pytest.mark.parametrize(("name", "ends"), SWITCHED.items())
def test_a_prompt_asks_for_thinking_unless_told_not_to(chat_of, name, ends) -> None:
    thinking, plain = chat_of(name), chat_of(name, no_thinking=True)
    assert thinking.thinks and not plain.thinks
    assert thinking.prompt(ASKED).endswith(ends[0])
    assert plain.prompt(ASKED).endswith(ends[1])


@pytest.mark.parametrize("name", SWITCHED)
def test_rows_are_written_in_the_mode_that_they_are_of(chat_of, name) -> None:
    chat, (on, off) = chat_of(name), SWITCHED[name]
    reasoned, bare = chat.mode_of(REASONED), chat.mode_of(BARE)
    assert chat.prompt(ASKED, reasoned).endswith(on)
    assert chat.prompt(ASKED, bare).endswith(off)
    assert chat.text(chat.completion_ids(BARE, bare)).strip() == "It is 20."
    assert "14+6=20." in chat.text(chat.completion_ids(REASONED, reasoned))


def test_what_is_switched_on_is_said_once(chat_of, capsys) -> None:
    chat_of("exaone-4")
    chat_of("exaone-4")
    assert capsys.readouterr().err.count("enable_thinking=True is set") <= 1


@pytest.mark.parametrize("name", ["kimi-vl", "apertus", "r1-strict"])
def test_no_thinking_needs_a_mode_without_thinking(chat_of, name) -> None:
    with pytest.raises(UsageError, match=r"--no-thinking: .* has no mode without thinking"):
        chat_of(name, no_thinking=True)


def test_a_prompt_that_always_closes_the_thought_is_refused(chat_of) -> None:
    with pytest.raises(UsageError, match="behind a closed, empty thought, and no variable opens"):
        chat_of("refused-closed")
    assert not chat_of("refused-closed", no_thinking=True).thinks


def test_an_option_that_is_given_is_left_as_it_is(chat_of) -> None:
    chat = chat_of("exaone-4", template_option=("enable_thinking=false",))
    assert not chat.thinks
    assert chat.prompt(ASKED).endswith("<think>\n\n</think>\n\n")
    assert chat.switched_on == {}


def test_an_effort_is_an_option_of_the_template(chat_of) -> None:
    assert "effort=high" in chat_of("effort-none").prompt(ASKED)
    given = chat_of("effort-none", template_option=("reasoning_effort=none",))
    assert "effort=none" in given.prompt(ASKED)


PAIR = {"think_open": "<muse>", "think_close": "</muse>"}


@pytest.mark.parametrize(
    ("name", "opening"),
    [("refused-open-alone", "<muse>\n"), ("refused-mention", "<muse>\n"), ("kimi-vl", "<muse>\n")],
)
def test_a_pair_that_is_named_is_used(chat_of, name, opening) -> None:
    chat = chat_of(name, **PAIR)
    text = chat.text(chat.completion_ids(REASONED))
    assert text.lstrip().startswith(f"{opening}14+6=20.\n</muse>\n\nIt is 20.")
    assert chat.split(text).reasoning == "14+6=20."


def test_a_pair_that_the_prompt_opens_is_used(chat_of) -> None:
    named = {"think_open": "Let me reflect:", "think_close": "[DONE]"}
    chat = chat_of("refused-prompt-mark", **named)
    assert chat.turn.opened
    assert chat.split("14+6=20.\n[DONE]\nIt is 20.").reasoning == "14+6=20."


def test_half_a_pair_is_refused(chat_of) -> None:
    with pytest.raises(UsageError, match="name a pair: give both"):
        chat_of("kimi-vl", think_open="<muse>")


VALUES = {
    "enable_thinking=true": True, "enable_thinking=False": False, "budget=12": 12,
    "effort=high": "high", 'version="2"': "2", "note=a=b": "a=b", "none=None": None,
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), VALUES.items())
def test_a_value_is_json_or_else_text(text, value) -> None:
    assert list(template_variables([text]).values()) == [value]


@pytest.mark.parametrize("given", [["a"], ["=1"], ["a b=1"], ["a=1", "a=2"], ["messages=1"]])
def test_options_that_cannot_be_are_refused(given) -> None:
    with pytest.raises(ValueError, match=r"give KEY=VALUE|given twice|is set when"):
        template_variables(given)


def test_options_are_built_from_a_list() -> None:
    options = build(TemplateOptions, {"template_option": ["b=1", "a=2"]})
    assert options.variables == {"a": 2, "b": 1}


def with_templates(folder: Path, repository: Path, templates) -> Path:
    shutil.copytree(repository / "data" / "quickstart" / "teacher", folder)
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8"))
    config["chat_template"] = [{"name": name, "template": text} for name, text in templates.items()]
    path.write_text(json.dumps(config), "utf-8")
    return folder


def test_one_of_several_templates_is_chosen_by_name(tmp_path, repository) -> None:
    loop = "{% for m in messages %}{{ m.content }}NAME{% endfor %}"
    texts = {name: loop.replace("NAME", f"-{name}-") for name in ("default", "rag")}
    folder = with_templates(tmp_path / "m", repository, texts)
    assert load_chat(folder, "m").prompt(ASKED) == "14+6?-default-"
    chosen = load_chat(folder, "m", options=TemplateOptions(template_name="rag"))
    assert chosen.prompt(ASKED) == "14+6?-rag-"
    with pytest.raises(UsageError, match=r"of the name 'tool'.*\(default, rag\)"):
        load_chat(folder, "m", options=TemplateOptions(template_name="tool"))


def test_templates_without_a_default_one_are_listed(tmp_path, repository) -> None:
    folder = with_templates(tmp_path / "m", repository, {"rag": "{{ messages[0].content }}"})
    with pytest.raises(UsageError, match=r"--template-name one of those that it has \(rag\)"):
        load_chat(folder, "m")


LLAMA = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %}SPACE{{ m.content }}SPACE{{ eos_token }}{% endif %}{% endfor %}"
)


def spaced_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer that puts a space before each text, as Llama-2's and Mistral v1's do."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *map(chr, range(33, 127)), "▁I", "▁It", "It", "▁W", "▁Wait", "Wa", "it", "ait"]
    merges = [("▁", "I"), ("I", "t"), ("▁I", "t"), ("W", "a"), ("i", "t"), ("▁", "W")]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    model = models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens([AddedToken(one, special=True) for one in pieces[:3]])
    if kind == "prepend":
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        tokenizer.normalizer = normalizers.Sequence(steps)
    else:
        from tokenizers import pre_tokenizers

        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind, split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.mark.parametrize("space", ["", " "], ids=["mistral", "llama-2"])
@pytest.mark.parametrize("kind", ["prepend", "always", "first"])
def test_no_stray_token_stands_between_prompt_and_completion(kind, space) -> None:
    tokenizer = spaced_tokenizer(kind)
    tokenizer.chat_template = LLAMA.replace("SPACE", space)
    chat = Chat(tokenizer, "spaced")
    assert chat.has_dummy_prefix
    own = chat.ids(chat.render([*ASKED, BARE], add_generation_prompt=False))
    assert chat.prompt_ids(ASKED) + chat.completion_ids(BARE) == own
    row = chat.prompt_ids(ASKED) + chat.completion_ids(REASONED)
    whole = chat.prompt(ASKED) + chat.turn.completion("14+6=20.", "It is 20.") + space + "</s>"
    assert row == chat.ids(whole)


@pytest.mark.parametrize("kind", ["prepend", "always", "first"])
def test_a_text_within_a_completion_gets_no_space_of_its_own(kind) -> None:
    tokenizer = spaced_tokenizer(kind)
    tokenizer.chat_template = LLAMA.replace("SPACE", "")
    chat = Chat(tokenizer, "spaced")
    before = chat.ids("20.\n")
    assert before + chat.more_ids("Wait") == chat.ids("20.\nWait")
    assert chat.more_ids("Wait") != chat.ids("Wait")


def test_a_turn_that_nothing_ends_ends_with_the_next_ones_mark(repository) -> None:
    folder = repository / "data" / "quickstart" / "teacher"
    tokenizer = load_chat(folder, "teacher").tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    user = tokenizer.convert_tokens_to_ids("<|user|>")
    tokenizer.chat_template = (DATA / "glm.jinja").read_text("utf-8")
    assert Chat(tokenizer, "glm", [user]).ending_ids == [user]
    assert Chat(tokenizer, "glm").ending_ids == [tokenizer.eos_token_id]


def test_marks_of_an_answer_are_no_tokens_of_it(chat_of) -> None:
    chat = chat_of("harmony")
    for answer in (REASONED, BARE):
        ids = chat.completion_ids(answer)
        parts = chat.split(chat.text(ids))
        counts = chat.count([], ids, parts)
        assert counts.response == len(chat.ids("It is 20."))
        assert counts.reasoning == len(chat.ids(answer.reasoning_content or ""))


def test_an_option_that_the_template_does_not_read_is_refused(repository: Path) -> None:
    options = TemplateOptions(template_option=("enable_thinkng=false",))
    with pytest.raises(UsageError, match=r"enable_thinkng: .* has no variable of that name"):
        load_chat(repository / "data/quickstart/teacher", "teacher", None, options)
