"""The four stages, end to end on the shipped models, as commands call them."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from distillpipe import dataset, versions
from distillpipe.errors import DataError, UsageError
from distillpipe.records import (
    EngineOptions,
    FilterOptions,
    Plan,
    Prompting,
    RejectedTrace,
    Sampling,
    Trace,
    TrainingOptions,
)
from distillpipe.sampling import SamplingOptions
from distillpipe.stages.eval import evaluate, measure
from distillpipe.stages.filter import filter_traces
from distillpipe.stages.generate import generate
from distillpipe.stages.run import Run
from distillpipe.stages.sft import sft

SAMPLING = SamplingOptions(
    prompting=Prompting(
        problem_field=None, answer_field=None, verifier=None, prompt_template="{problem}",
        system_prompt=None,
    ),
    plan=Plan(num_samples=2, limit=12, seed=0),
    sampling=Sampling(temperature=0.6, top_p=0.95, max_tokens=160),
    engine=EngineOptions(engine="transformers", concurrency=16),
)  # fmt: skip
FILTER = FilterOptions(
    verdicts=("correct",), verifier=None, min_reasoning_tokens=1, max_reasoning_tokens=120,
    dedup="exact", per_problem=1, seed=0,
)  # fmt: skip
TRAINING = TrainingOptions(
    method="full", rank=4, alpha=4, learning_rate=2e-3, scheduler="cosine", warmup=0.05,
    weight_decay=0.0, max_grad_norm=1.0, epochs=2, max_steps=None, batch_size=4, max_length=256,
    dtype="fp32", seed=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def shipped(repository: Path) -> Path:
    return repository / "data" / "quickstart"


@pytest.fixture(scope="module")
def traces(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 traces of the shipped teacher."""
    out = tmp_path_factory.mktemp("runs") / "traces"
    generate(str(shipped / "problems-train.jsonl"), str(shipped / "teacher"), out, SAMPLING, Run())
    return out


@pytest.fixture(scope="module")
def clean(traces: Path) -> Path:
    out = traces.parent / "clean"
    filter_traces([str(traces)], out, FILTER, Run())
    return out


def test_generate_samples_every_problem_and_keeps_what_it_was_asked(traces: Path) -> None:
    rows = list(dataset.read_traces(str(traces)))
    assert len(rows) == 24
    assert len({row.id for row in rows}) == 24
    assert {row.sample for row in rows} == {0, 1}
    assert all(row.reasoning.startswith(row.problem.split()[0]) for row in rows)
    assert all(row.messages[0].content == row.problem for row in rows)
    finished = [row for row in rows if row.finish_reason == "stop"]
    assert len(finished) >= 20
    assert all("\\boxed{" in row.response for row in finished)
    assert all(row.verdict is None for row in rows)


def test_token_counts_add_up_with_delimiters_and_end(traces: Path) -> None:
    for row in dataset.read_traces(str(traces)):
        if row.finish_reason == "stop":  # <think>, </think> and the end token
            counts = row.num_tokens
            assert counts.total == counts.prompt + counts.reasoning + counts.response + 3


def test_problems_stand_once_beside_the_rows_with_their_extra(traces: Path) -> None:
    problems = list(dataset.read_problems(str(traces)))
    assert len(problems) == 12
    assert json.loads(problems[0].extra or "") == {
        "num_steps": json.loads(problems[0].extra or "")["num_steps"]
    }


def test_filter_keeps_right_and_bounded_rows_and_says_why_it_drops(
    traces: Path, clean: Path
) -> None:
    kept = list(dataset.read_traces(str(clean)))
    rejected = list(dataset.read_rows(versions.resolve(str(clean)), "rejected", RejectedTrace))
    assert len(kept) + len(rejected) == 24
    assert all(row.verdict == "correct" and row.answer == row.reference_answer for row in kept)
    assert len({row.problem_id for row in kept}) == len(kept)
    assert {row.reason for row in rejected} >= {"over_per_problem"}
    assert len(list(dataset.read_problems(str(clean)))) == len(kept)


def test_rejected_rows_can_be_filtered_again(clean: Path, tmp_path: Path) -> None:
    rejected = versions.resolve(str(clean)) / "rejected-00000.jsonl"
    again = filter_traces([str(rejected)], tmp_path / "again", FILTER, Run())
    assert again.counts.rows_kept > 0


def test_filter_that_keeps_nothing_fails_with_the_funnel_and_stays_unfinished(
    traces: Path, tmp_path: Path
) -> None:
    options = msgspec.structs.replace(FILTER, max_reasoning_tokens=1)
    with pytest.raises(
        DataError, match=r"no row of 24 is left:\n.*24 rows .*too_many_reasoning_tokens"
    ):
        filter_traces([str(traces)], tmp_path / "none", options, Run())
    assert versions.finished(tmp_path / "none") == []
    assert len(versions.partials(tmp_path / "none")) == 1


