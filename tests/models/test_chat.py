r"""Split completions: against expected parts, and by properties that hold for any text."""

import json
import shutil

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distillpipe.base.errors import UsageError
from distillpipe.base.options import Prompting
from distillpipe.base.records import Message, TokenCounts
from distillpipe.base.thinking import THINK, Split, Tags, split
from distillpipe.models.chat import load_chat
from distillpipe.sampling.prompts import check_prompt_template, conversation

COMPLETION = "<think>\n14+6=20.\n</think>\n\n\\boxed{20}"

SPLITS = {
    "a thought and a response": (
        COMPLETION,
        Split("<think>\n", "14+6=20.", "\n</think>\n\n", "\\boxed{20}"),
    ),
    "no white space beside the tags": (
        "<think>a</think>b",
        Split("<think>", "a", "</think>", "b"),
    ),
    "white space inside the thought stays": (
        "<think>\n a\n\n b \n</think>\n c \n",
        Split("<think>\n ", "a\n\n b", " \n</think>\n ", "c \n"),
    ),
    "white space before the opening tag": (
        "\n\n<think>a</think>b",
        Split("\n\n<think>", "a", "</think>", "b"),
    ),
    "a thought that the prompt opened": (
        "14+6=20.\n</think>\n\n\\boxed{20}",
        Split("", "14+6=20.", "\n</think>\n\n", "\\boxed{20}"),
    ),
    "a closing tag at the very start": (
        "</think>\n\nHi",
        Split("", "", "</think>\n\n", "Hi"),
    ),
    "white space before a thought that the prompt opened": (
        "\n\na</think>b",
        Split("\n\n", "a", "</think>", "b"),
    ),
    "an empty thought": (
        "<think>\n\n</think>\n\nHi",
        Split("<think>\n\n", "", "</think>\n\n", "Hi"),
    ),
    "a thought and no response": (
        "<think>\na\n</think>",
        Split("<think>\n", "a", "\n</think>", ""),
    ),
    "a second opening tag is text": (
        "<think>a<think>b</think>c",
        Split("<think>", "a<think>b", "</think>", "c"),
    ),
    "the first closing tag ends the thought": (
        "<think>a</think>b</think>c",
        Split("<think>", "a", "</think>", "b</think>c"),
    ),
    "a tag cut in half": ("<think>a</thin", Split("<think>", "a</thin", "", "")),
    "an opening tag alone": ("<think>", Split("<think>", "", "", "")),
    "no tag at all": ("\n\\boxed{20}", Split("", "", "", "\n\\boxed{20}")),
    "an opening tag in mid-sentence is text": (
        "The tag <think> opens.",
        Split("", "", "", "The tag <think> opens."),
    ),
    "nothing": ("", Split("", "", "", "")),
}


@pytest.mark.parametrize(("text", "parts"), SPLITS.values(), ids=SPLITS.keys())
def test_a_completion_splits_at_its_delimiters(text: str, parts: Split) -> None:
    assert split(text) == parts


OPENED_SPLITS = {
    "a thought and a response": (
        "14+6=20.\n</think>\n\n\\boxed{20}",
        Split("", "14+6=20.", "\n</think>\n\n", "\\boxed{20}"),
    ),
    "white space at the start": ("\n a </think>b", Split("\n ", "a", " </think>", "b")),
    "never closed": ("14+6=20. So \\boxed{20}", Split("", "14+6=20. So \\boxed{20}", "", "")),
    "never closed, white space at both ends": ("\n\na\n", Split("\n\n", "a\n", "", "")),
    "an opening tag once more": (
        "\n<think>\na\n</think>b",
        Split("\n<think>\n", "a", "\n</think>", "b"),
    ),
    "an opening tag once more, never closed": ("<think>a", Split("<think>", "a", "", "")),
    "an opening tag in mid-sentence is text": (
        "a <think> b</think>c",
        Split("", "a <think> b", "</think>", "c"),
    ),
    "closed at once": ("\n</think>\n\nHi", Split("\n", "", "</think>\n\n", "Hi")),
    "white space alone": ("\n\n", Split("\n\n", "", "", "")),
    "nothing": ("", Split("", "", "", "")),
}


