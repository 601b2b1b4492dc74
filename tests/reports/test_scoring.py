"""metrics.json: figures that add up, from predictions."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.base.errors import DataError
from distillpipe.base.hashing import content_hash
from distillpipe.base.records import (
    Message,
    Problem,
    RejectedTrace,
    TokenCounts,
    Trace,
    problem_id,
    trace_id,
)
from distillpipe.reports.scoring import OUTCOMES, choice_options, collect, measure
from distillpipe.reports.tables import score_table

Rows = Callable[..., list[Trace]]


VERDICTS = {"+": "correct", "-": "wrong", "t": "wrong", "u": "unverifiable"}
ANSWERS = {"+": "20", "-": "21", "u": "22"}


def judged(problem: str, sample: int, sign: str) -> Trace:
    """A sample: + correct, - wrong, t truncated, u unverifiable; any other sign: no completion."""
    number, key = problem_id(problem, "20", "math"), content_hash(problem, sample)
    return Trace(
        id=trace_id(number, key), problem_id=number, row_key=key, sample=sample, benchmark=None,
        problem=problem, reference_answer="20", verifier="math", domain=None,
        messages=[Message(role="user", content=problem), Message(role="assistant", content="")],
        finish_reason="length" if sign == "t" else "stop",
        num_tokens=TokenCounts(prompt=30, reasoning=6, response=5, total=44), teacher="teacher",
        seed=0, verdict=VERDICTS.get(sign), answer=ANSWERS.get(sign),
    )  # fmt: skip


@pytest.fixture
def rows() -> Rows:
    """`rows("p1", "++-")`: judged samples of a problem; see `judged`."""

    def factory(problem: str, signs: str, **changes: object) -> list[Trace]:
        return [
            msgspec.structs.replace(judged(problem, sample, sign), **changes)
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


@pytest.fixture
def rejected(rows: Rows) -> Callable[..., list[RejectedTrace]]:
    """`rejected("p1", 2, "prompt_too_long", first=4)`: samples of a problem from number 4 on without a completion."""

    def factory(problem: str, count: int, reason: str, first: int = 0) -> list[RejectedTrace]:
        made = rows(problem, "t" * (first + count))[first:]
        return [
            RejectedTrace(
                **msgspec.structs.asdict(msgspec.structs.replace(row, verdict=None)),
                reason=reason,
                measured=None,
            )
            for row in made
        ]

    return factory


def test_what_was_asked_and_not_run_is_not_correct(rows: Rows, rejected) -> None:
    refused = rejected("p2", 4, "prompt_too_long") + rejected("p3", 2, "refused_by_server", 2)
    found = measure("name", collect(rows("p1", "++++") + rows("p3", "++"), refused), {})
    assert found["pass@1"] == (4 + 0 + 2) / 12
    assert found["upper_bound"] == found["pass@1"]
    # p2 has none of 4, p3 two of 4: 1 - C(2, 2)/C(4, 2)
    assert found["pass@k"]["2"]["mean"] == pytest.approx((1 + 0 + 5 / 6) / 3)
    assert found["maj@k"]["4"]["mean"] == pytest.approx(2 / 3)
    assert (found["num_not_run"], found["num_left_out"], found["num_asked"]) == (6, 0, 12)
    assert found["unanswered"] == {"prompt_too_long": 4, "refused_by_server": 2}


@pytest.mark.parametrize("reason", ["engine_error", "internal_error"])
def test_what_failed_on_the_way_is_left_out(rows: Rows, rejected, reason: str) -> None:
    failed = rejected("p2", 4, reason) + rejected("p3", 2, reason, 2)
    found = measure("name", collect(rows("p1", "+---") + rows("p3", "++"), failed), {})
    assert found["pass@1"] == 3 / 6
    assert (found["num_problems"], found["num_problems_asked"]) == (2, 3)
    assert (found["num_asked"], found["num_left_out"], found["num_not_run"]) == (12, 6, 0)
    table = dict(line[:2] for line in score_table([("model", found)]))
    assert table["Pass@1"].endswith(", over 6 of 12")
    assert table["pass@2"].endswith(", over 6 of 12")
    assert table["left out"] == f"{reason} 6 of 12"


OUTCOME_LISTS = st.lists(st.text("+-tunie", min_size=1, max_size=6), min_size=1, max_size=6)


@given(OUTCOME_LISTS)
def test_outcomes_add_up_to_what_was_asked_less_what_was_left_out(outcomes: list[str]) -> None:
    reasons = {"n": "prompt_too_long", "i": "internal_error", "e": "engine_error"}
    kept, dropped = [], []
    for number, signs in enumerate(outcomes):
        for sample, sign in enumerate(signs):
            row = judged(f"p{number}", sample, sign)
            if sign in reasons:
                fields = msgspec.structs.asdict(row)
                dropped.append(RejectedTrace(**fields, reason=reasons[sign], measured=None))
            else:
                kept.append(row)
    found = measure("name", collect(kept, dropped), {})
    counts = {name: found[f"num_{name}"] for name in OUTCOMES}
    signs = "".join(outcomes)
    assert found["num_asked"] == len(signs)
    assert sum(counts.values()) == found["num_asked"] - found["num_left_out"]
    assert (counts["correct"], counts["not_run"]) == (signs.count("+"), signs.count("n"))
    assert found["num_problems_asked"] == len(outcomes)
    if found["num_problems"]:
        low, high = found["interval"]
        assert 0 <= low <= found["pass@1"] <= min(high, found["upper_bound"])
        # the one denominator: problems asked x samples, less what was left out
        num_counted = found["num_asked"] - found["num_left_out"]
        assert found["pass@1"] == pytest.approx(signs.count("+") / num_counted)
    score_table([("model", found)])


def test_metrics_of_an_older_version_are_still_shown() -> None:
    found = measure("name", collect([judged("p1", 0, "+")]), {})
    new = ("num_not_run", "num_asked", "num_left_out", "num_problems_asked", "unanswered")
    older = {name: value for name, value in found.items() if name not in new}
    table = dict(line[:2] for line in score_table([("model", older)]))
    assert table["correct"] == "1 (100.0%)"
    assert "not run" not in table


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
    found = measure("name", collect(judged), choice_options([problem]))
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


def test_a_benchmark_need_not_be_named_in_utf8(rows: Rows) -> None:
    found = measure("caf\udce9", collect(rows("a", "+")), {})

    assert found["benchmark"] == "caf\\udce9"


def test_nothing_at_all_has_no_score() -> None:
    found = measure("name", collect([]), {})
    assert found["pass@1"] is None
    assert found["interval"] == [None, None]
    assert found["reasoning_tokens"] is None
    assert found["num_problems"] == 0


def test_rows_that_were_not_judged_are_no_predictions(make_trace: Callable[..., Trace]) -> None:
    with pytest.raises(DataError, match="was not judged: make predictions with `distill eval`"):
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
