r"""Cut reasoning that is over the budget at the last whole step that fits, if the answer was reached there.

`models.steps` defines the steps. The answer was reached if the last statement about "the answer" in the kept reasoning,
in words or in a box, is right according to the verifier of the row. A value alone proves nothing, because it may be part
of the problem or an intermediate result. "If the answer is 5", "maybe", "not 5" and "5?" are no statements either, so
unclear cases count as not reached. The response stays, although it was sampled after the whole reasoning.
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
from distillpipe.base.user_code.functions import UserFunction
from distillpipe.models.steps import BLANK_LINE, find_steps
from distillpipe.verify.extract import boxed_answer

# no text has more characters a token on average, so text beyond is not counted
_TOKEN_CHARACTERS = 40
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
    r")(?!\s*<)",  # not the placeholder of a requested format: "Answer: <answer>"
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.?!](?=\s|\Z)|\n")
_SUPPOSED = re.compile(
    r"\b(?:if|whether|unless|suppose|assum(?:e|ing)|maybe|perhaps|might|could)\b", re.IGNORECASE
)
_DENIED = re.compile(r"\b(?:not|never|cannot)\b|n['\u2019]t\b", re.IGNORECASE)


class Cut(NamedTuple):
    """The new end of the reasoning of a row, and its token counts."""

    end: int
    "number of characters that are kept"
    num_tokens: TokenCounts


def find_cut(trace: Trace, max_tokens: int, count: Callable[[Trace], TokenCounts]) -> Cut | None:
    """The last whole step before the end of the reasoning, up to which `count` gives at most `max_tokens`.

    None if not even the first step fits.
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
    """The cut row with its own key and id; its extra key `cut_from` holds the id of the sampled row.

    The soft labels of the kept text stay valid, because each belongs to the text of its token.
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
    own: UserFunction | None = None,
) -> Trace | None:
    """The row with a verdict on the last statement of its reasoning about the answer; None without a statement.

    `extra` holds the other keys of the problem and `own` the user's own verifier, as for `verify.verified`.
    """
    statement = conclusion(trace.reasoning, options.verifier or trace.verifier)
    if statement is None:
        return None
    *prompt, reply = trace.messages
    as_response = msgspec.structs.replace(reply, content=statement)
    return verify.verified(
        msgspec.structs.replace(trace, messages=[*prompt, as_response]),
        options.verifier, extra, answer_form="any", programs=programs, own=own,
    )  # fmt: skip


def conclusion(reasoning: str, verifier: str) -> str | None:
    """The last statement of the reasoning about the answer, as a response for a verifier; None without one.

    For programs this is the whole reasoning, of which the verifier takes the last program.
    """
    if verifier == "code":
        return reasoning
    *_, match = (None, *_SAID.finditer(reasoning))
    if match is None or _is_unsure(reasoning, *match.span()):
        return None
    if match["box"]:
        rest = reasoning[reasoning.rfind("\n", 0, match.start()) + 1 :]
        return rest if boxed_answer(rest) is not None else None
    if match["before"]:
        return f"The answer is {match['before']}"
    rest = reasoning[match.end() :].lstrip()[:_STATEMENT_CHARACTERS]
    first = BLANK_LINE.split(rest, maxsplit=1)[0]
    return f"The answer is {first}" if first else None


def _shortened(trace: Trace, end: int) -> Trace:
    *prompt, reply = trace.messages
    kept = msgspec.structs.replace(reply, reasoning_content=trace.reasoning[:end])
    return msgspec.structs.replace(trace, messages=[*prompt, kept])


def _is_unsure(text: str, start: int, end: int) -> bool:
    """Whether the sentence around a statement is a question, a negation or an assumption."""
    before = text[max(0, start - _STATEMENT_CHARACTERS) : start]
    *_, first = (0, *(match.end() for match in _SENTENCE_END.finditer(before)))
    following = _SENTENCE_END.search(text, end, end + _STATEMENT_CHARACTERS)
    after = text[end : following.end() if following else end + _STATEMENT_CHARACTERS]
    is_denied = _DENIED.search(before, first) or _DENIED.match(after.lstrip())
    is_supposed = _SUPPOSED.search(before, first) or _SUPPOSED.search(after)
    return bool(after.endswith("?") or is_denied or is_supposed)