def test_rows_of_a_benchmark_are_refused_as_training_data(
    make_trace: Callable[..., Trace], shipped: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(msgspec.json.encode(make_trace(benchmark="math500")) + b"\n")
    with pytest.raises(UsageError, match="of the benchmark math500"):
        filter_traces([str(path)], tmp_path / "clean", FILTER, Run())
    with pytest.raises(UsageError, match="of the benchmark math500"):
        sft([str(path)], str(shipped / "student-qwen"), tmp_path / "s", TRAINING, Run(), 100)


@pytest.mark.parametrize("student", ["student-qwen", "student-llama"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_sft_writes_a_checkpoint_that_loads_and_that_eval_takes(
    shipped: Path, clean: Path, tmp_path: Path, student: str, method: str
) -> None:
    options = msgspec.structs.replace(TRAINING, method=method)
    out = tmp_path / "student"
    manifest = sft([str(clean)], str(shipped / student), out, options, Run(), 100)
    num_rows = sum(1 for _ in dataset.read_traces(str(clean)))
    assert manifest.counts.rows_read == num_rows
    assert {path.name for path in (out / "latest").iterdir()} >= {"README.md", "losses.jsonl"}
    assert not list((out / "latest").glob("state-*"))

    model = AutoModelForCausalLM.from_pretrained(out / "latest")
    tokenizer = AutoTokenizer.from_pretrained(out / "latest")
    shipped_tokenizer = AutoTokenizer.from_pretrained(shipped / student)
    text = "<|im_start|>user\nMia has 3 pens.<|im_end|>\n<think>\n3+4=7.\n</think>\n\n"
    assert tokenizer(text).input_ids == shipped_tokenizer(text).input_ids
    assert tokenizer.chat_template == shipped_tokenizer.chat_template
    assert model(torch.tensor([tokenizer(text).input_ids])).logits.isfinite().all()

    scored = evaluate(
        str(out), str(shipped / "problems-test.jsonl"), tmp_path / "eval", SAMPLING, Run()
    )
    assert scored.metrics is not None
    assert scored.metrics["num_problems"] == 12


def test_sft_again_is_up_to_date_and_other_options_are_another_version(
    shipped: Path, clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "student"
    short = msgspec.structs.replace(TRAINING, max_steps=1)
    student = str(shipped / "student-qwen")
    first = sft([str(clean)], student, out, short, Run(), 100)
    again = sft([str(clean)], student, out, short, Run(), 7)
    assert again.id == first.id
    assert "up to date" in capsys.readouterr().err
    other = sft([str(clean)], student, out, msgspec.structs.replace(short, seed=1), Run(), 100)
    assert [path.name for path in versions.finished(out)] == ["v1", "v2"]
    assert other.id != first.id


def test_sft_refuses_rows_that_it_would_have_to_cut(
    shipped: Path, clean: Path, tmp_path: Path
) -> None:
    options = msgspec.structs.replace(TRAINING, max_length=40)
    with pytest.raises(DataError, match="rows are longer than --max-length 40 tokens"):
        sft([str(clean)], str(shipped / "student-qwen"), tmp_path / "s", options, Run(), 100)


def test_eval_scores_the_teacher_and_its_predictions_are_traces(
    shipped: Path, tmp_path: Path
) -> None:
    manifest = evaluate(
        str(shipped / "teacher"), str(shipped / "problems-test.jsonl"), tmp_path, SAMPLING, Run()
    )
    version = tmp_path / "problems-test" / "v1"
    found = json.loads((version / "metrics.json").read_text())
    assert found == manifest.metrics
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
    shipped: Path, tmp_path: Path
) -> None:
    problems = tmp_path / "long.jsonl"
    problems.write_text(json.dumps({"problem": "pens " * 1100, "answer": "1"}) + "\n")
    with pytest.raises(DataError, match="no prompt fits into the context"):
        evaluate(str(shipped / "teacher"), str(problems), tmp_path / "eval", SAMPLING, Run())


def test_a_prompt_that_is_too_long_is_rejected_with_its_length_and_the_others_are_sampled(
    shipped: Path, tmp_path: Path
) -> None:
    problems = tmp_path / "mixed.jsonl"
    rows = [
        {"problem": "pens " * 1100, "answer": "1"},
        {"problem": "Mia has 3 pens.", "answer": "3"},
    ]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "traces"
    manifest = generate(str(problems), str(shipped / "teacher"), out, SAMPLING, Run())
    assert (manifest.counts.rows_kept, manifest.counts.rows_rejected) == (2, 2)
    rejected = list(dataset.read_rows(out / "v1", "rejected", RejectedTrace))
    assert [(row.reason, int(row.measured or 0) > 1024) for row in rejected] == [
        ("prompt_too_long", True)
    ] * 2
