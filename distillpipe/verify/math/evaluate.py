"""Compares two expressions by evaluating them numerically at several points.

`equal` decides only where the arithmetic is reliable:

- True: the values agree to 60 digits at every point, without cancellation and without extreme sizes;
- False: the values differ, without cancellation;
- None: anything else.

Both sides get the same values for their variables, some negative and some whole. A point where one side
is undefined is skipped.
"""

import decimal
import functools
import hashlib
import itertools
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from distillpipe.verify.math.arithmetic import (
    COMPARE_CONTEXT,
    CONTEXT,
    ComplexArithmetic,
    RealArithmetic,
    Undefined,
)
from distillpipe.verify.math.parser import Node, children, variable_names

_AGREE = Decimal(10) ** -60
_DIFFER = Decimal(10) ** -45
_NUM_POINTS = 4


def evaluate(node: Node, env: Mapping[str, Any], arithmetic: Any) -> Any:
    """The value of an expression tree; raises ArithmeticError where it is undefined.

    `env` maps each variable to its value, and `log` to the base of logarithms written without one.
    """
    kind = node[0]
    if kind == "number":
        return arithmetic.number(node[1])
    if kind == "constant":
        if node[1] not in arithmetic.constants:
            raise Undefined
        return arithmetic.constants[node[1]]
    if kind == "variable":
        return env[node[1]]
    if kind in ("sum", "product"):
        return getattr(arithmetic, kind)([evaluate(part, env, arithmetic) for part in node[1]])
    if kind == "negative":
        return arithmetic.negative(evaluate(node[1], env, arithmetic))
    if kind == "function":
        return arithmetic.function(node[1], evaluate(node[2], env, arithmetic))
    if kind == "logarithm":
        base = env["log"] if node[1] is None else evaluate(node[1], env, arithmetic)
        return arithmetic.logarithm(base, evaluate(node[2], env, arithmetic))
    if kind == "binomial":
        n, k = (evaluate(part, env, arithmetic) for part in node[1:])
        factorial = arithmetic.factorial
        return factorial(n) / factorial(k) / factorial(n - k)
    return getattr(arithmetic, kind)(*(evaluate(part, env, arithmetic) for part in node[1:]))


def constant(node: Node) -> Decimal | None:
    """The value of a tree without variables; None if it has variables, is not real or is unreliable."""
    if variable_names(node) or _has_open_logarithm(node):
        return None
    arithmetic = RealArithmetic()
    result = _evaluate_at(node, {}, arithmetic)
    return None if arithmetic.has_cancelled else result


def equal(left: Node, right: Node) -> bool | None:
    """Whether two trees have the same value everywhere; None if this cannot be decided."""
    if left == right:
        return True
    variables = variable_names(left) | variable_names(right)
    is_open = _has_open_logarithm(left)
    if is_open != _has_open_logarithm(right):
        return None
    if "i" in variables:
        return _equal_complex(left, right, variables)
    num_sure = 0
    # A `\log` without a base is evaluated like a variable: its base is drawn at each point.
    is_constant = not variables and not is_open
    points = [{}] if is_constant else [_point(number, variables) for number in range(_NUM_POINTS)]
    for point in points:
        arithmetic = RealArithmetic()
        left_value, right_value = _both_at(left, right, point, arithmetic)
        if left_value is None or right_value is None:
            continue
        if _differ_by(left_value, right_value, _DIFFER):
            return None if arithmetic.has_cancelled else False
        if not arithmetic.has_cancelled and not arithmetic.has_extreme:
            num_sure += not _differ_by(left_value, right_value, _AGREE)
    return True if num_sure >= (1 if is_constant else 2) else None


def ratio(left: Node, right: Node) -> int | None:
    """The sign of the constant c for which left = c * right everywhere; 0 if there is none, None if unknown.

    0 is returned only if both sides are linear in all variables: other expressions may have equal zeros.
    """
    variables = variable_names(left) | variable_names(right)
    if "i" in variables or not variables or _has_open_logarithm(left) or _has_open_logarithm(right):
        return None
    quotients = []
    for number in range(_NUM_POINTS):
        arithmetic = RealArithmetic()
        left_value, right_value = _both_at(left, right, _point(number, variables), arithmetic)
        is_unreliable = arithmetic.has_cancelled or arithmetic.has_extreme
        if left_value is None or not right_value or is_unreliable:
            return None
        quotients.append(COMPARE_CONTEXT.divide(left_value, right_value))
    if all(not _differ_by(quotient, quotients[0], _AGREE) for quotient in quotients):
        return 1 if quotients[0] > 0 else -1
    return 0 if _is_linear(left) and _is_linear(right) else None


def zeros_differ(left: Node, right: Node) -> bool:
    """Whether there is a point where one of two expressions is zero and the other is clearly not."""
    return _zero_of_one_only(left, right) or _zero_of_one_only(right, left)