@pytest.mark.parametrize(("text", "parts"), OPENED_SPLITS.values(), ids=OPENED_SPLITS.keys())
def test_a_prompt_with_the_opening_tag_starts_within_the_reasoning(text: str, parts: Split) -> None:
    assert split(text, opened=True) == parts


def test_other_tags_split_likewise_and_think_tags_are_then_text() -> None:
    tags = Tags("[THINK]", "[/THINK]")
    assert split("[THINK]\na</think>b\n[/THINK] c", tags=tags) == Split(
        "[THINK]\n",
        "a</think>b",
        "\n[/THINK] ",
        "c",
    )
    assert split("<think>a</think>b", tags=tags) == Split("", "", "", "<think>a</think>b")


def test_a_thought_that_is_never_closed_has_no_response() -> None:
    assert split("<think>\n14+6=20. So \\boxed{20}").response == ""
    assert split("<think>\n14+6=20. So \\boxed{20}").reasoning == "14+6=20. So \\boxed{20}"


TEXTS = st.text() | st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<", "/think>", " ", "\n", "\r\n", "\x1c", "\u2003", "a", "é"]
    )
).map("".join)


@given(TEXTS, st.booleans())
@example("\n<think>\n\n a \n</think>\n", False)
@example("\n<think>\n<think> a </think></think>", True)
def test_the_four_parts_add_up_to_the_text_byte_for_byte(text: str, opened: bool) -> None:
    assert "".join(split(text, opened=opened)) == text


@given(TEXTS, st.booleans())
def test_white_space_beside_delimiters_belongs_to_them(text: str, opened: bool) -> None:
    parts = split(text, opened=opened)
    assert parts.opening.strip() in ("", THINK.open)
    assert parts.middle.strip() in ("", THINK.close)
    assert (parts.middle.strip() != "") == (parts.middle != "")
    if parts.middle:
        assert parts.reasoning == parts.reasoning.rstrip()
        assert parts.response == parts.response.lstrip()
    if parts.opening:
        assert parts.reasoning == parts.reasoning.lstrip()


@given(TEXTS)
def test_only_text_without_tags_depends_on_the_prompts_opening_tag(
    text: str,
) -> None:
    if THINK.close in text or text.lstrip().startswith(THINK.open):
        assert split(text, opened=True) == split(text, opened=False)
    else:
        assert split(text, opened=True).response == ""
        assert split(text, opened=False).response == text


WORDS = st.text().map(str.strip).filter(lambda text: "think>" not in text)


@given(WORDS.filter(bool), WORDS.filter(bool))
def test_what_a_template_joins_is_split_again(reasoning: str, response: str) -> None:
    parts = split(f"<think>\n{reasoning}\n</think>\n\n{response}")
    assert parts == Split("<think>\n", reasoning, "\n</think>\n\n", response)


def prompting(template: str = "{problem}", system_prompt: str | None = None) -> Prompting:
    return Prompting(
        problem_field=None,
        answer_field=None,
        verifier=None,
        prompt_template=template,
        system_prompt=system_prompt,
        chat_template=None,
    )


@pytest.mark.parametrize(
    ("template", "text", "content"),
    [
        ("{problem}", "1+1?", "1+1?"),
        ("Q: {problem}\nuse \\boxed{}", "1+1?", "Q: 1+1?\nuse \\boxed{}"),
        ("{problem} {problem}", "1+1?", "1+1? 1+1?"),
        ("{problem}", "what is {problem}?", "what is {problem}?"),
        ("{problem}", "{0} {x} %s", "{0} {x} %s"),
        ("{problem}", "", ""),
    ],
)
def test_the_prompt_template_takes_the_problem_as_it_is(
    template: str, text: str, content: str
) -> None:
    assert conversation(text, prompting(template)) == [Message(role="user", content=content)]


