r"""Reasoning over the budget, cut: it ends at the last whole step that fits, if the answer was reached there.

What a step is stands in `steps`.

The answer was reached where the last thing that the kept thought says of "the answer", in words or in a
box, is right by the row's verifier. A value alone proves nothing: it stands in the problem, or is a step on
the way that happens to be equal. "If the answer is 5", "maybe", "not 5" and "5?" say nothing either, so what
is unclear counts as not reached. The response stays as it was: it was sampled after the whole thought.
"""

import re
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from distillpipe import verify
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.hashing import content_hash
from distillpipe.base.records import TokenCounts, Trace, trace_id, with_source
from distillpipe.models.steps import BLANK_LINE, find_steps
from distillpipe.verify.extract import boxed_answer

_TOKEN_CHARACTERS = 40  # more a token on average no text has: beyond nothing is counted
_STATEMENT_CHARACTERS = 400
_BEING = (
    r"(?:\s+(?:then|here|indeed|likely|probably|really|still|simply|just|therefore))*"
    r"(?:\s*[:=]|\s+(?:is|(?:should|would|must|will|has\s+to|seems\s+to|ought\s+to)"
    r"(?:\s+(?:then|indeed|still|just))?\s+be)\b)"
)
_SAID = re.compile(
    rf"(?:(?P<box>\\(?:f?boxed|f(?:rame)?box)\s*\{{|<\|begin_of_box\|>)|####"
    rf"|(?<!\S)(?P<before>[^\s?!]{{1,60}})\s+(?:is|must\s+be|should\s+be)\s+(?:the|my)\s+(?:final\s+|correct\s+|right\s+)?answer\b"
    rf"|\banswer(?:\s+(?:to|of|for)\b[^.\n:]{{0,60}}?)?{_BEING}"
    rf"|\b(?:final|correct|right|my)\s+(?:result|solution|option|choice){_BEING}"
    r"|答案\s*(?:是|为|為|\uff1a|:)"
    r")(?!\s*<)",  # the slot of a form that was asked for: "Answer: <answer>"
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.?!](?=\s|\Z)|\n")
_SUPPOSED = re.compile(
    r"\b(?:if|whether|unless|suppose|assum(?:e|ing)|maybe|perhaps|might|could)\b", re.IGNORECASE
)
_DENIED = re.compile(r"\b(?:not|never|cannot)\b|n['\u2019]t\b", re.IGNORECASE)


class Cut(NamedTuple):
    """Where the reasoning of a row ends now, and how many tokens the row then has."""

    end: int
    "characters that stay"
    num_tokens: TokenCounts


def find_cut(trace: Trace, max_tokens: int, count: Callable[[Trace], TokenCounts]) -> Cut | None:
    """The last end of a whole step, before the reasoning's own, up to which `count` finds at most `max_tokens`.

    Null where not even the first step fits.
    """
    reasoning = trace.reasoning
    last = min(len(reasoning.rstrip()), max_tokens * _TOKEN_CHARACTERS)
    steps = find_steps(reasoning, last)
    num_fitting = bisect_right(
        steps.ends, max_tokens, key=lambda end: count(_shortened(trace, end)).reasoning
    )
    for end in reversed(steps.ends[:num_fitting]):
        if steps.is_whole(end):
            counted = count(_shortened(trace, end))
            if counted.reasoning <= max_tokens:  # a longer text can have fewer tokens
                return Cut(end, counted)
    return None


def cut_row(trace: Trace, cut: Cut) -> Trace:
    """The row with a key and id of its own; `cut_from` in its extra keys is the id of the row that was sampled.

    Soft labels stay: each belongs to the text of its token, so what was cut off only takes its own along.
    """
    key = content_hash(trace.row_key, "cut", cut.end, cut.num_tokens)
    return msgspec.structs.replace(
        _shortened(trace, cut.end), row_key=key, id=trace_id(trace.problem_id, key),
        num_tokens=cut.num_tokens, extra=with_source(trace, "cut_from"),
    )  # fmt: skip


def judged_conclusion(
    trace: Trace,
    options: FilterOptions,
    extra: str | None = None,
    programs: verify.Programs = verify.PLAIN,
) -> Trace | None:
    """The row with the verdict on what its thought says last of its answer; null where it says nothing.

    `extra` holds the problem's other keys, as for `verify.verified`.
    """
    said = conclusion(trace.reasoning, options.verifier or trace.verifier)
    if said is None:
        return None
    *asked, answered = trace.messages
    as_response = msgspec.structs.replace(answered, content=said)
    return verify.verified(
        msgspec.structs.replace(trace, messages=[*asked, as_response]),
        options.verifier, extra, answer_form="any", programs=programs,
    )  # fmt: skip


def conclusion(reasoning: str, verifier: str) -> str | None:
    """What a thought says last of its answer, as a response that a verifier reads; null where it says nothing.

    A program is the last one of the thought: so all of it is given.
    """
    if verifier == "code":
        return reasoning
    *_, said = (None, *_SAID.finditer(reasoning))
    if said is None or _is_unsure(reasoning, *said.span()):
        return None
    if said["box"]:
        rest = reasoning[reasoning.rfind("\n", 0, said.start()) + 1 :]
        return rest if boxed_answer(rest) is not None else None
    if said["before"]:
        return f"The answer is {said['before']}"
    rest = reasoning[said.end() :].lstrip()[:_STATEMENT_CHARACTERS]
    first = BLANK_LINE.split(rest, maxsplit=1)[0]
    return f"The answer is {first}" if first else None


def _shortened(trace: Trace, end: int) -> Trace:
    *asked, answered = trace.messages
    kept = msgspec.structs.replace(answered, reasoning_content=trace.reasoning[:end])
    return msgspec.structs.replace(trace, messages=[*asked, kept])


def _is_unsure(text: str, start: int, end: int) -> bool:
    """Whether the sentence around a statement asks, denies or supposes it."""
    before = text[max(0, start - _STATEMENT_CHARACTERS) : start]
    *_, first = (0, *(found.end() for found in _SENTENCE_END.finditer(before)))
    following = _SENTENCE_END.search(text, end, end + _STATEMENT_CHARACTERS)
    after = text[end : following.end() if following else end + _STATEMENT_CHARACTERS]
    is_denied = _DENIED.search(before, first) or _DENIED.match(after.lstrip())
    is_supposed = _SUPPOSED.search(before, first) or _SUPPOSED.search(after)
    return bool(after.endswith("?") or is_denied or is_supposed)
