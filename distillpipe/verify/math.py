r"""The verifier `math`: plain rules first, math-verify in a process of its own for what they leave open.

**What becomes of a question that fails.** Where math-verify raises, runs out of time or memory or takes
its process down, the reference is compared with itself in the same way, once a run. If that succeeds, the
reference can be verified, so the answer is to blame and is `wrong`; else the reference is, and nothing can
be said: `unverifiable`. So no answer, however it is made, gets its own row out of the count, and a reference
that is beyond us is never held against an answer. A reference that is prose, empty, too long or no
expression is `unverifiable` too, unless the answer has its very words.
"""

import functools
import re

from distillpipe.records import Verdict
from distillpipe.verify import leaf, numeric, structure, workers
from distillpipe.verify.compare import same_answer
from distillpipe.verify.exact import same_text
from distillpipe.verify.extract import boxed_answer
from distillpipe.verify.latex import cleaned
from distillpipe.verify.numeric import simple_number

MAX_CHARACTERS = 4000  # a matrix of 20 x 20 fractions; an answer beyond is no answer
_MAX_WORDS = 6  # a reference with more words is prose
_MAX_DEPTH = 60  # of brackets: deeper is nothing that a person or a model means
_WRAPPED_WORDS = re.compile(r"\\text\{([^{}]*)\}")
_COMMAND = re.compile(r"\\[a-zA-Z]+|\\.")
_WORD = re.compile(r"[A-Za-z]{2,}")


def same_value(answer: str, reference: str) -> Verdict:
    """Whether an answer has the value of the reference."""
    reference = reference if "\\boxed" not in reference else boxed_answer(reference) or reference
    simple = simple_number(answer), simple_number(reference)
    if simple[0] is not None and simple[1] is not None:
        return "correct" if simple[0] == simple[1] else "wrong"
    if same_text(answer, reference) == "correct":
        return (
            "correct" if len(reference) > MAX_CHARACTERS or cleaned(reference) else "unverifiable"
        )
    if len(reference) > MAX_CHARACTERS:
        return "unverifiable"
    if not cleaned(reference):
        return "unverifiable"
    if len(answer) > MAX_CHARACTERS:
        return "wrong"
    return _compared(answer, reference)


@functools.lru_cache(maxsize=4096)
def _compared(answer: str, reference: str) -> Verdict:
    same = same_answer(answer, reference)
    if same:
        return "correct"
    answer, reference = cleaned(answer), cleaned(reference)
    if _is_prose(reference) or not _is_balanced(reference):
        return "unverifiable"
    if same is not None:
        return "wrong"
    if not answer or _is_prose(answer) or not _is_balanced(answer):
        return "wrong"
    outcome = workers.ask(answer, reference)
    if outcome == "same":
        return "correct"
    if outcome == "unreadable_reference" or (outcome == "failed" and not _is_verifiable(reference)):
        return "unverifiable"
    return "wrong"


@functools.lru_cache(maxsize=4096)
def _is_verifiable(reference: str) -> bool:
    """Whether math-verify can compare a reference with itself."""
    return workers.ask(reference, reference) == "same"


def forget() -> None:
    """Empty the caches: a test or a benchmark begins anew."""
    for cached in (_compared, _is_verifiable, structure.read, leaf.leaf, numeric.plain):
        cached.cache_clear()


def _is_prose(text: str) -> bool:
    words = _WORD.findall(_COMMAND.sub(" ", _WRAPPED_WORDS.sub(r" \1 ", text)))
    return sum(len(word) > 2 for word in words) > _MAX_WORDS


def _is_balanced(text: str) -> bool:
    """Whether every brace is closed, none that was not opened, and no bracket lies in too many others."""
    depth = {"{": 0, "(": 0}
    for bracket in re.findall(r"\\.|[{}()]", text):
        if bracket in depth:
            depth[bracket] += 1
        elif bracket in "})":
            depth["{" if bracket == "}" else "("] -= 1
        if depth["{"] < 0 or sum(depth.values()) > _MAX_DEPTH:
            return False
    return depth["{"] == 0
