r"""The verifier `math`: our rules first; math-verify, in a process of its own, for pairs they cannot decide.

**If math-verify fails** (raises, runs out of time or memory, or crashes), the reference is compared with
itself, once per reference. If that succeeds, the reference can be verified and the answer is `wrong`. Else
the pair is `unverifiable`. So an answer cannot remove its own row from the score, and a reference that we
cannot read never counts against an answer.

A reference that is prose, empty, too long or not an expression is `unverifiable` too, unless the answer is
the same text.
"""

import functools
import re

from distillpipe.base.records import Verdict
from distillpipe.verify.extract import boxed_answer
from distillpipe.verify.math import lexer, rationals, structure, value, workers
from distillpipe.verify.math.compare import same_answer
from distillpipe.verify.math.latex import normalized
from distillpipe.verify.math.numeric import same_text
from distillpipe.verify.math.quantities import read_quantity
from distillpipe.verify.math.rationals import simple_number
from distillpipe.verify.math.unit_table import MODIFIERS, NEUTRAL_WORDS, OPERATIONS, PERCENT, SCALES
from distillpipe.verify.math.units import Quantity

MAX_CHARACTERS = 4000  # enough for a matrix of 20 x 20 fractions
_MAX_WORDS = 6  # a reference with more words is prose
_MAX_DEPTH = 60  # of nested brackets
_WRAPPED_WORDS = re.compile(r"\\text\{([^{}]*)\}")
_COMMAND = re.compile(r"\\(?:begin|end)\{[a-zA-Z*]+\}|\\[a-zA-Z]+|\\.")
_WORD = re.compile(r"[A-Za-z]+")
_NEUTRAL = NEUTRAL_WORDS | lexer.WORDS | {"and", "or"}
_SIGNIFICANT = (MODIFIERS | SCALES.keys() | PERCENT.keys() | OPERATIONS.keys()) - {"and", "or", "x"}
_MAX_PRODUCT_LETTERS = 4  # letters that may be a product of variables
_MAX_OPEN_PARTS = 6
_LABELLED = re.compile(r"\\text\{ ?\(([A-J])\) ?\} ?([^ ,;].*)", re.DOTALL)
_WORST_FIRST: tuple[Verdict, ...] = ("wrong", "unverifiable")


def same_value(answer: str, reference: str) -> Verdict:
    """Whether an answer has the value of the reference."""
    answer, reference = _unboxed(answer), _unboxed(reference)
    simple = simple_number(answer), simple_number(reference)
    if simple[0] is not None and simple[1] is not None:
        return "correct" if simple[0] == simple[1] else "wrong"
    is_long = len(reference) > MAX_CHARACTERS
    if not is_long and not normalized(reference):
        return "unverifiable"
    if same_text(answer, reference) == "correct":
        return "correct"
    if is_long:
        return "unverifiable"
    if len(answer) > MAX_CHARACTERS:
        return "wrong"
    return _compared(answer, reference)


def _unboxed(text: str) -> str:
    r"""The content of the `\boxed{}` of a text; the text itself if it has none."""
    return text if "\\boxed" not in text else boxed_answer(text) or text


@functools.lru_cache(maxsize=4096)
def _compared(answer: str, reference: str) -> Verdict:
    is_same = same_answer(answer, reference)
    if is_same:
        return "correct"
    answer, reference = normalized(answer), normalized(reference)
    if (unlabelled := _without_label(answer, reference)) is not None:
        return _compared(*unlabelled)
    if _is_prose(reference) or not _is_balanced(reference):
        return "unverifiable"
    if is_same is not None:
        return "wrong"
    if not answer or _is_prose(answer) or not _is_balanced(answer):
        return "wrong"
    by_parts = _by_parts(structure.read_structure(answer), structure.read_structure(reference))
    if by_parts is not None:
        return by_parts
    if _remaining_words(answer) != _remaining_words(reference):
        return "wrong"  # math-verify would ignore these words
    outcome = workers.ask(answer, reference)
    if outcome == "same":
        return "correct"
    if outcome == "unreadable_reference" or (outcome == "failed" and not _is_verifiable(reference)):
        return "unverifiable"
    return "wrong"


