r"""Extraction of the answer: the last balanced outermost `\boxed{}`; boxes joined by commas or words are one answer."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distillpipe.verify.extract import boxed_answer

LAST_BOX = {
    r"\boxed{20}": "20",
    r"So \(\boxed{5x+1}\). Great!": "5x+1",
    r"$\boxed{1/3}$, later $\boxed{2/3}$": "2/3",
    r"\boxed{\frac{1}{2}}": r"\frac{1}{2}",
    r"\boxed{outer {inner} ok}": "outer {inner} ok",
    r"\boxed{a = \boxed{20}}": r"a = \boxed{20}",
    r"\boxed {20}": "20",
    "\\boxed\n{20}": "20",
    r"\boxed{ 20 }": "20",
    "\\boxed{1\n+2}": "1\n+2",
    r"\fbox{20}": "20",
    r"\framebox{20}": "20",
    r"\framebox[3cm][c]{20}": "20",
    "<|begin_of_box|>20<|end_of_box|>": "20",
    "<|begin_of_box|>1<|end_of_box|> so <|begin_of_box|>2<|end_of_box|>": "2",
    r"<|begin_of_box|>\{1, 2<|end_of_box|>": r"\{1, 2",
    r"\boxed{<|begin_of_box|>20<|end_of_box|>}": "20",
    r"{<|begin_of_box|>20}<|end_of_box|>": "20}",
    r"\boxed 20": "20",
    r"\boxed -2.5": "-2.5",
    r"\boxed{}": "",
    r"\boxed{\{1, 2\}}": r"\{1, 2\}",
    r"\boxed{\{}": r"\{",
    r"\boxed{a\\}": r"a\\",
    r"\boxed{[0,1)}": "[0,1)",
}

NO_BOX = [
    "",
    "20",
    "The answer is 20.",
    r"\boxed",
    r"\boxed twenty",
    r"\boxed(20)",
    r"\unboxed{20}",
]

UNCLOSED = {
    r"\boxed{20": None,
    r"\boxed{20\}": None,
    r"\boxed{\frac{1}{2}": None,
    r"\boxed{1} so \boxed{2": "1",
    r"\boxed{1 so \boxed{2}": "2",
    r"\boxed{\boxed{": None,
    "<|begin_of_box|>20": None,
    "20<|end_of_box|>": None,
}

JOINED = {
    r"\boxed{1}, \boxed{2}": "1, 2",
    r"\boxed{1},\boxed{2},\boxed{3}": "1, 2, 3",
    r"$\boxed{6}$ and $\boxed{8}$": "6, 8",
    r"\(\boxed{6}\) or \(\boxed{8}\)": "6, 8",
    r"$\boxed{1}$, $\boxed{2}$, and $\boxed{3}$": "1, 2, 3",
    r"\boxed{6} \quad \boxed{8}": "6, 8",
    "<|begin_of_box|>6<|end_of_box|>, <|begin_of_box|>8<|end_of_box|>": "6, 8",
    r"\boxed{6} \text{ or } \boxed{8}": "6, 8",
    r"\boxed{(98, 2)} \quad \text{and} \quad \boxed{(99, 503)}": "(98, 2), (99, 503)",
    "\\boxed{1},\n\\boxed{2}": "1, 2",
    r"\boxed{ 1 } , \boxed{ 2 }": "1, 2",
}

APART = {
    r"\boxed{1}. So \boxed{2}": "2",
    r"\boxed{1} \boxed{2}": "2",
    r"\boxed{1} papers and \boxed{2}": "2",
    r"\boxed{1} and then \boxed{2}": "2",
    r"\boxed{1} = \boxed{2}": "2",
    r"\boxed{9}. Or: \boxed{1} and \boxed{2}": "1, 2",
    r"\boxed{1} and \boxed{2}. Wait: \boxed{3}": "3",
}


@pytest.mark.parametrize(("response", "answer"), LAST_BOX.items(), ids=LAST_BOX.keys())
def test_the_answer_is_the_content_of_the_last_outermost_box(response: str, answer: str) -> None:
    assert boxed_answer(response) == answer


@pytest.mark.parametrize("response", NO_BOX)
def test_without_a_box_there_is_no_answer(response: str) -> None:
    assert boxed_answer(response) is None


@pytest.mark.parametrize(("response", "answer"), UNCLOSED.items(), ids=UNCLOSED.keys())
def test_a_box_that_is_not_closed_does_not_count(response: str, answer: str | None) -> None:
    assert boxed_answer(response) == answer


@pytest.mark.parametrize(("response", "answer"), JOINED.items(), ids=JOINED.keys())
def test_boxes_joined_by_commas_and_or_and_space_are_one_answer(response: str, answer: str) -> None:
    assert boxed_answer(response) == answer


@pytest.mark.parametrize(("response", "answer"), APART.items(), ids=APART.keys())
def test_boxes_with_other_text_between_them_are_separate_answers(
    response: str, answer: str
) -> None:
    assert boxed_answer(response) == answer


PIECES = [
    "<|begin_of_box|>",
    "<|end_of_box|>",
    r"\framebox[",
    r"\boxed{",
    r"\fbox{",
    "{",
    "}",
    "\\",
    ",",
    " and ",
    r"\quad",
    r"\text{or}",
    "$",
    "1",
]
RESPONSES = st.text() | st.lists(st.sampled_from(PIECES)).map("".join)


@given(RESPONSES)
@example("\\boxed{" * 50 + "," * 50)
@example("\\boxed{}" + ", \\" * 50 + "\\boxed{}")
def test_every_part_of_an_answer_is_in_the_response(response: str) -> None:
    answer = boxed_answer(response)
    unmarked = response.replace("<|begin_of_box|>", "").replace("<|end_of_box|>", "")
    parts = [] if answer is None else answer.split(", ")
    assert all(part in response or part in unmarked for part in parts)


BALANCED = st.recursive(
    st.text("ab12+ ").map(str.strip),
    lambda inner: inner.map("{{{}}}".format) | st.lists(inner, min_size=2).map("".join),
)


@given(BALANCED, st.sampled_from(["", "So ", "\\boxed{0} so "]), st.sampled_from(["", ".", "$ }"]))
def test_any_balanced_content_comes_out_of_its_box_as_it_is(
    content: str, before: str, after: str
) -> None:
    assert boxed_answer(f"{before}\\boxed{{{content}}}{after}") == content


@pytest.mark.reference
def test_boxes_of_real_tests_give_what_their_authors_expect(reference_rows) -> None:
    rows = [row for row in reference_rows("answers/extraction.jsonl") if "\\boxed" in row["text"]]
    braced = [row for row in rows if "\\boxed{" in row["text"] or row["expected"] is None]
    assert len(braced) == len(rows) - 1  # `\boxed 7` has no braces: no answer for us
    assert {row["text"]: boxed_answer(row["text"]) for row in braced} == {
        row["text"]: row["expected"] for row in braced
    }
