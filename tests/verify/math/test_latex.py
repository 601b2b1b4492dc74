r"""Normalization of an answer's spelling: no formatting is left, no value changes."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distillpipe.verify.math.latex import closing_bracket, normalized, split_outside_brackets

CLEANED = {
    "42": "42",
    " $42$ ": "42",
    r"\(42\)": "42",
    r"\[42\]": "42",
    r"\$42": r"\$42",
    "$42": r"\$42",
    "$5 and $7": r"\$5 and \$7",
    "$5$ and $7$": "5 and 7",
    r"$\$5$": r"\$5",
    "**42**": "42",
    "42.": "42",
    r"\left(\dfrac12,\,90^\circ\right)": r"(\frac12, 90°)",
    r"10,\!080": "10080",
    r"1{,}234": "1234",
    r"1\,234": "1234",
    r"1\,23": "1 23",
    r"\text{(C)}": "C",
    "(C)": "C",
    "(c)": "(c)",
    r"\mathrm{e}": "e",
    r"5\mbox{ cm}": r"5\text{ cm}",
    r"\boxed{5}": "5",
    "{1,2}": "1,2",
    "{1},{2}": "{1},{2}",
    "\uff11\uff12": "12",
    "x²": "x^{2}",
    "½": r"\frac{1}{2}",
    "\u22125": "-5",
    "2π": r"2\pi",
    "x ≤ 5": r"x \le 5",
    "x<=5": r"x\le 5",
    r"x \leqslant 5": r"x \le 5",
    r"20^\circ\text{C}": r"20°\text{C}",
    r"20^{\circ}C": "20°C",
    "10⁻¹²": "10^{-12}",
    "x₁₂": "x_{12}",
    "3{,}14": "3.14",
    "12{,}34{,}567": "1234567",
    r"\operatorname{arcsinh}(a)": r"\arcsinh (a)",
    "]2;5[": "(2;5)",
    "[0,1[": "[0,1)",
    r"\sqrt[3]{2}": r"\sqrt[3]{2}",
    "14.0 + -1.0i": "14.0 - 1.0i",
    "3 (mod 7)": r"3 \pmod{7}",
    r"\begin{pmatrix}1 \\ 2\end{pmatrix}": r"\begin{pmatrix}1 \\ 2\end{pmatrix}",
    "$$": "",
    r"\boxed{}": "",
    "": "",
}


@pytest.mark.parametrize(("text", "spelling"), CLEANED.items(), ids=CLEANED.keys())
def test_decoration_goes_and_values_stay(text: str, spelling: str) -> None:
    assert normalized(text) == spelling


@pytest.mark.parametrize(
    ("text", "separators", "parts", "signs"),
    [
        ("1,2", ",", ["1", "2"], [","]),
        ("(1,2),3", ",", ["(1,2)", "3"], [","]),
        (r"\{1,2\},[3,4)", ",", [r"\{1,2\}", "[3,4)"], [","]),
        ("1;2,3", ",;", ["1", "2", "3"], [";", ","]),
        ("", ",", [""], []),
        (",", ",", ["", ""], [","]),
    ],
)
def test_a_text_is_cut_outside_brackets_only(text, separators, parts, signs) -> None:
    assert split_outside_brackets(text, frozenset(separators)) == (parts, signs)


@pytest.mark.parametrize("text", ["(", ")", "(1,2", "1)2(", r"\{"])
def test_a_bracket_without_its_partner_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="a bracket is"):
        split_outside_brackets(text, frozenset(","))


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [("(1)", 0, 2), ("[0,1)", 0, 4), ("((1)+(2))", 0, 8), ("(1", 0, -1), (r"\{1\}", 0, 4)],
)
def test_a_bracket_is_closed_by_one_of_any_kind(text: str, start: int, end: int) -> None:
    assert closing_bracket(text, start) == end


@given(st.text())
@example("{" * 200 + "}" * 200)
@example("\\text{" * 50)
def test_cleaning_any_text_raises_nothing(text: str) -> None:
    assert isinstance(normalized(text), str)