def _without_label(answer: str, reference: str) -> tuple[str, str] | None:
    r"""Reduce `\textbf{(A)}\ 5` to its letter or its value, whichever the other side is.

    None unless exactly one side has both.
    """
    labels = _LABELLED.fullmatch(answer), _LABELLED.fullmatch(reference)
    if labels[0] is not None and labels[1] is None:
        return labels[0][1 if labels[0][1] == reference else 2], reference
    if labels[1] is not None and labels[0] is None:
        return answer, labels[1][1 if labels[1][1] == answer else 2]
    return None


def _by_parts(answer: structure.Parsed, reference: structure.Parsed) -> Verdict | None:
    """Compare two lists, sets or groups part by part; None if one of the sides is none of these."""
    if isinstance(answer, value.Value) or isinstance(reference, value.Value):
        return None
    if answer.kind != reference.kind or "relation" in (answer.kind, reference.kind):
        return None
    if answer.kind not in ("group", "list", "set") or not answer.texts or not reference.texts:
        return None
    if answer.kind == "group":
        verdicts = {_compared(*pair) for pair in zip(answer.texts, reference.texts, strict=True)}
        return next((verdict for verdict in _WORST_FIRST if verdict in verdicts), "correct")
    if len(answer.texts) != len(reference.texts) or len(answer.texts) > _MAX_OPEN_PARTS:
        return "wrong"
    table = [[_compared(part, other) for other in reference.texts] for part in answer.texts]
    lines = [*table, *zip(*table, strict=True)]
    if all("correct" in line for line in lines):
        return "correct"
    return "unverifiable" if any("unverifiable" in line for line in table) else "wrong"


def _remaining_words(text: str) -> list[str]:
    """What a text says beside its value and its unit: other words, modifiers, operations, the factor."""
    is_value = isinstance(structure.read_structure(text), value.Value)
    quantity = read_quantity(text) if is_value else Quantity(text)
    in_text = " ".join(_WRAPPED_WORDS.findall(quantity.body)).lower()
    unwrapped = _COMMAND.sub(" ", _WRAPPED_WORDS.sub(" ", quantity.body)).lower()
    words = [word for word in _WORD.findall(in_text) if word not in _NEUTRAL]
    words += [
        word
        for word in _WORD.findall(unwrapped)
        if len(word) > _MAX_PRODUCT_LETTERS or word in _SIGNIFICANT
    ]
    modifiers = list(quantity.unit.modifiers) if quantity.unit else []
    modifiers += structure.ELLIPSIS.findall(quantity.body)
    return [*sorted(words), *modifiers, *quantity.operations, str(quantity.factor)]


@functools.lru_cache(maxsize=4096)
def _is_verifiable(reference: str) -> bool:
    """Whether math-verify can compare a reference with itself."""
    return workers.ask(reference, reference) == "same"


def clear_caches() -> None:
    """Empty all caches, for tests and benchmarks."""
    for cached in (
        _compared,
        _is_verifiable,
        structure.read_structure,
        value.read_value,
        rationals.plain_number,
    ):
        cached.cache_clear()


def _is_prose(text: str) -> bool:
    words = _WORD.findall(_COMMAND.sub(" ", _WRAPPED_WORDS.sub(r" \1 ", text)))
    return sum(len(word) > 2 for word in words) > _MAX_WORDS


def _is_balanced(text: str) -> bool:
    """Whether the braces balance and brackets are nested at most `_MAX_DEPTH` deep."""
    depth = {"{": 0, "(": 0}
    for bracket in re.findall(r"\\.|[{}()]", text):
        if bracket in depth:
            depth[bracket] += 1
        elif bracket in "})":
            depth["{" if bracket == "}" else "("] -= 1
        if depth["{"] < 0 or sum(depth.values()) > _MAX_DEPTH:
            return False
    return depth["{"] == 0
