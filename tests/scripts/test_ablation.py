"""The table of recipes/ablation: rates pooled over seeds, paired differences, what is left out."""

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from distillpipe.base.hashing import content_hash
from distillpipe.base.records import Trace

Write = Callable[..., None]


@pytest.fixture(scope="module")
def ablation(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("ablation.py")


@pytest.fixture
def write_runs(
    tmp_path: Path, make_trace: Callable[..., Trace], write_dataset: Callable[..., Any]
) -> Write:
    """`write_runs("all", 0, "+-+-")`: an arm of a seed, which had these problems right and wrong."""

    def write(arm: str, seed: int, signs: str) -> None:
        predictions = [
            make_trace(
                problem=f"problem {number}",
                row_key=content_hash(arm, seed, number),
                verdict="correct" if sign == "+" else "wrong",
            )
            for number, sign in enumerate(signs)
        ]
        path = tmp_path / f"eval-{arm}-{seed}" / "problems-test"
        write_dataset(path, predictions, kind="predictions")
        write_dataset(tmp_path / f"student-{arm}-{seed}", predictions)

    return write


def rates(signs: str) -> dict[str, Fraction]:
    return {str(number): Fraction(sign == "+") for number, sign in enumerate(signs)}


def test_rates_are_pooled_problem_by_problem(ablation: ModuleType) -> None:
    found = ablation.pooled([rates("++-"), rates("+--"), rates("+--")])
    assert found == {"0": 1, "1": Fraction(1, 3), "2": 0}


def test_seeds_of_different_problems_are_not_pooled(ablation: ModuleType) -> None:
    with pytest.raises(ValueError, match="different problems"):
        ablation.pooled([rates("++"), rates("+")])
    with pytest.raises(ValueError, match="different problems"):
        ablation.gain([rates("++")], [rates("+")])


def test_a_difference_has_the_paired_interval_and_that_of_each_seed(ablation: ModuleType) -> None:
    # by problem 1/2, 1, 0, -1/2: mean 1/4, squares 5/4, two more of 5/12 each; half of the interval is
    # Student's 3.182 * sqrt(5/4 + 5/6) / (4 + 2) = 0.765
    found = ablation.gain([rates("+++-"), rates("-++-")], [rates("--+-"), rates("--++")])
    assert found == "+0.250 [-0.515, +1.000] (+0.500, +0.000)"
    # the same models: no difference, and an interval around it all the same
    one = [rates("+-" * 50), rates("--" * 50)]
    assert ablation.gain(one, one).startswith("+0.000 [-0.0")


def test_a_score_has_its_interval_and_that_of_each_seed(ablation: ModuleType) -> None:
    # Wilson's for 50 of 100, with Student's quantile 1.984
    assert ablation.score([rates("+-" * 50)]) == "0.500 [0.403, 0.597] (0.500)"


def test_the_table_is_of_the_seeds_that_every_arm_has(
    ablation: ModuleType,
    write_runs: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for arm, seed, signs in (
        ("all", 0, "+---"), ("few", 0, "++--"), ("all", 1, "----"), ("few", 1, "+++-"), ("all", 2, "++++"),
    ):  # fmt: skip
        write_runs(arm, seed, signs)
    asked = [str(tmp_path), "--arms", "all", "few", "--seeds", "0", "1", "2", "--against", "all"]
    monkeypatch.setattr(sys, "argv", ["ablation.py", *asked])
    ablation.main()
    out, err = capsys.readouterr()
    assert err == "left out, not finished: seed 2\n"
    head, _, first, second = out.splitlines()
    assert head == "| arm | rows | tokens trained on | s | memory | Pass@1 | minus all |"
    assert first.startswith("| all | 4 | ")
    assert first.endswith("(0.250, 0.000) | - |")
    assert "(0.500, 0.750) | +0.500 [" in second
    assert second.endswith("(+0.250, +0.750) |")


@pytest.mark.parametrize(
    ("signs", "message"),
    [
        ({}, ": no seed is finished: run make -C recipes/"),
        ({"all": "+-", "few": "+"}, "the predictions are for different problems"),
    ],
)
def test_what_cannot_be_compared_is_an_error_in_one_line(
    signs: dict[str, str],
    message: str,
    ablation: ModuleType,
    write_runs: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for arm, of_arm in signs.items():
        write_runs(arm, 0, of_arm)
    asked = [str(tmp_path), "--arms", "all", "few", "--seeds", "0", "--against", "all"]
    monkeypatch.setattr(sys, "argv", ["ablation.py", *asked])
    with pytest.raises(SystemExit) as raised:
        ablation.main()
    assert message in str(raised.value.code)
