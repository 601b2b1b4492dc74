"""Which problems are rows of a benchmark: the reason is the row, its share, and how the problem was made of it."""

import random
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillpipe.filters.decontaminate import PIECE, Decontaminator, Match

STORY = (
    "Three pencils and a jumbo eraser cost $1.24. Five pencils and a jumbo eraser cost $1.82. No prices include "
    "tax. In cents, what is the cost of a pencil?"
)
ROOT = r"Simplify $\sqrt{242}$."
POWER = "Find the units digit of $18^6.$"
WORDS = "Determine the number of ways to arrange the letters of the word ELLIPSE."
ROWS = [("shop", "7", STORY), ("roots", "0", ROOT), ("powers", "a", POWER), ("words", "b", WORDS)]

FOUND = [
    (STORY, Match("shop", "7", "held", 1.0)),
    (STORY.upper(), Match("shop", "7", "held", 1.0)),
    (f"Solve this, in \\boxed{{}}: {STORY} Think!", Match("shop", "7", "held", 1.0)),
    (r"SIMPLIFY \(\sqrt {242} \)", Match("roots", "0", "held", 1.0)),
    ("What is 2+2? " + ROOT + " Put your answer in a box.", Match("roots", "0", "held", 1.0)),
    ("Compute the units digit of 18^{6}", Match("powers", "a", "held", 1.0)),
    (
        "Five pencils with a jumbo eraser cost 1.82 dollars, three pencils and a jumbo eraser cost 1.24. What is the "
        "cost of a pencil in cents?",
        Match("shop", "7", "reworded", 19 / 26),
    ),
    (
        "In cents, what does a pencil cost if the cost of three pencils and a jumbo eraser is 1.24, and the cost of "
        "a jumbo eraser and five pencils 1.82? Prices do not include tax.",
        Match("shop", "7", "reworded", 23 / 31),
    ),
    (STORY[: STORY.index(" No prices")], Match("shop", "7", "cut", 10 / 22)),
]
KEPT = [
    STORY.replace("1.82", "1.92"),
    STORY.replace("Three", "Four"),
    r"Simplify $\sqrt{245}$.",
    "Find the units digit of $18^6 + 5$.",
    "Find the units digit of $18^{6!}$.",
    WORDS.replace("ELLIPSE", "TARTAR"),
    "In cents, what is the cost of a pencil?",
    "Simplify.",
    "",
    "Five men and a dog cross a river.",
]


@pytest.mark.parametrize(("problem", "match"), FOUND)
def test_a_row_is_found_and_named(problem: str, match: Match) -> None:
    found = Decontaminator(ROWS).match(problem)
    assert found is not None
    assert found[:3] == match[:3]
    assert found.share == pytest.approx(match.share)


@pytest.mark.parametrize("problem", KEPT)
def test_another_problem_is_kept(problem: str) -> None:
    assert Decontaminator(ROWS).match(problem) is None


def test_of_equal_rows_the_first_is_named() -> None:
    rows = [("one", "0", STORY), ("two", "0", STORY.upper())]
    assert Decontaminator(rows).match(STORY) == Match("one", "0", "held", 1.0)
    assert Decontaminator(rows[::-1]).match(STORY) == Match("two", "0", "held", 1.0)


def test_of_several_rows_the_one_with_the_largest_share_is_named() -> None:
    rows = [
        ("cut", "0", STORY + " Give reasons, and name the shop and the day."),
        ("whole", "0", STORY),
    ]
    assert Decontaminator(rows).match(STORY) == Match("whole", "0", "held", 1.0)


def test_diagrams_are_compared_where_both_have_one() -> None:
    text = "In the diagram, what is the area of the shaded triangle, in square units?"
    row = text + " [asy] draw((0,0)--(2,3)--(10,0)--cycle); [/asy]"
    index = Decontaminator([("plane", "0", row)])
    assert index.match(row.replace("draw", "filldraw")) == Match("plane", "0", "held", 1.0)
    assert index.match(text) == Match("plane", "0", "held", 1.0)
    assert index.match(text + " [asy] draw((0,0)--(7,8)--(11,13)--cycle); [/asy]") is None


