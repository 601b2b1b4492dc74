"""The verifier `choice`: what a response chooses, and which letter a text names."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.records import Trace
from distillpipe.verify import judge, verified
from distillpipe.verify.choice import chosen, letters, options_of, same_choice

OPTIONS = ["Paris", "London", "3.50", "a cat", "Dd", "dd", "A"]

CHOSEN = {
    r"So \boxed{C}.": "C",
    r"The answer is (A). No: \boxed{\text{(B)}}": r"\text{(B)}",
    "The answer is (C).": "C",
    "The answer is C": "C",
    "the correct answer is **C**.": "C",
    "**Answer: C**": "C",
    "Answer: $\\boldsymbol{C}$ or (C)": "C",
    "The correct option is D. Thus the answer is\n(D)": "D",
    "First I thought the answer is A. The answer is B.": "B",
    "The answer is for sure D, it can't be A or B": "D",
    "C. Because B is wrong": "C",
    "C": "C",
    "c": "C",
    "(C)": "C",
    "**C**": "C",
    "B。 不是 A": "B",
    "B不是 A": "B",
    "Because B is valid": "B",
    "I think it's (D).": "D",
    "The answer is Paris.": "Paris",
    "A cat sat on B or C": None,
    "I have no idea": None,
    "": None,
}

LETTERS = [
    ("C", None, "C"), ("c", None, "C"), ("(C)", None, "C"), ("C.", None, "C"), ("C) text", None, "C"),
    ("C. text", None, "C"), ("C: text", None, "C"), (r"\text{C}", None, "C"), (r"\textbf{(C)}", None, "C"),
    ("**C**", None, "C"), ("Option C", None, "C"), ("A Peter", None, "A"), ("(A) Cecile", None, "A"),
    ("A, C", None, "AC"), ("C and A", None, "AC"), ("BD", None, "BD"),
    ("A cat", None, None), ("Paris", None, None), ("K", None, None), ("", None, None),
    ("paris", OPTIONS, "A"), ("B", OPTIONS, "B"), ("7/2", OPTIONS, "C"), ("a cat", OPTIONS, "D"),
    ("Dd", OPTIONS, "E"), ("dd", OPTIONS, "F"), ("DD", OPTIONS, None), ("H", OPTIONS, None), ("Rome", OPTIONS, None),
]  # fmt: skip


@pytest.mark.parametrize(("response", "answer"), CHOSEN.items(), ids=CHOSEN.keys())
def test_a_response_chooses_by_box_then_statement_then_label(response, answer) -> None:
    assert chosen(response) == answer


@pytest.mark.parametrize(("text", "options", "found"), LETTERS)
def test_a_text_names_letters_by_letter_by_label_or_by_the_text_of_an_option(
    text, options, found
) -> None:
    assert letters(text, options) == found


@pytest.mark.parametrize(
    ("answer", "reference", "options", "verdict"),
    [
        ("C", "C", None, "correct"),
        ("c) 3.50", "C", OPTIONS, "correct"),
        ("London", "B", OPTIONS, "correct"),
        ("B", "London", OPTIONS, "correct"),
        ("\\$3.5", "C", OPTIONS, "correct"),
        ("A", "B", OPTIONS, "wrong"),
        ("Rome", "B", OPTIONS, "wrong"),
        ("", "B", OPTIONS, "wrong"),
        ("B", "Rome", OPTIONS, "unverifiable"),
        ("B", "J", OPTIONS, "unverifiable"),
        ("Paris", "paris", None, "correct"),
        ("A) Paris", "Paris", None, "correct"),
        ("Rome", "Paris", None, "wrong"),
        ("A, B", "B, A", None, "correct"),
        ("A", "A, B", None, "wrong"),
    ],
)
def test_letters_and_texts_are_compared(answer, reference, options, verdict) -> None:
    assert same_choice(answer, reference, options) == verdict


@pytest.mark.parametrize(
    ("extra", "options"),
    [
        ({"options": ["x", "y"]}, ["x", "y"]),
        ({"choices": ["x", 2]}, ["x", "2"]),
        ({"choices": {"label": ["A", "B"], "text": ["x", "y"]}}, ["x", "y"]),
        ({"options": {"B": "y", "A": "x"}}, ["x", "y"]),
        ({"options": '["x", "y"]'}, ["x", "y"]),
        ({"options": "x"}, None),
        ({"options": []}, None),
        ({"subject": "law"}, None),
        ([1], None),
        (None, None),
    ],
)
def test_options_are_found_among_the_extra_keys_of_a_problem(extra, options) -> None:
    assert options_of(json.dumps(extra)) == options


@pytest.mark.parametrize("extra", [None, "", "{"])
def test_without_extra_keys_there_are_no_options(extra: str | None) -> None:
    assert options_of(extra) is None


def test_a_trace_is_judged_with_the_options_given_or_with_its_own(make_trace) -> None:
    extra = json.dumps({"options": OPTIONS})
    trace = make_trace(response="The answer is London.", reference_answer="B", verifier="choice")
    assert verified(trace).verdict == "wrong"
    assert verified(trace, extra=extra).verdict == "correct"
    own = make_trace(response="It is London: \\boxed{London}", reference_answer="B", extra=extra)
    assert verified(own, "choice").verdict == "correct"


@given(st.text("ABCJK()*.: abc{}\\$\n答案是"), st.sampled_from("ABCJ"))
def test_any_text_chooses_something_or_nothing_and_is_judged(text: str, reference: str) -> None:
    answer = chosen(text)
    assert judge(answer, reference, "choice") in ("correct", "wrong")
    assert judge(text, reference, "choice", json.dumps({"options": OPTIONS})) in (
        ("unverifiable",) if reference == "J" else ("correct", "wrong")
    )


# ---------------------------------------------------------------- options that were shuffled

SHUFFLED = '{"option_order": [2, 0, 1]}'
EELS = json.dumps({"options": ["an eel", "a rat", "a bat"]})


@pytest.mark.parametrize(
    ("response", "reference", "verdict", "answer"),
    [
        ("\\boxed{B}", "A", "correct", "an eel"),
        ("\\boxed{A}", "A", "wrong", "a bat"),
        ("The answer is (C).", "B", "correct", "a rat"),
        ("\\boxed{an eel}", "A", "correct", "an eel"),
        ("\\boxed{B}", "an eel", "correct", "an eel"),
        ("\\boxed{A, B}", "AC", "correct", "a bat and an eel"),
        ("\\boxed{E}", "A", "wrong", "E"),
        ("No idea.", "A", "wrong", None),
        ("\\boxed{A}", "none of them", "unverifiable", "a bat"),
    ],
)
def test_a_letter_is_judged_in_the_order_that_the_row_was_asked_in(
    make_trace: Callable[..., Trace],
    response: str,
    reference: str,
    verdict: str,
    answer: str | None,
) -> None:
    row = make_trace(
        problem="Which?",
        response=response,
        reference_answer=reference,
        verifier="choice",
        extra=SHUFFLED,
    )
    judged = verified(row, extra=EELS)
    assert (judged.verdict, judged.answer, judged.extra) == (verdict, answer, SHUFFLED)
    assert judged.reference_answer == reference


@pytest.mark.parametrize("order", ["[0, 0, 1]", "[0, 1]", '"abc"', "[1, 2, 3]", "[true, 0, 2]"])
def test_what_is_no_order_of_the_options_is_none(
    make_trace: Callable[..., Trace], order: str
) -> None:
    row = make_trace(
        problem="Which?", response="\\boxed{A}", reference_answer="A", verifier="choice",
        extra=f'{{"option_order": {order}}}',
    )  # fmt: skip
    assert verified(row, extra=EELS).verdict == "correct"
