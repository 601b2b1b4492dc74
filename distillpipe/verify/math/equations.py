r"""What equations and inequalities say, as far as numbers show it.

Two equations are the same where one is a multiple of the other, and differ where a zero of one is none of
the other. An inequality in one letter is an interval.
"""

import decimal
import re
from decimal import Decimal

from distillpipe.verify.math import evaluate
from distillpipe.verify.math.arithmetic import COMPARING
from distillpipe.verify.math.lexer import FUNCTIONS, Unreadable
from distillpipe.verify.math.parser import Node, names, parsed
from distillpipe.verify.math.structure import Shape, read
from distillpipe.verify.math.value import Leaf, fraction_node, leaf

_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", "=": "=", r"\neq": r"\neq"}
_NAME = re.compile(r"(?:\\?[a-zA-Z]'?(?:_(?:[a-zA-Z0-9]|\{[^{}]*\}))?|[(),:/{}\s]|\\%)+")
_OF_SOMETHING = re.compile(
    r"(?:[a-zA-Z]'{0,3}(?:_(?:[a-zA-Z0-9]|\{[^{}]*\}))?|Pr|Var|Cov|\\(?:Pr|text\{[A-Za-z]+\})) ?"
    r"(?:\([^()]*(?:\([^()]*\)[^()]*)*\)|\[[^\[\]]*\])"
)
_UNKNOWNS = "xyzt"  # before a bracket they are factors
_LETTER = r"(\\[a-zA-Z]+|[a-zA-Z](?:_(?:[a-zA-Z0-9]|\{[a-zA-Z0-9]+\}))?)"
_SQUARED = r"(?:\^\{?2\}?)?"
_DERIVATIVE = re.compile(
    rf"\\frac\{{d{_SQUARED} ?{_LETTER} ?(?:\([a-z]\))?\}}\{{d ?([a-z]){_SQUARED}\}}"
)
_DOTTED = re.compile(rf"\\d?dot\{{{_LETTER}\}}|{_LETTER}'")
_PRIME = re.compile(r"\^\s*(?:\{\s*\\prime\s*\}|\\prime(?![a-zA-Z]))")
_APPLIED = re.compile(r"([a-zA-Z])\(([a-zA-Z])\)")


def is_name(text: str) -> bool:
    r"""`x`, `x_1`, `f(x)`, `f(5)`, `P(X=3)`, `(p,q)`, `\angle ABC`, `A:B`, but no `x^2` and no number."""
    if text[:1] not in _UNKNOWNS and _OF_SOMETHING.fullmatch(text):
        return True
    return bool(_NAME.fullmatch(text)) and text.strip("\\") not in ("pi", "e", "i", *FUNCTIONS)


def sides_agree(relation: Shape) -> bool:
    """Whether all sides are numbers, equal or, where it says so, within a hundredth."""
    values = []
    for text in relation.texts:
        side = leaf(text)
        node = side.node if side.number is None else fraction_node(side.number)
        values.append(None if node is None else evaluate.constant(node))
    for sign, one, other in zip(relation.detail, values, values[1:], strict=False):
        if one is None or other is None:
            return False
        tolerance = "1e-2" if sign == r"\approx" else "1e-25"
        with decimal.localcontext(COMPARING):
            if abs(one - other) > max(abs(one), abs(other)) * Decimal(tolerance):
                return False
    return True


def sides_differ(relation: Shape) -> bool:
    """Whether two sides are plain numbers that are not equal: `2+2=5`."""
    values = [leaf(text) for text in relation.texts]
    nodes = [side.node for side in values if side.unit is None and not side.is_percent]
    numbers = [None if node is None else evaluate.constant(node) for node in nodes]
    known = [number for number in numbers if number is not None]
    return len(known) == len(relation.parts) and r"\approx" not in relation.detail


