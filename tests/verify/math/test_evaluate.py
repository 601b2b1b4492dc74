r"""Comparison of expressions by their values: equal, different, undecided."""

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.verify.math.compare import same_answer
from distillpipe.verify.math.evaluate import constant, equal, ratio
from distillpipe.verify.math.lexer import Unreadable
from distillpipe.verify.math.parser import parse, variable_names

EQUAL = [
    (r"2\sqrt{2}", r"\sqrt{8}"),
    ("(x+1)^2", "x^2+2x+1"),
    (r"\sin^2 x+\cos^2 x", "1"),
    (r"\tan x", r"\frac{\sin x}{\cos x}"),
    (r"\arctan(2)+\arctan(1/2)", r"\pi/2"),
    (r"\arcsin(1/3)+\arccos(1/3)", r"\frac{\pi}{2}"),
    (r"\cosh(x)", r"\frac{e^x+e^{-x}}{2}"),
    (r"\sqrt{x^2}", "|x|"),
    (r"\sqrt[3]{-8}", "-2"),
    (r"1\frac{4}{5}", "1.8"),
    (r"\frac12x", r"\frac{x}{2}"),
    (r"\binom{10}{3}", "120"),
    ("5!", "120"),
    (r"\lfloor 2.7\rfloor", "2"),
    (r"\lceil 2.1\rceil", "3"),
    (r"\log_2 8", "3"),
    (r"3\log 2", r"\log 8"),  # whatever the base
    (r"\frac{\log 8}{\log 2}+\log 5-\log 5", "3+\\log 1"),
    (r"\ln(e^3)", "3"),
    ("exp(16)-1", "e^{16}-1"),
    ("-2*pi", r"-2\pi"),
    ("2**10", "1024"),
    ("3+4i", "4i+3"),
    ("(1+i)^2", "2i"),
    (r"\frac{1}{i}", "-i"),
    ("x_{1}+x_2", "x_2+x_1"),
    (r"\frac{1+\sqrt5}{2}", r"\frac{2}{\sqrt5-1}"),
    (r"\omegat", r"t\omega"),
    ("(n-2)2^n+1", r"1+n\cdot 2^n-2^{n+1}"),
    ("x^{5000}", "x^{4999}x"),
    ("10^{100000}", "100^{50000}"),
    (r"2\pi\cdot 10^{-34}", r"\frac{\pi}{5\cdot 10^{33}}"),
    (r"\lcm(4,6,10)", "60"),
    (r"\gcd(12,18)", "6"),
    (r"7\mod 3", "1"),
    (r"\arcsinh(x)", r"\ln(x+\sqrt{x^2+1})"),
    (r"\arctanh(1/2)", r"\frac{\ln 3}{2}"),
    (r"\arcsec(2)", r"\frac{\pi}{3}"),
    (r"\sin(30°)", "1/2"),
]
DIFFERENT = [
    ("x", "y"),
    ("x+1", "x+2"),
    (r"\sqrt{x^2}", "x"),
    ("9^{9^{9}}", "9^{9^{8}}"),
    ("1/2004!", "1/2006!"),  # math-verify 0.9.0 calls these equal, as the next ones
    ("2^{-99}", "2^{-98}"),
    ("0.0000001", "0.0000002"),
    ("3+4i", "3-4i"),
    ("i", "1"),
    ("2^{100}", "2^{100}+1"),
    (r"\pi", r"\frac{22}{7}"),
    (r"\sin(1)", r"\sin(1.0000000001)"),
    (r"\log 2", r"\log 3"),
    (r"\frac{\log 2}{\log 2-\log 3}", r"\frac{\log 2}{\log 5-\log 3}"),
]
OPEN = [
    ("10^{70}+1-10^{70}", "1"),  # digits cancel
    (r"\sqrt2+10^{-90}", r"\sqrt2"),  # too small to see
    ("9^{9^{9^9}}", "1"),  # no number of ours
    (r"\log 100", "2"),  # which base?
    ("1/0", "1"),
    (r"\ln(0)", "1"),
    (r"\cos(10^{-40})", "1"),  # too small an argument
    (r"2^{10^{-70}}", "1"),
    (r"\arctan(10^{70})", r"\pi/2"),
]
UNREADABLE = [
    "", "1/2x", "a^b^c", "2 3", "words", "5'", "f(", "1+", "+", r"\sin", r"\foo{1}", r"\sin x/2", r"\sin 2 3",
    "5!!", r"\frac{1}", r"\frac123", "(1,2)", "1=1", "x_", "\x00", "1" + "/1" * 100, "(" * 100 + "1" + ")" * 100,
    "1+" * 2000 + "1",
]  # fmt: skip


