r"""The reference answer of a row: after `####`, in the last `\boxed{}`, or the whole text."""

from typing import Any

import pytest

from distillpipe.data.formats.fields import Fields, NotText, final_answer, gold
from distillpipe.verify import judge


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("18", "18"),
        (" 18\n", " 18\n"),
        ("9 * 2 = 18.\n#### 18", "18"),
        ("#### 18", "18"),
        ("So it is.\n####  1,250 \n", "1,250"),
        ("#### 3\nNo: 4.\n#### 4", "4"),
        ("#### A heading\n\nThe text goes on: 5", "#### A heading\n\nThe text goes on: 5"),
        ("####", "####"),
        ("So $\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}"),
        ("First \\boxed{1}. No. Then \\boxed{2}.", "2"),
        ("It is \\boxed{3", "It is \\boxed{3"),
        ("", ""),
    ],
)
def test_the_answer_of_a_text(text: str, answer: str) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("row", "fields", "text", "key"),
    [
        ({"answer": "2"}, Fields(), "2", "answer"),
        ({"answer": 2.5}, Fields(), "2.5", "answer"),
        ({"answer": "1+1=2\n#### 2"}, Fields(), "2", None),
        ({"answer": None, "gold": "2"}, Fields(), "2", "gold"),
        ({"answer": "", "gold": "2"}, Fields(), "", "answer"),
        ({"solution": "So \\boxed{2}."}, Fields(), "2", None),
        ({"ground_truth_solution": "So \\boxed{2}."}, Fields(), "2", None),
        ({"solution": "So \\boxed{2}.", "answer": "3"}, Fields(), "3", "answer"),
        ({"solution": "42"}, Fields(), "42", None),
        ({"solution": "So two."}, Fields(), None, None),
        ({"solution": 42}, Fields(), None, None),
        ({"key": "2", "answer": "3"}, Fields(answer="key"), "2", "key"),
        ({"solution": "\\boxed{2}", "answer": "3"}, Fields(answer="key"), None, None),
        ({}, Fields(), None, None),
    ],
)
def test_the_reference_answer_of_a_row_and_where_it_stood(
    row: dict[str, Any], fields: Fields, text: str | None, key: str | None
) -> None:
    assert gold(row, fields) == (text, key)


@pytest.mark.parametrize("value", [["2"], {"value": 2}, True])
def test_an_answer_that_is_neither_text_nor_number_is_named(value: object) -> None:
    with pytest.raises(NotText, match="expected text or a number under 'answer', got "):
        gold({"answer": value}, Fields())


@pytest.mark.parametrize("verifier", ["numeric", "math"])
def test_thousands_separators_in_a_reference_do_not_matter(verifier: str) -> None:
    reference = final_answer("... = 114200\n#### 114,200")

    assert reference == "114,200"
    assert judge("114200", reference, verifier) == "correct"
    assert judge("\\$114,200", reference, verifier) == "correct"
    assert judge("1142", reference, verifier) == "wrong"
