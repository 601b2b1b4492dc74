"""Arithmetic to evaluate expressions numerically: real decimals of 80 digits, and complex floats.

Both record what makes a result unreliable: cancellation of digits (`has_cancelled`), and numbers so large
or so small that a difference between two values may be lost (`has_extreme`).
"""

import cmath
import decimal
import functools
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

DIGITS = 80
_CANCELLATION = Decimal(10) ** -30
# A difference may be lost in a sum with a term 1e25 times as large, and in an argument or an exponent above
# 1e25 or below 1e-25. A factor of any size loses nothing.
_EXTREME = 25
CONTEXT = decimal.Context(
    prec=DIGITS,
    Emax=10**12,
    Emin=-(10**12),
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow, decimal.Underflow],
)
COMPARE_CONTEXT = decimal.Context(
    prec=DIGITS, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[decimal.InvalidOperation]
)
"to compare results: does not raise beyond the range of CONTEXT"
PI = CONTEXT.create_decimal(
    "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798"
)
E = Decimal(1).exp(CONTEXT)
_LONGEST_FLOAT = 9  # characters of a number; floats may not distinguish longer ones
_LARGEST_FACTORIAL = 3000


class Undefined(ArithmeticError):
    """The expression has no real value at this point."""


class RealArithmetic:
    """Real decimal arithmetic that records cancellation and extreme sizes."""

    def __init__(self) -> None:
        self.has_cancelled = False
        self.has_extreme = False
        self.constants: Mapping[str, Any] = {"pi": PI, "e": E}

    def finite(self, value: Decimal) -> Decimal:
        if not value.is_finite():
            raise Undefined
        return value

    def check_size(self, value: Decimal) -> Decimal:
        """Record whether an argument or an exponent is of extreme size; return it."""
        if value and abs(value.adjusted()) > _EXTREME:
            self.has_extreme = True
        return value

    def number(self, digits: str) -> Decimal:
        return self.finite(Decimal(digits))

    def sum(self, values: list[Decimal]) -> Decimal:
        total = sum(values, Decimal(0))
        largest = max(map(abs, values))
        if total and abs(total) < largest * _CANCELLATION:
            self.has_cancelled = True
        elif not total and largest:
            self.has_extreme = self.has_extreme or largest.adjusted() > _EXTREME
        if any(value and largest.adjusted() - value.adjusted() > _EXTREME for value in values):
            self.has_extreme = True
        return self.finite(total)

    def negative(self, value: Decimal) -> Decimal:
        return -value

    def product(self, values: list[Decimal]) -> Decimal:
        return self.finite(math.prod(values, start=Decimal(1)))

    def quotient(self, numerator: Decimal, denominator: Decimal) -> Decimal:
        return self.finite(numerator / denominator)

    def power(self, base: Decimal, exponent: Decimal) -> Decimal:
        if base < 0 and exponent != exponent.to_integral_value():
            raise Undefined
        if base == 0 and exponent <= 0:
            raise Undefined
        return self.finite(base ** self.check_size(exponent))

    def root(self, degree: Decimal, value: Decimal) -> Decimal:
        if degree == 2:
            return value.sqrt()
        if value < 0 and degree % 2 == 1:
            return -self.root(degree, -value)
        return self.power(value, 1 / degree) if value else value

    def logarithm(self, base: Decimal, value: Decimal) -> Decimal:
        if not base or not value:
            raise Undefined  # `Decimal.ln` of 0 does not raise: it is -Infinity
        return self.check_size(value.ln() / base.ln())

    def factorial(self, value: Decimal) -> Decimal:
        if value != value.to_integral_value() or not 0 <= value <= _LARGEST_FACTORIAL:
            raise Undefined
        return self.finite(_factorial(int(value)))

    def modulo(self, value: Decimal, divisor: Decimal) -> Decimal:
        if divisor <= 0:
            raise Undefined
        return Decimal(self._integer(value) % self._integer(divisor))

    def lcm(self, *values: Decimal) -> Decimal:
        return Decimal(math.lcm(*map(self._integer, values)))

    def gcd(self, *values: Decimal) -> Decimal:
        return Decimal(math.gcd(*map(self._integer, values)))

    def max(self, *values: Decimal) -> Decimal:
        return max(values)

    def min(self, *values: Decimal) -> Decimal:
        return min(values)

    def _integer(self, value: Decimal) -> int:
        if value != value.to_integral_value() or value.adjusted() > _EXTREME:
            raise Undefined
        return int(value)

    def function(self, name: str, value: Decimal) -> Decimal:
        return self.finite(_REAL_FUNCTIONS[name](self.check_size(value)))


