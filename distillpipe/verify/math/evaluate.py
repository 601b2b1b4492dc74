"""Whether two expressions are equal, by their values.

What `equal` answers is safe: values that agree to 60 digits in all points, found without cancellation
and without huge or tiny numbers on the way, are the same; values that differ, found without
cancellation, are not; anything else is None. The variables of both sides get the same values, some
negative and some whole; a point where a side is not defined says nothing.
"""

import decimal
import functools
import hashlib
import itertools
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from distillpipe.verify.math.arithmetic import COMPARING, CONTEXT, Complexes, Reals, Undefined
from distillpipe.verify.math.parser import Node, names

_AGREE = Decimal(10) ** -60
_DIFFER = Decimal(10) ** -45
_NUM_POINTS = 4


def value(node: Node, env: Mapping[str, Any], arithmetic: Any) -> Any:
    """The value of a tree; raises ArithmeticError where there is none."""
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
        return getattr(arithmetic, kind)([value(part, env, arithmetic) for part in node[1]])
    if kind == "negative":
        return arithmetic.negative(value(node[1], env, arithmetic))
    if kind == "function":
        return arithmetic.function(node[1], value(node[2], env, arithmetic))
    if kind == "logarithm":
        base = env["log"] if node[1] is None else value(node[1], env, arithmetic)
        return arithmetic.logarithm(base, value(node[2], env, arithmetic))
    if kind == "binomial":
        above, below = (value(part, env, arithmetic) for part in node[1:])
        factorial = arithmetic.factorial
        return factorial(above) / factorial(below) / factorial(above - below)
    return getattr(arithmetic, kind)(*(value(part, env, arithmetic) for part in node[1:]))


def constant(node: Node) -> Decimal | None:
    """The value of a tree without variables; None where it has any, is not real or is doubtful."""
    if names(node) or _has_open_logarithm(node):
        return None
    arithmetic = Reals()
    found = _at(node, {}, arithmetic)
    return None if arithmetic.cancelled else found


def equal(left: Node, right: Node) -> bool | None:
    """Whether two trees have the same value everywhere; None where that cannot be told."""
    if left == right:
        return True
    variables = names(left) | names(right)
    is_open = _has_open_logarithm(left)
    if is_open != _has_open_logarithm(right):
        return None
    if "i" in variables:
        return _equal_complex(left, right, variables)
    num_sure = 0
    is_constant = not variables and not is_open  # the base of a `\log` is open as a variable is
    points = [{}] if is_constant else [_point(number, variables) for number in range(_NUM_POINTS)]
    for point in points:
        arithmetic = Reals()
        found, other = _at(left, point, arithmetic), _at(right, point, arithmetic)
        if found is None or other is None:
            continue
        if _differ(found, other, _DIFFER):
            return None if arithmetic.cancelled else False
        if not arithmetic.cancelled and not arithmetic.extreme:
            num_sure += not _differ(found, other, _AGREE)
    return True if num_sure >= (1 if is_constant else 2) else None


def ratio(left: Node, right: Node) -> int | None:
    """The sign of the constant c with left = c * right everywhere, 0 where there is none, None: unknown.

    0 is said of what is linear in all its variables only: other expressions may share their zeros.
    """
    variables = names(left) | names(right)
    if "i" in variables or not variables or _has_open_logarithm(left) or _has_open_logarithm(right):
        return None
    quotients = []
    for number in range(_NUM_POINTS):
        arithmetic = Reals()
        point = _point(number, variables)
        found, other = _at(left, point, arithmetic), _at(right, point, arithmetic)
        if found is None or not other or arithmetic.cancelled or arithmetic.extreme:
            return None
        quotients.append(COMPARING.divide(found, other))
    if all(not _differ(quotient, quotients[0], _AGREE) for quotient in quotients):
        return 1 if quotients[0] > 0 else -1
    return 0 if _is_linear(left) and _is_linear(right) else None


def zeros_differ(left: Node, right: Node) -> bool:
    """Whether a point was found where one of two expressions is zero and the other plainly is not."""
    return _zero_of_one_only(left, right) or _zero_of_one_only(right, left)