@pytest.mark.parametrize("system_prompt", ["Be brief.", ""])
def test_a_system_prompt_comes_first_even_an_empty_one(system_prompt: str) -> None:
    assert conversation("1+1?", prompting(system_prompt=system_prompt)) == [
        Message(role="system", content=system_prompt),
        Message(role="user", content="1+1?"),
    ]


def test_a_prompt_template_without_the_problem_is_refused() -> None:
    check_prompt_template("Solve {problem}")
    with pytest.raises(UsageError, match=r"'Solve \{\}' must contain \{problem\}"):
        check_prompt_template("Solve {}")


ASKED = [Message(role="user", content="1+1?")]
ANSWERED = Message(role="assistant", content="\\boxed{20}", reasoning_content="14+6=20.")


def ids(chat, text: str) -> list[int]:
    return chat.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_prompt_ends_where_the_assistant_begins(teacher_chat) -> None:
    rendered = "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    assert teacher_chat.prompt_ids(ASKED) == ids(teacher_chat, rendered)


def test_a_completion_is_reasoning_response_and_end_token(teacher_chat) -> None:
    assert teacher_chat.completion_ids(ANSWERED) == ids(teacher_chat, COMPLETION + "<|im_end|>")


def test_a_system_prompt_is_rendered_before_the_question(teacher_chat) -> None:
    system = Message(role="system", content="Be brief.")
    rendered = "<|im_start|>system\nBe brief.<|im_end|>\n"
    asked = teacher_chat.prompt_ids(ASKED)
    assert teacher_chat.prompt_ids([system, *ASKED]) == ids(teacher_chat, rendered) + asked


def test_text_keeps_the_tags_and_loses_the_end_token(teacher_chat) -> None:
    completion = ids(teacher_chat, COMPLETION)
    (end,) = teacher_chat.end_ids
    assert teacher_chat.text([*completion, end]) == COMPLETION
    assert teacher_chat.text(completion) == COMPLETION
    assert teacher_chat.text([end]) == ""
    assert teacher_chat.text([]) == ""


@pytest.mark.parametrize(
    "text", ["a , b . c ?", " two  spaces ", "\ttab\r\n", "é 漢字 😀", "<|im_start|>x<|endoftext|>"]
)
def test_text_is_given_back_as_it_was_encoded(teacher_chat, text: str) -> None:
    assert teacher_chat.text(ids(teacher_chat, text)) == text


# "\n14+6=20.\n" is 9 ids (digits are single, ".\n" is one), "\boxed{20}" is 5, with "\n\n" before it 6
COUNTS = {
    "a thought and a response": (COMPLETION + "<|im_end|>", (9, 6, 18)),
    "cut before the end token": (COMPLETION, (9, 6, 17)),
    "a thought that the prompt opened": (COMPLETION.removeprefix("<think>\n"), (8, 6, 15)),
    "a thought that is not closed": ("<think>14+6=20", (7, 0, 8)),
    "no thought": ("\\boxed{20}<|im_end|>", (0, 5, 6)),
    "white space before a thought that the prompt opened": ("\n14</think>2", (3, 1, 5)),
    "the end token alone": ("<|im_end|>", (0, 0, 1)),
    "nothing": ("", (0, 0, 0)),
}


@pytest.mark.parametrize(("text", "expected"), COUNTS.values(), ids=COUNTS.keys())
def test_tokens_are_counted_by_part_between_the_tags(teacher_chat, text, expected) -> None:
    completion = ids(teacher_chat, text)
    reasoning, response, sampled = expected
    counted = teacher_chat.count([1, 2, 3], completion, split(teacher_chat.text(completion)))
    assert counted == TokenCounts(
        prompt=3, reasoning=reasoning, response=response, total=3 + sampled
    )


