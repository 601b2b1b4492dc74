"""Every form in which servers and data sets hold an assistant's reasoning and response, as one table."""

from typing import Any

import pytest

from distillpipe.base.assistant import calls_tools, read_assistant, refusal_of

R, A = "14+6=20.", "\\boxed{20}"
TEXT = {"type": "reasoning.text", "text": R}
PART = {"type": "text", "text": A}

BOTH: dict[str, dict[str, Any]] = {
    # fields
    "vllm": {"reasoning": R, "content": A},
    "deepseek": {"reasoning_content": R, "content": A},
    "both names": {"reasoning": R, "reasoning_content": R, "content": A},
    "old name": {"reasoning": None, "reasoning_content": R, "content": A},
    "ollama": {"thinking": R, "content": A},
    "openrouter": {"reasoning": R, "reasoning_details": [TEXT], "content": A},
    "details alone": {"reasoning": "", "reasoning_details": [TEXT], "content": A},
    "details summary": {"reasoning_details": [{"type": "reasoning.summary", "summary": R}], "content": A},
    "details encrypted": {"reasoning_details": [TEXT, {"type": "reasoning.encrypted", "data": "x"}], "content": A},
    "details in pieces": {"reasoning_details": [{"text": "14+6"}, {"text": "=20."}], "content": A},
    "litellm blocks": {"thinking_blocks": [{"type": "thinking", "thinking": R, "signature": "s"}], "content": A},
    "litellm nested": {"provider_specific_fields": {"reasoning_content": R}, "content": A},
    "langchain": {"additional_kwargs": {"reasoning_content": R}, "content": A},
    "object": {"reasoning": {"content": R}, "content": A},
    "object of parts": {"reasoning": {"summary": [{"type": "summary_text", "text": R}]}, "content": A},
    "space": {"reasoning": f"\n{R}\n", "content": f"\n\n{A}"},
    # parts
    "mistral": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": R}]}, PART]},
    "anthropic": {"content": [{"type": "thinking", "thinking": R, "signature": "s"}, PART]},
    "anthropic redacted": {"content": [{"type": "redacted_thinking", "data": "x"},
                                       {"type": "thinking", "thinking": R}, PART]},
    "databricks": {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": R}]}, PART]},
    "responses": {"content": [{"type": "reasoning", "content": [{"type": "reasoning_text", "text": R}]},
                              {"type": "output_text", "text": A}]},
    "gemini": {"content": [{"text": R, "thought": True}, {"text": A}]},
    "bedrock": {"content": [{"reasoningContent": {"reasoningText": {"text": R}}}, {"text": A}]},
    # marks in the text
    "think": {"content": f"<think>\n{R}\n</think>\n\n{A}"},
    "think, null field": {"content": f"<think>{R}</think>{A}", "reasoning": None},
    "opened by the prompt": {"content": f"{R}\n</think>\n\n{A}"},
    "magistral": {"content": f"[THINK]{R}[/THINK]{A}"},
    "seed": {"content": f"<seed:think>\n{R}\n</seed:think>\n{A}"},
    "longcat": {"content": f"<longcat_think>\n{R}\n</longcat_think>\n{A}"},
    "k2": {"content": f"<think_faster>{R}</think_faster>{A}"},
    "exaone deep": {"content": f"<thought>\n{R}\n</thought>\n\n{A}"},
    "exaone, opened": {"content": f"{R}\n</thought>\n\n{A}"},
    "thinking": {"content": f"<thinking>{R}</thinking>{A}"},
    "capitals": {"content": f"<Thinking>{R}</Thinking>\n{A}"},
    "reasoning": {"content": f"<reasoning>{R}</reasoning>{A}"},
    "analysis": {"content": f"<analysis>{R}</analysis>\n{A}"},
    "scratchpad": {"content": f"<scratchpad>{R}</scratchpad>\n{A}"},
    "cohere": {"content": f"<|START_THINKING|>{R}<|END_THINKING|><|START_RESPONSE|>{A}<|END_RESPONSE|>"},
    "cohere text": {"content": f"<|START_THINKING|>{R}<|END_THINKING|><|START_TEXT|>{A}<|END_TEXT|>"},
    "kimi-vl": {"content": f"◁think▷{R}◁/think▷{A}"},
    "sky-t1": {"content": f"<|begin_of_thought|>\n{R}\n<|end_of_thought|>\n\n<|begin_of_solution|>\n{A}\n"
                          "<|end_of_solution|>"},
    "gemma 4": {"content": f"<|channel>thought\n{R}<channel|>{A}<turn|>"},
    "apertus": {"content": f"<|inner_prefix|>{R}<|inner_suffix|>{A}"},
    "apriel": {"content": f"Here are my reasoning steps:\n{R}\n[BEGIN FINAL RESPONSE]\n{A}\n"
                          "[END FINAL RESPONSE]\n<|end|>"},
    "apriel, opened": {"content": f"{R}\n[BEGIN FINAL RESPONSE]\n{A}\n[END FINAL RESPONSE]"},
    "granite 3.2": {"content": f"Here is my thought process:\n{R}\n\nHere is my response:\n{A}"},
    "solar": {"content": f"<|think|>{R}<|end|><|begin|>assistant<|content|>{A}<|end|>"},
    "harmony": {"content": f"<|channel|>analysis<|message|>{R}<|end|><|start|>assistant<|channel|>final"
                           f"<|message|>{A}<|return|>"},
    "harmony, no end": {"content": f"<|channel|>analysis<|message|>{R}<|start|>assistant<|channel|>final"
                                   f"<|message|>{A}"},
    "piped": {"content": f"<|thinking|>{R}<|/thinking|>{A}"},
    "brackets": {"content": f"[THINKING]\n{R}\n[/THINKING]\n{A}"},
    "process": {"content": f"<reasoning_process>{R}</reasoning_process>\n{A}"},
    "harmony text": {"content": f"analysis{R}assistantfinal{A}"},
    "muse": {"content": f"to=self<|message|>{R}<|eom|><|start|>assistant to=user<|message|>{A}<|eot|>"},
    # wrappers around the response
    "answer": {"content": f"<think>{R}</think>\n<answer>{A}</answer>"},
    "response": {"content": f"<think>{R}</think><response>\n{A}\n</response>"},
    "answer, field": {"reasoning": R, "content": f"<answer>\n{A}\n</answer>"},
    "not closed": {"content": f"<think>{R}\n<answer>{A}</answer>"},
    "end token": {"content": f"<think>{R}</think>\n{A}<|im_end|>"},
    # twice, or left in
    "twice": {"reasoning_content": R, "content": f"<think>\n{R}\n</think>\n\n{A}"},
    "twice, opened": {"reasoning_content": R, "content": f"{R}\n</think>\n\n{A}"},
    "stray closing": {"reasoning_content": R, "content": f"</think>\n\n{A}"},
    "empty thought": {"reasoning_content": R, "content": f"<think>\n\n</think>\n\n{A}"},
    "tags in the field": {"reasoning_content": f"<think>\n{R}\n</think>", "content": A},
    "opening in the field": {"reasoning_content": f"<think>\n{R}", "content": A},
    "closing in the field": {"reasoning_content": f"{R}\n</think>", "content": A},
    "all in the field": {"reasoning_content": f"<think>{R}</think>{A}", "content": ""},
    "empty, then a thought": {"content": f"<think>\n\n</think>\n\n<think>\n{R}\n</think>\n\n{A}"},
    "field and parts": {"reasoning_content": R, "content": [{"type": "thinking", "thinking": R}, PART]},
}  # fmt: skip


@pytest.mark.parametrize("name", BOTH)
def test_reasoning_and_response_come_apart(name: str) -> None:
    found = read_assistant(BOTH[name])
    assert (found.before, found.reasoning, found.response) == ("", R, A)


@pytest.mark.parametrize(
    "message",
    [
        {"reasoning": "14+", "content": None},
        {"reasoning_content": "14+", "content": ""},
        {"thinking": "14+"},
        {"reasoning": "<think>\n14+"},
        {"content": "<think>\n14+"},
        {"content": "<|channel|>analysis<|message|>14+"},
        {"content": "<|channel>thought\n14+"},
        {"content": "<|START_THINKING|>14+"},
    ],
)
def test_what_was_cut_while_thinking_has_no_response(message: dict[str, Any]) -> None:
    found = read_assistant(message)
    assert (found.reasoning, found.response) == ("14+", "")


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"content": A}, A),
        ({"content": f" {A}\n"}, f" {A}\n"),
        ({"content": None}, ""),
        ({}, ""),
        ({"content": f"<think>\n\n</think>\n\n{A}"}, A),
        ({"content": A, "reasoning": None, "reasoning_content": " ", "reasoning_details": []}, A),
        ({"content": A, "reasoning": {"effort": "high", "summary": "auto"}, "reasoning_details": ["x", {}]}, A),
        ({"content": [{"type": "text", "text": A}, 5, None]}, A),
        ({"content": [A[:3], {"type": "text", "text": A[3:]}]}, A),
        ({"content": {"type": "text", "text": A}}, A),
        ({"content": 7}, ""),
        ({"content": f"<answer>{A}</answer>"}, A),
        ({"content": f"So it is <answer>{A}</answer>"}, f"So it is <answer>{A}</answer>"),
        ({"content": f"<solution>{A}</solution>"}, f"<solution>{A}</solution>"),
        ({"content": "<analysis>is a tag"}, "<analysis>is a tag"),
        ({"content": "analysis of 20 is a task"}, "analysis of 20 is a task"),
        ({"content": "Here is my thought process: 20."}, "Here is my thought process: 20."),
        ({"content": "Write `<think>` first and `</b>`"}, "Write `<think>` first and `</b>`"),
        ({"content": "```\n<think>x</think>\n```\n20"}, "```\n<think>x</think>\n```\n20"),
    ],
)  # fmt: skip
def test_an_answer_without_reasoning_stays_as_it_is(message: dict[str, Any], content: str) -> None:
    found = read_assistant(message)
    assert (found.reasoning, found.response) == ("", content)


