"""What the student is trained on: exact ids, loss from the first token of the completion to its end token."""

import shutil

import pytest

from distillpipe.chat import load_chat
from distillpipe.errors import DataError
from distillpipe.records import Message
from distillpipe.training.rows import Row, row_of

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


@pytest.mark.parametrize("reasoning", ODD_REASONING, ids=ascii)
def test_reasoning_is_found_again_in_the_rows_of_a_real_tokenizer(
    make_trace, shared_chat, reasoning
) -> None:
    chat = shared_chat("qwen3")
    row = row_of(make_trace(reasoning=reasoning), chat)
    assert chat.text(row.ids[row.num_prompt :]).endswith("\n</think>\n\n\\boxed{20}")


def test_a_template_that_drops_the_reasoning_is_refused(make_trace, shared_chat) -> None:
    trace = make_trace()
    with pytest.raises(DataError, match=f"^row {trace.id}: the chat template drops the reasoning"):
        row_of(trace, shared_chat("qwen2.5"))


def test_a_template_whose_prompt_opens_the_thought_but_whose_row_does_not_is_refused(
    make_trace, shared_chat
) -> None:
    trace = make_trace()
    with pytest.raises(DataError, match=f"^row {trace.id}: the chat template renders the prompt"):
        row_of(trace, shared_chat("r1-distill-qwen"))


@pytest.mark.parametrize("changes", [{"reasoning": "a<|im_end|>b"}, {"response": "a<|im_end|>b"}])
def test_an_end_token_inside_the_completion_would_cut_it_and_is_refused(
    make_trace, teacher_chat, changes
) -> None:
    trace = make_trace(**changes)
    with pytest.raises(DataError, match=f"^row {trace.id}: the rendered row ends before"):
        row_of(trace, teacher_chat)


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


def test_a_template_without_an_end_token_is_refused(make_trace, chat_with) -> None:
    chat = chat_with(TURN.replace("{{ END }}", ""))
    trace = make_trace()
    with pytest.raises(DataError, match=f"^row {trace.id}: .* without an end token"):
        row_of(trace, chat)


def test_an_end_token_of_the_prompt_does_not_end_the_completion(make_trace, chat_with) -> None:
    closed = "{% if message.role == 'user' %}<|im_end|>{% endif %}"
    chat = chat_with(TURN.replace("{{ END }}", closed))
    with pytest.raises(DataError, match="without an end token"):
        row_of(make_trace(), chat)


def test_another_template_gives_the_row_that_it_renders(make_trace, chat_with) -> None:
    chat = chat_with(TURN.replace("{{ END }}", "<|im_end|>"))
    row = row_of(make_trace(), chat)
    completion = "<think>14+6=20.</think>\\boxed{20}<|im_end|>"
    assert row.ids[row.num_prompt :] == ids(chat, completion)
