r"""Compares equations and inequalities numerically.

Two equations are equal if one is a multiple of the other, and different if a solution of one does not solve
the other. An inequality in one variable is an interval.
"""

import decimal
import re
from decimal import Decimal

from distillpipe.verify.math import evaluate
from distillpipe.verify.math.arithmetic import COMPARE_CONTEXT
from distillpipe.verify.math.lexer import FUNCTIONS, Unreadable
from distillpipe.verify.math.parser import Node, parse, variable_names
from distillpipe.verify.math.structure import Structure, read_structure
from distillpipe.verify.math.value import Value, fraction_node, read_value

_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", "=": "=", r"\neq": r"\neq"}
_NAME = re.compile(r"(?:\\?[a-zA-Z]'?(?:_(?:[a-zA-Z0-9]|\{[^{}]*\}))?|[(),:/{}\s]|\\%)+")
_APPLICATION = re.compile(
    r"(?:[a-zA-Z]'{0,3}(?:_(?:[a-zA-Z0-9]|\{[^{}]*\}))?|Pr|Var|Cov|\\(?:Pr|text\{[A-Za-z]+\})) ?"
    r"(?:\([^()]*(?:\([^()]*\)[^()]*)*\)|\[[^\[\]]*\])"
)
_UNKNOWNS = "xyzt"  # `x(y+1)` is a product, `f(y+1)` a function
_LETTER = r"(\\[a-zA-Z]+|[a-zA-Z](?:_(?:[a-zA-Z0-9]|\{[a-zA-Z0-9]+\}))?)"
_SQUARED = r"(?:\^\{?2\}?)?"
_DERIVATIVE = re.compile(
    rf"\\frac\{{d{_SQUARED} ?{_LETTER} ?(?:\([a-z]\))?\}}\{{d ?([a-z]){_SQUARED}\}}"
)
_DOTTED = re.compile(rf"\\d?dot\{{{_LETTER}\}}|{_LETTER}'")
_PRIME = re.compile(r"\^\s*(?:\{\s*\\prime\s*\}|\\prime(?![a-zA-Z]))")
_APPLIED = re.compile(r"([a-zA-Z])\(([a-zA-Z])\)")


def is_name(text: str) -> bool:
    r"""Whether a text is a name: `x`, `x_1`, `f(5)`, `P(X=3)`, `(p,q)`, `\angle ABC`, `A:B`; not `x^2` or 5."""
    if text[:1] not in _UNKNOWNS and _APPLICATION.fullmatch(text):
        return True
    return bool(_NAME.fullmatch(text)) and text.strip("\\") not in ("pi", "e", "i", *FUNCTIONS)


def sides_agree(relation: Structure) -> bool:
    """Whether all sides are numbers and the relation holds; an approximation holds within 1%."""
    values = []
    for text in relation.texts:
        side = read_value(text)
        node = side.node if side.number is None else fraction_node(side.number)
        values.append(None if node is None else evaluate.constant(node))
    for sign, left, right in zip(relation.detail, values, values[1:], strict=False):
        if left is None or right is None:
            return False
        tolerance = "1e-2" if sign == r"\approx" else "1e-25"
        with decimal.localcontext(COMPARE_CONTEXT):
            if abs(left - right) > max(abs(left), abs(right)) * Decimal(tolerance):
                return False
    return True


def sides_are_constant(relation: Structure) -> bool:
    r"""Whether all sides are constants without a unit, as in `2+2=5`, and no sign is `\approx`."""
    values = [read_value(text) for text in relation.texts]
    nodes = [side.node for side in values if side.unit is None and not side.is_percent]
    numbers = [None if node is None else evaluate.constant(node) for node in nodes]
    num_constants = sum(number is not None for number in numbers)
    return num_constants == len(relation.parts) and r"\approx" not in relation.detail


def same_zeros(left: Structure, right: Structure) -> bool | None:
    """Whether two equations have the same solutions; None if undecided."""
    difference, other = _difference(left), _difference(_with_argument_of(left, right))
    if difference is None or other is None:
        return None
    if evaluate.ratio(difference, other):
        return True
    return False if evaluate.zeros_differ(difference, other) else None


