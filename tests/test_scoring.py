"""metrics.json: figures that add up, from predictions."""

from collections.abc import Callable

import msgspec
import pytest

from distillpipe.errors import DataError
from distillpipe.hashing import content_hash
from distillpipe.records import Problem, TokenCounts, Trace
from distillpipe.scoring import collect, measure, options_of
from distillpipe.views.scores import score_table

Rows = Callable[..., list[Trace]]


@pytest.fixture
def rows(make_trace: Callable[..., Trace]) -> Rows:
    """`rows("p1", "++-")`: judged samples of a problem, + correct, - wrong, t truncated, u unverifiable."""

    def factory(problem: str, signs: str, **changes: object) -> list[Trace]:
        verdicts = {"+": "correct", "-": "wrong", "t": "wrong", "u": "unverifiable"}
        return [
            make_trace(
                problem=problem,
                row_key=content_hash(problem, sample),
                sample=sample,
                verdict=verdicts[sign],
                finish_reason="length" if sign == "t" else "stop",
                answer={"+": "20", "-": "21", "t": None, "u": "22"}[sign],
                **changes,
            )
            for sample, sign in enumerate(signs)
        ]

    return factory


def test_outcomes_add_up_and_only_the_correct_ones_count(rows: Rows) -> None:
    found = measure("name", collect(rows("p1", "+-") + rows("p2", "tt") + rows("p3", "u+")), {})
    outcomes = [found[f"num_{name}"] for name in ("correct", "wrong", "truncated", "unverifiable")]
    assert outcomes == [2, 1, 2, 1]
    assert found["pass@1"] == pytest.approx((1 / 2 + 0 + 1 / 2) / 3)
    assert found["upper_bound"] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert (found["num_problems"], found["num_samples"]) == (3, 2)


def test_pass_and_maj_at_k_are_means_over_problems(rows: Rows) -> None:
    found = measure("name", collect(rows("p1", "+---") + rows("p2", "++--")), {})
    # 1 - C(3, 2)/C(4, 2) = 1/2 and 1 - C(2, 2)/C(4, 2) = 5/6; votes 1 against 3, and a tie
    assert {k: one["mean"] for k, one in found["pass@k"].items()} == pytest.approx(
        {"2": 2 / 3, "4": 1}
    )
    assert {k: one["mean"] for k, one in found["maj@k"].items()} == pytest.approx({"4": 1 / 4})


def test_a_vote_joins_wrong_answers_that_the_verifier_calls_equal(rows: Rows) -> None:
    three = rows("p1", "+--")
    one, half, other = three
    half = msgspec.structs.replace(half, answer="1/2")
    other = msgspec.structs.replace(other, answer="0.5")
    found = measure("name", collect([one, half, other]), {})
    assert found["maj@k"]["3"]["mean"] == 0.0  # two votes for one half, where 1/3 without joining


def test_a_vote_over_choices_knows_the_options(rows: Rows) -> None:
    chosen = rows("p1", "+--", verifier="choice", reference_answer="A")
    answers = ["A", "B", "two"]
    judged = [
        msgspec.structs.replace(row, answer=answer)
        for row, answer in zip(chosen, answers, strict=True)
    ]
    problem = Problem(
        problem_id=judged[0].problem_id, problem="p1", reference_answer="A", verifier="choice",
        extra='{"options": ["one", "two", "three"]}',
    )  # fmt: skip
    found = measure("name", collect(judged), options_of([problem]))
    assert (
        found["maj@k"]["3"]["mean"] == 0.0
    )  # B and its text are one answer: two votes against one


def test_programs_have_no_majority(rows: Rows) -> None:
    found = measure("name", collect(rows("p1", "+-", verifier="code")), {})
    assert found["maj@k"] == {}


def test_one_sample_has_neither_pass_at_k_nor_parts_of_the_error(rows: Rows) -> None:
    found = measure("name", collect(rows("p1", "+") + rows("p2", "-")), {})
    assert (found["pass@k"], found["maj@k"]) == ({}, {})
    assert found["standard_error_parts"] is None
    # 2.8015852 * sqrt(2) * 1/2
    assert found["minimum_detectable_effect"] == {
        "unpaired": pytest.approx(1.9810199),
        "paired": None,
    }


def test_problems_with_fewer_samples_bound_k(rows: Rows) -> None:
    found = measure("name", collect(rows("p1", "+---") + rows("p2", "++-")), {}, [2, 3, 4])
    assert list(found["pass@k"]) == ["2", "3"]
    assert found["maj@k"] == {}
    assert found["num_samples"] == 4


def test_reasoning_tokens_have_quantiles(rows: Rows) -> None:
    counted = [
        msgspec.structs.replace(
            row, num_tokens=TokenCounts(prompt=5, reasoning=tokens, response=3, total=tokens + 10)
        )
        for row, tokens in zip(rows("p1", "++--"), (10, 20, 30, 100), strict=True)
    ]
    found = measure("name", collect(counted), {})
    assert found["mean_reasoning_tokens"] == 40
    assert found["reasoning_tokens"] == {
        "p5": 10, "p25": 10, "p50": 20, "p75": 30, "p95": 100, "max": 100,
    }  # fmt: skip


def test_nothing_at_all_has_no_score() -> None:
    found = measure("name", collect([]), {})
    assert found["pass@1"] is None
    assert found["interval"] == [None, None]
    assert found["reasoning_tokens"] is None
    assert found["num_problems"] == 0


def test_rows_that_were_not_judged_are_no_predictions(make_trace: Callable[..., Trace]) -> None:
    with pytest.raises(DataError, match="was not judged: `distill eval` makes predictions"):
        collect([make_trace()])


@pytest.mark.parametrize(
    ("reasons", "counts"),
    [
        ([None, "all_tests_passed"], {}),
        (["raised: test 1: ModuleNotFoundError: No module named 'numpy'"] * 2, {"numpy": 2}),
        (
            [
                "raised: test 2: ModuleNotFoundError: No module named 'sympy.core'",
                "raised: test 1: ModuleNotFoundError: No module named 'numpy'",
                "failed_check: test 1: ModuleNotFoundError: No module named 'numpy'",
                "raised: test 1: ImportError: cannot import name 'x' from 'math'",
                "raised: test 1: ModuleNotFoundError: No module named '\x1b[31m'",
            ],
            {"numpy": 2, "sympy": 1},
        ),
    ],
)
def test_programs_that_lack_a_module_are_counted_and_it_is_named(
    make_trace: Callable[..., Trace], reasons: list[str | None], counts: dict[str, int]
) -> None:
    traces = [
        make_trace(
            sample=sample, row_key=content_hash(sample), verdict="wrong", verifier="code",
            verdict_reason=reason,
        )
        for sample, reason in enumerate(reasons)
    ]  # fmt: skip
    found = measure("name", collect(traces), {})

    assert (found["num_missing_modules"], found["missing_modules"]) == (
        sum(counts.values()),
        counts,
    )
    lines = dict(score_table([("model", found)])[1:])
    named = ", ".join(f"{name} {count}" for name, count in counts.items())
    wanted = f"{sum(counts.values())}: {named}" if counts else None
    assert lines.get("  wrong for a missing module") == wanted


def test_without_programs_nothing_is_said_of_modules(rows: Rows) -> None:
    assert "num_missing_modules" not in measure("name", collect(rows("p1", "+-")), {})
