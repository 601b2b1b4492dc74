"""Reasoning that is cut at a step: the number of token counts does not grow with the number of steps."""

import pytest

from distillpipe.base.options import Budget
from distillpipe.engines.budget.policy import TokenLimits
from distillpipe.engines.budget.thoughts import ThoughtEditor
from distillpipe.models.chat import Chat

BUDGET = Budget(
    num_waits=0, min_reasoning_tokens=0, max_reasoning_tokens=100_000, wait_text="", end_text="", end_at="step",
)  # fmt: skip


class Counted(ThoughtEditor):
    """Notes how often the tokens of a thought are counted."""

    num_countings = 0

    def num_reasoning(self, ids: list[int]) -> int:
        self.num_countings += 1
        return super().num_reasoning(ids)


@pytest.mark.parametrize("step", ["14+6=20?\n", "14+6=20.\n", "Wait\n", "```\n", "\n"])
def test_ending_a_thought_counts_its_tokens_a_few_times(teacher_chat: Chat, step: str) -> None:
    thoughts = Counted(teacher_chat, BUDGET)
    ids = teacher_chat.ids("<think>\n" + step * 500)
    ended = thoughts.force_end(ids, TokenLimits(10**6, len(ids) * 3 // 4, 10))
    assert ThoughtEditor(teacher_chat, BUDGET).num_reasoning(ended) <= len(ids) * 3 // 4
    assert thoughts.num_countings < 30


def test_a_thought_ends_at_its_last_whole_step_that_fits(teacher_chat: Chat) -> None:
    thoughts = ThoughtEditor(teacher_chat, BUDGET)
    text = "<think>\n14+6=20.\nIs it 20?\n20-6=14.\nWait\n" + "Is it 20?\n" * 20
    ids = teacher_chat.ids(text)
    ended = thoughts.force_end(ids, TokenLimits(10**6, len(ids) - 10, 10))
    assert teacher_chat.split(teacher_chat.text(ended)).reasoning == "14+6=20.\nIs it 20?\n20-6=14."