def same_inequality(left: Structure, right: Structure) -> bool | None:
    """Whether two inequalities are multiples of each other, `x < 1` and `-x > -1`; None if undecided."""
    difference, other = _difference(left), _difference(right)
    if difference is None or other is None or left.detail[0] not in _FLIPPED:
        return None
    ratio = evaluate.ratio(difference, other)
    if not ratio:
        return False if ratio == 0 else None
    sign = right.detail[0]
    return left.detail[0] == (sign if ratio > 0 else _FLIPPED.get(sign))


def _with_argument_of(left: Structure, right: Structure) -> Structure:
    """Rename the argument of `right` to that of `left`: `f(z)=z` becomes `f(n)=n`."""
    applied = [_APPLIED.fullmatch(side.texts[0].replace(" ", "")) for side in (left, right)]
    if applied[0] is None or applied[1] is None or applied[0][1] != applied[1][1]:
        return right
    old, new = applied[1][2], applied[0][2]
    if any(re.search(rf"(?<![a-zA-Z\\]){new}(?![a-zA-Z])", text) for text in right.texts):
        return right
    renamed = [re.sub(rf"(?<![a-zA-Z\\]){old}(?![a-zA-Z])", new, text) for text in right.texts]
    return right._replace(texts=tuple(renamed))


def _difference(relation: Structure) -> Node | None:
    """The left side minus the right side; None if one of them cannot be parsed."""
    try:
        left, right = (parse(text) for text in _with_primes(relation.texts))
    except (Unreadable, RecursionError):
        return None
    return ("sum", (left, ("negative", right)))


def _with_primes(texts: tuple[str, ...]) -> list[str]:
    r"""Write `\frac{dx(t)}{dt}` and `x^{\prime}` as `x'`, and `x(t)` as `x` if x is differentiated."""
    joined = _PRIME.sub("'", "=".join(texts))
    arguments = {match[1]: match[2] for match in _DERIVATIVE.finditer(joined)}
    for match in _DOTTED.finditer(joined):
        arguments.setdefault(match[1] or match[2], "t")
    joined = _DERIVATIVE.sub(
        lambda match: rf"{match[1]}" + ("''" if "^" in match[0] else "'") + " ", joined
    )
    for name, argument in arguments.items():
        joined = re.sub(rf"({re.escape(name)}\}}?'*)\s*\({argument}\)", r"\1 ", joined)
    return joined.split("=")


def interval_of(relation: Structure) -> tuple[str, Structure | Value] | None:
    r"""The variable and the set of values of `x < 5`, `-2 \le x \le 7`, `x \in [0,1)` or `x \neq 3`.

    None for other relations.
    """
    texts, signs = relation.texts, relation.detail
    if signs == (r"\in",):
        return texts[0], relation.parts[1]
    if len(signs) == 1 and re.fullmatch("[a-zA-Z]", texts[1]):
        if signs[0] not in _FLIPPED:
            return None
        texts, signs = texts[::-1], (_FLIPPED[signs[0]],)
    name = texts[len(signs) - 1]
    if not re.fullmatch("[a-zA-Z]", name) or any(
        _has_variables(text) for text in texts if text != name
    ):
        return None
    upper = texts[-1]
    if len(signs) == 2 and set(signs) <= {"<", r"\le"}:
        begin, end = "(" if signs[0] == "<" else "[", ")" if signs[1] == "<" else "]"
        return name, read_structure(f"{begin}{texts[0]},{upper}{end}")
    if len(signs) != 1:
        return None
    ranges = {
        "<": rf"(-\infty,{upper})",
        r"\le": rf"(-\infty,{upper}]",
        ">": rf"({upper},\infty)",
        r"\ge": rf"[{upper},\infty)",
        r"\neq": rf"(-\infty,{upper})\cup({upper},\infty)",
    }
    return (name, read_structure(ranges[signs[0]])) if signs[0] in ranges else None


def _has_variables(text: str) -> bool:
    value = read_value(text)
    return value.infinity is None and (value.node is None or bool(variable_names(value.node)))
