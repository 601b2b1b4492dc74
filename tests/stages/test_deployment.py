"""What is deployed is what was trained: an adapter and its merged model answer alike, and what each costs is shown."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.training_options import TrainingOptions, TrainingRun
from distillpipe.data.store.dataset import read_traces
from distillpipe.stages.run import Run
from distillpipe.stages.sft import sft

LIMIT = 40


@pytest.fixture(scope="module")
def student(
    traces: Path,
    shipped: Path,
    training: TrainingOptions,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """An adapter on the shipped teacher, which solves the problems, with its merged model."""
    out = tmp_path_factory.mktemp("deployment") / "student"
    options = TrainingOptions(
        **{name: getattr(training, name) for name in training.__struct_fields__}
        | {"method": "lora", "learning_rate": 2e-2, "epochs": 4}
    )
    sft([str(traces)], str(shipped / "teacher"), out, options, Run(), TrainingRun(merge=True))
    return out / "latest"


@pytest.mark.slow
def test_the_merged_model_answers_as_the_adapter_does(
    student: Path, shipped: Path, distill: Callable[..., Any], tmp_path: Path
) -> None:
    models = {"base": shipped / "teacher", "adapter": student, "merged": student / "merged"}
    for name, model in models.items():
        done = distill(
            "eval", model, "--benchmark", shipped / "problems-test.jsonl", "--prompt-template", "{problem}",
            "--max-tokens", 160, "--temperature", 0, "--limit", LIMIT, "--out", tmp_path / name,
        )  # fmt: skip
        assert done.code == 0, done.err
    said = {
        name: {row.problem_id: row.messages[-1] for row in read_traces(str(tmp_path / name / "problems-test"))}
        for name in models
    }  # fmt: skip
    differ = [sum(said[name][one] != said["adapter"][one] for one in said[name]) for name in models]
    assert differ[0] > 0, "the adapter changes nothing"
    assert differ[1:] == [0, 0]

    done = distill(
        "compare", *(tmp_path / name for name in ("adapter", "merged", "base")), "--json"
    )
    (found,) = json.loads(done.out)["comparisons"]
    pair = found["pairs"][0]
    assert (pair["model"], pair["first_model"]) == ("merged", "adapter")
    assert pair["overall"]["difference"] == 0
    assert pair["overall"]["interval"][0] < 0 < pair["overall"]["interval"][1]
    assert pair["overall"]["num_ties"] == LIMIT
    assert pair["p_value"] == 1.0

    adapter, merged, base = (one["metrics"]["resources"] for one in found["models"])
    weights = (shipped / "teacher" / "model.safetensors").stat().st_size
    added = (student / "adapter_model.safetensors").stat().st_size
    assert base["model_bytes"] == weights
    assert adapter["model_bytes"] == weights + added
    assert merged["model_bytes"] == (student / "merged" / "model.safetensors").stat().st_size
    for one in (adapter, merged, base):
        assert one["tokens_per_second"] * one["seconds_sampling"] == pytest.approx(
            one["tokens_sampled"]
        )
        assert one["peak_memory_bytes"] > one["model_bytes"]

    done = distill("compare", *(tmp_path / name for name in ("adapter", "merged")))
    figures = {line.strip().split("  ")[0] for line in done.out.splitlines() if line}
    assert {"tokens/s", "seconds sampling", "peak memory", "weights"} <= figures
