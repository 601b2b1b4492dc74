r"""The verifier `math`: what our rules decide, what math-verify decides, and how failures are judged."""

import pytest

from distillpipe.verify.math import verifier, workers
from distillpipe.verify.math.compare import same_answer
from distillpipe.verify.math.verifier import same_value

SAME = [
    # numbers
    ("20", "20"), ("20.0", "20"), (".5", "0.5"), ("007", "7"), ("-0", "0"), ("1,000", "1000"),
    ("1{,}234", "1,234"), (r"1\,234", "1234"), ("1 000", "1000"), (r"10,\!080", "10080"),
    (r"\frac{1}{2}", "0.5"), (r"\dfrac12", r"\tfrac{2}{4}"), (r"1\frac{4}{5}", r"\frac{9}{5}"),
    ("1e-3", "0.001"), (r"3 \times 10^8", "3e8"), (r"0.\overline{3}", r"\frac13"), ("1,22", "1.22"),
    ("840,840", "840840"), ("2:3", r"\frac23"), ("2:4", "1:2"), ("8:30 a.m.", "8:30"),
    (r"8:30\text{ PM}", "8:30 p.m."),
    # percent, money, degrees, units
    (r"50\%", "50"), (r"50\%", "0.5"), (r"\$18.90", "18.9"), (r"90^\circ", "90"),
    (r"33\frac13\%", r"\frac13"), (r"10\text{ units}", "10"), ("5 apples", "5"),
    (r"864 \mbox{ inches}^2", "864"), (r"15\text{ cm}^2", r"15\text{ cm}^{2}"),
    (r"30\text{ minutes}", r"0.5\text{ hours}"), (r"100\text{ cm}", r"1\text{ m}"),
    # decimals of what no decimal can write
    ("0.0833333333333333", r"\frac{1}{12}"), ("3.14159", r"\pi"), ("3.141593", r"\pi"), ("0.70710678", r"\frac{1}{\sqrt2}"),
    # text
    (r"\text{Evelyn}", "evelyn"), (r"\text{(C)}", "C"), (r"\text{even}", "even"), (r"\text{x = 5}", "5"), (r"\text{Tom and Ann}", "Ann, Tom"),
    (r"\emptyset", r"\text{no solution}"), ("the ellipse", r"\text{ellipse}"),
    (r"\text{all real numbers}", r"(-\infty,\infty)"),
    # equations and inequalities
    ("x=5", "5"), ("f(x)=2x", "2x"), ("(p,q)=(3,2)", "(3,2)"), ("A:B=1", "1"),
    (r"\frac{NO}{BO}=\frac{1}{\sqrt6}", r"\frac{\sqrt6}{6}"), (r"2+\frac53+1=\frac{14}{3}", r"\frac{14}{3}"),
    (r"\sqrt2\approx1.41", r"\sqrt2"), ("2x+4y-3=0", r"y=-\frac12x+\frac34"), ("x < 1", "-x > -1"),
    (r"5 \ge x", r"x\le5"), ("x<3", r"(-\infty,3)"), (r"-2\le x\le7", r"x\in[-2,7]"),
    (r"x<1\text{ or }x>2", r"(-\infty,1)\cup(2,\infty)"), (r"x\neq3", r"(-\infty,3)\cup(3,\infty)"),
    (r"\frac{dx(t)}{dt}=kx(t)-a", "x'-kx+a=0"), (r"\frac{d^2y}{dx^2}=-y", "y''+y=0"),
    (r"x_0+\dot{x}_0t", r"\dot{x}_{0}t+x_{0}"), ("f(n)=n^2", "f(z)=z^2"),
    # lists, sets, tuples, intervals, matrices
    ("1,-2", "-2,1"), (r"x=1\text{ or }x=2", "1,2"), ("21,16 or 11", "11,16,21"), (r"a=4,\,-8", "-8,4"),
    (r"\{1\pm\sqrt5,-2\}", r"\{-2,1-\sqrt5,1+\sqrt5\}"), (r"1\pm\sqrt{19}", r"1+\sqrt{19},1-\sqrt{19}"),
    (r"\left(3,\frac{\pi}{2}\right)", r"(3,\dfrac\pi2)"), ("x=2, y=3", "(2,3)"), ("(1;2)", "(1,2)"),
    (r"\left[\frac12,\infty\right)", r"[0.5,\infty)"), (r"(2,12)\cup(12,102)", r"(12,102)\cup(2,12)"),
    (r"\begin{pmatrix}1/5\\-18/5\end{pmatrix}", r"\begin{bmatrix}0.2\\-3.6\end{bmatrix}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\langle1,2\rangle"), ("(5,8),(8,5)", r"(8,5)\text{ and }(5,8)"),
    # expressions
    (r"2\sqrt{2}", r"\sqrt{8}"), ("1+x^2", "x^2+1"), (r"18+2\pi", r"2(\pi+9)"), ("(1+i)^2", "2i"), (r"\sqrt{-1}", "i"), (r"e^{i\pi}", "-1"),
    ("-1 + exp(16)", "e^{16}-1"), ("-2*pi", r"-2\pi"), (r"100\sqrt{P}", r"100p^{\frac12}"), ("52", "52_8"),
    (r"\sin 30^\circ", r"\frac12"),
    (r"\cos^2(60°)", "0.25"),
    (r"\sin(30^\circ + x)", r"\sin(x + 30^{\circ})"),
    ("1{:}2", "1:2"),
    ("6.02 x 10^{23}", r"6.02\times 10^{23}"),
    (r"\text{B, C}", "C,B"),
]  # fmt: skip

