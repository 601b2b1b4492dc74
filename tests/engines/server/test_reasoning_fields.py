"""Every form in which servers return reasoning."""

from typing import Any

import pytest

from distillpipe.base.records import Message
from distillpipe.engines.server.reasoning_fields import read_message

THOUGHT, SAID = "14+6=20.", "\\boxed{20}"
TEXT = {"type": "reasoning.text", "text": THOUGHT}


def answer(content: str, reasoning: str | None) -> Message:
    return Message(role="assistant", content=content, reasoning_content=reasoning)


@pytest.mark.parametrize(
    "message",
    [
        {"reasoning": THOUGHT, "content": SAID},
        {"reasoning_content": THOUGHT, "content": SAID},
        {"reasoning": THOUGHT, "reasoning_content": THOUGHT, "content": SAID},
        {"reasoning": None, "reasoning_content": THOUGHT, "content": SAID},
        {"reasoning": "", "reasoning_details": [TEXT], "content": SAID},
        {"reasoning": THOUGHT, "reasoning_details": [TEXT], "content": SAID},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": THOUGHT}], "content": SAID},
        {"reasoning_details": [TEXT, {"type": "reasoning.encrypted", "data": "x"}], "content": SAID},
        {"reasoning_details": [{"text": "14+6"}, {"text": "=20."}], "content": SAID},
        {"content": f"<think>\n{THOUGHT}\n</think>\n\n{SAID}"},
        {"content": f"<think>{THOUGHT}</think>{SAID}", "reasoning": None},
        {"content": f"{THOUGHT}\n</think>\n\n{SAID}"},
        {"content": f"[THINK]{THOUGHT}[/THINK]{SAID}"},
        {"content": f"<seed:think>\n{THOUGHT}\n</seed:think>\n{SAID}"},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
                     {"type": "text", "text": SAID}]},
        {"content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": SAID}]},
        {"reasoning": f"\n{THOUGHT}\n", "content": f"\n\n{SAID}"},
    ],
)  # fmt: skip
def test_reasoning_and_response_come_apart(message: dict[str, Any]) -> None:
    assert read_message(message) == answer(SAID, THOUGHT)


@pytest.mark.parametrize(
    "message",
    [
        {"reasoning": "14+", "content": None},
        {"reasoning_content": "14+", "content": ""},
        {"reasoning": "14+"},
        {"content": "<think>\n14+"},
    ],
)
def test_what_was_cut_while_thinking_has_no_response(message: dict[str, Any]) -> None:
    assert read_message(message) == answer("", "14+")


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"content": SAID}, SAID),
        ({"content": f" {SAID}\n"}, f" {SAID}\n"),
        ({"content": None}, ""),
        ({}, ""),
        ({"content": f"<think>\n\n</think>\n\n{SAID}"}, SAID),
        ({"content": SAID, "reasoning": None, "reasoning_content": " ", "reasoning_details": []}, SAID),
        ({"content": SAID, "reasoning": {"effort": "high"}, "reasoning_details": ["x", {}]}, SAID),
        ({"content": [{"type": "text", "text": SAID}, 5, None]}, SAID),
        ({"content": [SAID[:3], {"type": "text", "text": SAID[3:]}]}, SAID),
        ({"content": {"type": "text", "text": SAID}}, SAID),
        ({"content": 7}, ""),
    ],
)  # fmt: skip
def test_where_there_is_no_reasoning_it_is_null(message: dict[str, Any], content: str) -> None:
    assert read_message(message) == answer(content, None)
