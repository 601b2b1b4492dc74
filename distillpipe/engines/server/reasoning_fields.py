"""Reads reasoning and response from a server's message, in every form that servers use.

    vLLM since 0.12         {"reasoning": R, "content": C}
    DeepSeek, SGLang        {"reasoning_content": R, "content": C}
    OpenRouter              {"reasoning": R, "reasoning_details": [{"type": "reasoning.text", "text": R}]}
    Mistral                 {"content": [{"type": "thinking", "thinking": [...]}, {"type": "text", ...}]}
    no reasoning parser     {"content": "<think>R</think>C"}
    the same, R1's template {"content": "R</think>C"}
    cut while thinking      {"reasoning": R, "content": null}

vLLM renamed its field (vllm-project/vllm#27755): a client that reads the old name gets null without an error.
"""

from collections.abc import Iterator
from typing import Any

from distillpipe.base.records import Message
from distillpipe.base.thinking import THINK, Tags, split

INLINE_TAGS = (THINK, Tags("[THINK]", "[/THINK]"), Tags("<seed:think>", "</seed:think>"))


def read_message(message: dict[str, Any]) -> Message:
    """The assistant's message with separate reasoning, without delimiters and the white space around them."""
    thoughts, text = _content_parts(message.get("content"))
    reasoning = _reasoning_field(message) or "\n".join(thoughts)
    if reasoning.strip():
        is_closed = bool(text)
        thought = reasoning.strip() if is_closed else reasoning.lstrip()
        return Message(role="assistant", content=text.lstrip(), reasoning_content=thought)
    tags = next((tags for tags in INLINE_TAGS if tags.open in text or tags.close in text), THINK)
    parts = split(text, tags=tags)
    return Message(
        role="assistant", content=parts.response, reasoning_content=parts.reasoning or None
    )


def _reasoning_field(message: dict[str, Any]) -> str:
    """Reasoning in a field of its own; "" if there is none."""
    for name in ("reasoning", "reasoning_content"):
        if isinstance(reasoning := message.get(name), str) and reasoning:
            return reasoning
    details = message.get("reasoning_details")
    return "".join(_detail_texts(details)) if isinstance(details, list) else ""


def _detail_texts(details: list[Any]) -> Iterator[str]:
    for detail in details:
        if isinstance(detail, dict):
            text = detail.get("text") or detail.get("summary")
            if isinstance(text, str):
                yield text


def _content_parts(content: Any) -> tuple[list[str], str]:
    """Reasoning parts and text of a content: a string, null, one typed part or a list of parts."""
    if not isinstance(content, list | dict):
        return [], content if isinstance(content, str) else ""
    parts = [
        {"text": part} if isinstance(part, str) else part
        for part in (content if isinstance(content, list) else [content])
        if isinstance(part, dict | str)
    ]
    thoughts = [_part_text(part["thinking"]) for part in parts if "thinking" in part]
    return thoughts, "".join(_part_text(part.get("text")) for part in parts)


def _part_text(part: Any) -> str:
    if isinstance(part, list):
        return "".join(_part_text(item.get("text")) for item in part if isinstance(item, dict))
    return part if isinstance(part, str) else ""
