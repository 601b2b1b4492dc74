"""Reading reasoning and response out of a server's message, whatever its way of returning them.

    vLLM from 0.12 on       {"reasoning": R, "content": C}
    DeepSeek, SGLang        {"reasoning_content": R, "content": C}
    OpenRouter              {"reasoning": R, "reasoning_details": [{"type": "reasoning.text", "text": R}]}
    Mistral                 {"content": [{"type": "thinking", "thinking": [...]}, {"type": "text", ...}]}
    no reasoning parser     {"content": "<think>R</think>C"}
    the same, R1's template {"content": "R</think>C"}
    cut while thinking      {"reasoning": R, "content": null}

vLLM renamed its field (vllm-project/vllm#27755), and a reader of the old one gets null without a word.
"""

from collections.abc import Iterator
from typing import Any

from distillpipe.base.records import Message
from distillpipe.base.thinking import THINK, Tags, split

INLINE_TAGS = (THINK, Tags("[THINK]", "[/THINK]"), Tags("<seed:think>", "</seed:think>"))


def read_message(message: dict[str, Any]) -> Message:
    """The assistant's message, reasoning apart, without delimiters and the white space beside them."""
    thoughts, said = _parts(message.get("content"))
    reasoning = _field(message) or "\n".join(thoughts)
    if reasoning.strip():
        is_closed = bool(said)
        thought = reasoning.strip() if is_closed else reasoning.lstrip()
        return Message(role="assistant", content=said.lstrip(), reasoning_content=thought)
    tags = next((tags for tags in INLINE_TAGS if tags.open in said or tags.close in said), THINK)
    parts = split(said, tags=tags)
    return Message(
        role="assistant", content=parts.response, reasoning_content=parts.reasoning or None
    )


def _field(message: dict[str, Any]) -> str:
    """The reasoning that stands in a field of its own, "" if there is none."""
    for name in ("reasoning", "reasoning_content"):
        if isinstance(found := message.get(name), str) and found:
            return found
    details = message.get("reasoning_details")
    return "".join(_texts(details)) if isinstance(details, list) else ""


def _texts(details: list[Any]) -> Iterator[str]:
    for detail in details:
        if isinstance(detail, dict):
            text = detail.get("text") or detail.get("summary")
            if isinstance(text, str):
                yield text


def _parts(content: Any) -> tuple[list[str], str]:
    """Thoughts and text of a content: a string, null, or typed parts, one or a list of them."""
    if not isinstance(content, list | dict):
        return [], content if isinstance(content, str) else ""
    parts = [
        {"text": part} if isinstance(part, str) else part
        for part in (content if isinstance(content, list) else [content])
        if isinstance(part, dict | str)
    ]
    thoughts = [_text_of(part["thinking"]) for part in parts if "thinking" in part]
    return thoughts, "".join(_text_of(part.get("text")) for part in parts)


def _text_of(part: Any) -> str:
    if isinstance(part, list):
        return "".join(_text_of(one.get("text")) for one in part if isinstance(one, dict))
    return part if isinstance(part, str) else ""
