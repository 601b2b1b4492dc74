"""`eval` on the shipped teacher: figures that add up."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from distillpipe import dataset
from distillpipe.errors import DataError, UsageError
from distillpipe.records import (
    Trace,
)
from distillpipe.sampling import SamplingOptions
from distillpipe.stages.eval import benchmark_name, evaluate, measure
from distillpipe.stages.run import Run


def test_eval_scores_the_teacher_and_its_predictions_are_traces(
    shipped: Path, tmp_path: Path, sampling: SamplingOptions
) -> None:
    result = evaluate(
        str(shipped / "teacher"), str(shipped / "problems-test.jsonl"), tmp_path, sampling, Run()
    )
    version = tmp_path / "problems-test" / "v1"
    found = json.loads((version / "metrics.json").read_text())
    assert found == result.manifest.metrics
    assert list(found) == [
        "benchmark", "pass@1", "standard_error", "interval", "num_problems", "num_samples",
        "num_correct", "num_wrong", "num_truncated", "num_unverifiable", "mean_reasoning_tokens",
    ]  # fmt: skip
    outcomes = [found[f"num_{name}"] for name in ("correct", "wrong", "truncated", "unverifiable")]
    assert sum(outcomes) == 24
    assert found["pass@1"] == pytest.approx(found["num_correct"] / 24)
    assert found["pass@1"] > 0.7
    rows = list(dataset.read_traces(str(version.parent)))
    assert sum(row.verdict == "correct" for row in rows) == found["num_correct"]


def test_outcomes_add_up_and_a_truncated_completion_is_not_correct(
    make_trace: Callable[..., Trace], tmp_path: Path
) -> None:
    rows = [
        make_trace(problem="p1", verdict="correct"),
        make_trace(problem="p1", verdict="wrong", row_key="1" * 32),
        make_trace(problem="p2", verdict="wrong", finish_reason="length"),
        make_trace(problem="p3", verdict="unverifiable", reference_answer=None),
    ]
    (tmp_path / "part-00000.jsonl").write_bytes(
        b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    )
    found = measure("name", tmp_path)
    assert found["num_correct"] == found["num_wrong"] == found["num_truncated"] == 1
    assert found["num_unverifiable"] == 1
    assert found["num_problems"] == 3
    assert found["pass@1"] == pytest.approx((0.5 + 0 + 0) / 3)


def test_a_model_without_room_for_any_prompt_cannot_be_scored(
    shipped: Path, tmp_path: Path, sampling: SamplingOptions
) -> None:
    problems = tmp_path / "long.jsonl"
    problems.write_text(json.dumps({"problem": "pens " * 1100, "answer": "1"}) + "\n")
    with pytest.raises(DataError, match=r"not one row of .* was sampled: prompt_too_long"):
        evaluate(str(shipped / "teacher"), str(problems), tmp_path / "eval", sampling, Run())


def test_a_benchmark_without_references_is_refused_before_anything_is_sampled(
    shipped: Path, tmp_path: Path, sampling: SamplingOptions
) -> None:
    problems = tmp_path / "bare.jsonl"
    problems.write_text(json.dumps({"problem": "Mia has 3 pens.", "count": 3}) + "\n")
    with pytest.raises(DataError, match=r"no problem has a reference answer.*--answer-field"):
        evaluate(str(shipped / "teacher"), str(problems), tmp_path / "eval", sampling, Run())
    assert list((tmp_path / "eval").rglob("v*")) == []


@pytest.mark.parametrize("name", ["v1.jsonl", "latest.json", "latest@v2"])
def test_a_benchmark_is_not_named_like_a_version(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a benchmark: rename it"):
        benchmark_name(f"data/{name}")


def test_a_benchmark_is_named_by_the_stem_of_its_file() -> None:
    assert benchmark_name("data/math500.jsonl") == "math500"
    assert benchmark_name("runs/traces@v2") == "traces"
