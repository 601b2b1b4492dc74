"""`eval` on the shipped teacher: figures that add up."""

import json
from pathlib import Path

import msgspec
import pytest

from distillpipe import verify
from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.options import Plan, SamplingOptions
from distillpipe.data.store import dataset
from distillpipe.reports.scoring import OUTCOMES
from distillpipe.stages.eval import benchmark_name, evaluate
from distillpipe.stages.run import Run


def test_eval_scores_the_teacher_and_rows_taken_over_took_no_time(
    shipped: Path, tmp_path: Path, sampling: SamplingOptions
) -> None:
    result = evaluate(
        str(shipped / "teacher"), str(shipped / "problems-test.jsonl"), tmp_path, sampling, Run()
    )
    version = tmp_path / "problems-test" / "v1"
    found = json.loads((version / "metrics.json").read_text())
    assert found == result.manifest.metrics
    assert list(found) == [
        "benchmark", "pass@1", "standard_error", "interval", "upper_bound", "standard_error_parts",
        "minimum_detectable_effect", "pass@k", "maj@k", "num_problems", "num_samples",
        "num_correct", "num_wrong", "num_truncated", "num_unverifiable", "num_not_run", "num_asked",
        "num_left_out", "num_problems_asked", "unanswered", "num_internal_errors", "mean_reasoning_tokens",
        "reasoning_tokens", "verifier_version", "num_duplicates", "protocol", "published", "budget",
        "resources",
    ]  # fmt: skip
    assert sum(found[f"num_{name}"] for name in OUTCOMES) == found["num_asked"] == 24
    assert found["pass@1"] == pytest.approx(found["num_correct"] / 24)
    assert found["pass@1"] > 0.7
    rows = list(dataset.read_traces(str(version.parent)))
    assert sum(row.verdict == "correct" for row in rows) == found["num_correct"]
    used = found["resources"]
    assert used["tokens_sampled"] == sum(row.num_completion_tokens or 0 for row in rows)
    assert used["tokens_per_second"] == pytest.approx(
        used["tokens_sampled"] / used["seconds_sampling"]
    )
    assert used["model_bytes"] == (shipped / "teacher" / "model.safetensors").stat().st_size
    assert 2**26 < used["peak_memory_bytes"] < 2**36
    assert used["peak_gpu_memory_bytes"] is None
    table = (version / "metrics.md").read_text().splitlines()
    assert table[0] == "# problems-test"
    assert table[4].startswith(f"| Pass@1 | {found['pass@1']:.3f} [")

    fewer = msgspec.structs.replace(sampling, plan=msgspec.structs.replace(sampling.plan, limit=3))
    taken_over = evaluate(
        str(shipped / "teacher"), str(shipped / "problems-test.jsonl"), tmp_path, fewer, Run()
    ).manifest.metrics
    assert taken_over is not None
    assert taken_over["resources"] == {
        "tokens_sampled": 0, "seconds_sampling": 0.0, "tokens_per_second": None,
        "peak_memory_bytes": None, "peak_gpu_memory_bytes": None, "model_bytes": used["model_bytes"],
    }  # fmt: skip


CHOICES = [
    {
        "problem": "Which is odd?",
        "options": ["2", "4", "5", "6"],
        "answer": "C",
        "verifier": "choice",
    },
    {
        "problem": "Which is even?",
        "options": ["1", "4", "5", "7"],
        "answer": "B",
        "verifier": "choice",
    },
]


@pytest.mark.slow
def test_options_are_shown_in_an_order_of_each_sample_that_the_row_records(
    shipped: Path, tiny_model: Path, tmp_path: Path, sampling: SamplingOptions
) -> None:
    path = tmp_path / "choices.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in CHOICES))
    options = msgspec.structs.replace(sampling, plan=Plan(num_samples=6, limit=None, seed=3))
    seen = []
    for model, out in ((shipped / "teacher", tmp_path / "a"), (tiny_model, tmp_path / "b")):
        result = evaluate(str(model), str(path), out, options, Run())
        rows = list(dataset.read_traces(str(result.path)))
        assert len(rows) == 12
        assert {row.problem_id for row in rows} == {
            problem.problem_id for problem in dataset.read_problems(dataset.find(str(result.path)))
        }
        for row in rows:
            given = next(one for one in CHOICES if one["problem"] == row.problem)
            order = json.loads(row.extra or "")["option_order"]
            shown = [
                f"{letter}) {given['options'][at]}"
                for letter, at in zip("ABCD", order, strict=True)
            ]
            assert row.messages[0].content == "\n".join([row.problem, "", *shown])
            assert row.reference_answer == given["answer"]
        seen.append({(row.problem_id, row.sample): row.extra for row in rows})
    assert seen[0] == seen[1]
    assert len(set(seen[0].values())) > 6

    more = msgspec.structs.replace(options, plan=Plan(num_samples=7, limit=None, seed=3))
    again = evaluate(str(tiny_model), str(path), tmp_path / "b", more, Run()).manifest
    assert again.counts.rows_reused == 12


def test_new_verifiers_score_what_is_stored_and_sample_nothing(
    shipped: Path, tmp_path: Path, sampling: SamplingOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = (
        str(shipped / "teacher"),
        str(shipped / "problems-test.jsonl"),
        tmp_path,
        sampling,
        Run(),
    )
    first = evaluate(*call)
    assert evaluate(*call).up_to_date
    monkeypatch.setattr(verify, "CODE_VERSION", verify.CODE_VERSION + 1)
    second = evaluate(*call)

    assert (second.path.name, second.manifest.id) == ("v2", first.manifest.id)
    counts = second.manifest.counts
    assert (counts.rows_reused, counts.tokens_sampled) == (24, 0)
    assert second.manifest.metrics is not None
    assert second.manifest.metrics["verifier_version"] == verify.CODE_VERSION


def test_a_thought_that_never_ends_is_truncated_and_not_right(
    shipped: Path, tmp_path: Path, sampling: SamplingOptions
) -> None:
    short = msgspec.structs.replace(sampling.sampling, max_tokens=6)
    options = msgspec.structs.replace(sampling, sampling=short)
    found = evaluate(
        str(shipped / "teacher"), str(shipped / "problems-test.jsonl"), tmp_path, options, Run()
    ).manifest.metrics

    assert found is not None
    assert (found["num_truncated"], found["pass@1"], found["upper_bound"]) == (24, 0.0, 0.0)
    assert found["reasoning_tokens"]["max"] == 5


def test_a_benchmark_without_problems_is_refused(
    shipped: Path, tmp_path: Path, sampling: SamplingOptions
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(DataError, match=r"empty\.jsonl is empty: expected one problem per line"):
        evaluate(str(shipped / "teacher"), str(empty), tmp_path / "eval", sampling, Run())


def test_an_adapter_is_not_for_a_served_model(tmp_path: Path, sampling: SamplingOptions) -> None:
    engine = msgspec.structs.replace(
        sampling.engine, base_url="http://localhost:1/v1", engine="openai"
    )
    options = msgspec.structs.replace(sampling, engine=engine)
    with pytest.raises(UsageError, match="--adapter is for a model on this machine"):
        evaluate("served", "math500", tmp_path, options, Run(), "adapter")


def test_a_model_without_room_for_any_prompt_cannot_be_scored(
    shipped: Path, tmp_path: Path, sampling: SamplingOptions
) -> None:
    problems = tmp_path / "long.jsonl"
    problems.write_text(json.dumps({"problem": "pens " * 1100, "answer": "1"}) + "\n")
    with pytest.raises(DataError, match=r"no row of .* was sampled: prompt_too_long"):
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
