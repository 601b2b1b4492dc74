r"""Units, currencies and words next to a number: each is read, or makes two answers different."""

# ruff: noqa: RUF001 - the signs that models write

import itertools
import random
from fractions import Fraction

import pytest

from distillpipe.verify import judge
from distillpipe.verify.math.latex import normalized
from distillpipe.verify.math.quantities import number_of, read_quantity
from distillpipe.verify.math.unit_table import (
    CURRENCY_BEFORE,
    MODIFIERS,
    MODIFYING_CHARACTERS,
    SCALES,
    UNITS,
)
from distillpipe.verify.math.units import units_agree

BEHIND = sorted(MODIFIERS)
ONE_OF_A_DIMENSION = ["cm", "kg", "min", "mph", "J", "W", "Pa", "rad", "dollars", "months", "bytes", "m^2", "cm^3", "ohms", "K", "N"]  # fmt: skip


def _spelled(number: object, word: str) -> list[str]:
    return [f"{number} {word}", rf"{number}\text{{ {word}}}", rf"{number} \text{{{word}}}"]


@pytest.mark.parametrize("verifier", ["math", "numeric"])
def test_number_words_multiply_and_are_never_dropped(verifier: str) -> None:
    for word, scale in SCALES.items():
        for answer in _spelled(7, word):
            value = str(7 * scale)
            assert judge(answer, value, verifier) == "correct", answer
            assert judge(value, answer, verifier) == "correct", answer
            if scale != 1:
                assert judge(answer, "7", verifier) == "wrong", answer
                assert judge("7", answer, verifier) == "wrong", answer


@pytest.mark.parametrize("verifier", ["math", "numeric"])
def test_words_that_change_a_value_are_on_both_sides_or_wrong(verifier: str) -> None:
    for word in BEHIND:
        for answer in _spelled(7, f"{word} apples"):
            assert judge(answer, "7", verifier) == "wrong", answer
            assert judge(answer, answer.replace("7", "8"), verifier) != "correct", answer


def test_characters_that_change_a_value_do_so_inside_a_run() -> None:
    for char in sorted(MODIFYING_CHARACTERS):
        assert judge(f"7{char}个", "7", "math") == "wrong", char
        assert judge("7", f"7{char}个", "math") != "correct", char


def test_units_of_two_dimensions_contradict_each_other() -> None:
    for one, other in itertools.permutations(ONE_OF_A_DIMENSION, 2):
        left, right = rf"7\text{{ {one}}}", rf"7\text{{ {other}}}"
        assert judge(left, right, "math") == "wrong", (left, right)
        assert judge(left, "7", "math") == "correct", left
        assert judge("7", right, "math") == "correct", right


def test_units_of_one_dimension_convert_exactly() -> None:
    draw = random.Random(1)
    by_dimension: dict[object, list[str]] = {}
    for name, entry in sorted(UNITS.items()):
        if (
            name.isascii()
            and name.isalpha()
            and name != "pm"
            and not entry.num_pi
            and not entry.offset
        ):
            by_dimension.setdefault(entry.dimensions, []).append(name)
    for names in by_dimension.values():
        for one, other in itertools.pairwise(draw.sample(names, len(names))):
            if UNITS[one].currency and not UNITS[one].currency & UNITS[other].currency:
                continue
            value = 7 * UNITS[one].scale / UNITS[other].scale
            left, right = rf"7\text{{ {one}}}", rf"{value}\text{{ {other}}}"
            assert judge(left, right, "math") == "correct", (left, right)
            wrong = rf"{value * 10}\text{{ {other}}}"
            assert judge(left, wrong, "math") == "wrong", (left, wrong)


def test_a_currency_stands_before_or_behind_its_number() -> None:
    for sign in sorted(CURRENCY_BEFORE):
        if CURRENCY_BEFORE[sign].scale != 1:
            continue
        before = [f"{sign} 1,200", rf"{sign}\,1200.00"]
        before += [rf"\text{{{sign} }}1200"] if "\\" not in sign else []
        for answer in before:
            assert judge(answer, "1200", "math") == "correct", answer
            assert judge(answer, "120", "math") == "wrong", answer
            assert judge(answer, "1200 kg", "math") == "wrong", answer


