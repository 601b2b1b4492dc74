r"""Traces for other tools: one pure function a format, from a trace to a row.

    trl       {"prompt": [{"role": "user", "content": "1+1?"}],
               "completion": [{"role": "assistant", "content": "<think>\n1+1=2\n</think>\n\n2"}]}
    sharegpt  {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "..."}]}
    openai    {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "..."}]}

Reasoning is text inside the content unless a field is asked for: most chat templates drop the field.
"""

from collections.abc import Callable
from typing import Any, Literal

from distillpipe.base.records import Message, Trace
from distillpipe.base.thinking import THINK

Format = Literal["trl", "sharegpt", "openai"]
ReasoningAs = Literal["inline", "field"]
Turn = dict[str, str]

SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt"}


def turns_of(trace: Trace, reasoning: ReasoningAs) -> list[Turn]:
    """The messages of a trace; in the last one reasoning stands as text or as a field of its own."""
    asked = [{"role": message.role, "content": message.content} for message in trace.messages[:-1]]
    answered = trace.messages[-1]
    if reasoning == "inline":
        return [*asked, {"role": "assistant", "content": inline(answered)}]
    thought = (
        answered.reasoning_content or ""
    )  # never null: JSON readers guess types from first rows
    return [
        *asked,
        {"role": "assistant", "content": answered.content, "reasoning_content": thought},
    ]


def inline(message: Message) -> str:
    """Reasoning and response as one text; a thought without a response stays open."""
    if not message.reasoning_content:
        return message.content
    thought = f"{THINK.open}\n{message.reasoning_content}"
    return f"{thought}\n{THINK.close}\n\n{message.content}" if message.content else thought


def _trl(turns: list[Turn]) -> dict[str, Any]:
    return {"prompt": turns[:-1], "completion": turns[-1:]}


def _sharegpt(turns: list[Turn]) -> dict[str, Any]:
    conversations = []
    for turn in turns:
        role, value = SHAREGPT_ROLES[turn["role"]], turn["content"]
        others = {key: text for key, text in turn.items() if key not in ("role", "content")}
        conversations.append({"from": role, "value": value, **others})
    return {"conversations": conversations}


def _openai(turns: list[Turn]) -> dict[str, Any]:
    return {"messages": turns}


FORMATS: dict[Format, Callable[[list[Turn]], dict[str, Any]]] = {
    "trl": _trl,
    "sharegpt": _sharegpt,
    "openai": _openai,
}
