"""The words of a problem: equal for every spelling of it, unequal for another problem."""

# ruff: noqa: RUF001 - signs that look like others are what this is about

import pytest

from distillpipe.filters.words import diagram_numbers, numbers_in, symbols_in, words_of

SAME = [
    (r"\frac{57}{160}", [r"\dfrac{57}{160}", r"\tfrac {57} {160}", "57/160", "57 / 160", "57⁄160"]),
    (r"\frac12", [r"\frac{1}{2}", r"\frac 12", r"\dfrac1{2}", r"\frac  1 2", "1/2", "½"]),
    ("x^2", ["x^{2}", "x²", "X^2", "x ^ 2", "$x^2$", r"\(x^{2}\)", r"\displaystyle x^2"]),
    (r"\log_264", [r"\log_{2} 64", r"\log_2(64)", r"\log_{2}\left(64\right)", "log₂ 64"]),
    ("1000", ["1,000", "1{,}000", r"1,\!000"]),
    ("0.5", [".5", "$.5$"]),
    (r"2 \cdot 3", [r"2\times 3", "2 × 3", "2*3", "2 · 3", "(2)(3)"]),
    (r"53^\circ", [r"53^{\circ}", "53°", r"53 ^ \circ", "53 degrees"]),
    (r"x \leq 5", [r"x\le5", "x ≤ 5", "x <= 5", r"x\leqslant 5"]),
    (r"1,2,\ldots,n", ["1, 2, ..., n", r"1,2,\dots,n", "1, 2, …, n"]),
    ("two-digit number", ["2-digit number", "two digit number", "Two–Digit number"]),
    ("What is the sum?", ["what  is\nthe sum", "WHAT IS THE SUM", "Find the sum."]),
    (r"\text{area of } ABC", ["area of ABC", r"\mathrm{area of} abc", "Area of $ABC$"]),
    (r"\begin{align*}x &= 1 \\ y &= 2\end{align*}", ["x=1, y=2", r"\[x = 1\]\[y = 2\]"]),
    ("24!", ["$24!$", "24!"]),
    ("a -- b", ["a — b", "a b"]),
    ("x − y", ["x - y", "x-y", "$x-y$"]),
]
UNLIKE = [
    ("x + y", "x - y"),
    ("2^3", "23"),
    ("2 3", "23"),
    (r"\log_{26}4", r"\log_264"),
    ("x < 5", "x > 5"),
    ("24!", "24"),
    (r"\sin 60", r"\cos 60"),
    ("1.5", "15"),
    ("1,5", "15"),
    ("求 3", "和 3"),
]


@pytest.mark.parametrize(
    ("one", "other"), [(one, other) for one, others in SAME for other in others]
)
def test_another_spelling_has_the_same_words(one: str, other: str) -> None:
    assert words_of(other) == words_of(one) != []


@pytest.mark.parametrize(("one", "other"), UNLIKE)
def test_another_formula_has_other_words(one: str, other: str) -> None:
    assert words_of(other) != words_of(one)


def test_the_words_stand_in_their_order_and_diagrams_are_left_out() -> None:
    problem = r"Find $\sqrt{2}x$. [asy] draw((0,0)--(3,4.5)); [/asy] Give 3 digits."
    assert words_of(problem) == ["find", "sqrt", "2", "x", "give", "3", "digits"]
    assert diagram_numbers(problem) == ["0", "0", "3", "4.5"]
    assert diagram_numbers(problem.upper()) == ["0", "0", "3", "4.5"]
    assert diagram_numbers("[asy] size(7)") == ["7"]


def test_numbers_and_symbols_are_picked_from_the_words() -> None:
    words = words_of(r"If $b^2 + 3.5 < a$ and I have two, what is $\pi b$?")
    assert numbers_in(words) == ["2", "3.5", "2"]
    assert symbols_in(words) == ["b", "^", "2", "+", "3.5", "<", "2", "b"]


@pytest.mark.parametrize("text", ["", " \n", "$$", "\ud800\udfff", "\x00\x1b\x7f", "?!.,;", "🙂"])
def test_a_text_of_no_words_has_none(text: str) -> None:
    assert words_of(text) == []


def test_broken_characters_are_passed_over() -> None:
    assert words_of("fi\x00nd \ud800 x\x1f=\udc0012") == ["fi", "nd", "x", "=", "12"]


REPEATED = ["^ ", "\\", "1,", "[asy]", "a-", "{", "!", "\\frac ", "12", "^{\\circ", "-", ".", " "]


@pytest.mark.parametrize("unit", REPEATED)
def test_any_repetition_is_read_to_its_end(unit: str) -> None:
    text = unit * (200_000 // len(unit))  # in quadratic time this would be minutes
    assert len(words_of(text)) <= len(text)
    assert len(diagram_numbers(text)) <= len(text)
