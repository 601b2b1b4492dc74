"""The rules that look at one row: each returns why the row is dropped, or null."""

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
    """Why a row is dropped: a stable name of what is wrong, and the value that was measured."""

    reason: str
    measured: str | None


def unfinished(trace: Trace, _options: FilterOptions) -> Drop | None:
    """A completion that was cut off: its answer, where it has one, is not its last word."""
    return Drop("unfinished", trace.finish_reason) if trace.is_truncated else None


def missing_reasoning(trace: Trace, options: FilterOptions) -> Drop | None:
    """No reasoning at all, unless none is asked for: 0 keeps answers without reasoning too."""
    if trace.reasoning.strip() or not options.min_reasoning_tokens:
        return None
    return Drop("missing_reasoning", None)


def too_few_reasoning_tokens(trace: Trace, options: FilterOptions) -> Drop | None:
    """Any reasoning has a token: a minimum of one needs no counts."""
    if options.min_reasoning_tokens <= 1 and trace.num_tokens is None:
        return None
    num_tokens = _num_reasoning_tokens(trace, "--min-reasoning-tokens")
    if num_tokens < options.min_reasoning_tokens:
        return Drop("too_few_reasoning_tokens", str(num_tokens))
    return None


def too_many_reasoning_tokens(trace: Trace, options: FilterOptions) -> Drop | None:
    if options.max_reasoning_tokens is None:
        return None
    num_tokens = _num_reasoning_tokens(trace, "--max-reasoning-tokens")
    if num_tokens > options.max_reasoning_tokens:
        return Drop(OVER_BUDGET, str(num_tokens))
    return None


def repetitive(trace: Trace, options: FilterOptions) -> Drop | None:
    """More of the worst stretch says nothing new than is allowed; 1 allows all."""
    if options.max_repetition >= 1:
        return None
    from distillpipe.filters.repetition import (
        repeated_share,  # numpy: not for an "up to date" answer
    )

    share = repeated_share(f"{trace.reasoning}\n{trace.response}")
    return Drop("repetitive", f"{share:.2f}") if share > options.max_repetition else None


def unwanted_verdict(trace: Trace, options: FilterOptions) -> Drop | None:
    """The verdict has to be made first; the reason is the verdict: `wrong_answer`."""
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
    """The thought ended, or was ended, and no answer came."""
    response = trace.response
    if len(response) < NUM_SHOWN and not ANSWER_TAG.sub("", response).strip():
        return Drop("missing_response", None)
    return None


def unfinished_reasoning(trace: Trace, _options: FilterOptions) -> Drop | None:
    """The thought stops in mid-sentence; that its tag is closed does not mend it."""
    reasoning = trace.reasoning
    return Drop("unfinished_reasoning", last_words(reasoning)) if breaks_off(reasoning) else None


def unfinished_response(trace: Trace, _options: FilterOptions) -> Drop | None:
    """The response stops in mid-sentence, or in a box, a formula or a code block that is not closed."""
    response = trace.response
    if is_open_block(response) or (trace.verifier != "code" and breaks_off(response)):
        return Drop("unfinished_response", last_words(response))
    return None


# Words that are no part of reasoning: refusals, talk of the model about itself, tokens of a template.
#
# Each pattern is looked for only where a plain search finds a part of it, since most rows have none.


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


# What a response gives as its answer: once, and not in the thought only.
#
# Boxes that differ contradict each other unless the response says what each one is (`x = \boxed{1}` and
# `y = \boxed{2}`, `(a)` and `(b)`). They are compared by the quick rules of the verifier; where those are not
# sure, and between words, which can be said in other words, there is no contradiction.


_MAX_CHARACTERS = 200  # of an answer that is compared
_MAX_BOXES = 100
_LAST = 20_000  # characters of the thought in which its box is looked for
_PART = re.compile(
    r"(?:\([a-z0-9ivx]{1,3}\)|\b(?:part|case|question)\s+\w+|([^\s=]+)\s*=)[\s:$*\\(\[]*\Z",
    re.IGNORECASE,
)
_WORD = re.compile(r"(?<!\\)\b[^\W\d_]{3,}")


def answer_only_in_reasoning(trace: Trace, _options: FilterOptions) -> Drop | None:
    """The thought boxes an answer that the response neither boxes nor states nor repeats."""
    if "boxed" in trace.response or "boxed" not in trace.reasoning:
        return None
    boxed = boxed_answer(trace.reasoning[-_LAST:])
    if not boxed or boxed in trace.response or any_answer(trace.response) is not None:
        return None
    return Drop("answer_only_in_reasoning", boxed[:_MAX_CHARACTERS])


def contradicting_answers(trace: Trace, _options: FilterOptions) -> Drop | None:
    """A box of the response plainly differs from its last one."""
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
    """What the response says a box is: the name before it, or the number of a part."""
    line = before[before.rfind("\n") + 1 :][-_MAX_CHARACTERS:]
    found = _PART.search(line)
    return found[0].strip() if found else ""


def _differ(answer: str, last: str) -> bool:
    if answer == last or max(len(answer), len(last)) > _MAX_CHARACTERS:
        return False
    if _WORD.search(answer) and _WORD.search(last):
        return False
    return same_answer(answer, last) is False