def _zero_of_one_only(left: Node, right: Node) -> bool:
    """Where `left` is linear in a variable, its zero is found by two values."""
    variables = names(left) | names(right)
    if "i" in variables or _has_open_logarithm(left) or _has_open_logarithm(right):
        return False
    for number, name in itertools.product(range(2), sorted(names(left))):
        point = _point(number, variables)
        values = [_at(left, {**point, name: Decimal(at)}, Reals()) for at in range(3)]
        if None in values:
            continue
        with decimal.localcontext(COMPARING):
            slope = values[1] - values[0]
            if not slope or abs(values[2] - values[1] - slope) > abs(slope) * _AGREE:
                continue
            zero = -values[0] / slope
        arithmetic = Reals()
        other = _at(right, {**point, name: zero}, arithmetic)
        if other and not arithmetic.cancelled and COMPARING.abs(other) > _DIFFER:
            return True
    return False


def _is_linear(node: Node) -> bool:
    """No variable in a power, a function, below a fraction, or twice in a product."""
    kind = node[0]
    if kind in ("number", "constant", "variable"):
        return True
    if kind in ("sum", "negative"):
        return all(map(_is_linear, node[1] if kind == "sum" else node[1:]))
    if kind == "product":
        return sum(bool(names(part)) for part in node[1]) <= 1 and all(map(_is_linear, node[1]))
    if kind == "quotient":
        return not names(node[2]) and _is_linear(node[1])
    return not names(node)


def _equal_complex(left: Node, right: Node, variables: set[str]) -> bool | None:
    """Equal as expressions in a letter i is equal; other values in the complex plane are not."""
    if "variable" not in {left[0], right[0]} and equal(_with_letter(left), _with_letter(right)):
        return True
    num_sure = 0
    for number in range(_NUM_POINTS):
        arithmetic = Complexes()
        drawn = _point(number, variables - {"i"})
        point = {name: complex(float(of)) for name, of in drawn.items()}
        found, other = _at(left, point, arithmetic), _at(right, point, arithmetic)
        if found is None or other is None:
            continue
        largest = max(math.hypot(one.real, one.imag) for one in (found, other))
        difference = math.hypot(found.real - other.real, found.imag - other.imag)
        if difference > 1e-6 * largest:
            return None if arithmetic.cancelled else False
        doubtful = arithmetic.cancelled or arithmetic.extreme or not 1e-6 < largest < 1e6
        num_sure += not doubtful and difference < 1e-12 * largest
    return True if num_sure > 1 else None


def _with_letter(node: Node) -> Node:
    if node == ("constant", "i"):
        return ("variable", "i as a letter")
    return tuple(
        _with_letter(part) if isinstance(part, tuple) and part and isinstance(part[0], str)
        else tuple(map(_with_letter, part)) if isinstance(part, tuple)
        else part
        for part in node
    )  # fmt: skip


def _at(node: Node, point: Mapping[str, Any], arithmetic: Any) -> Any:
    """The value, None where there is none."""
    with decimal.localcontext(CONTEXT):
        try:
            return value(node, point, arithmetic)
        except (ArithmeticError, ValueError, RecursionError):
            return None


def _differ(left: Decimal, right: Decimal, tolerance: Decimal) -> bool:
    with decimal.localcontext(COMPARING):
        return abs(left - right) > tolerance * max(abs(left), abs(right))


@functools.lru_cache(maxsize=1024)
def _value_of(name: str, number: int) -> Decimal:
    """A number for a variable: between 0.5 and 2.5, in the last points negative, then whole."""
    digest = int.from_bytes(hashlib.sha256(f"{name} {number}".encode()).digest())
    with decimal.localcontext(CONTEXT):
        drawn = Decimal(digest) / Decimal(2**255) + Decimal("0.5")
        if number == _NUM_POINTS - 2:
            return -drawn
        return Decimal(int(drawn * 10)) if number == _NUM_POINTS - 1 else drawn


def _point(number: int, variables: set[str]) -> dict[str, Decimal]:
    return {name: _value_of(name, number) for name in [*variables, "log"]}


def _has_open_logarithm(node: Node) -> bool:
    if node[0] == "logarithm" and node[1] is None:
        return True
    return any(
        _has_open_logarithm(part)
        if part and isinstance(part[0], str)
        else any(map(_has_open_logarithm, part))
        for part in node[1:]
        if isinstance(part, tuple)
    )
