r"""Find out how a chat template writes reasoning, by rendering a test conversation once.

A chat template is a program, so we look at its output, never at its source. The table shows what families render
for reasoning R and response C:

    family       the prompt ends with      a turn with reasoning       a turn without reasoning
    ChatML       assistant\n               <think>\nR\n</think>\n\nC   C
    Qwen3        assistant\n               <think>\nR\n</think>\n\nC   <think>\n\n</think>\n\nC
    Qwen2.5      assistant\n               C: it drops R               C
    R1-Distill   <Assistant><think>\n      C: it drops R               C

If a template drops the reasoning, we write the turn with <think> tags anyway.
"""

from typing import NamedTuple, Protocol

from distillpipe.base.errors import UsageError
from distillpipe.base.records import Message
from distillpipe.base.thinking import THINK, Tags


class Turn(NamedTuple):
    """The text around reasoning and response in an assistant turn, after the generation prompt."""

    tags: Tags
    opened: bool
    "the generation prompt ends with the opening tag"
    opening: str
    "before the reasoning; without the tag if `opened`"
    middle: str
    "between reasoning and response"
    bare: str
    "before the response of a turn without reasoning"
    ending: str
    "after the response, up to the end of the rendered text"

    def completion(self, reasoning: str, response: str) -> str:
        """The text of a completion, without the end of the turn."""
        if not reasoning:
            return self.bare + response
        return self.opening + reasoning + self.middle + response


class Render(Protocol):
    """Renders messages with a chat template."""

    def __call__(self, messages: list[Message], *, add_generation_prompt: bool) -> str: ...


# Texts that no template contains, trims or splits.
QUESTION, REASONING, RESPONSE = "qzQuestionqz", "qzReasoningqz", "qzResponseqz"


def learn_turn(render: Render, template: str) -> Turn:
    """Find out how the template behind `render` writes an assistant turn. `template` names it in errors.

    Raises UsageError if the template leaves messages out, or writes text before a response that its generation
    prompt does not have.
    """
    question = Message(role="user", content=QUESTION)
    prompt = render([question], add_generation_prompt=True)
    reasoned, bare = (
        render(
            [question, Message(role="assistant", content=RESPONSE, reasoning_content=reasoning)],
            add_generation_prompt=False,
        )
        for reasoning in (REASONING, None)
    )
    if QUESTION not in prompt or RESPONSE not in reasoned or RESPONSE not in bare:
        raise UsageError(
            f"{template} does not render the text of all messages: give another --chat-template"
        )
    before_response, _, ending = bare.rpartition(RESPONSE)
    tags, opening, middle = _around_reasoning(prompt, reasoned)
    opened = _ends_with_tag(prompt, tags.open)
    before = before_response.removeprefix(prompt) if before_response.startswith(prompt) else ""
    if opened and tags.close not in before:
        before = middle
    if before.strip() and tags.close not in before:
        raise UsageError(
            f"{template} writes {before!r} before a response, but not at the end of a prompt, so a model "
            "would have to sample it: give another --chat-template"
        )
    return Turn(tags, opened, opening, middle, before, ending)


def _around_reasoning(prompt: str, reasoned: str) -> tuple[Tags, str, str]:
    """Tags, opening and middle as the template renders them. <think> tags if it drops the reasoning."""
    before, has_reasoning, after = reasoned.partition(REASONING)
    middle, has_response, _ = after.partition(RESPONSE)
    close = middle.strip()
    added = before.removeprefix(prompt) if before.startswith(prompt) else ""
    tag = added.strip() or close.replace("/", "", 1)
    if has_reasoning and has_response and close and tag and _ends_with_tag(before, tag):
        opened = _ends_with_tag(prompt, tag)
        opening = added if added or opened else before[before.rindex(tag) :]
        return Tags(tag, close), opening, middle
    opened = _ends_with_tag(prompt, THINK.open)
    return THINK, "" if opened else f"{THINK.open}\n", f"\n{THINK.close}\n\n"


def _ends_with_tag(text: str, tag: str) -> bool:
    return text.rstrip().endswith(tag)