DIFFERENT = [
    ("21", "20"), ("2.0001", "2"), ("0.333", r"\frac13"), ("3.14", r"\pi"), ("3.14160", r"\pi"), ("33333.3", r"\frac{100000}{3}"),
    ("1e-7", "2e-7"), ("2^{-99}", "2^{-98}"), ("1/2004!", "1/2006!"), ("68", "86"), (r"5000\%", "0.5"),
    (r"5\text{ cm}", r"5\text{ m}"), ("12:00", "1:00"), ("8:30 am", "8:30 pm"), (r"5\text{ cm}^2", r"5\text{ cm}^3"), ("52_8", "52_9"), ("42", "52_8"),
    (r"\text{oddd}", "odd"), ("east", r"\text{west}"), (r"\text{even}", "2"), ("twenty", "20"),
    ("x=5", "6"), ("x=5", "x=6"), ("y=x^2", "y=x^2+1"), ("f(n)=n+1", "f(z)=z"), ("x+y-z+2=0", "5x-7y+11z+4=0"), (r"x\ge5", r"x\le5"), ("x<3", r"(-\infty,3]"),
    ("4,12,2", "10,4,2"), ("2", "2,3"), ("(2,1)", "(1,2)"), ("(0,9)", "[0,9)"), ("[1,2]", "(1,2)"), (r"\{1,3\}", "(1,3)"),
    (r"\sqrt{67},-\sqrt{85}", r"\sqrt{67}"), (r"\pm2021", "2021"), ("(1,2,3)", "(1,2)"), ("5", "(5,6)"),
    (r"\begin{pmatrix}1&0\end{pmatrix}", r"\begin{pmatrix}0&1\end{pmatrix}"), (r"\infty", r"-\infty"),
    ("x+2", "x+1"), (r"-\sqrt{2}", r"\sqrt{2}"), ("3+4i", "3-4i"), ("4", r"4\sqrt2"), ("100,200", "200,100"),
    (r"\sin 31^\circ", r"\frac12"),
    (r"\tan 45", "1"),
]  # fmt: skip

DECIDED_BY_MATH_VERIFY = [
    (r"\int_0^1 2x\,dx", "1", "correct"),
    (r"\sum_{k=1}^{3} k", "6", "correct"),
    (r"\sum_{k=1}^{3} k", "7", "wrong"),
    (r"\begin{pmatrix}1&0\\0&1\end{pmatrix}\begin{pmatrix}1&0\\0&1\end{pmatrix}",
     r"\begin{pmatrix}1&0\\0&1\end{pmatrix}", "correct"),
    ("0", "a^2+b=0", "wrong"),
    ("5 \\, 6 \\, (", "11", "wrong"),
]  # fmt: skip

DECIDED_BY_THE_REFERENCE_ALONE = [
    ("20", "$$", "unverifiable"),
    ("", "$$", "unverifiable"),
    ("$$", "$$", "unverifiable"),
    ("20", "{20", "unverifiable"),
    ("20", r"\frac{}{2}", "unverifiable"),
    ("20", "We show that every such function must be constant on the whole line", "unverifiable"),
    ("20", "1+" * 3000 + "1", "unverifiable"),
    ("1+" * 3000 + "1", "1+" * 3000 + "1", "correct"),
    ("1+" * 3000 + "1", "20", "wrong"),
    ("", "20", "wrong"),
    ("garbage {", "20", "wrong"),
    ("I think that the number which they ask for is 20", "20", "wrong"),
    ("20", r"so the sum is $\boxed{20}$.", "correct"),
]


@pytest.mark.parametrize(("left", "right"), SAME)
def test_pairs_that_are_equal_are_equal_in_both_directions(left: str, right: str) -> None:
    assert same_answer(left, right) is True
    assert same_answer(right, left) is True
    assert same_value(left, right) == "correct"


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_what_plainly_differs_differs_in_both_directions(left: str, right: str) -> None:
    assert same_answer(left, right) is False
    assert same_answer(right, left) is False
    assert same_value(left, right) == "wrong"


@pytest.mark.parametrize(("answer", "reference", "verdict"), DECIDED_BY_MATH_VERIFY)
def test_what_is_left_open_is_asked_of_math_verify(answer, reference, verdict) -> None:
    assert same_answer(answer, reference) is None
    assert same_value(answer, reference) == verdict


@pytest.mark.parametrize(("answer", "reference", "verdict"), DECIDED_BY_THE_REFERENCE_ALONE)
def test_only_a_reference_makes_a_pair_unverifiable(answer, reference, verdict) -> None:
    assert same_value(answer, reference) == verdict


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every question to math-verify fails, except for one reference compared with itself; returns all questions."""
    questions: list[tuple[str, str]] = []

    def ask(answer: str, reference: str) -> str:
        questions.append((answer, reference))
        return "same" if answer == reference == r"\sum_{k=1}^{1}k" else "failed"

    monkeypatch.setattr(workers, "ask", ask)
    verifier.clear_caches()
    yield questions
    verifier.clear_caches()


def test_a_failing_answer_to_a_verifiable_reference_is_wrong(questions) -> None:
    good = r"\sum_{k=1}^{1}k"
    assert [same_value(answer, good) for answer in ("2!!", "3!!", "2!!")] == ["wrong"] * 3
    assert questions == [("2!!", good), (good, good), ("3!!", good)]  # each question once


def test_a_reference_that_fails_on_itself_is_unverifiable(questions) -> None:
    bad = r"\sum_{k=1}^{2}k"
    assert [same_value(answer, bad) for answer in ("2!!", "3!!")] == ["unverifiable"] * 2
    assert questions == [("2!!", bad), (bad, bad), ("3!!", bad)]
    assert same_value(bad, bad) == "correct"  # the very same text needs no verifier
