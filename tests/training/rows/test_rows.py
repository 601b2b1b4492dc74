"""What the student is trained on: exact ids, loss from the first token of the completion to its end token."""

import shutil

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from distillpipe.base.errors import DataError
from distillpipe.base.records import Message
from distillpipe.models.chat import Chat, load_chat
from distillpipe.training.rows.rows import Row, row_of

PROMPT = "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
COMPLETION = "<think>\n14+6=20.\n</think>\n\n\\boxed{20}<|im_end|>"


def ids(chat, text: str) -> list[int]:
    return chat.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_row_is_prompt_and_completion_up_to_the_end_token(make_trace, teacher_chat) -> None:
    trace = make_trace(problem="1+1?")
    prompt, completion = ids(teacher_chat, PROMPT), ids(teacher_chat, COMPLETION)
    row = row_of(trace, teacher_chat)
    assert row == Row(trace.id, prompt + completion, len(prompt))
    assert row.num_supervised == len(completion) == 18
    assert row.ids[-1] in teacher_chat.end_ids


def test_earlier_turns_are_prompt_and_carry_no_loss(make_trace, teacher_chat) -> None:
    before = [
        Message(role="system", content="Be brief."),
        Message(role="user", content="1+1?"),
        Message(role="assistant", content="2"),
        Message(role="user", content="14+6?"),
    ]
    row = row_of(make_trace(messages=[*before, make_trace().messages[-1]]), teacher_chat)
    supervised = row.ids[row.num_prompt :]
    assert teacher_chat.text(row.ids[: row.num_prompt]).count("<|im_start|>assistant") == 2
    assert supervised == ids(teacher_chat, COMPLETION)


def test_a_row_without_reasoning_is_the_response_alone(make_trace, teacher_chat) -> None:
    row = row_of(make_trace(reasoning=None), teacher_chat)
    assert row.ids[row.num_prompt :] == ids(teacher_chat, "\\boxed{20}<|im_end|>")


def test_an_empty_completion_still_teaches_to_stop(make_trace, teacher_chat) -> None:
    row = row_of(make_trace(reasoning=None, response=""), teacher_chat)
    assert row.ids[row.num_prompt :] == ids(teacher_chat, "<|im_end|>")


ODD_REASONING = [
    "cafe\u0301",  # the tokenizer composes the accent
    "\n\n14+6=20.\n\n",  # Qwen3's template trims it
    "漢字 😀 \t x",
    "<think> again",
]


@pytest.mark.parametrize("reasoning", ODD_REASONING, ids=ascii)
def test_reasoning_is_found_again_whatever_it_is_written_in(
    make_trace, teacher_chat, reasoning
) -> None:
    row = row_of(make_trace(reasoning=reasoning), teacher_chat)
    assert teacher_chat.text(row.ids[row.num_prompt :]).endswith("</think>\n\n\\boxed{20}")


REAL = ("qwen2.5", "qwen3", "r1-distill-qwen")
FAMILIES = [
    "spelt", "tagged", "opened", *(pytest.param(name, marks=pytest.mark.reference) for name in REAL),
]  # fmt: skip


@pytest.mark.parametrize("name", [FAMILIES[1], FAMILIES[4]])
@pytest.mark.parametrize("reasoning", ODD_REASONING, ids=ascii)
def test_reasoning_is_found_again_where_a_template_trims_it(
    make_trace, family_chat, reasoning, name
) -> None:
    chat = family_chat(name)
    row = row_of(make_trace(reasoning=reasoning), chat)
    assert chat.text(row.ids[row.num_prompt :]).endswith("\n</think>\n\n\\boxed{20}")


@pytest.mark.parametrize("name", FAMILIES)
def test_whatever_the_template_does_the_reasoning_is_in_the_row_behind_the_exact_prompt(
    make_trace, family_chat, name
) -> None:
    chat, trace = family_chat(name), make_trace()
    row = row_of(trace, chat)
    assert row.ids[: row.num_prompt] == chat.prompt_ids(trace.messages[:-1])
    parts = chat.split(chat.text(row.ids[row.num_prompt :]))
    assert (parts.reasoning, parts.response) == (trace.reasoning, trace.response)
    assert row.ids[-1] in chat.end_ids


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("part", ["reasoning", "response"])
def test_an_end_token_inside_the_completion_would_cut_it_and_is_refused(
    make_trace, family_chat, name, part
) -> None:
    chat = family_chat(name)
    trace = make_trace(**{part: f"a{chat.tokenizer.eos_token}b"})
    with pytest.raises(DataError, match=f"^row {trace.id}: an end token is inside the compl"):
        row_of(trace, chat)


@pytest.mark.parametrize("changes", [{"reasoning": "a<|im_end|>b"}, {"response": "a<|im_end|>"}])
def test_an_end_token_is_refused_for_the_shipped_models_too(
    make_trace, teacher_chat, changes
) -> None:
    trace = make_trace(**changes)
    with pytest.raises(DataError, match=f"^row {trace.id}: an end token is inside"):
        row_of(trace, teacher_chat)


def test_an_end_token_in_the_question_is_prompt_and_no_matter(make_trace, teacher_chat) -> None:
    row = row_of(make_trace(problem="What is <|im_end|>?"), teacher_chat)
    assert row.ids[row.num_prompt :] == ids(teacher_chat, COMPLETION)


@pytest.fixture
def chat_with(repository, tmp_path):
    """A factory: the teacher's tokenizer with another chat template."""

    def make(template: str):
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(repository / "data" / "quickstart" / "teacher" / name, tmp_path / name)
        (tmp_path / "chat_template.jinja").write_text(template)
        return load_chat(tmp_path, "student")

    return make


TURN = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}"
    "{{ message.content }}{{ END }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize(
    "end", ["", "<end of turn>", "{% if message.role == 'user' %}<|im_end|>{% endif %}"]
)
def test_a_template_that_ends_a_turn_with_no_token_gets_the_end_token(
    make_trace, chat_with, end
) -> None:
    chat = chat_with(TURN.replace("{{ END }}", end))
    row = row_of(make_trace(), chat)
    completion = "<think>14+6=20.</think>\\boxed{20}<|im_end|>"
    assert row.ids[row.num_prompt :] == ids(chat, completion)


def test_a_row_ends_with_the_token_that_the_template_ends_a_turn_with(
    make_trace, chat_with
) -> None:
    chat = chat_with(TURN.replace("{{ END }}", "\n<|endoftext|>"))
    row = row_of(make_trace(), chat)
    completion = "<think>14+6=20.</think>\\boxed{20}"
    end = ids(chat, "\n<|endoftext|>")
    assert row.ids[row.num_prompt :] == ids(chat, completion) + end
    assert chat.end_ids == {end[-1], chat.tokenizer.eos_token_id}


def test_a_tokenizer_that_loses_text_is_refused(make_trace, tmp_path) -> None:
    words = {"<unk>": 0, "<eos>": 1, "<think>": 2, "</think>": 3, "20": 4}
    model = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=model, unk_token="<unk>", eos_token="<eos>"
    )
    tokenizer.add_tokens(["<think>", "</think>"])
    chat = Chat(tokenizer, "student", chat_template="plain")
    trace = make_trace(reasoning="20", response="twenty")
    with pytest.raises(DataError, match=f"^row {trace.id}: .* changes the text of the response"):
        row_of(trace, chat)
