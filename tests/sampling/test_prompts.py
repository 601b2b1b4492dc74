"""Prompts: shuffled options, and tests and starter code of a programming problem."""

import itertools
from collections import Counter

import msgspec
import pytest

from distillpipe.base.errors import DataError
from distillpipe.base.records import Problem
from distillpipe.sampling.prompts import option_order, question_text

OPTIONS = ["an eel", "a rat", "a bat", "a cat"]


def problem(text: str = "Which?", verifier: str = "choice", **extra: object) -> Problem:
    content = msgspec.json.encode(extra).decode() if extra else None
    return Problem(
        problem_id="0" * 16, problem=text, reference_answer="A", verifier=verifier, extra=content
    )


def test_options_stand_behind_letters_in_the_order_given() -> None:
    assert question_text(problem(options=OPTIONS), (2, 0, 3, 1)) == (
        "Which?\n\nA) a bat\nB) an eel\nC) a cat\nD) a rat"
    )


def test_every_sample_has_an_order_of_its_own_and_all_orders_come_equally_often() -> None:
    found = Counter(option_order(problem(options=OPTIONS), 0, sample) for sample in range(4800))

    assert set(found) == set(itertools.permutations(range(4)))
    assert 140 < min(found.values()) <= max(found.values()) < 260  # 200 +- 4.3 standard deviations


def test_the_order_depends_on_seed_sample_question_and_options_alone() -> None:
    one = problem(options=OPTIONS)
    mended = msgspec.structs.replace(one, reference_answer="B", problem_id="1" * 16)
    orders = [option_order(one, 0, sample) for sample in range(20)]

    assert orders == [option_order(mended, 0, sample) for sample in range(20)]
    assert orders != [option_order(one, 1, sample) for sample in range(20)]
    other = problem("Which one?", options=OPTIONS)
    assert orders != [option_order(other, 0, sample) for sample in range(20)]


@pytest.mark.parametrize(
    "one",
    [
        problem(),
        problem(verifier="math", options=OPTIONS),
        problem(subject="biology"),
        problem("Which?\nA. an eel\nB. a rat\nC. a bat\nD. a cat", options=OPTIONS),
    ],
    ids=["no extra", "no choice", "no options", "listed in the text"],
)
def test_a_question_without_options_or_that_lists_them_is_asked_as_it_is(one: Problem) -> None:
    assert option_order(one, 0, 0) is None
    assert question_text(one, None) == one.problem


def test_an_option_that_is_a_word_of_the_question_is_listed_all_the_same() -> None:
    one = problem("Is a rat or a bat larger?", options=["a rat", "a bat"])
    assert sorted(option_order(one, 0, 0) or ()) == [0, 1]


def test_more_options_than_letters_are_refused() -> None:
    with pytest.raises(
        DataError, match="has 27 options, at most 26 are supported: remove the problem"
    ):
        option_order(problem(options=[f"option {number}" for number in range(27)]), 0, 0)


@pytest.mark.parametrize(
    ("extra", "beside"),
    [
        (
            {"test_list": ["assert f(1) == 2", "assert f(2) == 3"]},
            "\n\nThe program has to pass these tests:\n\n"
            "```python\nassert f(1) == 2\nassert f(2) == 3\n```",
        ),
        (
            {"starter_code": "class Solution:\n", "public_test_cases": "[]"},
            "\n\nBegin with this code:\n\n```python\nclass Solution:\n```",
        ),
        (
            {"starter_code": "", "public_test_cases": "[{}]"},
            "\n\nThe program reads standard input and writes the answer to standard output.",
        ),
        ({"test": "def check(f): pass", "entry_point": "f"}, ""),
    ],
)
def test_beside_a_programming_problem_stands_what_a_solution_has_to_know(
    extra: dict[str, object], beside: str
) -> None:
    assert question_text(problem("Add one.", "code", **extra)) == f"Add one.{beside}"
    assert question_text(problem("Add one.", "math", **extra)) == "Add one."
