"""Near-duplicate problems: which are found, and which of them stays, whatever the order, process or seed."""

import itertools
import random
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from distillpipe.base.hashing import uniform
from distillpipe.filters import near_duplicates as near
from distillpipe.filters.near_duplicates import LONGEST, KeptProblem, near_duplicates
from distillpipe.filters.words import words_of

STORY = (
    "Three pencils and a jumbo eraser cost $1.24. Five pencils and a jumbo eraser cost $1.82. No prices include "
    "tax. In cents, what is the cost of a pencil?"
)
UNLIKE = {
    "other numbers": STORY.replace("1.82", "1.92"),
    "a number more": STORY + " Round to 1 place.",
    "another sign": STORY + " Give $x - y$.",
    "another variable": STORY + " Call it $p$.",
    "other words": "The 3 of us ran 5 miles in 1.24 hours, or was it 1.82 hours that we ran last summer in Maine?",
    "no words": "",
}
ALIKE = {
    "the same": STORY,
    "capitals": STORY.upper(),
    "LaTeX": STORY.replace("$1.24", r"$\$1.24$").replace("Five", "$5$"),
    "a slip": STORY.replace("include", "inclode"),
    "another thing": STORY.replace("No prices include tax.", "No price includes any tax."),
}


def first(*ids: str, seed: int = 0) -> str:
    return min(ids, key=lambda problem_id: uniform(seed, problem_id))


@pytest.mark.parametrize("other", UNLIKE.values(), ids=UNLIKE)
def test_another_problem_stays(other: str) -> None:
    assert near_duplicates([("a", STORY), ("b", other)], 0.5, 0) == {}


@pytest.mark.parametrize("other", ALIKE.values(), ids=ALIKE)
@pytest.mark.parametrize("seed", range(4))
def test_of_two_that_are_alike_the_one_that_is_drawn_first_stays(other: str, seed: int) -> None:
    found = near_duplicates([("a", STORY), ("b", other)], 0.6, seed)
    stays = first("a", "b", seed=seed)
    assert [(one, kept.problem_id) for one, kept in found.items()] == [
        ("b" if stays == "a" else "a", stays)
    ]


def test_a_row_names_the_problem_that_stays_and_how_like_it_is() -> None:
    stays, goes = sorted("ab", key=lambda problem_id: uniform(0, problem_id))
    assert near_duplicates([("a", STORY), ("b", STORY.lower())], 1.0, 0) == {
        goes: KeptProblem(stays, 1.0)
    }


@pytest.mark.parametrize(("threshold", "num_near"), [(0.0, 1), (0.6, 1), (0.8, 0), (1.0, 0)])
def test_the_threshold_decides(threshold: float, num_near: int) -> None:
    other = STORY.replace("No prices include tax.", "No price includes any tax.")
    assert len(near_duplicates([("a", STORY), ("b", other)], threshold, 0)) == num_near


