"""What a checkpoint's template renders is what the student was trained on, for templates of many families."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.options import TemplateOptions
from distillpipe.base.records import Message
from distillpipe.models.chat import Chat, load_chat
from distillpipe.training.rows.rows import row_of
from distillpipe.training.rows.template import saved_template

OWN = Path(__file__).parents[2] / "models" / "data"
QUESTION = Message(role="user", content="What is 14+6?")
REASONED = Message(
    role="assistant", content="It is \\boxed{20}.", reasoning_content="14+6=20.\nSo it is 20."
)
BARE = Message(role="assistant", content="It is \\boxed{20}.")


def templates() -> list[Path]:
    spec = importlib.util.find_spec("trl")
    of_trl = sorted(Path(spec.origin).parent.rglob("*.jinja")) if spec and spec.origin else []
    return [*(one for one in of_trl if not one.stem.endswith("_training")), *OWN.glob("*.jinja")]


@pytest.fixture
def chat_with(repository: Path) -> Callable[..., Chat]:
    """A factory: the shipped teacher's tokenizer with the text of a template."""

    def make(text: str, **options) -> Chat:
        folder = repository / "data" / "quickstart" / "teacher"
        tokenizer = load_chat(folder, "teacher").tokenizer
        tokenizer.bos_token = "<|endoftext|>"
        tokenizer.chat_template = text
        return Chat(tokenizer, "student", options=TemplateOptions(**options))

    return make


@pytest.mark.parametrize("path", sorted(templates()), ids=lambda path: path.stem)
def test_a_saved_template_renders_the_rows_and_prompts_by_itself(chat_with, make_trace, path):
    try:
        chat = chat_with(path.read_text("utf-8"))
    except UsageError:
        return
    saved = chat_with(saved_template(chat))
    saved.now = chat.now
    assert saved.switched_on == {}
    assert saved.prompt([QUESTION]) == chat.prompt([QUESTION])
    for answer in (REASONED, BARE):
        row = row_of(make_trace(messages=[QUESTION, answer]), chat)
        assert row_of(make_trace(messages=[QUESTION, answer]), saved).ids == row.ids
        text = saved.render([QUESTION, answer], add_generation_prompt=False)
        assert text.startswith(chat.decode(row.ids).removesuffix(chat.tokenizer.eos_token))


TWISTED = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}"
    "{%- if m.reasoning_content %}{{- '<think>\\n' + m.reasoning_content|upper + '\\n</think>\\n\\n' }}"
    "{%- endif %}{{- m.content|upper if 'box' in m.content else m.content }}{{- '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def test_a_row_that_the_template_would_write_otherwise_is_refused(chat_with, make_trace) -> None:
    chat = chat_with(TWISTED.replace("m.reasoning_content|upper", "m.reasoning_content"))
    plain = Message(role="assistant", content="It is 20.", reasoning_content="14+6=20.")
    row_of(make_trace(messages=[QUESTION, plain]), chat)
    with pytest.raises(DataError, match=r"in another way than the row, it ends with .*BOXED"):
        row_of(make_trace(messages=[QUESTION, REASONED]), chat)


def test_rows_with_reasoning_need_a_prompt_that_leaves_room_for_it(chat_with, make_trace) -> None:
    text = (OWN / "exaone-4.jinja").read_text("utf-8")
    chat = chat_with(text, template_option=("enable_thinking=false",))
    row_of(make_trace(messages=[QUESTION, BARE]), chat)
    with pytest.raises(DataError, match="closes an empty thought, so the student would learn"):
        row_of(make_trace(messages=[QUESTION, REASONED]), chat)


def test_options_that_were_given_are_set_in_the_saved_template(chat_with) -> None:
    text = (OWN / "effort-none.jinja").read_text("utf-8")
    chat = chat_with(text, template_option=("reasoning_effort=high",))
    assert "effort=high" in chat_with(saved_template(chat)).prompt([QUESTION])
