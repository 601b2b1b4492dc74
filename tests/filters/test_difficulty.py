"""Pass rates of problems from predictions, and what is dropped by them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.records import Trace
from distillpipe.base.records import problem_id as id_of
from distillpipe.data.store import dataset
from distillpipe.data.store.dataset import Dataset
from distillpipe.filters.difficulty import (
    check_in_common,
    find_predictions,
    read_pass_rates,
    unwanted_difficulty,
)
from distillpipe.filters.rules import Drop

MakeTrace = Callable[..., Trace]
COINS, BOOKS = id_of("coins", "20", "math"), id_of("books", "20", "math")


@pytest.fixture
def predict(make_trace: MakeTrace) -> Callable[..., list[Trace]]:
    """`predict("small", coins="cw")`: a right and a wrong answer to the problem "coins"."""
    verdicts = {"c": "correct", "w": "wrong", "u": "unverifiable", "-": None}

    def factory(model: str | None, **answers: str) -> list[Trace]:
        return [
            make_trace(
                problem=problem, teacher=model, verdict=verdicts[letter], sample=sample,
                row_key=f"{model} {problem} {sample}".ljust(32),
            )
            for problem, letters in answers.items()
            for sample, letter in enumerate(letters)
        ]  # fmt: skip

    return factory


def write(path: Path, rows: list[Trace]) -> Dataset:
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return dataset.find(str(path))


def test_a_pass_rate_is_the_share_of_right_answers_by_model_and_problem(tmp_path, predict) -> None:
    small = write(tmp_path / "small.jsonl", predict("small", coins="cwww", books="w"))
    strong = write(tmp_path / "strong.jsonl", predict("strong", coins="ccw"))
    assert read_pass_rates([small, strong]) == {
        "small": {COINS: 0.25, BOOKS: 0.0},
        "strong": {COINS: 2 / 3},
    }


def test_what_could_not_be_judged_is_no_evidence(tmp_path, predict) -> None:
    path = write(tmp_path / "small.jsonl", predict("small", coins="cu", books="uu"))
    assert read_pass_rates([path]) == {"small": {COINS: 1.0}}


def test_a_row_in_two_files_counts_once_and_a_model_in_two_files_is_one(tmp_path, predict) -> None:
    first = write(tmp_path / "first.jsonl", predict("small", coins="cw"))
    second = write(tmp_path / "second.jsonl", predict("small", coins="cwww", books="c"))
    assert read_pass_rates([first, second, first]) == {"small": {COINS: 0.25, BOOKS: 1.0}}


def test_rows_without_a_model_are_of_their_files(tmp_path, predict) -> None:
    path = write(tmp_path / "some.jsonl", predict(None, coins="c"))
    assert read_pass_rates([path]) == {path.name: {COINS: 1.0}}


def test_no_predictions_are_no_rates() -> None:
    assert read_pass_rates([]) == {}


def test_a_row_without_a_verdict_is_an_error_that_says_how_to_get_one(tmp_path, predict) -> None:
    path = write(tmp_path / "small.jsonl", predict("small", coins="c-"))
    with pytest.raises(
        DataError, match=r"row .* has no verdict: make predictions with `distill eval"
    ):
        read_pass_rates([path])


def test_the_folder_of_an_eval_stands_for_all_its_datasets(
    tmp_path, predict, write_dataset
) -> None:
    header: dict[str, Any] = {"kind": "predictions", "stage": "eval"}
    write_dataset(tmp_path / "eval" / "b", predict("small", books="c"), **header)
    write_dataset(tmp_path / "eval" / "a", predict("small", coins="w"), **header)
    whole, one = str(tmp_path / "eval"), str(tmp_path / "eval" / "a")

    def names(*references: str) -> list[str]:
        return [source.name for source in find_predictions(references)]

    assert names(whole) == [one, str(tmp_path / "eval" / "b")]
    assert names(one, f"{one}@v1") == [one, f"{one}@v1"]
    assert read_pass_rates(find_predictions([whole])) == {"small": {COINS: 0.0, BOOKS: 1.0}}


def test_a_dataset_of_traces_is_not_one_of_predictions(tmp_path, predict, write_dataset) -> None:
    write_dataset(tmp_path / "traces", predict("teacher", coins="c"))
    with pytest.raises(UsageError, match=r"traces holds traces, not predictions: .*`distill eval"):
        find_predictions([str(tmp_path / "traces")])


def test_what_does_not_exist_is_an_error_that_names_it(tmp_path) -> None:
    with pytest.raises(UsageError, match="nowhere does not exist"):
        find_predictions([str(tmp_path / "nowhere")])


# ---------------------------------------------------------------- what is dropped

ONE, TWO = {"small": {"p": 0.25}}, {"small": {"p": 0.0, "q": 0.5}, "strong": {"p": 0.5}}
DROPS: list[tuple[dict[str, dict[str, float]], dict[str, Any], str, Drop | None]] = [
    ({}, {"strategy": "s1"}, "p", None),
    (ONE, {"max_pass_rate": 0.25}, "p", None),
    (ONE, {"max_pass_rate": 0.2}, "p", Drop("too_easy", "0.25")),
    (ONE, {"min_pass_rate": 0.25}, "p", None),
    (ONE, {"min_pass_rate": 0.26}, "p", Drop("too_hard", "0.25")),
    (ONE, {"min_pass_rate": 0.0}, "q", Drop("unknown_difficulty", "small")),
    # s1 without bounds: what either model solves, once, is too easy
    (ONE, {"strategy": "s1"}, "p", Drop("too_easy", "0.25")),
    (TWO, {"strategy": "s1"}, "p", Drop("too_easy", "0.5")),
    (ONE, {"strategy": "s1", "max_pass_rate": 0.5}, "p", None),
    (ONE, {"strategy": "s1", "min_pass_rate": 0.1}, "p", None),
    # the best of several models counts; that a problem is too hard has to be known of all
    (TWO, {"max_pass_rate": 0.4}, "p", Drop("too_easy", "0.5")),
    (TWO, {"min_pass_rate": 0.4}, "p", None),
    (TWO, {"min_pass_rate": 0.6}, "p", Drop("too_hard", "0.5")),
    (TWO, {"max_pass_rate": 0.4}, "q", Drop("too_easy", "0.5")),
    (TWO, {"max_pass_rate": 0.5}, "q", Drop("unknown_difficulty", "strong")),
    (TWO, {"min_pass_rate": 0.6}, "q", Drop("unknown_difficulty", "strong")),
    (TWO, {"min_pass_rate": 0.6}, "r", Drop("unknown_difficulty", "small, strong")),
    # LIMO: a strong model solves 1 to 3 of 32
    ({"strong": {"p": 0 / 32}}, {"min_pass_rate": 0.03125, "max_pass_rate": 0.09375}, "p", Drop("too_hard", "0")),
    ({"strong": {"p": 1 / 32}}, {"min_pass_rate": 0.03125, "max_pass_rate": 0.09375}, "p", None),
    ({"strong": {"p": 3 / 32}}, {"min_pass_rate": 0.03125, "max_pass_rate": 0.09375}, "p", None),
    ({"strong": {"p": 4 / 32}}, {"min_pass_rate": 0.03125, "max_pass_rate": 0.09375}, "p", Drop("too_easy", "0.125")),
]  # fmt: skip


@pytest.mark.parametrize(("rates", "changes", "problem", "drop"), DROPS)
def test_a_problem_is_dropped_by_the_pass_rate_of_the_best_model(
    make_options, rates, changes, problem, drop
) -> None:
    assert unwanted_difficulty(problem, rates, make_options(**changes)) == drop


def test_a_model_that_answered_other_problems_is_an_error_with_a_remedy() -> None:
    check_in_common(TWO, {"p", "x"})
    with pytest.raises(UsageError) as raised:
        check_in_common(TWO, {"q", "x"})
    assert str(raised.value) == (
        "--difficulty: strong answered 1 problems, none of which is among the 2 of the traces: run "
        "`distill eval MODEL --benchmark PROBLEMS --out FOLDER` on the problems of the traces, "
        "with the same reference answers and verifier"
    )