def test_two_names_of_what_is_counted_differ() -> None:
    assert judge("7 apples", "7 oranges", "math") == "wrong"
    assert judge("7 apples", "7 red apples", "math") == "correct"
    draw = random.Random(2)
    for _ in range(200):
        names = ["".join(draw.choices("bcdfghklmnprtvz", k=6)) for _ in range(2)]
        left, right = (rf"7\text{{ {name}}}" for name in names)
        assert judge(left, right, "math") == "wrong", names
        assert judge(left, left.replace(" ", "  "), "math") == "correct", names


PARTS = [  # units from the largest on, and how many of each are one of that before
    (("hours", "h", "hr"), ("minutes", "min"), 60),
    (("minutes", "min"), ("seconds", "s", "sec"), 60),
    (("feet", "ft"), ("inches", "in"), 12),
    (("km",), ("m", "meters"), 1000),
    (("dollars",), ("cents",), 100),
    (("years",), ("months",), 12),
    (("weeks",), ("days",), 7),
    (("lb", "pounds"), ("oz", "ounces"), 16),
]


def test_quantities_in_two_units_are_their_sum() -> None:
    draw = random.Random(3)
    for _ in range(300):
        large, small, ratio = draw.choice(PARTS)
        whole, part = draw.randint(1, 30), draw.randint(1, ratio - 1)
        joint = draw.choice([" ", " and ", ", ", r" \text{ and } "])
        answer = (
            rf"{whole}\text{{ {draw.choice(large)}}}{joint}{part}\text{{ {draw.choice(small)}}}"
        )
        total = whole * ratio + part
        for reference, same in ((total, True), (total + 1, False), (whole * ratio, False)):
            swapped = rf"{reference}\text{{ {draw.choice(small)}}}"
            verdict = "correct" if same else "wrong"
            assert judge(answer, swapped, "math") == verdict, (answer, swapped)
            assert judge(swapped, answer, "math") == verdict, (answer, swapped)


def test_powers_of_ten_of_any_size_are_exact() -> None:
    draw = random.Random(4)
    for _ in range(300):
        exponent = draw.choice([1, -1]) * draw.choice([3, 12, 27, 34, 99, 300, 5000])
        mantissa = Fraction(draw.randint(11, 99), 10)
        texts = _powers(mantissa, exponent)
        other = draw.choice(
            _powers(mantissa + Fraction(1, 10), exponent) + _powers(mantissa, exponent + 1)
        )
        left, right = draw.choices(texts, k=2)
        assert judge(left, right, "math") == "correct", (left, right)
        assert judge(left, other, "math") == "wrong", (left, other)
        assert judge(other, left, "math") == "wrong", (left, other)


def _powers(mantissa: Fraction, exponent: int) -> list[str]:
    raised = str(exponent).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))
    number, tenth = f"{float(mantissa):.1f}", f"{float(mantissa / 10):.2f}"
    spelled = [
        rf"{number} \times 10^{{{exponent}}}", rf"{number}\cdot10^{{{exponent}}}", f"{number}×10{raised}",
        f"{number}*10^{{{exponent}}}", rf"{tenth} \times 10^{{{exponent + 1}}}", f"{number}*10^({exponent})",
    ]  # fmt: skip
    return spelled + (
        [f"{number}e{exponent}", f"{number}E{exponent:+}"] if abs(exponent) < 1000 else []
    )


@pytest.mark.parametrize(
    ("text", "body", "factor"),
    [
        ("3 million", "3", 10**6),
        (r"\$3 million", "3", 10**6),
        ("3万个", "3", 10**4),
        ("USD 2.5M", "2.5", 10**6),
        ("2 dozen eggs", "2", 12),
        (r"\frac{1}{2}\text{ hour}", r"\frac{1}{2}", 1),
        (r"2\sqrt{3}\text{ cm}", r"2\sqrt{3}", 1),
        (r"5x\text{ cm}", "5x", 1),
        ("12,34,567 INR", "1234567", 1),
        ("5 in total", "5", 1),
        (r"\sin 30^\circ", r"\sin 30°", 1),
    ],
)
def test_a_quantity_is_taken_apart(text: str, body: str, factor: int) -> None:
    quantity = read_quantity(normalized(text))
    assert (quantity.body, quantity.factor) == (body, factor)


