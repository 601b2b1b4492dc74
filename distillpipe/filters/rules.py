"""The rules for single rows: each returns the reason for dropping the row, or None."""

import re
from typing import NamedTuple

from distillpipe.base.errors import UsageError
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.records import Trace
from distillpipe.base.rowguard import REASON, is_internal_error
from distillpipe.models.endings import ANSWER_TAG, NUM_SHOWN, breaks_off, is_open_block, last_words
from distillpipe.verify.extract import any_answer, boxed_answer, boxed_answers
from distillpipe.verify.math.compare import same_answer

OVER_BUDGET = "too_many_reasoning_tokens"


class Drop(NamedTuple):
    """Why a row is dropped: a stable reason, and the measured value."""

    reason: str
    measured: str | None


def unfinished(trace: Trace, _options: FilterOptions) -> Drop | None:
    """The completion was truncated, so its last answer may not be final."""
    return Drop("unfinished", trace.finish_reason) if trace.is_truncated else None


def missing_reasoning(trace: Trace, options: FilterOptions) -> Drop | None:
    """There is no reasoning; --min-reasoning-tokens 0 keeps such rows."""
    if trace.reasoning.strip() or not options.min_reasoning_tokens:
        return None
    return Drop("missing_reasoning", None)


def too_few_reasoning_tokens(trace: Trace, options: FilterOptions) -> Drop | None:
    """The reasoning is shorter than the minimum. A minimum of 1 needs no token counts, as any reasoning has a token."""
    if options.min_reasoning_tokens <= 1 and trace.num_tokens is None:
        return None
    num_tokens = _num_reasoning_tokens(trace, "--min-reasoning-tokens")
    if num_tokens < options.min_reasoning_tokens:
        return Drop("too_few_reasoning_tokens", str(num_tokens))
    return None


def too_many_reasoning_tokens(trace: Trace, options: FilterOptions) -> Drop | None:
    """The reasoning is longer than the maximum."""
    if options.max_reasoning_tokens is None:
        return None
    num_tokens = _num_reasoning_tokens(trace, "--max-reasoning-tokens")
    if num_tokens > options.max_reasoning_tokens:
        return Drop(OVER_BUDGET, str(num_tokens))
    return None


def repetitive(trace: Trace, options: FilterOptions) -> Drop | None:
    """The share of repetitions in the most repetitive stretch exceeds the maximum; a maximum of 1 allows all."""
    if options.max_repetition >= 1:
        return None
    # imported late, because an "up to date" answer must not load numpy
    from distillpipe.filters.repetition import repeated_share

    share = repeated_share(f"{trace.reasoning}\n{trace.response}")
    return Drop("repetitive", f"{share:.2f}") if share > options.max_repetition else None


def unwanted_verdict(trace: Trace, options: FilterOptions) -> Drop | None:
    """The verdict, which must exist, is not among those to keep; it gives the reason, such as `wrong_answer`."""
    if trace.verdict in options.verdicts:
        return None
    if is_internal_error(None, trace.verdict_reason):
        return Drop(REASON, str(trace.verdict_reason).removeprefix(f"{REASON}: "))
    reasons = {"correct": "correct_answer", "wrong": "wrong_answer"}
    return Drop(
        reasons.get(str(trace.verdict), "unverifiable_answer"), trace.verdict_reason or trace.answer
    )


def _num_reasoning_tokens(trace: Trace, option: str) -> int:
    if trace.num_tokens is None:
        raise UsageError(
            f"row {trace.id} has no token counts, which {option} needs: import it again with "
            "`distill import --tokenizer MODEL`"
        )
    return trace.num_tokens.reasoning


def missing_response(trace: Trace, _options: FilterOptions) -> Drop | None:
    """The reasoning ended and no answer followed."""
    response = trace.response
    if len(response) < NUM_SHOWN and not ANSWER_TAG.sub("", response).strip():
        return Drop("missing_response", None)
    return None


def unfinished_reasoning(trace: Trace, _options: FilterOptions) -> Drop | None:
    """The reasoning stops mid-sentence, even if its tag is closed."""
    reasoning = trace.reasoning
    return Drop("unfinished_reasoning", last_words(reasoning)) if breaks_off(reasoning) else None