def test_a_tag_that_the_response_speaks_of_stays_in_it() -> None:
    content = f"{A}: so write <think>x</think> before it."
    assert read_assistant({"reasoning": R, "content": content})[1:3] == (R, content)


@pytest.mark.parametrize("before", ["Sure!\n", "Okay, let me think.\n\n", "Let me see: "])
def test_text_before_the_tag_is_kept_apart(before: str) -> None:
    found = read_assistant({"content": f"{before}<think>\n{R}\n</think>\n\n{A}"})
    assert (found.before, found.reasoning, found.response) == (before.strip(), R, A)


def test_thoughts_in_a_row_are_one() -> None:
    assert read_assistant({"content": f"<think>a</think><think>b</think>{A}"})[1:3] == ("a\n\nb", A)


def test_refusals_and_tool_calls_are_told_from_answers() -> None:
    assert refusal_of({"content": None, "refusal": "I can't help."}) == "I can't help."
    assert refusal_of({"content": [{"type": "refusal", "refusal": "No."}]}) == "No."
    assert refusal_of({"content": A, "refusal": None}) == ""
    assert calls_tools({"content": None, "tool_calls": [{"function": {}}]})
    assert calls_tools({"content": [{"type": "tool_use", "name": "x"}]})
    assert not calls_tools({"content": A, "tool_calls": []})
