"""Words that are no part of reasoning: refusals, talk of the model about itself, tokens of a template.

Each pattern is looked for only where a plain search finds a part of it, since most rows have none.
"""

import re

from distillpipe.base.options import FilterOptions
from distillpipe.base.records import Trace
from distillpipe.filters.rules import Drop

_HEAD = 300  # characters of a response in which a refusal stands
_REFUSAL = re.compile(
    r"\bI(?:'m| am)? ?(?:can(?:no|['\u2019])t|unable to|not able to|won['\u2019]t be able to)"
    r" (?:help|assist|comply|fulfil+|complete|answer|provide|engage|discuss)\b"
    r"(?! (?:but|it be))"
    r"|\bI(?:'m| am) sorry,? (?:but )?I can(?:no|['\u2019])t\b"
    r"|\bI must (?:decline|refuse)\b"
    r"|(?:抱歉|对不起)[\uff0c,]?我(?:不能|无法)",
    re.IGNORECASE,
)
_REFUSAL_SIGNS = (
    "can't",
    "can\u2019t",
    "cannot",
    "unable",
    "able to",
    "decline",
    "refuse",
    "我不能",
    "我无法",
)
_AS_AN_AI = re.compile(
    r"\bas an? (?:AI|artificial intelligence|large language|language)(?: language)? (?:model|assistant)\b"
    r"|作为一个?(?:AI|人工智能|语言模型)",
    re.IGNORECASE,
)
_SIGNS = ("[INST]", "Human:", "User:", "Assistant:", "You are Qwen", "[TOOL_CALLS]")
_TAG_SIGNS = ("<|", "<\uff5c", "think>", "tool_call>", "_of_turn>", "SYS>>")
_TEMPLATE = re.compile(
    r"<[|\uff5c](?:im_start|im_end|im_sep|endoftext|end_of_text|begin_of_text|eot_id|eom_id|start_header_id"
    r"|end_header_id|system|user|assistant|end|return|channel|message|start|tool[\w▁]*"
    r"|(?:begin|end)_of_(?:thought|solution)|(?:begin|end)▁of▁sentence|User|Assistant)[|\uff5c]>"
    r"|</?think>|</?tool_call>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|\[TOOL_CALLS\]"
    r"|\bYou are Qwen, created by"
    r"|(?:\A|\n)[ \t]*(?:Human|User|Assistant):[ \t]*(?=\n|\Z)"
)


def refusal(trace: Trace, _options: FilterOptions) -> Drop | None:
    """The response declines, or the model speaks of itself as a model."""
    head = trace.response[:_HEAD]
    found = _REFUSAL.search(head) if any(sign in head for sign in _REFUSAL_SIGNS) else None
    if found is None:
        found = _about_itself(trace.response) or _about_itself(trace.reasoning)
    return None if found is None else Drop("refusal", found[0])


def template_text(trace: Trace, _options: FilterOptions) -> Drop | None:
    """Tokens or roles of a template, tool calls or a system prompt stand in the text; what the problem says may."""
    for text in (trace.response, trace.reasoning):
        if _has_sign(text):
            for found in _TEMPLATE.finditer(text):
                if found[0].strip() not in trace.problem:
                    return Drop("template_text", found[0].strip())
    return None


def _has_sign(text: str) -> bool:
    """Plain searches are ten times as fast as the pattern."""
    if "<" in text and any(sign in text for sign in _TAG_SIGNS):
        return True
    return any(sign in text for sign in _SIGNS)


def _about_itself(text: str) -> re.Match[str] | None:
    if "anguage model" in text or "an AI" in text or (not text.isascii() and "作为" in text):
        return _AS_AN_AI.search(text)
    return None