def _zero_of_one_only(left: Node, right: Node) -> bool:
    """Find a zero of `left` in each variable in which it is linear, and evaluate `right` there."""
    variables = variable_names(left) | variable_names(right)
    if "i" in variables or _has_open_logarithm(left) or _has_open_logarithm(right):
        return False
    for number, name in itertools.product(range(2), sorted(variable_names(left))):
        point = _point(number, variables)
        values = [
            _evaluate_at(left, {**point, name: Decimal(x)}, RealArithmetic()) for x in range(3)
        ]
        if None in values:
            continue
        with decimal.localcontext(COMPARE_CONTEXT):
            slope = values[1] - values[0]
            # The third value shows whether `left` is linear in this variable.
            if not slope or abs(values[2] - values[1] - slope) > abs(slope) * _AGREE:
                continue
            zero = -values[0] / slope
        arithmetic = RealArithmetic()
        residual = _evaluate_at(right, {**point, name: zero}, arithmetic)
        if residual and not arithmetic.has_cancelled and COMPARE_CONTEXT.abs(residual) > _DIFFER:
            return True
    return False


def _is_linear(node: Node) -> bool:
    """Whether no variable is in a power, in a function, in a denominator, or twice in a product."""
    kind = node[0]
    if kind in ("number", "constant", "variable"):
        return True
    if kind in ("sum", "negative"):
        return all(map(_is_linear, node[1] if kind == "sum" else node[1:]))
    if kind == "product":
        return sum(bool(variable_names(part)) for part in node[1]) <= 1 and all(
            map(_is_linear, node[1])
        )
    if kind == "quotient":
        return not variable_names(node[2]) and _is_linear(node[1])
    return not variable_names(node)


def _equal_complex(left: Node, right: Node, variables: set[str]) -> bool | None:
    """As `equal`, for expressions with i: equal with i as a free variable, or at complex points."""
    if "variable" not in {left[0], right[0]} and equal(_with_free_i(left), _with_free_i(right)):
        return True
    num_sure = 0
    for number in range(_NUM_POINTS):
        arithmetic = ComplexArithmetic()
        real_point = _point(number, variables - {"i"})
        point = {name: complex(float(real)) for name, real in real_point.items()}
        left_value, right_value = _both_at(left, right, point, arithmetic)
        if left_value is None or right_value is None:
            continue
        largest = max(math.hypot(z.real, z.imag) for z in (left_value, right_value))
        difference = math.hypot(
            left_value.real - right_value.real, left_value.imag - right_value.imag
        )
        if difference > 1e-6 * largest:
            return None if arithmetic.has_cancelled else False
        is_unreliable = (
            arithmetic.has_cancelled or arithmetic.has_extreme or not 1e-6 < largest < 1e6
        )
        num_sure += not is_unreliable and difference < 1e-12 * largest
    return True if num_sure > 1 else None


def _with_free_i(node: Node) -> Node:
    if node == ("constant", "i"):
        return ("variable", "i as a letter")
    return tuple(
        _with_free_i(part) if isinstance(part, tuple) and part and isinstance(part[0], str)
        else tuple(map(_with_free_i, part)) if isinstance(part, tuple)
        else part
        for part in node
    )  # fmt: skip


def _evaluate_at(node: Node, point: Mapping[str, Any], arithmetic: Any) -> Any:
    """The value of a tree at a point; None if it is undefined there."""
    with decimal.localcontext(CONTEXT):
        try:
            return evaluate(node, point, arithmetic)
        except (ArithmeticError, ValueError, RecursionError):
            return None


def _both_at(left: Node, right: Node, point: Mapping[str, Any], arithmetic: Any) -> tuple[Any, Any]:
    return _evaluate_at(left, point, arithmetic), _evaluate_at(right, point, arithmetic)


def _differ_by(left: Decimal, right: Decimal, tolerance: Decimal) -> bool:
    with decimal.localcontext(COMPARE_CONTEXT):
        return abs(left - right) > tolerance * max(abs(left), abs(right))


@functools.lru_cache(maxsize=1024)
def _value_of(name: str, number: int) -> Decimal:
    """The value of a variable at point `number`: 0.5 to 2.5, by hash; negative or whole at the last two points."""
    digest = int.from_bytes(hashlib.sha256(f"{name} {number}".encode()).digest())
    with decimal.localcontext(CONTEXT):
        drawn = Decimal(digest) / Decimal(2**255) + Decimal("0.5")
        if number == _NUM_POINTS - 2:
            return -drawn
        return Decimal(int(drawn * 10)) if number == _NUM_POINTS - 1 else drawn


def _point(number: int, variables: set[str]) -> dict[str, Decimal]:
    return {name: _value_of(name, number) for name in [*variables, "log"]}


def _has_open_logarithm(node: Node) -> bool:
    r"""Whether a tree has a `\log` without a base."""
    is_open = node[0] == "logarithm" and node[1] is None
    return is_open or any(map(_has_open_logarithm, children(node)))