def unfinished_response(trace: Trace, _options: FilterOptions) -> Drop | None:
    """The response stops mid-sentence, or in an open box, formula or code block."""
    response = trace.response
    if is_open_block(response) or (trace.verifier != "code" and breaks_off(response)):
        return Drop("unfinished_response", last_words(response))
    return None


# Text that does not belong into training data: refusals, the model talking about itself, tokens of a template.
#
# A pattern runs only if a plain search finds a part of it, because most rows have none.


_HEAD = 300  # characters at the start of a response in which a refusal is searched
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
    "can't", "can\u2019t", "cannot", "unable", "able to", "decline", "refuse", "我不能", "我无法",
)  # fmt: skip
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
    """The response refuses, or the model talks about itself as a model."""
    head = trace.response[:_HEAD]
    match = _REFUSAL.search(head) if any(sign in head for sign in _REFUSAL_SIGNS) else None
    if match is None:
        match = _about_itself(trace.response) or _about_itself(trace.reasoning)
    return None if match is None else Drop("refusal", match[0])


def template_text(trace: Trace, _options: FilterOptions) -> Drop | None:
    """The text has template tokens, roles, tool calls or a system prompt that are not in the problem."""
    for text in (trace.response, trace.reasoning):
        # plain searches are ten times as fast as the pattern
        has_tag = "<" in text and any(sign in text for sign in _TAG_SIGNS)
        if has_tag or any(sign in text for sign in _SIGNS):
            for match in _TEMPLATE.finditer(text):
                if match[0].strip() not in trace.problem:
                    return Drop("template_text", match[0].strip())
    return None


def _about_itself(text: str) -> re.Match[str] | None:
    if "anguage model" in text or "an AI" in text or (not text.isascii() and "作为" in text):
        return _AS_AN_AI.search(text)
    return None


# The answer of a response: it gives one answer, and gives it outside the reasoning.
#
# Different boxes contradict each other unless the response labels each one (`x = \boxed{1}` and `y = \boxed{2}`, `(a)` and
# `(b)`). We compare them by the quick rules of the verifier. Where those cannot decide, and between words, which have
# synonyms, there is no contradiction.


_MAX_CHARACTERS = 200  # of an answer that is compared
_MAX_BOXES = 100
_LAST = 20_000  # characters at the end of the reasoning in which its box is searched
_PART = re.compile(
    r"(?:\([a-z0-9ivx]{1,3}\)|\b(?:part|case|question)\s+\w+|([^\s=]+)\s*=)[\s:$*\\(\[]*\Z",
    re.IGNORECASE,
)
_WORD = re.compile(r"(?<!\\)\b[^\W\d_]{3,}")


def answer_only_in_reasoning(trace: Trace, _options: FilterOptions) -> Drop | None:
    """The reasoning has a boxed answer that the response does not box, state or repeat."""
    if "boxed" in trace.response or "boxed" not in trace.reasoning:
        return None
    boxed = boxed_answer(trace.reasoning[-_LAST:])
    if not boxed or boxed in trace.response or any_answer(trace.response) is not None:
        return None
    return Drop("answer_only_in_reasoning", boxed[:_MAX_CHARACTERS])


def contradicting_answers(trace: Trace, _options: FilterOptions) -> Drop | None:
    """Two boxes of the response differ."""
    if trace.response.count("boxed") < 2:
        return None
    boxes = boxed_answers(trace.response)[-_MAX_BOXES:]
    if len(boxes) < 2 or len({_part(before) for before, _ in boxes}) == len(boxes):
        return None
    last = boxes[-1][1]
    for answer in dict.fromkeys(answer for _, answer in boxes):
        if _differ(answer, last):
            return Drop("contradicting_answers", f"{answer}; {last}")
    return None


def _part(before: str) -> str:
    """The label of a box: the name before it, or the number of a part; "" without a label."""
    line = before[before.rfind("\n") + 1 :][-_MAX_CHARACTERS:]
    match = _PART.search(line)
    return match[0].strip() if match else ""


def _differ(answer: str, last: str) -> bool:
    if answer == last or max(len(answer), len(last)) > _MAX_CHARACTERS:
        return False
    if _WORD.search(answer) and _WORD.search(last):
        return False
    return same_answer(answer, last) is False
