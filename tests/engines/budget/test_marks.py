"""Reasoning between the marks of a family whose answers have marks, too."""

from pathlib import Path

import pytest

from distillpipe.base.options import Budget, TemplateOptions
from distillpipe.engines.budget.thoughts import ThoughtEditor
from distillpipe.models.chat import Chat, load_chat

HARMONY = Path(__file__).parents[2] / "models" / "data" / "harmony.jinja"
OPEN, CLOSE = "<|channel|>analysis<|message|>", "<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>"


@pytest.fixture
def chat(repository: Path) -> Chat:
    folder = repository / "data" / "quickstart" / "teacher"
    return load_chat(folder, "teacher", str(HARMONY), TemplateOptions())


@pytest.mark.parametrize(
    ("text", "thought", "is_closed"),
    [
        (f"{OPEN}14+6{CLOSE}{FINAL}20", f"{OPEN}14+6", True),
        (f"{OPEN}14+6{CLOSE}{OPEN}=20{CLOSE}{FINAL}20", f"{OPEN}14+6{CLOSE}{OPEN}=20", True),
        (f"{OPEN}14+6", f"{OPEN}14+6", False),
        (f"{FINAL}20", OPEN, True),
    ],
)
def test_a_thought_ends_where_its_answer_begins(chat, text, thought, is_closed) -> None:
    found = ThoughtEditor(chat, Budget()).read(chat.ids(text))
    assert (chat.text(found.ids), found.is_closed) == (thought, is_closed)


def test_a_thought_is_closed_with_the_mark_of_the_answer(chat) -> None:
    closed = ThoughtEditor(chat, Budget()).close(chat.ids(f"{OPEN}14+6"))
    assert chat.text(closed) == f"{OPEN}14+6{CLOSE}{FINAL}"
