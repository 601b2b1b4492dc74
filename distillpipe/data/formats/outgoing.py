r"""Write traces for other tools: one pure function per format, from a trace to a row.

    trl       {"prompt": [{"role": "user", "content": "1+1?"}],
               "completion": [{"role": "assistant", "content": "<think>\n1+1=2\n</think>\n\n2"}]}
    sharegpt  {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "..."}]}
    openai    {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "..."}]}

Reasoning goes inline into the content by default, because most chat templates ignore a separate field.
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
    """The messages of a trace. Reasoning is inline in the last one, or in its field `reasoning_content`."""
    prompt = [{"role": message.role, "content": message.content} for message in trace.messages[:-1]]
    answer = trace.messages[-1]
    if reasoning == "inline":
        return [*prompt, {"role": "assistant", "content": inline(answer)}]
    # Never null: JSON readers infer the type of a column from the first rows.
    thought = answer.reasoning_content or ""
    return [
        *prompt,
        {"role": "assistant", "content": answer.content, "reasoning_content": thought},
    ]


def inline(message: Message) -> str:
    """Reasoning and response as one text. Without a response the thinking tag stays open."""
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
