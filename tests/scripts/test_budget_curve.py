"""s1's Control, Scaling and Performance: by hand from rates and lengths, and of real evals of the shipped teacher."""

import json
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from distillpipe.base.errors import UsageError


@pytest.fixture(scope="module")
def curve(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("budget_curve.py")


@pytest.fixture
def point(curve: ModuleType) -> Callable[..., Any]:
    """`point(30, "++-", max=40)`: thoughts of 30 tokens, two of three problems right."""

    def make(tokens: float, signs: str, *, waits: int = 0, most: int | None = None) -> Any:
        rates = {str(number): Fraction(sign == "+") for number, sign in enumerate(signs)}
        within = len(signs) - signs.count("?")
        kept = {
            "control": within / len(signs),
            "num_within": within,
            "num_waits": waits,
            "num_forced_ends": 0,
        }
        return curve.Point(waits, 0, most, tokens, rates, kept if most else None, len(signs), 1)  # fmt: skip

    return make


def test_scaling_is_the_mean_slope_over_all_pairs_of_budgets(curve, point) -> None:
    # accuracies 0, 1/2, 1 at 100, 200, 400 tokens: slopes 5, 2.5 and 10/3 points per 1,000 * 0.1 tokens
    found = curve.scaling([point(100, "--"), point(200, "+-"), point(400, "++")])
    assert found["points_per_1000_tokens"] == pytest.approx((500 + 250 + 1000 / 3) / 3)
    assert (found["num_pairs"], found["num_pairs_left_out"]) == (3, 0)
    # by problem: (1000 + 0 + 1000/3) / 3 and (0 + 500 + 1000/3) / 3, so 444.4 and 277.8: their standard
    # error is half of the difference, Student's quantile for one degree as student_quantile has it 11.3001
    half = 11.3001176 * (4000 / 9 - 2500 / 9) / 2
    assert found["interval"] == pytest.approx([361.1111111 - half, 361.1111111 + half])


def test_pairs_of_nearly_the_same_length_have_no_slope(curve, point) -> None:
    # 1 token apart where the longest mean thought is 201 says nothing
    found = curve.scaling([point(100, "--"), point(200, "+-"), point(201, "--")])
    assert (found["num_pairs"], found["num_pairs_left_out"]) == (2, 1)
    assert found["points_per_1000_tokens"] == pytest.approx((500 + 0) / 2)
    assert curve.scaling([point(200, "+-"), point(201, "--")]) is None


def test_scaling_of_one_problem_has_no_interval(curve, point) -> None:
    found = curve.scaling([point(100, "-"), point(200, "+")])
    assert (found["points_per_1000_tokens"], found["interval"]) == (1000.0, [None, None])


def test_control_is_of_the_completions_that_had_a_budget(curve, point) -> None:
    points = [point(10, "++--", most=10), point(20, "+-??", most=20), point(30, "++++")]
    assert curve.control(points) == 6 / 8
    assert curve.control(points[2:]) is None


def test_the_best_budget_of_one_half_is_scored_on_the_other(curve, point) -> None:
    # the first is right where the second is wrong: whichever half a budget is best on, it is wrong on the other
    halves = [curve.uniform(0, str(number)) < 0.5 for number in range(20)]
    signs = "".join("+" if half else "-" for half in halves)
    others = "".join("-" if half else "+" for half in halves)
    points = [point(10, signs), point(20, others)]
    assert {True, False} == set(halves)
    assert curve.best(points, list(points[0].rates)).accuracy >= 0.5
    assert curve.held_out(points) == 0.0
    assert curve.held_out([point(10, "+")]) is None


def test_of_equally_good_budgets_the_best_is_that_with_shorter_thoughts(curve, point) -> None:
    assert curve.best([point(10, "+-"), point(20, "-+")], ["0", "1"]).tokens == 10


def test_waits_are_held_against_the_same_maximum_without_them(curve, point) -> None:
    # 9 problems lost and none won: McNemar's p is 2 / 2**9; of three tests Holm's triples the smallest
    found = curve.of_waits([
        point(40, "+" * 9, most=50), point(30, "+" * 9, most=30), point(50, "-" * 9, waits=1, most=50),
        point(50, "+" * 9, waits=2, most=50), point(30, "+" * 9, waits=1, most=30), point(9, "-" * 9, waits=1),
    ])  # fmt: skip
    assert [(one["budget"], one["against"]) for one in found] == [
        ("at most 50, 1 wait", "at most 50"), ("at most 50, 2 waits", "at most 50"),
        ("at most 30, 1 wait", "at most 30"),
    ]  # fmt: skip
    assert found[0]["difference"] == -1.0
    assert [one["p_value"] for one in found] == pytest.approx([2 / 512, 1.0, 1.0])
    assert found[0]["p_value_holm"] == pytest.approx(6 / 512)
    assert found[0]["more_tokens"] == 10


@pytest.fixture
def evaluate(distill: Callable[..., Any], repository: Path, tmp_path: Path) -> Callable[..., Path]:
    """`evaluate(name, *options)`: an eval of the shipped teacher on six problems."""

    def run(name: str, *options: object, limit: int = 6) -> Path:
        shipped = repository / "data" / "quickstart"
        done = distill(
            "eval", shipped / "teacher", "--benchmark", shipped / "problems-test.jsonl", "--limit", limit,
            "--prompt-template", "{problem}", "--temperature", 0, "--max-tokens", 160,
            "--out", tmp_path / name, *options,
        )  # fmt: skip
        assert done.code == 0, done.err
        return tmp_path / name

    return run


@pytest.mark.slow
def test_a_curve_of_real_evals_has_numbers_and_a_figure(
    curve: ModuleType,
    evaluate: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = [
        evaluate("short", "--max-reasoning-tokens", 20),
        evaluate("long", "--max-reasoning-tokens", 100),
        evaluate("waits", "--max-reasoning-tokens", 100, "--num-waits", 1),
        evaluate("free"),
    ]
    out = tmp_path / "curve"
    monkeypatch.setattr(sys, "argv", ["budget_curve.py", *map(str, folders), "--out", str(out)])
    curve.main()
    printed = capsys.readouterr().out
    assert (out / "budget-curve.md").read_text() == printed.rstrip("\n") + "\n"
    assert "**Control** 100.0% of the completions with a budget" in printed
    assert (out / "budget-curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    found = json.loads((out / "budget-curve.json").read_text())
    assert found["control"] == 1.0
    assert found["num_problems"] == 6
    by_name = {one["budget"]: one for one in found["points"]}
    assert set(by_name) == {"at most 20", "at most 100", "at most 100, 1 wait", "no budget"}
    for folder, name in zip(folders, ("at most 20", "at most 100", "at most 100, 1 wait", "no budget"),
                            strict=True):  # fmt: skip
        metrics = json.loads((folder / "problems-test" / "v1" / "metrics.json").read_text())
        assert by_name[name]["accuracy"] == pytest.approx(metrics["pass@1"])
        assert by_name[name]["interval"] == pytest.approx(metrics["interval"])
        assert by_name[name]["mean_reasoning_tokens"] == metrics["mean_reasoning_tokens"]
        assert by_name[name]["kept"] == metrics["budget"]
    assert found["performance"]["accuracy"] == max(one["accuracy"] for one in found["points"])
    assert found["scaling"]["points_per_1000_tokens"] != 0
    assert [one["against"] for one in found["waits"]] == ["at most 100"]


@pytest.mark.slow
def test_what_is_no_curve_is_an_error(
    curve: ModuleType, evaluate: Callable[..., Path], repository: Path, tmp_path: Path
) -> None:
    one = evaluate("one", "--max-reasoning-tokens", 20, limit=2)
    with pytest.raises(UsageError, match="two budgets or more"):
        curve.read([one])
    with pytest.raises(UsageError, match="two folders have the same budget"):
        curve.read([one, evaluate("again", "--max-reasoning-tokens", 20, limit=2)])
    with pytest.raises(UsageError, match="is for other problems than"):
        curve.read([one, evaluate("more", "--max-reasoning-tokens", 30, limit=3)])
    with pytest.raises(UsageError, match=r"--temperature: 0\.5 in .*hot, 0\.0 in .*one"):
        curve.read(
            [one, evaluate("hot", "--temperature", 0.5, "--max-reasoning-tokens", 30, limit=2)]
        )
    with pytest.raises(
        UsageError, match="nothing finished: name a folder with one finished benchmark"
    ):
        curve.read([one, tmp_path])