@pytest.mark.parametrize(
    "problems",
    [
        [],
        [("a", "")],
        [("a", ""), ("b", ""), ("c", " \n"), ("d", "\ud800"), ("e", "\x00")],
        [("a", STORY)],
        [("a", STORY), ("a", STORY), ("a", "something else")],
        [("a", "pears " * (LONGEST // 6 + 1)), ("b", "pears " * (LONGEST // 6 + 1))],
    ],
    ids=["none", "empty", "no words", "one", "one id", "too long to compare"],
)
def test_where_there_is_nothing_to_compare_all_stay(problems: list[tuple[str, str]]) -> None:
    assert near_duplicates(problems, 0.5, 0) == {}


def test_one_word_and_broken_characters_are_compared() -> None:
    problems = [("a", "Pears!"), ("b", "pears \ud800"), ("c", "plums"), ("d", "pe\x00ars")]
    assert set(near_duplicates(problems, 0.7, 0)) == {"a", "b"} - {first("a", "b")}


TEXTS = st.lists(
    st.lists(
        st.sampled_from(["the", "cost", "of", "red", "and", "blue", "pens"]), min_size=4, max_size=9
    ).map(" ".join),
    max_size=12,
)


@given(
    TEXTS, st.randoms(use_true_random=False), st.sampled_from([0.5, 0.7, 0.9]), st.integers(0, 3)
)
def test_the_order_does_not_matter_and_what_goes_is_like_what_stays(
    texts: list[str], shuffler: random.Random, threshold: float, seed: int
) -> None:
    problems = [(str(at), text) for at, text in enumerate(texts)]
    found = near_duplicates(problems, threshold, seed)
    shuffler.shuffle(problems)
    assert near_duplicates(problems, threshold, seed) == found
    for goes, kept in found.items():
        assert kept.problem_id not in found
        assert uniform(seed, kept.problem_id) < uniform(seed, goes)
        assert threshold <= kept.similarity <= 1


def pairs(text: str) -> set[tuple[str, str]]:
    words = words_of(text)
    return set(itertools.pairwise(words))


@pytest.mark.reference
def test_the_estimate_is_as_near_to_the_jaccard_index_as_it_says(
    real_problems: Callable[[str], list[str]], perturbed: ModuleType
) -> None:
    errors: list[float] = []
    for at, problem in enumerate(real_problems("gsm8k_test.jsonl")[:400]):
        other = perturbed.spelled_otherwise(problem, at, [perturbed.other_word])
        exact = len(pairs(problem) & pairs(other)) / len(pairs(problem) | pairs(other))
        found = near_duplicates([("a", problem), ("b", other)], 0.0, 0)
        if exact > 0.6:  # below that some are not compared
            errors += [one.similarity - exact for one in found.values()]
    assert len(errors) > 200
    deviations: NDArray[np.float64] = np.array(errors)
    assert abs(deviations.mean()) < 0.01
    assert deviations.std() < 0.045


@pytest.mark.reference
def test_near_duplicates_among_real_problems_are_found_and_twins_are_not(
    real_problems: Callable[[str], list[str]], perturbed: ModuleType
) -> None:
    problems = real_problems("gsm8k_test.jsonl")
    real = [(f"{at}", problem) for at, problem in enumerate(problems)]
    assert near_duplicates(real, 0.7, 0) == {}

    def found(kinds: list[object]) -> float:
        copies = [
            (f"copy {at}", perturbed.spelled_otherwise(problem, at, kinds))
            for at, problem in enumerate(problems)
        ]
        changed = [
            copy for copy, problem in zip(copies, problems, strict=True) if copy[1] != problem
        ]
        return len(near_duplicates(real + changed, 0.7, 0)) / len(changed)

    assert found(perturbed.SPELLINGS[:3]) == 1
    assert found([perturbed.typo]) > 0.9
    assert found([perturbed.other_numbers]) == 0


def test_a_template_with_many_numbers_is_read_to_its_end() -> None:
    """Every problem shares its words with all others: comparing each with each would take minutes."""
    problems = [
        (str(at), f"Tom has {at} pears and eats 2. How many are left?") for at in range(8_000)
    ]
    assert near_duplicates(problems, 0.7, 0) == {}


def test_of_many_copies_of_one_problem_one_stays() -> None:
    problems = [(str(at), STORY) for at in range(8_000)]
    assert len(near_duplicates(problems, 0.7, 0)) == 7_999


def test_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [(str(at), f"{STORY} {'again ' * (at % 3)}") for at in range(30)]
    found = near_duplicates(problems, 0.7, 0)
    assert len(found) == 29
    monkeypatch.setattr(near, "BATCH", 7)
    assert near_duplicates(problems, 0.7, 0) == found


def test_the_result_does_not_depend_on_the_process() -> None:
    code = (
        "from distillpipe.filters.near_duplicates import near_duplicates as near;"
        f"print(near([(str(at), {STORY!r} + ' word' * (at % 5)) for at in range(40)], 0.9, 1))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
