"""Reads an assistant's message in every form that servers and data sets use: the one reader of both.

    vLLM since 0.12         {"reasoning": R, "content": A}
    DeepSeek, SGLang        {"reasoning_content": R, "content": A}
    Ollama                  {"thinking": R, "content": A}
    OpenRouter              {"reasoning": R, "reasoning_details": [{"type": "reasoning.text", "text": R}]}
    LiteLLM                 {"content": A, "thinking_blocks": [{"type": "thinking", "thinking": R}]}
    Mistral, Anthropic      {"content": [{"type": "thinking", "thinking": R}, {"type": "text", "text": A}]}
    Databricks              {"content": [{"type": "reasoning", "summary": [{"text": R}]}, {"type": "text", ...}]}
    Gemini                  {"content": [{"text": R, "thought": true}, {"text": A}]}
    Bedrock                 {"content": [{"reasoningContent": {"reasoningText": {"text": R}}}, {"text": A}]}
    no reasoning parser     {"content": "<think>R</think>A"}, and all other marks of `marks`
    cut while thinking      {"reasoning": R, "content": null}

vLLM renamed its field (vllm-project/vllm#27755): a client that reads the old name gets null without an error.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from distillpipe.base.marks import Marked, split_marked, without_marks, without_wrapper

REASONING_FIELDS = (
    "reasoning", "reasoning_content", "thinking", "thinking_content", "reasoning_text", "think_content",
    "thought", "thoughts", "thinking_blocks", "reasoning_details",
)  # fmt: skip
_NESTED = ("provider_specific_fields", "additional_kwargs", "model_extra")
"objects in which clients keep the fields that they do not know"
_THOUGHT_TYPES = (
    "thinking",
    "thought",
    "reasoning",
    "reasoning_text",
    "reasoning_content",
    "think",
)
_TEXT_KEYS = (
    "text", "thinking", "reasoning", "reasoning_text", "reasoningText", "reasoningContent", "thought",
    "content", "summary", "value",
)  # fmt: skip
_TOOL_TYPES = ("tool_use", "tool_call", "tool_result", "function_call", "server_tool_use")
MAX_DEPTH = 8  # of parts inside parts


class Content(NamedTuple):
    """What the content of a message holds."""

    thoughts: list[str]
    text: str
    refusal: str = ""
    has_tools: bool = False
    other: str | None = None
    "type of a part that is neither text nor reasoning, such as an image"


def read_assistant(message: Mapping[str, Any]) -> Marked:
    """The parts of an assistant's message, without marks. A thought in a field and in the content is taken once."""
    content = read_content(message.get("content"))
    return parts_of(reasoning_field(message) or "\n".join(content.thoughts), content.text)


def parts_of(reasoning: str, text: str) -> Marked:
    """The parts of a completion whose reasoning stands in a field, "" for none, and whose text may hold it too."""
    if not reasoning.strip():
        return split_marked(text)
    thought = without_marks(reasoning)
    if not text.strip():
        # a parser that did not see the end of the thought puts the whole completion into its field
        whole = split_marked(reasoning)
        if whole.response.strip() and whole.marks:
            return whole
        return Marked("", thought.lstrip(), "", whole.marks)
    inline = split_marked(text)
    if not inline.marks:
        return Marked("", thought.strip(), without_wrapper(text.lstrip()))
    if inline.marks[0] and inline.before:
        # a tag in mid-text is part of the response, unless what it holds is this very thought
        if not _is_same(thought, inline.reasoning):
            return Marked("", thought.strip(), without_wrapper(text.lstrip()))
    elif not inline.marks[0] and inline.reasoning and not _is_same(thought, inline.reasoning):
        return Marked("", thought.strip(), without_wrapper(text.lstrip()))
    both = [thought.strip()]
    if _is_same(thought, inline.reasoning):
        both = [max(both[0], inline.reasoning.strip(), key=len)]
    elif inline.reasoning.strip():
        both.append(inline.reasoning.strip())
    return inline._replace(reasoning="\n\n".join(both))


