r"""The verifier `numeric`: exact rational numbers in any notation; other texts are not numbers."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.verify.math.numeric import number, same_number

NUMBERS = {
    "20": Fraction(20),
    " 20\n": Fraction(20),
    "-5": Fraction(-5),
    "+5": Fraction(5),
    "007": Fraction(7),
    "0": Fraction(0),
    "2.5": Fraction(5, 2),
    ".75": Fraction(3, 4),
    "-.5": Fraction(-1, 2),
    "3.14.": Fraction(157, 50),
    "5.": Fraction(5),
    "1,000": Fraction(1000),
    "1,234,567.5": Fraction(2469135, 2),
    "1\\,000": Fraction(1000),
    "32,\\!349": Fraction(32349),
    "3/4": Fraction(3, 4),
    "-3/4": Fraction(-3, 4),
    "3 / 4": Fraction(3, 4),
    "3/-4": Fraction(-3, 4),
    "1,234/2": Fraction(617),
    "0.5/2": Fraction(1, 4),
    "\\frac{3}{4}": Fraction(3, 4),
    "-\\frac{3}{4}": Fraction(-3, 4),
    "\\dfrac{14}{3}": Fraction(14, 3),
    "\\tfrac12": Fraction(1, 2),
    "\\frac1{72}": Fraction(1, 72),
    "\\frac {1} {2}": Fraction(1, 2),
    "50%": Fraction(1, 2),
    "50\\%": Fraction(1, 2),
    "$50\\%$": Fraction(1, 2),
    "12.5 %": Fraction(1, 8),
    "$20$": Fraction(20),
    "\\$12.01": Fraction(1201, 100),
    "$5.00": Fraction(5),
    "45^\\circ": Fraction(45),
    "45^{\\circ}": Fraction(45),
    "45°": Fraction(45),
    "10\\text{ units}": Fraction(10),
    "10\\,\\mathrm{cm}": Fraction(10),
    "\\frac{1}{3}\\text{ meters}": Fraction(1, 3),
    "\\text{about }7": Fraction(7),
    "1 000": Fraction(1000),
    "1\\,234": Fraction(1234),
    "1{,}234": Fraction(1234),
    "- 5": Fraction(-5),
    "3 1/2": Fraction(7, 2),
    "1\\frac{4}{5}": Fraction(9, 5),
    "-2\\frac12": Fraction(-5, 2),
    "½": Fraction(1, 2),
    "1e5": Fraction(100000),
    "1.5e-3": Fraction(3, 2000),
    "0.\\overline{3}": Fraction(1, 3),
    "0.1\\overline{6}": Fraction(1, 6),
    "x = 5": Fraction(5),
    "x_1=-5": Fraction(-5),
    "5 apples": Fraction(5),
    "28 percent": Fraction(7, 25),
    "4\\%": Fraction(1, 25),
    "\uff11\uff12": Fraction(12),
    "**20**": Fraction(20),
    "(3)/(4)": Fraction(3, 4),
}

NO_NUMBERS = [
    "", " ", "$", "$$", "%", ".", "-", "/", ",", "x", "2x", "0x10", "--5", "1.2.3", "1e9999", "1e", "e5",
    "1 00", "1,22", "1,0000", ",000", "1, 2", "1/2/3", "1/0", "1/0.0", "\\frac{1}{0}", "\\frac{1}",
    "\\frac{x}{2}", "3 1/0", "\\sqrt{2}", "2\\pi", "(1,2)", "6 and 8", "6\\text{ and }8", "²", "٣",
    "nan", "inf", "1_000", "12:00", "five", "2 = 5", "x = y = 5", "5 x",
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), NUMBERS.items(), ids=NUMBERS.keys())
def test_a_number_is_read_however_it_is_written(text: str, value: Fraction) -> None:
    assert number(text) == value


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_not_plainly_one_number_is_none(text: str) -> None:
    assert number(text) is None


def test_a_number_of_more_than_a_thousand_characters_is_none() -> None:
    assert number("1" * 1000) == Fraction(int("1" * 1000))
    assert number("1" * 1001) is None


PIECES = ["1", "0", "2,", ",000", ".", "/", "-", "%", "$", " ", "{", "}", "\\frac", "\\text{", "٣"]


@given(st.text() | st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_text_is_a_number_or_none_and_nothing_raises(text: str) -> None:
    assert isinstance(number(text), Fraction | None)


@given(st.integers(), st.sampled_from(["{}", "{:,}", "${:,}$", "{:+}", "{}.0", "{}\\text{{ cm}}"]))
def test_a_whole_number_is_read_back_from_every_spelling(value: int, spelling: str) -> None:
    assert number(spelling.format(value)) == value


@given(st.decimals(-(10**9), 10**9, places=6))
def test_a_decimal_is_read_back_exactly(value: Decimal) -> None:
    assert number(f"{value:,f}") == Fraction(value)


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**9))
def test_a_fraction_is_read_back_exactly(above: int, below: int) -> None:
    sign = "-" if above < 0 else ""
    assert number(f"{above}/{below}") == Fraction(above, below)
    assert number(f"{sign}\\frac{{{abs(above)}}}{{{below}}}") == Fraction(above, below)


@pytest.mark.parametrize(
    ("answer", "reference", "verdict"),
    [
        ("20", "20", "correct"),
        ("20.0", "20", "correct"),
        ("1000", "1,000", "correct"),
        ("0.5", "1/2", "correct"),
        ("\\frac{2}{4}", "\\frac{1}{2}", "correct"),
        ("$12.50", "12.5", "correct"),
        ("50%", "50", "correct"),
        ("50%", "0.5", "correct"),
        ("50", "50%", "correct"),
        ("1/2", "50\\%", "correct"),
        ("50%", "50%", "correct"),
        ("-0", "0", "correct"),
        ("21", "20", "wrong"),
        ("-20", "20", "wrong"),
        ("2.0001", "2", "wrong"),
        ("0.333", "1/3", "wrong"),
        ("5000%", "0.5", "wrong"),
        ("0.5%", "50", "wrong"),
        ("50%", "0.5%", "wrong"),
        ("68", "86", "wrong"),
        ("", "20", "wrong"),
        ("twenty", "20", "wrong"),
        ("1/0", "20", "wrong"),
        ("20", "twenty", "unverifiable"),
        ("20", "", "unverifiable"),
        ("20", "1/0", "unverifiable"),
        ("6\\text{ and }8", "6\\text{ and }8", "unverifiable"),
        ("", "", "unverifiable"),
    ],
)
def test_only_a_reference_that_is_no_number_is_unverifiable(
    answer: str, reference: str, verdict: str
) -> None:
    assert same_number(answer, reference) == verdict


# What strips to one number among the cases of SkyThought and reasoning-from-scratch: spaces, dollars,
# degrees, units, a full stop. The rest of the file wants other rules.
SIMPLE = ["ex0024", "ex0026", "ex0038", "ex0040", "ex0042", "ex0044", "ex0046", "ex0048"]


@pytest.mark.reference
def test_numbers_of_real_tests_are_read_as_their_authors_expect(reference_rows) -> None:
    rows = [row for row in reference_rows("answers/extraction.jsonl") if row["id"] in SIMPLE]
    verdicts = {row["id"]: same_number(row["text"], row["expected"]) for row in rows}
    assert verdicts == dict.fromkeys(SIMPLE, "correct")
