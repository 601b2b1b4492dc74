"""`sft` on the shipped students: a checkpoint that loads, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.hashing import file_sha256
from distillpipe.base.options import Plan, SamplingOptions
from distillpipe.base.records import Trace
from distillpipe.base.training_options import TrainingOptions, TrainingRun
from distillpipe.data.store import dataset, versions
from distillpipe.models.chat import load_chat
from distillpipe.stages.eval import evaluate
from distillpipe.stages.filter import filter_traces
from distillpipe.stages.run import Run
from distillpipe.stages.sft import sft


def test_rows_of_a_benchmark_are_refused_as_training_data(
    make_trace: Callable[..., Trace],
    shipped: Path,
    tmp_path: Path,
    filtering: FilterOptions,
    training: TrainingOptions,
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(msgspec.json.encode(make_trace(benchmark="math500")) + b"\n")
    with pytest.raises(UsageError, match="belongs to the benchmark math500"):
        filter_traces([str(path)], tmp_path / "clean", filtering, Run())
    with pytest.raises(UsageError, match="belongs to the benchmark math500"):
        sft([str(path)], str(shipped / "student-qwen"), tmp_path / "s", training, Run())


@pytest.mark.parametrize(
    ("student", "method"),
    [
        ("student-qwen", "full"),
        ("student-llama", "lora"),
        pytest.param("student-qwen", "lora", marks=pytest.mark.slow),
        pytest.param("student-llama", "full", marks=pytest.mark.slow),
    ],
)
def test_sft_writes_a_checkpoint_that_loads_and_that_eval_takes(
    shipped: Path,
    clean: Path,
    tmp_path: Path,
    student: str,
    method: str,
    sampling: SamplingOptions,
    training: TrainingOptions,
) -> None:
    options = msgspec.structs.replace(training, method=method)
    out = tmp_path / "student"
    manifest = sft([str(clean)], str(shipped / student), out, options, Run()).manifest
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

    few = msgspec.structs.replace(sampling, plan=Plan(num_samples=1, limit=4, seed=0))
    scored = evaluate(
        str(out), str(shipped / "problems-test.jsonl"), tmp_path / "eval", few, Run()
    ).manifest
    assert scored.metrics is not None
    assert scored.metrics["num_problems"] == 4


def test_sft_again_is_up_to_date_and_other_options_are_another_version(
    shipped: Path,
    clean: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    training: TrainingOptions,
) -> None:
    out = tmp_path / "student"
    short = msgspec.structs.replace(training, max_steps=1)
    student = str(shipped / "student-qwen")
    first = sft([str(clean)], student, out, short, Run())
    again = sft([str(clean)], student, out, short, Run(), TrainingRun(save_every=7))
    assert again == first._replace(up_to_date=True)
    assert "up to date" in capsys.readouterr().err
    other = sft([str(clean)], student, out, msgspec.structs.replace(short, seed=1), Run())
    assert [path.name for path in versions.finished(out)] == ["v1", "v2"]
    assert other.manifest.id != first.manifest.id


def test_sft_refuses_rows_that_it_would_have_to_cut(
    shipped: Path, clean: Path, tmp_path: Path, training: TrainingOptions
) -> None:
    options = msgspec.structs.replace(training, max_length=40)
    with pytest.raises(DataError, match="rows are longer than --max-length 40 tokens"):
        sft([str(clean)], str(shipped / "student-qwen"), tmp_path / "s", options, Run())


def test_a_tokenizer_of_another_model_is_refused_before_any_training(
    shipped: Path,
    make_traces: Callable[..., list[Trace]],
    tmp_path: Path,
    training: TrainingOptions,
) -> None:
    student = Path(shutil.copytree(shipped / "student-qwen", tmp_path / "student"))
    config = json.loads((student / "config.json").read_text())
    (student / "config.json").write_text(json.dumps({**config, "vocab_size": 64}))
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in make_traces(3)))
    with pytest.raises(DataError, match="its tokenizer belongs to another model"):
        sft([str(path)], str(student), tmp_path / "s", training, Run())
    assert list((tmp_path / "s").glob("v*")) == []


def test_an_adapter_is_no_student(
    shipped: Path, clean: Path, tmp_path: Path, training: TrainingOptions
) -> None:
    options = msgspec.structs.replace(training, method="lora", max_steps=1)
    sft([str(clean)], str(shipped / "student-qwen"), tmp_path / "a", options, Run())
    with pytest.raises(UsageError, match="is an adapter: give the model that it belongs to"):
        sft([str(clean)], str(tmp_path / "a"), tmp_path / "b", options, Run())


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_checkpoint_says_where_to_stop_and_lists_its_files_as_they_are(
    shipped: Path, clean: Path, tmp_path: Path, training: TrainingOptions, method: str
) -> None:
    options = msgspec.structs.replace(training, method=method, max_steps=1)
    found = sft([str(clean)], str(shipped / "student-qwen"), tmp_path, options, Run()).manifest
    config = json.loads((tmp_path / "v1" / "generation_config.json").read_text())
    assert config["eos_token_id"] == [
        load_chat(shipped / "student-qwen", "").tokenizer.eos_token_id
    ]
    for entry in found.files:
        assert file_sha256(tmp_path / "v1" / entry.name) == entry.sha256
    assert "README.md" not in {entry.name for entry in found.files}


def test_one_id_with_two_contents_is_refused(
    make_trace: Callable[..., Trace], shipped: Path, tmp_path: Path, training: TrainingOptions
) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [make_trace(), make_trace(response="\\boxed{21}")]
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    with pytest.raises(DataError, match="is in the input twice with different content"):
        sft([str(path)], str(shipped / "student-qwen"), tmp_path / "s", training, Run())
    assert list((tmp_path / "s").glob("v*")) == []