@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_equal_expressions_are_found_equal_in_both_directions(left: str, right: str) -> None:
    assert equal(parse(left), parse(right)) is True
    assert equal(parse(right), parse(left)) is True


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_different_expressions_are_told_apart(left: str, right: str) -> None:
    assert equal(parse(left), parse(right)) is False
    assert equal(parse(right), parse(left)) is False


@pytest.mark.parametrize(("left", "right"), OPEN)
def test_what_cannot_be_seen_safely_stays_open(left: str, right: str) -> None:
    assert equal(parse(left), parse(right)) is None
    assert equal(parse(right), parse(left)) is None


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_has_two_readings_or_none_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        parse(text)


@pytest.mark.parametrize(
    ("left", "right", "sign"),
    [
        ("34x+45y-20z+100", "-34x-45y+20z-100", -1),
        ("x-1", "2x-2", 1),
        ("x-1", "x-2", 0),
        ("x^2-1", "x-1", None),  # may share zeros
        ("1", "2", None),
    ],
)
def test_a_constant_ratio_is_found_with_its_sign(left: str, right: str, sign: int | None) -> None:
    assert ratio(parse(left), parse(right)) == sign


def test_names_are_the_variables_and_i() -> None:
    assert variable_names(parse(r"x_1+2\pi y+e^{i\theta}")) == {"x_1", "y", "i", "theta"}


@pytest.mark.parametrize("text", ["x", "1+i", "1/0", r"\log 5", "10^{70}+1-10^{70}"])
def test_what_is_no_safe_real_number_has_no_constant(text: str) -> None:
    assert constant(parse(text)) is None


FUNCTIONS = {
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "arctan": math.atan, "exp": math.exp,
    "sinh": math.sinh, "cosh": math.cosh, "tanh": math.tanh,
}  # fmt: skip


@given(st.sampled_from(sorted(FUNCTIONS)), st.decimals(-9, 9, places=3))
def test_functions_have_the_values_that_floats_have(name: str, argument: Decimal) -> None:
    value = constant(parse(f"{name}({argument})"))
    assert value is not None
    assert float(value) == pytest.approx(FUNCTIONS[name](float(argument)), rel=1e-9, abs=1e-9)


EXTREME = [
    "2^{10000000}=2^{10000000}", r"\pi^{10000000}", r"\pi^{-10000000}", r"\pi \cdot 10^{-999999999999}",
    r"2\pi \cdot 10^{-999999999999}", r"\pi \cdot 10^{999999999998}", r"(1+i) \cdot 17 \cdot 10^{307}", r"10^{308}(i-1)",
    "i^{99999999999}", "1.2345678", "5", r"\log 2", r"x\log 2", r"x=\log 3", r"(4, \log 2)", r"(4, \log 3)", r"\log_{0} 2",
    r"\log_{1} 2", r"10^{400}x = 10^{400}", r"10^{-999999999999}x = y", "x = 10^{999999999998}y", "x<2^{10000000}",
]  # fmt: skip


@pytest.mark.parametrize("left", EXTREME)
def test_no_value_is_too_large_or_too_small_to_be_compared(left: str) -> None:
    for right in EXTREME:
        assert same_answer(left, right) is same_answer(right, left)
    assert same_answer(left, left) is True