def reasoning_field(message: Mapping[str, Any]) -> str:
    """Reasoning in a field of its own; "" if there is none."""
    for name in REASONING_FIELDS:
        value = message.get(name)
        if name == "reasoning_details" and isinstance(value, list):
            value = [detail for detail in value if isinstance(detail, dict)]
        if (text := _text(value, "\n" if name == "thinking_blocks" else "")).strip():
            return text
    for name in _NESTED:
        inner = message.get(name)
        if isinstance(inner, dict):
            for field in REASONING_FIELDS:
                if (text := _text(inner.get(field))).strip():
                    return text
    return ""


def read_content(content: Any) -> Content:
    """Reasoning parts and text of a content: a string, null, one typed part or a list of parts."""
    if not isinstance(content, list | dict):
        return Content([], content if isinstance(content, str) else "")
    thoughts: list[str] = []
    texts: list[str] = []
    refusal, has_tools, other = "", False, None
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            texts.append(part)
        if not isinstance(part, dict):
            continue
        kind = part.get("type")
        match _kind_of(part):
            case "tools":
                has_tools = True
            case "refusal":
                refusal += _text(part.get("refusal"))
            case "thought":
                thoughts += [thought] if (thought := _text(part)) else []
            case "text":
                texts.append(_text(part.get("text") or part.get("content")))
            case None if isinstance(kind, str) and kind != "redacted_thinking":
                other = kind
    return Content(thoughts, "".join(texts), refusal, has_tools, other)


def _kind_of(part: dict[str, Any]) -> Literal["tools", "refusal", "thought", "text"] | None:
    """What a part of a content is, by its type or, without a known type, by its keys."""
    kind = part.get("type")
    if kind in _TOOL_TYPES or "toolUse" in part:
        return "tools"
    if kind == "refusal":
        return "refusal"
    if kind in _THOUGHT_TYPES or part.get("thought") is True or _is_thought(part):
        return "thought"
    is_text = isinstance(part.get("text"), str | list) or kind in ("text", "output_text")
    return "text" if is_text else None


def refusal_of(message: Mapping[str, Any]) -> str:
    """What a model says in place of an answer, where the message holds neither text nor reasoning."""
    own = message.get("refusal")
    refusal = own if isinstance(own, str) else ""
    return (refusal or read_content(message.get("content")).refusal).strip()


def calls_tools(message: Mapping[str, Any]) -> bool:
    """Whether a message calls a tool."""
    calls = message.get("tool_calls") or message.get("function_call")
    return bool(calls) or read_content(message.get("content")).has_tools


def _is_thought(part: dict[str, Any]) -> bool:
    """Whether a part without a known type holds reasoning, by its keys."""
    return "text" not in part and any(key in part for key in ("thinking", "reasoningContent"))


def _text(value: Any, separator: str = "", depth: int = 0) -> str:
    """The text in a value: a string, a list of texts, or an object with text under one of the usual keys."""
    if isinstance(value, str):
        return value
    if depth >= MAX_DEPTH or not isinstance(value, list | dict):
        return ""
    if isinstance(value, list):
        texts = (_text(item, "", depth + 1) for item in value)
        if value and all(isinstance(item, str) for item in value):  # steps, not pieces of a stream
            separator = "\n"
        return separator.join(text for text in texts if text)
    if "effort" in value:  # the settings of a request, sent back
        return ""
    found = (_text(value.get(key), "", depth + 1) for key in _TEXT_KEYS)
    return next((text for text in found if text), "")


def _is_same(one: str, other: str) -> bool:
    """Whether two texts are the same thought: they begin alike, white space aside, for half of the shorter one."""
    first, second = "".join(one.split()), "".join(other.split())
    half = (min(len(first), len(second)) + 1) // 2
    return not second or first[:half] == second[:half]