EIGHT = [
    (
        "one two three four five six seven eight",
        "x One two\nthree four\tfive SIX seven eight y",
        1.0,
    ),
    ("one two three four five six seven eight", "one two three four five six seven", None),
    ("one two three four five six seven", "one two three four five six seven", None),
    ("one two three four five six seven eight.", "one two three four five six seven eight", None),
    ("a b c d e f g h i j", "z a b c d e f g h i", 2 / 3),
    ("", "", None),
]


@pytest.mark.parametrize(("row", "problem", "share"), EIGHT)
def test_ngram8_is_eight_words_in_common(row: str, problem: str, share: float | None) -> None:
    found = Decontaminator([("b", "0", row)], "ngram8").match(problem)
    assert found == (None if share is None else Match("b", "0", "held", share))


def published_rule(benchmark: list[str], problem: str) -> bool:
    """The rule of open-r1 and s1 read as a set expression: an oracle that shares no code with ours."""

    def runs(text: str) -> set[str]:
        words = " ".join(text.lower().strip().split()).split()
        return {" ".join(words[at : at + 8]) for at in range(len(words) - 7)}

    return any(runs(row) & runs(problem) for row in benchmark)


WORD = st.sampled_from(["a", "B", "b", "Σ", "ΑΣ", "x\x1fy", "\u00a0", "\n", "\ud800"])
TEXT = st.lists(WORD, max_size=30).map(" ".join)


@given(st.lists(TEXT, max_size=4), TEXT)
def test_ngram8_decides_as_the_published_rule(benchmark: list[str], problem: str) -> None:
    index = Decontaminator((("b", str(at), row) for at, row in enumerate(benchmark)), "ngram8")
    assert (index.match(problem) is not None) == published_rule(benchmark, problem)


@pytest.mark.reference
def test_ngram8_flags_619_training_problems_against_math500(
    real_problems: Callable[[str], list[str]],
) -> None:
    benchmark = real_problems("math500.jsonl")
    pool = real_problems("math_train_deepscaler.json")
    rows = [("math500", str(at), row) for at, row in enumerate(benchmark)]
    index = Decontaminator(rows, "ngram8")
    assert sum(index.match(problem) is not None for problem in pool) == 619


@pytest.mark.reference
def test_share_flags_15_of_the_others_and_each_is_known(
    real_problems: Callable[[str], list[str]],
) -> None:
    rows = [
        (name, str(at), problem)
        for name in ("math500.jsonl", "gsm8k_test.jsonl", "aime24_deepscaler.json")
        for at, problem in enumerate(real_problems(name))
    ]
    pool = real_problems("math_train_deepscaler.json")
    index = Decontaminator(rows)
    flagged = [at for at, problem in enumerate(pool) if index.match(problem) is not None]
    # the list and why, by row of the benchmark: docs/log.md
    assert flagged == [
        1253, 1321, 2429, 2629, 2903, 3304, 3329, 3780, 4428, 6950, 6975, 7020, 7170, 7194, 7337,
    ]  # fmt: skip


@pytest.mark.reference
def test_a_twin_with_other_numbers_is_another_problem(
    real_problems: Callable[[str], list[str]], perturbed: ModuleType
) -> None:
    problems = real_problems("gsm8k_test.jsonl")
    index = Decontaminator(("b", str(at), problem) for at, problem in enumerate(problems))
    twins = [
        twin
        for at, problem in enumerate(problems)
        if (twin := perturbed.spelled_otherwise(problem, at, [perturbed.other_numbers])) != problem
    ]
    assert [len(twins), [twin for twin in twins if index.match(twin) is not None]] == [1296, []]


