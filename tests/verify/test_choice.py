"""The verifier `choice`: the choice of a response, and the letters that a text names."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.base.records import Trace
from distillpipe.verify import judge, verified
from distillpipe.verify.choice import chosen, options_of, order_in, same_choice
from distillpipe.verify.choice_letters import letters

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


@pytest.mark.parametrize(("text", "options", "named"), LETTERS)
def test_a_text_names_letters_by_letter_label_or_option_text(text, options, named) -> None:
    assert letters(text, options) == named


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


def test_a_trace_is_judged_by_the_argument_options_or_its_own(make_trace) -> None:
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
def test_a_letter_is_judged_in_the_order_of_the_rows_prompt(
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


# ---------------------------------------------------------------- what is chosen, and what is not

COLOURS = ["red", "green", "blue", "white"]
CHOSEN_RIGHT = [
    ("\\boxed{\\Delta E = 5}\n\nAnswer: D", "D"), ("\\boxed{B}", "B"), ("\\boxed{b}", "B"), ("\\boxed{(b)}", "B"),
    ("\\boxed{\\textbf{(B)}}", "B"), ("\\boxed{blue}", "C"), ("\\boxed{\\text{Blue}}", "C"), ("\\boxed{C) blue}", "C"),
    ("\\boxed{C. blue}", "C"), ("\\boxed{\\text{A and C}}", "AC"), ("\\boxed{A, C and D}", "ACD"),
    ("\\boxed{\\text{both A and C}}", "A, C"), ("\\boxed{(A), (C)}", "AC"), ("\\boxed{A、C}", "AC"), ("\\boxed{A和C}", "AC"),
    ("\\boxed{A \\text{ and } C}", "AC"), ("\\boxed{\\text{A}, \\text{C}}", "AC"), ("\\boxed{A} and \\boxed{C}", "AC"),
    ("\\boxed{AC}", "AC"), ("\\boxed{a, c}", "AC"), ("\\boxed{A & C}", "AC"), ("\\boxed{\\{A, C\\}}", "AC"), ("The answer is D.", "D"),
    ("**Answer:** D", "D"), ("**Answer: D**", "D"), ("Answer: **D**", "D"), ("answer: (d)", "D"), ("The answer is A because it is", "A"),
    ("Option C is correct.", "C"), ("Option C is correct: A is too small", "C"), ("The answer is B. Option A is incorrect.", "B"),
    ("(C) is the correct answer", "C"), ("I choose B", "B"), ("I would go with (B).", "B"), ("所以答案是 C。", "C"), ("故选C", "C"),
    ("答案\uff1aAC", "AC"), ("正确答案是A和C", "AC"), ("La respuesta es C", "C"), ("Die Antwort ist C.", "C"), ("La réponse est (C).", "C"),
    ("Ответ: C", "C"), ("none of these lines\n\nD", "D"), ("x\n(D)", "D"), ("x\n**D**.", "D"), ("C. Because B is wrong", "C"),
    ("Because B is valid", "B"), ("The answer is blue.", "C"), ("\\boxed{(A) red, (C) blue}", "AC"), ("\\boxed{A} since \\boxed{x+1}", "A"),
    ("\\boxed{D} \\boxed{x+1} Answer: D", "D"), ("\\boxed{blue (C)}", "C"), ("\\boxed{\\text{Option C}}", "C"),
    ("\\boxed{\\text{The answer is C}}", "C"), ("\\boxed{Answer: C}", "C"), ("The final answer is: $\\boxed{C}$", "C"),
    ("Final Answer\n\nC", "C"), ("### Answer\nC", "C"), ("Answer: \\(C\\)", "C"), ("The answer is $\\text{C}$", "C"),
    ("The answer is **C) blue**", "C"), ("The correct options are A and C.", "AC"), ("The correct answers are (A) and (C).", "AC"),
    ("The correct answers are A, C, and D.", "ACD"), ("Both A and C are correct.", "AC"), ("The correct answer is both A and C", "AC"),
    ("Answer: \"C\"", "C"), ("ANSWER: C", "C"), ("answer is option C", "C"), ("My choice: C", "C"), ("Thus, C.", "C"),
    ("\\boxed{\\mathrm{C}}", "C"), ("\\boxed{\\boxed{C}}", "C"), ("$\\boxed{\\textbf{C. }blue}$", "C"), ("\\boxed{C: blue}", "C"),
    ("\\boxed{C - blue}", "C"), ("\\boxed{C blue}", "C"), ("<answer>C</answer>", "C"), ("A", "A"), ("a", "A"), ("\\boxed{A.}", "A"),
    ("\\boxed{[A]}", "A"), ("\\boxed{'A'}", "A"), ("\\boxed{A,}", "A"),
]  # fmt: skip
CHOSEN_WRONG = [
    ("\\boxed{A = \\pi r^2}", "A"), ("\\boxed{A) blue}", "A"), ("\\boxed{A) blue}", "C"), ("\\boxed{\\text{A and C}}", "A"),
    ("\\boxed{\\text{A and C}}", "C"), ("\\boxed{A or C}", "AC"), ("\\boxed{A or C}", "A"), ("\\boxed{A,B,C}", "AC"),
    ("\\boxed{A/C}", "AC"), ("The answer is not D.", "D"), ("The answer isn't D", "D"), ("If the answer is D, then x.", "D"),
    ("Is the answer D?", "D"), ("The answer is D?", "D"), ("The answer is A or D", "D"), ("The answer is A or D", "A"),
    ("The answer is either A or D", "A"), ("The answer is A cat", "A"), ("Answer: A red one", "A"),
    ("Option C is correct: A is too small", "A"), ("Option A is wrong. Option B is incorrect.", "A"),
    ("Option A is wrong. Option B is incorrect.", "B"), ("The answer is B. Option A is incorrect.", "A"),
    ("Neither A nor C is correct", "C"), ("Only one of A and C is correct", "AC"), ("I'd eliminate B", "B"), ("选项A是错误的", "A"), ("不选A", "A"),
    ("A) red is wrong\nB) green is wrong\nC) blue is right", "A"), ("B is wrong", "B"), ("The force A is in the box", "A"),
    ("The answer is blue.", "A"),
    ("The capacitance is $C$ here, as is known from the very long derivation that stands above this line, which used the usual symbols and definitions.", "C"),
    ("\\boxed{K}", "K"), ("\\boxed{a dog}", "A"), ("\\boxed{Bücher}", "B"), ("\\boxed{(A) red, (C) blue}", "A"),
    ("\\boxed{A} Hmm. \\boxed{x+1} Answer: D", "D"), ("\\boxed{A} Hmm. \\boxed{x+1} Answer: D", "A"), ("\\boxed{P(A)}", "A"),
    ("The answer is A and C", "A"), ("", "A"), ("\\boxed{}", "A"), ("\\boxed{A, B is wrong}", "A"),
]  # fmt: skip
WITH_OPTIONS = [
    ("\\boxed{E = mc^2}", "E", ["u", "v", "w", "x", "y", "z"], False),
    ("Answer: I think it is B", "I", ["u", "v", "w", "x", "y", "z", "r", "s", "t", "q"], False),
    ("The answer is determined by F = ma", "F", ["u", "v", "w", "x", "y", "z"], False),
    ("\\boxed{None of the above}", "D", ["1", "2", "3", "None of the above"], True),
    ("\\boxed{\\text{none of these}}", "D", ["1", "2", "3", "None of the above"], True),
    ("The answer is none of the above", "D", ["1", "2", "3", "None of the above"], True),
    ("\\boxed{K}", "K", ["o0", "o1", "o2", "o3", "o4", "o5", "o6", "o7", "o8", "o9", "o10", "o11"], True),
    ("\\boxed{E. coli}", "E", ["x", "E. coli bacteria", "y", "z", "w"], False),
    ("\\boxed{B cells}", "B", ["x", "y", "T cells", "z"], False), ("\\boxed{5 \\text{ m}}", "B", ["4 m", "5 m", "6 m"], True),
    ("\\boxed{\\frac12}", "B", ["1", "0.5", "6"], True), ("\\boxed{Copper (I)}", "C", ["Zinc (I)", "Zinc (II)", "Copper (I)"], True),
    ("\\boxed{C) Copper (I)}", "C", ["Zinc (I)", "Zinc (II)", "Copper (I)"], True), ("\\boxed{red}", "A", ["A) red", "B) blue"], True),
    ("\\boxed{A}", "A", ["O", "A", "B", "AB"], True),
]  # fmt: skip


def _judged(response: str, reference: str, options: list[str]) -> str:
    answer = chosen(response, options, reference)
    return judge(answer, reference, "choice", json.dumps({"options": options}))


@pytest.mark.parametrize(("response", "reference"), CHOSEN_RIGHT)
def test_a_plain_choice_is_read(response: str, reference: str) -> None:
    assert _judged(response, reference, COLOURS) == "correct"


@pytest.mark.parametrize(("response", "reference"), CHOSEN_WRONG)
def test_what_is_no_plain_choice_is_never_taken_for_one(response: str, reference: str) -> None:
    assert _judged(response, reference, COLOURS) != "correct"


@pytest.mark.parametrize(("response", "reference", "options", "is_right"), WITH_OPTIONS)
def test_the_options_say_what_is_chosen(
    response: str, reference: str, options: list[str], is_right: bool
) -> None:
    assert (_judged(response, reference, options) == "correct") is is_right


@pytest.mark.parametrize("reference", "ABCD")
def test_of_all_letters_at_most_the_one_that_is_chosen_is_right(reference: str) -> None:
    for response, chosen_letters in CHOSEN_RIGHT:
        is_right = _judged(response, reference, COLOURS) == "correct"
        assert is_right is (chosen_letters == reference), response


@pytest.mark.parametrize("order", [["2", "0", "1"], [True, 0, 2], [0, 0, 1], [[]], [1.0, 0, 2]])
def test_an_order_that_is_no_list_of_numbers_is_none(order: list[object]) -> None:
    assert order_in(json.dumps({"option_order": order})) is None


def test_options_beyond_the_tenth_have_letters(make_trace: Callable[..., Trace]) -> None:
    options = [f"option number {number}" for number in range(12)]
    extra = json.dumps({"options": options, "option_order": [11, *range(11)]})
    row = make_trace(response="\\boxed{A}", reference_answer="L", verifier="choice", extra=extra)
    assert verified(row).verdict == "correct"
