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

from distillpipe.base.records import Verdict
from distillpipe.verify.extract import boxed_answer
from distillpipe.verify.math import lexer, rationals, structure, value, workers
from distillpipe.verify.math.compare import same_answer
from distillpipe.verify.math.latex import cleaned
from distillpipe.verify.math.numeric import same_text
from distillpipe.verify.math.quantities import measured
from distillpipe.verify.math.rationals import simple_number
from distillpipe.verify.math.unit_table import ADDS_NOTHING, CHANGES, OPERATIONS, PERCENT, SCALES
from distillpipe.verify.math.units import Measured

MAX_CHARACTERS = 4000  # a matrix of 20 x 20 fractions; an answer beyond is no answer
_MAX_WORDS = 6  # a reference with more words is prose
_MAX_DEPTH = 60  # of brackets: deeper is nothing that a person or a model means
_WRAPPED_WORDS = re.compile(r"\\text\{([^{}]*)\}")
_COMMAND = re.compile(r"\\(?:begin|end)\{[a-zA-Z*]+\}|\\[a-zA-Z]+|\\.")
_WORD = re.compile(r"[A-Za-z]+")
_SAY_NOTHING = ADDS_NOTHING | lexer.WORDS | {"and", "or"}
_SAY_MUCH = (CHANGES | SCALES.keys() | PERCENT.keys() | OPERATIONS.keys()) - {"and", "or", "x"}
_LONGEST_PRODUCT = 4  # letters that may be a product of variables
_MAX_OPEN_PARTS = 6
_LABELLED = re.compile(r"\\text\{ ?\(([A-J])\) ?\} ?([^ ,;].*)", re.DOTALL)
_WORST_FIRST: tuple[Verdict, ...] = ("wrong", "unverifiable")


def same_value(answer: str, reference: str) -> Verdict:
    """Whether an answer has the value of the reference."""
    answer, reference = _unboxed(answer), _unboxed(reference)
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


def _unboxed(text: str) -> str:
    """What stands in the box of a text that has one: a side may still be in its own."""
    return text if "\\boxed" not in text else boxed_answer(text) or text


@functools.lru_cache(maxsize=4096)
def _compared(answer: str, reference: str) -> Verdict:
    same = same_answer(answer, reference)
    if same:
        return "correct"
    answer, reference = cleaned(answer), cleaned(reference)
    if (bare := _without_label(answer, reference)) is not None:
        return _compared(*bare)
    if _is_prose(reference) or not _is_balanced(reference):
        return "unverifiable"
    if same is not None:
        return "wrong"
    if not answer or _is_prose(answer) or not _is_balanced(answer):
        return "wrong"
    by_parts = _by_parts(structure.read(answer), structure.read(reference))
    if by_parts is not None:
        return by_parts
    if _words_left(answer) != _words_left(reference):
        return "wrong"  # math-verify would throw them away
    outcome = workers.ask(answer, reference)
    if outcome == "same":
        return "correct"
    if outcome == "unreadable_reference" or (outcome == "failed" and not _is_verifiable(reference)):
        return "unverifiable"
    return "wrong"


def _without_label(answer: str, reference: str) -> tuple[str, str] | None:
    r"""`\textbf{(A)}\ 5` as the letter or the value, whichever the other side may be; None where not one has both."""
    labels = _LABELLED.fullmatch(answer), _LABELLED.fullmatch(reference)
    if labels[0] is not None and labels[1] is None:
        return labels[0][1 if labels[0][1] == reference else 2], reference
    if labels[1] is not None and labels[0] is None:
        return answer, labels[1][1 if labels[1][1] == answer else 2]
    return None


def _by_parts(answer: structure.Read, reference: structure.Read) -> Verdict | None:
    """The verdict on two answers of several parts, in order; None where there is one value to compare."""
    if isinstance(answer, value.Leaf) or isinstance(reference, value.Leaf):
        return None
    if answer.kind != reference.kind or "relation" in (answer.kind, reference.kind):
        return None
    if answer.kind not in ("group", "list", "set") or not answer.texts or not reference.texts:
        return None
    if answer.kind == "group":
        found = {_compared(*pair) for pair in zip(answer.texts, reference.texts, strict=True)}
        return next((verdict for verdict in _WORST_FIRST if verdict in found), "correct")
    if len(answer.texts) != len(reference.texts) or len(answer.texts) > _MAX_OPEN_PARTS:
        return "wrong"
    table = [[_compared(one, other) for other in reference.texts] for one in answer.texts]
    lines = [*table, *zip(*table, strict=True)]
    if all("correct" in line for line in lines):
        return "correct"
    return "unverifiable" if any("unverifiable" in line for line in table) else "wrong"


def _words_left(text: str) -> list[str]:
    """The words of a text that are no unit of its value, and what they change."""
    found = measured(text) if isinstance(structure.read(text), value.Leaf) else Measured(text)
    in_text = " ".join(_WRAPPED_WORDS.findall(found.body)).lower()
    bare = _COMMAND.sub(" ", _WRAPPED_WORDS.sub(" ", found.body)).lower()
    words = [word for word in _WORD.findall(in_text) if word not in _SAY_NOTHING]
    words += [
        word for word in _WORD.findall(bare) if len(word) > _LONGEST_PRODUCT or word in _SAY_MUCH
    ]
    changes = list(found.unit.changes) if found.unit else []
    changes += structure.LEFT_OUT.findall(found.body)
    return [*sorted(words), *changes, *found.operations, str(found.factor)]


@functools.lru_cache(maxsize=4096)
def _is_verifiable(reference: str) -> bool:
    """Whether math-verify can compare a reference with itself."""
    return workers.ask(reference, reference) == "same"


def forget() -> None:
    """Empty the caches: a test or a benchmark begins anew."""
    for cached in (_compared, _is_verifiable, structure.read, value.leaf, rationals.plain):
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