class ComplexArithmetic:
    """Complex float arithmetic that records cancellation and extreme sizes."""

    def __init__(self) -> None:
        self.has_cancelled = False
        self.has_extreme = False
        self.constants: Mapping[str, Any] = {"pi": math.pi, "e": math.e, "i": 1j}

    def number(self, digits: str) -> complex:
        self.has_extreme = self.has_extreme or len(digits) > _LONGEST_FLOAT
        return complex(float(digits))

    def sum(self, values: list[complex]) -> complex:
        total = sum(values, 0j)
        if total and abs(total) < max(map(abs, values)) * 1e-6:
            self.has_cancelled = True
        return total

    def negative(self, value: complex) -> complex:
        return 0 - value  # -value has an imaginary part of -0.0, which selects the other root

    def product(self, values: list[complex]) -> complex:
        return math.prod(values, start=1 + 0j)

    def quotient(self, numerator: complex, denominator: complex) -> complex:
        return numerator / denominator

    def power(self, base: complex, exponent: complex) -> complex:
        return complex(base**exponent)

    def root(self, degree: complex, value: complex) -> complex:
        return complex(value ** (1 / degree))

    def logarithm(self, base: complex, value: complex) -> complex:
        return cmath.log(value) / cmath.log(base)

    def factorial(self, value: complex) -> complex:
        raise Undefined

    def modulo(self, value: complex, divisor: complex) -> complex:
        raise Undefined

    def lcm(self, *values: complex) -> complex:
        raise Undefined

    gcd = max = min = lcm  # defined for real numbers only

    def function(self, name: str, value: complex) -> complex:
        if name == "abs":
            return complex(abs(value))
        if name not in ("sin", "cos", "tan", "exp", "sinh", "cosh", "tanh"):
            raise Undefined
        return complex(getattr(cmath, name)(value))


@functools.lru_cache(maxsize=128)
def _factorial(number: int) -> Decimal:
    return CONTEXT.create_decimal(math.factorial(number))


def _sine(angle: Decimal) -> Decimal:
    if angle.adjusted() > 30:
        raise Undefined
    angle = angle % (2 * PI)
    term = total = angle
    step = 1
    while term and term.adjusted() > -DIGITS - 5:
        step += 2
        term = -term * angle * angle / (step * (step - 1))
        total += term
    return total


def _cosine(angle: Decimal) -> Decimal:
    return _sine(angle + PI / 2)


def _arc_tangent(slope: Decimal) -> Decimal:
    angle = Decimal(math.atan(float(slope)))
    for _ in range(4):
        sine, cosine = _sine(angle), _cosine(angle)
        angle += (slope * cosine - sine) * cosine / (cosine * cosine + slope * sine * cosine)
    return angle


def _arc_sine(sine: Decimal) -> Decimal:
    if abs(sine) == 1:
        return PI / 2 * sine
    return _arc_tangent(sine / (1 - sine * sine).sqrt())


def _hyperbolic_sine(angle: Decimal) -> Decimal:
    return (angle.exp() - (-angle).exp()) / 2


def _hyperbolic_cosine(angle: Decimal) -> Decimal:
    return (angle.exp() + (-angle).exp()) / 2


_REAL_FUNCTIONS: dict[str, Callable[[Decimal], Decimal]] = {
    "sin": _sine,
    "cos": _cosine,
    "tan": lambda angle: _sine(angle) / _cosine(angle),
    "cot": lambda angle: _cosine(angle) / _sine(angle),
    "sec": lambda angle: 1 / _cosine(angle),
    "csc": lambda angle: 1 / _sine(angle),
    "arcsin": _arc_sine,
    "arccos": lambda cosine: PI / 2 - _arc_sine(cosine),
    "arctan": _arc_tangent,
    "sinh": _hyperbolic_sine,
    "cosh": _hyperbolic_cosine,
    "tanh": lambda angle: _hyperbolic_sine(angle) / _hyperbolic_cosine(angle),
    "coth": lambda angle: _hyperbolic_cosine(angle) / _hyperbolic_sine(angle),
    "sech": lambda angle: 1 / _hyperbolic_cosine(angle),
    "csch": lambda angle: 1 / _hyperbolic_sine(angle),
    "arccot": lambda slope: PI / 2 - _arc_tangent(slope),
    "arcsec": lambda secant: PI / 2 - _arc_sine(1 / secant),
    "arccsc": lambda cosecant: _arc_sine(1 / cosecant),
    "arcsinh": lambda sine: (sine + (sine * sine + 1).sqrt()).ln(),
    "arccosh": lambda cosine: (cosine + (cosine * cosine - 1).sqrt()).ln(),
    "arctanh": lambda tangent: ((1 + tangent) / (1 - tangent)).ln() / 2,
    "sgn": lambda number: Decimal((number > 0) - (number < 0)),
    "ln": Decimal.ln,
    "exp": Decimal.exp,
    "abs": abs,
    "floor": lambda number: number.to_integral_value(rounding=decimal.ROUND_FLOOR),
    "ceil": lambda number: number.to_integral_value(rounding=decimal.ROUND_CEILING),
}
