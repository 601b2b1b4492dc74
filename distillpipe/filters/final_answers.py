r"""What a response gives as its answer: once, and not in the thought only.

Boxes that differ contradict each other unless the response says what each one is (`x = \boxed{1}` and
`y = \boxed{2}`, `(a)` and `(b)`). They are compared by the quick rules of the verifier; where those are not
sure, and between words, which can be said in other words, there is no contradiction.
"""

import re

from distillpipe.base.options import FilterOptions
from distillpipe.base.records import Trace
from distillpipe.filters.rules import Drop
from distillpipe.verify.extract import any_answer, boxed_answer, boxed_answers
from distillpipe.verify.math.compare import same_answer

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
