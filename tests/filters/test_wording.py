"""Refusals, talk of the model about itself, and what templates leave behind."""

import pytest

from distillpipe.filters.rules import Drop, refusal, template_text


@pytest.mark.parametrize(
    ("response", "words"),
    [
        ("I'm sorry, but I can't help with that.", "I'm sorry, but I can't"),
        ("I cannot assist with this request.", "I cannot assist"),
        ("Sorry. I can\u2019t provide instructions for that.", "I can\u2019t provide"),
        ("Unfortunately I'm unable to help here.", "I'm unable to help"),
        ("I must decline.", "I must decline"),
        ("As an AI language model, I have no body. \\boxed{20}", "As an AI language model"),
        ("抱歉\uff0c我无法回答这个问题。", "抱歉\uff0c我无法"),
    ],
)
def test_a_response_that_declines_is_a_refusal(make_trace, make_options, response, words) -> None:
    assert refusal(make_trace(response=response), make_options()) == Drop("refusal", words)


def test_a_thought_about_being_a_model_is_one_too(make_trace, make_options) -> None:
    trace = make_trace(reasoning="As a large language model, I do not eat. 14+6=20.")
    assert refusal(trace, make_options()) == Drop("refusal", "As a large language model")


@pytest.mark.parametrize(
    ("reasoning", "response"),
    [
        (
            "I can't see it. I cannot help but think of 20.",
            "We cannot divide by zero, so \\boxed{20}.",
        ),
        (
            "Wait, I can't do that. I'm sorry, I'm stuck.",
            "I cannot help but notice that it is \\boxed{20}.",
        ),
        (
            "An AI solves it. The language is regular.",
            "The tax cannot provide more than \\boxed{20}.",
        ),
        ("", "x " * 400 + "I cannot help with that"),
    ],
)
def test_not_being_able_to_is_no_refusal_in_a_thought(
    make_trace, make_options, reasoning, response
) -> None:
    assert refusal(make_trace(reasoning=reasoning, response=response), make_options()) is None


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("It is 20.<|im_end|>", "<|im_end|>"),
        ("It is 20.\n<|im_start|>user", "<|im_start|>"),
        ("It is 20.<|endoftext|>", "<|endoftext|>"),
        ("It is 20.<|eot_id|>", "<|eot_id|>"),
        ("It is 20.<\uff5cend▁of▁sentence\uff5c>", "<\uff5cend▁of▁sentence\uff5c>"),
        ("It is 20.</think> So 20.", "</think>"),
        ("<tool_call>\n{}\n</tool_call>", "<tool_call>"),
        ("[INST] What is it? [/INST]", "[INST]"),
        ("It is 20.<end_of_turn>", "<end_of_turn>"),
        ("You are Qwen, created by Alibaba Cloud.", "You are Qwen, created by"),
        ("I cannot find it under 17. Perhaps\nHuman:", "Human:"),
        ("It is 20.\n\nHuman: \n\nOkay, let's go on.", "Human:"),
    ],
)
def test_what_a_template_writes_is_found_in_both_parts(
    make_trace, make_options, text, sign
) -> None:
    drop = Drop("template_text", sign)
    assert template_text(make_trace(response=text), make_options()) == drop
    assert template_text(make_trace(reasoning=text), make_options()) == drop


@pytest.mark.parametrize(
    "text",
    [
        "The state <|psi|> has the norm |x| < 1, and a <| b.",
        "User: 3, Assistant: 4, so 7 in all.",
        "Human: an animal on two legs.",
        "I think> of 20.",
        "List<String> lines; vector<int> found;",
    ],
)
def test_formulas_code_and_dialogues_are_no_template(make_trace, make_options, text) -> None:
    assert template_text(make_trace(reasoning=text, response=text), make_options()) is None


def test_what_the_problem_asks_about_may_be_said(make_trace, make_options) -> None:
    trace = make_trace(problem="What does <|im_end|> do?", response="<|im_end|> ends a turn.")
    assert template_text(trace, make_options()) is None


@pytest.mark.reference
def test_the_real_traces_with_such_words_are_these(real_traces, make_options) -> None:
    options = make_options()
    found = {
        number: template_text(trace, options) or refusal(trace, options)
        for number, (_, trace) in real_traces.items()
    }
    assert {number: drop for number, drop in found.items() if drop} == {
        "riddles_qwq-0053": Drop("template_text", "Human:"),
        "riddles_qwq-0056": Drop("template_text", "Human:"),
    }
