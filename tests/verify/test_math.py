"""The verifier `math` on its own cases, then on the plain numbers among those of eight libraries."""

import re

import pytest

from distillpipe.verify.extract import boxed_answer
from distillpipe.verify.math import same_value

DECIDED_WITHOUT_MATH_VERIFY = [
    ("20", "20", "correct"),
    ("20.0", "20", "correct"),
    ("1,000", "1000", "correct"),
    ("\\frac{1}{2}", "0.5", "correct"),
    ("50\\%", "50", "correct"),
    ("90^\\circ", "90", "correct"),
    ("hello world", "hello  world", "correct"),
    ("21", "20", "wrong"),
    ("2.0001", "2", "wrong"),
    ("0.0833333333333333", "\\frac{1}{12}", "wrong"),  # math-verify would round: we compare exactly
]

DECIDED_BY_MATH_VERIFY = [
    ("1+x^2", "x^2+1", "correct"),
    ("\\frac34i", "\\frac{3}{4}i", "correct"),
    ("2\\sqrt{2}", "\\sqrt{8}", "correct"),
    ("x=42", "42", "correct"),
    ("8, 6", "6\\text{ and }8", "correct"),
    ("x+2", "x+1", "wrong"),
    ("(2,1)", "(1,2)", "wrong"),
    ("-\\sqrt{2}", "\\sqrt{2}", "wrong"),
    ("twenty", "20", "wrong"),
    ("garbage {", "20", "wrong"),
    ("", "20", "wrong"),
    ("20", "$$", "unverifiable"),
    ("", "$$", "unverifiable"),
]


@pytest.mark.parametrize(("answer", "reference", "verdict"), DECIDED_WITHOUT_MATH_VERIFY)
def test_equal_text_and_equal_numbers_are_decided_exactly(answer, reference, verdict) -> None:
    assert same_value(answer, reference) == verdict


@pytest.mark.parametrize(("answer", "reference", "verdict"), DECIDED_BY_MATH_VERIFY)
def test_expressions_are_equal_by_value_and_only_a_bad_reference_is_unverifiable(
    answer, reference, verdict
) -> None:
    assert same_value(answer, reference) == verdict


# An integer, decimal, number with thousands separators or fraction, with dollars or a unit beside it.
_DECIMAL = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?"
_FRACTION = r"\\[dt]?frac\s*(?:\{\d+\}\{\d+\}|\d\d|\d\{\d+\})"
_PLAIN = re.compile(
    rf"\s*(?:\\?\$)?\s*(?:{_DECIMAL}(?:/\d+)?|{_FRACTION})\s*\$?(?:\\text\{{[^{{}}]*\}})?\s*"
)
# Rows on which we decide otherwise, or that are about something else.
LEFT_OUT = {
    "eq0154": "1/12 and 0.0833333333333333 are equal after rounding only",
    "eq0198": "the box of the response holds another number than the reference",
    "eq0371": "contested: 2 and 2.0001 are equal within a tolerance only",
    "eq0385": "contested: an empty reference",
    "eq0393": "contested: 2/4 is wrong because it is not simplified",
}


def test_plain_numbers_of_eight_libraries_are_judged_as_their_authors_expect(shared_rows) -> None:
    expected, verdicts = {}, {}
    for row in shared_rows("answers/pairs.jsonl"):
        reference = row["gold"] and (boxed_answer(row["gold"]) or row["gold"])
        answer = boxed_answer(row["pred"]) or row["pred"]
        if reference is None or row["id"] in LEFT_OUT:
            continue
        if _PLAIN.fullmatch(reference) and _PLAIN.fullmatch(answer):
            expected[row["id"]] = "correct" if row["expected"] else "wrong"
            verdicts[row["id"]] = same_value(answer, reference)
    assert verdicts == expected
    assert list(expected.values()).count("correct") == 35
    assert list(expected.values()).count("wrong") == 5
