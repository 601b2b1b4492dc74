r"""How a chat template writes the assistant's turn: learnt once, by rendering a conversation of marks.

A template is a program: what it does to reasoning is seen from what it renders, never from its text.
With reasoning R and response C:

    family       the prompt ends with      a turn with reasoning       a turn without reasoning
    ChatML       assistant\n               <think>\nR\n</think>\n\nC   C
    Qwen3        assistant\n               <think>\nR\n</think>\n\nC   <think>\n\n</think>\n\nC
    Qwen2.5      assistant\n               C: it drops R               C
    R1-Distill   <Assistant><think>\n      C: it drops R               C

Where a template drops the reasoning, the turn is written with <think> tags all the same.
"""

from typing import NamedTuple, Protocol

from distillpipe.base.errors import UsageError
from distillpipe.base.records import Message
from distillpipe.base.thinking import THINK, Tags


class Turn(NamedTuple):
    """The text around reasoning and response in a turn that follows the generation prompt."""

    tags: Tags
    opened: bool
    "the generation prompt itself opens the thought"
    opening: str
    "before the reasoning: without the tag where the prompt opened the thought"
    middle: str
    "between reasoning and response"
    bare: str
    "before the response of a turn that has no reasoning"
    ending: str
    "what the template writes after the response, up to the end of the rendered text"

    def completion(self, reasoning: str, response: str) -> str:
        """What the assistant writes after the prompt, without the end of its turn."""
        if not reasoning:
            return self.bare + response
        return self.opening + reasoning + self.middle + response


class Render(Protocol):
    """Renders messages with a chat template."""

    def __call__(self, messages: list[Message], *, add_generation_prompt: bool) -> str: ...


# Marks that no template trims, splits or holds itself.
QUESTION, REASONING, RESPONSE = "qzQuestionqz", "qzReasoningqz", "qzResponseqz"


def learn_turn(render: Render, template: str) -> Turn:
    """How the template that `render` uses writes an assistant's turn; `template` names it in errors.

    Raises UsageError for a template that leaves messages out or whose prompt does not begin the turn.
    """
    asked = Message(role="user", content=QUESTION)
    prompt = render([asked], add_generation_prompt=True)
    reasoned, bare = (
        render(
            [asked, Message(role="assistant", content=RESPONSE, reasoning_content=reasoning)],
            add_generation_prompt=False,
        )
        for reasoning in (REASONING, None)
    )
    if QUESTION not in prompt or RESPONSE not in reasoned or RESPONSE not in bare:
        raise UsageError(
            f"{template} leaves the text of messages out: give another --chat-template"
        )
    before_response, _, ending = bare.rpartition(RESPONSE)
    tags, opening, middle = _around_reasoning(prompt, reasoned)
    opened = _ends_with_tag(prompt, tags.open)
    before = before_response.removeprefix(prompt) if before_response.startswith(prompt) else ""
    if opened and tags.close not in before:
        before = middle
    if before.strip() and tags.close not in before:
        raise UsageError(
            f"{template} writes {before!r} before a response, but not at the end of a prompt: "
            "a model would have to sample it; give another --chat-template"
        )
    return Turn(tags, opened, opening, middle, before, ending)


def _around_reasoning(prompt: str, reasoned: str) -> tuple[Tags, str, str]:
    """Tags, opening and middle as the template renders them; <think> where it renders none."""
    before, found, after = reasoned.partition(REASONING)
    middle, answered, _ = after.partition(RESPONSE)
    close = middle.strip()
    added = before.removeprefix(prompt) if before.startswith(prompt) else ""
    tag = added.strip() or close.replace("/", "", 1)
    if found and answered and close and tag and _ends_with_tag(before, tag):
        opened = _ends_with_tag(prompt, tag)
        opening = added if added or opened else before[before.rindex(tag) :]
        return Tags(tag, close), opening, middle
    opened = _ends_with_tag(prompt, THINK.open)
    return THINK, "" if opened else f"{THINK.open}\n", f"\n{THINK.close}\n\n"


def _ends_with_tag(text: str, tag: str) -> bool:
    return text.rstrip().endswith(tag)