# "\boxed" is one token of our families, and two of the real ones
@pytest.mark.parametrize(
    ("name", "more"), [("spelt", 0), pytest.param("qwen2.5", 1, marks=pytest.mark.reference)]
)
def test_tags_that_are_no_tokens_are_counted_by_encoding_the_parts(family_chat, name, more) -> None:
    chat = family_chat(name)
    completion = ids(chat, COMPLETION)  # "<think>" is <th|ink|>\n, ".\n" and "</" merge
    assert len(completion) == 19 + more
    counted = chat.count([1, 2, 3], completion, split(COMPLETION))
    # 1 4 + 6 = 2 0 . and \boxed { 2 0 }
    assert counted == TokenCounts(prompt=3, reasoning=8, response=5 + more, total=22 + more)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("tagged", 0), ("opened", 0), pytest.param("qwen3", 1, marks=pytest.mark.reference),
        pytest.param("r1-distill-qwen", 1, marks=pytest.mark.reference),
    ],
)  # fmt: skip
def test_tags_of_a_vocabulary_count_as_one_token_each(family_chat, name: str, more) -> None:
    chat = family_chat(name)
    completion = ids(chat, COMPLETION + chat.tokenizer.eos_token)
    # <think> | \n 1 4 + 6 = 2 0 .\n | </think> | \n\n \boxed { 2 0 } | end
    counted = chat.count([], completion, split(chat.text(completion)))
    assert counted == TokenCounts(prompt=0, reasoning=9, response=6 + more, total=18 + more)


# "14+6=20.\n" is 8 ids, "</think>" one, "\n\n\boxed{20}" 6, and 7 of a real family
OPENED_COUNTS = {
    "closed": ("14+6=20.\n</think>\n\n\\boxed{20}", (8, 6, 16)),
    "never closed": ("14+6=20.\n", (8, 0, 9)),
    "white space at the start": ("\n14+6=20.\n</think>\n\n\\boxed{20}", (9, 6, 17)),
    "an opening tag once more": ("<think>\n14+6=20.\n</think>\n\n\\boxed{20}", (9, 6, 18)),
    "nothing": ("", (0, 0, 1)),
}


@pytest.mark.parametrize(
    ("name", "more"),
    [("opened", 0), pytest.param("r1-distill-qwen", 1, marks=pytest.mark.reference)],
)
@pytest.mark.parametrize(("text", "expected"), OPENED_COUNTS.values(), ids=OPENED_COUNTS.keys())
def test_tokens_of_a_thought_that_the_prompt_opened_are_reasoning(
    family_chat, name, more, text, expected
):
    chat = family_chat(name)
    completion = [*ids(chat, text), chat.tokenizer.eos_token_id]
    reasoning, response, sampled = expected
    more *= "boxed" in text
    counted = chat.count([1, 2], completion, chat.split(chat.text(completion)))
    assert counted == TokenCounts(
        prompt=2, reasoning=reasoning, response=response + more, total=2 + sampled + more
    )


@pytest.fixture
def teacher_copy(repository, tmp_path):
    """A copy of the teacher's tokenizer and template that a test may change."""
    folder = tmp_path / "teacher"
    folder.mkdir()
    for name in ("chat_template.jinja", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(repository / "data" / "quickstart" / "teacher" / name, folder / name)
    return folder


@pytest.mark.parametrize(
    ("listed", "more"),
    [({}, []), ({"eos_token_id": 463}, [463]), ({"eos_token_id": [1, 2]}, [1, 2])],
)
def test_end_tokens_of_the_generation_config_count_too(teacher_copy, teacher_chat, listed, more):
    (teacher_copy / "generation_config.json").write_text(json.dumps(listed))
    chat = load_chat(teacher_copy, "teacher")
    assert chat.end_ids == teacher_chat.end_ids | set(more)
    for end in chat.end_ids:
        assert chat.text([*ids(chat, "14"), end]) == "14"


def test_a_tokenizer_without_an_end_token_is_refused(teacher_copy) -> None:
    path = teacher_copy / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "eos_token": None}))
    with pytest.raises(UsageError, match=r"^my/base: its tokenizer has no end token"):
        load_chat(teacher_copy, "my/base")


def test_a_folder_without_a_tokenizer_is_named(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"^my/base could not be loaded: its tokenizer: "):
        load_chat(tmp_path, "my/base")