@pytest.mark.reference
@pytest.mark.parametrize("name", ["math500.jsonl", "aime24_deepscaler.json"])
def test_every_row_is_found_under_another_spelling(
    real_problems: Callable[[str], list[str]], perturbed: ModuleType, name: str
) -> None:
    problems = real_problems(name)
    index = Decontaminator(("b", str(at), problem) for at, problem in enumerate(problems))
    kinds = [*perturbed.SPELLINGS[:3], perturbed.other_verb, perturbed.wrapped_otherwise]
    for at, problem in enumerate(problems):
        changed = perturbed.spelled_otherwise(problem, 10_000 + at, kinds)
        assert index.match(changed) == Match("b", str(at), "held", 1.0), changed


@pytest.mark.reference
@settings(max_examples=200)
@given(st.integers(0, 499), st.integers(0, 2**32), st.data())
def test_any_spellings_in_any_order_are_the_same_row(
    real_problems: Callable[[str], list[str]],
    perturbed: ModuleType,
    at: int,
    seed: int,
    data: st.DataObject,
) -> None:
    problems = real_problems("math500.jsonl")
    kinds = data.draw(st.permutations([*perturbed.SPELLINGS, *perturbed.HELD_OUT]))
    kinds = [kind for kind in kinds if kind is not perturbed.case] + [perturbed.case]
    index = Decontaminator([("b", str(at), problems[at])])
    changed = perturbed.spelled_otherwise(problems[at], seed, kinds[-3:])
    assert index.match(changed) is not None, changed


@settings(max_examples=200)
@given(st.lists(st.text(max_size=60), max_size=5), st.text(max_size=60))
def test_any_text_may_be_asked_about_and_a_row_with_words_is_itself(
    rows: list[str], problem: str
) -> None:
    for mode in ("share", "ngram8"):
        index = Decontaminator((("b", str(at), row) for at, row in enumerate(rows)), mode)
        found = index.match(problem)
        assert found is None or 0 < found.share <= 1


@pytest.mark.parametrize("mode", ["share", "ngram8"])
@pytest.mark.parametrize(
    "rows", [[], [("b", "0", "")], [("b", "0", "\ud800 \x00"), ("b", "1", "  ")]]
)
def test_a_benchmark_without_words_flags_nothing(
    rows: list[tuple[str, str, str]], mode: str
) -> None:
    index = Decontaminator(rows, mode)
    assert [index.match(text) for text in ("", "\ud800", STORY, "\x00" * 9)] == [None] * 4


@pytest.mark.parametrize("mode", ["share", "ngram8"])
@pytest.mark.parametrize("before", [0, PIECE - 60, PIECE, 3 * PIECE - 9])
def test_a_row_is_found_anywhere_in_a_long_text(mode: str, before: int) -> None:
    filler = random.Random(0).choices(["lorem", "ipsum", "dolor", "sit", "amet"], k=PIECE)
    text = " ".join(filler)
    problem = f"{text[:before]} {STORY} {text[: 2 * PIECE]}"
    assert Decontaminator(ROWS, mode).match(problem) == Match("shop", "7", "held", 1.0)
    assert Decontaminator(ROWS, mode).match(text[: before + PIECE]) is None


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["share", "ngram8"])
@pytest.mark.parametrize("unit", ["Find $x^2$ and 7 pears. ", "x", "\ud800", "[asy] "])
def test_a_problem_of_50_megabytes_is_no_trouble(mode: str, unit: str) -> None:
    assert Decontaminator(ROWS, mode).match(unit * (50_000_000 // len(unit))) is None


def test_the_row_that_is_named_does_not_depend_on_the_process() -> None:
    code = (
        "from distillpipe.filters.decontaminate import Decontaminator as D;"
        "rows = [('b', str(at), f'one two three four five six seven eight nine ten {word} and {word}')"
        " for at, word in enumerate('alpha beta gamma delta'.split())];"
        "print(D(rows, 'ngram8').match(rows[2][2]), D(rows).match('x ' + rows[1][2] + ' ' + rows[0][2]))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