def same_zeros(left: Shape, right: Shape) -> bool | None:
    """Whether two equations hold in the same points."""
    difference, other = _difference(left), _difference(_with_argument_of(left, right))
    if difference is None or other is None:
        return None
    if evaluate.ratio(difference, other):
        return True
    return False if evaluate.zeros_differ(difference, other) else None


def same_inequality(left: Shape, right: Shape) -> bool | None:
    difference, other = _difference(left), _difference(right)
    if difference is None or other is None or left.detail[0] not in _FLIPPED:
        return None
    ratio = evaluate.ratio(difference, other)
    if not ratio:
        return False if ratio == 0 else None
    sign = right.detail[0]
    return left.detail[0] == (sign if ratio > 0 else _FLIPPED.get(sign))


def _with_argument_of(left: Shape, right: Shape) -> Shape:
    """`f(z)=z` as `f(n)=n`, where the other equation calls the argument n."""
    applied = [_APPLIED.fullmatch(side.texts[0].replace(" ", "")) for side in (left, right)]
    if applied[0] is None or applied[1] is None or applied[0][1] != applied[1][1]:
        return right
    old, new = applied[1][2], applied[0][2]
    if any(re.search(rf"(?<![a-zA-Z\\]){new}(?![a-zA-Z])", text) for text in right.texts):
        return right
    renamed = [re.sub(rf"(?<![a-zA-Z\\]){old}(?![a-zA-Z])", new, text) for text in right.texts]
    return right._replace(texts=tuple(renamed))


def _difference(relation: Shape) -> Node | None:
    try:
        above, below = (parsed(text) for text in _with_primes(relation.texts))
    except (Unreadable, RecursionError):
        return None
    return ("sum", (above, ("negative", below)))


def _with_primes(texts: tuple[str, ...]) -> list[str]:
    r"""`\frac{dx(t)}{dt}` and `x^{\prime}` as `x'`, and then `x(t)` as `x`."""
    joined = _PRIME.sub("'", "=".join(texts))
    of = {match[1]: match[2] for match in _DERIVATIVE.finditer(joined)}
    for match in _DOTTED.finditer(joined):
        of.setdefault(match[1] or match[2], "t")
    joined = _DERIVATIVE.sub(
        lambda match: rf"{match[1]}" + ("''" if "^" in match[0] else "'") + " ", joined
    )
    for name, argument in of.items():
        joined = re.sub(rf"({re.escape(name)}\}}?'*)\s*\({argument}\)", r"\1 ", joined)
    return joined.split("=")


def interval(relation: Shape) -> tuple[str, Shape | Leaf] | None:
    r"""The name and the values of `x < 5`, `-2 \le x \le 7`, `x \in [0,1)` or `x \neq 3`."""
    texts, signs = relation.texts, relation.detail
    if signs == (r"\in",):
        return texts[0], relation.parts[1]
    if len(signs) == 1 and re.fullmatch("[a-zA-Z]", texts[1]):
        if signs[0] not in _FLIPPED:
            return None
        texts, signs = texts[::-1], (_FLIPPED[signs[0]],)
    name = texts[len(signs) - 1]
    if not re.fullmatch("[a-zA-Z]", name) or any(
        _has_names(text) for text in texts if text != name
    ):
        return None
    upper = texts[-1]
    if len(signs) == 2 and set(signs) <= {"<", r"\le"}:
        begin, end = "(" if signs[0] == "<" else "[", ")" if signs[1] == "<" else "]"
        return name, read(f"{begin}{texts[0]},{upper}{end}")
    if len(signs) != 1:
        return None
    ranges = {
        "<": rf"(-\infty,{upper})",
        r"\le": rf"(-\infty,{upper}]",
        ">": rf"({upper},\infty)",
        r"\ge": rf"[{upper},\infty)",
        r"\neq": rf"(-\infty,{upper})\cup({upper},\infty)",
    }
    return (name, read(ranges[signs[0]])) if signs[0] in ranges else None


def _has_names(text: str) -> bool:
    found = leaf(text)
    return found.infinity is None and (found.node is None or bool(names(found.node)))