def test_one_side_may_omit_a_unit_but_no_modifier() -> None:
    plain, unit, changed = (
        read_quantity(text).unit for text in ("5", "5 apples", "5 rather than 6")
    )
    assert units_agree(plain, unit)
    assert units_agree(unit, plain)
    assert not units_agree(plain, changed)
    assert units_agree(changed, changed)
    assert number_of(read_quantity("5 squared")) == 25


SAME_AS_READ = [  # reference, answer
    ("18", r"\$18/\text{day}"), ("18", "18/hr"), ("18", "18 miles/gallon"), ("18", "18/day"), ("18", r"\$18 per dozen"),
    ("5", "5 m"), ("5", "5 s"), ("x=5 m", "5"), ("45", "45 miles from home"), ("5", r"5 \text{ miles from home}"),
    (r"5000\ \Omega", r"5\,\mathrm{k\Omega}"), (r"5000\ \Omega", r"5\ \text{k}\Omega"), (r"5000\ \Omega", r"5\ k\Omega"),
    (r"5 \times 10^{-6}\text{ F}", r"5\ \mu\text{F}"), (r"5\text{ mF}", r"5000\ \mathrm{\mu F}"), ("5", r"5\ \mu\mathrm{C}"),
    (r"5\text{ m/s}", r"5\ \frac{\mathrm{m}}{\mathrm{s}}"), (r"5\text{ m/s}^2", r"5\ \frac{\mathrm{m}}{\mathrm{s}^2}"),
    ("5 ft", "5'"), ("5 inches", '5"'), ("66 in", "5'6\""), ("1234.56", "1 234,56"), ("1200.5", r"R\$ 1.200,50"),
    ("5", r"\textbf{(A)}\ 5"), ("A", r"\textbf{(A) } 5"), (r"\textbf{(A)}\ 5", "A"), (r"\textbf{(A)}\ 5", "5"),
]  # fmt: skip
OTHER_AS_READ = [
    ("216", r"\$18 per dozen"), ("216", r"\$18/\text{dozen}"), ("5000000", "5/million"), ("5", "5/lambda"), ("1", "1/infty"), ("3", "3/three"), (r"\frac{2}{3}", "2:3:1"), ("5", "5m"), ("5", "5 x"), ("6", "5 m"),
    ("5x", "5 m"), ("5 miles from home", "5 miles from school"), ("5", "5 from home"), (r"5\text{ mF}", r"5\ \mathrm{\mu F}"),
    ("5 feet", '5"'), ("5 feet", "5''"), (r"30^\circ", "30'"), ("15", "1 5"), ("15", r"1\ 5"), ("123456", "1 234,56"),
    (r"p \land q", r"p \lor q"), ("p ∧ q", "p ∨ q"), ("B", r"\textbf{(A)}\ 5"), ("6", r"\textbf{(A)}\ 5"),
    (r"\textbf{(A)}\ 5", r"\textbf{(B)}\ 5"), (r"-2 \le x \le 7 \pi^{10000000}", r"x=1 \text{ or } x=2"),
    (r"-2 \le x \le 10^{999999999999}", r"x \ge -10^{999999999999}"),
]  # fmt: skip


@pytest.mark.parametrize(("reference", "answer"), SAME_AS_READ)
def test_rates_letters_and_prefixes_of_units_are_read(reference: str, answer: str) -> None:
    assert judge(answer, reference, "math") == "correct"
    assert judge(reference, answer, "math") == "correct"


@pytest.mark.parametrize(("reference", "answer"), OTHER_AS_READ)
def test_what_looks_like_a_unit_or_a_number_is_not_one(reference: str, answer: str) -> None:
    assert judge(answer, reference, "math") != "correct"
    assert judge(reference, answer, "math") != "correct"
