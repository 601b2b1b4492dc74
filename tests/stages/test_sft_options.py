"""What the options of `sft` do in a whole run on a model of one layer."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from transformers import AutoModelForCausalLM, GemmaConfig

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.records import Trace
from distillpipe.base.training_options import TrainingOptions, TrainingRun
from distillpipe.data.store.manifest import ResolvedOption
from distillpipe.data.store.versions import Header
from distillpipe.models import lookup
from distillpipe.models.chat import with_template_text
from distillpipe.stages.run import Run, content_of
from distillpipe.stages.sft import forecast_sft, sft
from distillpipe.training.states import steps_in
from distillpipe.training.step import passes_of
from distillpipe.training.student import load_student


@pytest.fixture
def inputs(make_traces: Callable[..., list[Trace]], tmp_path: Path) -> list[str]:
    """Files of twelve and of six rows."""
    rows = make_traces(18)
    for name, part in (("a", rows[:12]), ("b", rows[12:])):
        content = b"".join(msgspec.json.encode(row) + b"\n" for row in part)
        (tmp_path / f"{name}.jsonl").write_bytes(content)
    return [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]


def test_weights_go_to_no_path_that_is_no_utf8(
    inputs: list[str], training: TrainingOptions
) -> None:
    given = inputs, "student", Path("caf\udce9"), training, Run()

    with pytest.raises(UsageError, match=r"^--out caf.*is not UTF-8"):
        sft(*given)
    with pytest.raises(UsageError, match=r"^--out caf.*is not UTF-8"):
        forecast_sft(*given)


# made before there were these options: a checkpoint of then is still up to date
FINGERPRINTS = {
    "c051549f4de6efcd48a38f20f723e397": {},  # commands have always written eval_split, also 0
    "1e8ebd513f499afe9d2aed7a80d8a954": {
        "method": "lora", "scheduler": "linear", "packing": False, "eval_split": 0.1,
    },
}  # fmt: skip
NEW_OPTIONS = {
    "adam_beta1": 0.8, "adam_beta2": 0.999, "min_learning_rate": 1e-6, "train_on_prompt": True,
}  # fmt: skip


@pytest.mark.parametrize("fingerprint", FINGERPRINTS)
def test_options_at_their_defaults_change_no_fingerprint(fingerprint: str) -> None:
    options = TrainingOptions(
        method="full", rank=32, alpha=32, learning_rate=1e-5, scheduler="cosine", warmup=0.05,
        weight_decay=1e-4, max_grad_norm=1.0, epochs=5, max_steps=None, batch_size=16,
        max_length=512, dtype="bf16", chat_template=None, seed=0,
    )  # fmt: skip
    options = msgspec.structs.replace(options, **FINGERPRINTS[fingerprint])

    def fingerprint_of(changed: TrainingOptions) -> str:
        content = content_of(options=with_template_text(changed))
        header = Header(
            kind="checkpoint", stage="sft", content=content, inputs=[], models=[], options={}
        )
        return header.fingerprint

    assert fingerprint_of(options) == fingerprint
    as_typed = {"adam_beta1": float("0.9"), "adam_beta2": float("0.95")}  # equal, other objects
    assert fingerprint_of(msgspec.structs.replace(options, **as_typed)) == fingerprint
    for name, value in NEW_OPTIONS.items():
        assert fingerprint_of(msgspec.structs.replace(options, **{name: value})) != fingerprint


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"scheduler": "constant", "min_learning_rate": 1e-4},
            "with --scheduler constant it stays",
        ),
        ({"min_learning_rate": 3e-3}, "0.003 is above the learning rate, 0.002"),
        ({"min_learning_rate": float("nan")}, "nan is above the learning rate"),
        ({"min_learning_rate": 1e-2, "learning_rate": None}, "is above the learning rate, 1e-05"),
    ],
)
def test_a_floor_that_cannot_be_one_is_refused(
    inputs: list[str], tiny_model: Path, tmp_path: Path, training: TrainingOptions, changes, said
) -> None:
    options = msgspec.structs.replace(training, **changes)
    with pytest.raises(UsageError, match=said):
        sft(inputs, str(tiny_model), tmp_path / "out", options, Run())
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_sft_trains_on_prompts_where_it_is_asked_to(
    inputs: list[str], tiny_model: Path, tmp_path: Path, training: TrainingOptions, capsys
) -> None:
    counted = []
    for asked in (False, True):
        options = msgspec.structs.replace(training, train_on_prompt=asked, epochs=1)
        out = tmp_path / str(asked)
        manifest = sft(inputs, str(tiny_model), out, options, Run()).manifest
        steps = steps_in(out / "v1")
        assert manifest.counts.tokens_kept == sum(step.supervised_tokens for step in steps)
        counted.append((manifest.counts.tokens_kept, sum(step.tokens for step in steps)))
        prompts = "supervised too (--train-on-prompt)" in capsys.readouterr().err
        assert prompts == asked
    (completions, tokens), (everything, same) = counted
    assert tokens == same
    assert everything == tokens - 18  # the first of each row has nothing before it
    assert completions < everything


def test_weights_and_rows_held_out_are_counted_and_the_rate_of_an_adapter_is_derived_and_said(
    inputs: list[str],
    tiny_model: Path,
    tmp_path: Path,
    training: TrainingOptions,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = msgspec.structs.replace(
        training, method="lora", learning_rate=None, weight=(1.0, 0.5), eval_split=0.2
    )
    given = {"learning_rate": ResolvedOption(None, "default")}
    run, out = Run(options=given), tmp_path / "out"
    training = TrainingRun(report_to=("tensorboard",), save_every=2)
    manifest = sft(inputs, str(tiny_model), out, options, run, training).manifest
    said = capsys.readouterr().err
    assert manifest.counts.rows_by_input == [12, 6]
    assert "2 rows are held out, 13 an epoch are trained on" in said
    assert "an epoch has 10 rows of" in said
    assert "an epoch has 3 rows of" in said
    assert manifest.options["learning_rate"] == ResolvedOption(6.5e-4, "derived")
    assert "learning rate 0.00065, tinker-cookbook's rule for qwen at a width of 64" in said
    steps = steps_in(out / "v1")
    assert [step.step for step in steps if step.eval_loss is not None] == [2, 4, 6, 8]
    assert manifest.metrics is not None
    assert manifest.metrics["eval_loss"] == steps[-1].eval_loss
    assert manifest.metrics["peak_memory_bytes"] == max(step.peak_memory_bytes for step in steps)
    card = (out / "v1" / "README.md").read_text()
    assert f"; {steps[-1].eval_loss:.4f} on the rows held out; all of them in" in card
    assert list((out / "v1" / "tensorboard").glob("events.*"))
    again = msgspec.structs.replace(options, learning_rate=6.5e-4)
    assert sft(inputs, str(tiny_model), out, again, run, training).up_to_date


@pytest.mark.parametrize(
    ("changes", "run_changes", "message"),
    [
        ({"weight": (1.0,)}, {}, "--weight is given 1 times for 2 inputs"),
        ({}, {"num_processes": 5}, "--num-processes 5: a step has 4 rows"),
        ({}, {"sharding": "fsdp"}, "--sharding fsdp is for several processes"),
        (
            {"method": "qlora"},
            {"num_processes": 2, "sharding": "fsdp"},
            "cannot split weights of 4 bits",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused_at_once(
    inputs: list[str],
    tiny_model: Path,
    tmp_path: Path,
    training: TrainingOptions,
    changes: dict[str, object],
    run_changes: dict[str, object],
    message: str,
) -> None:
    options = msgspec.structs.replace(training, **changes)
    out, training_run = tmp_path / "out", TrainingRun(**run_changes)
    with pytest.raises(UsageError, match=message):
        sft(inputs, str(tiny_model), out, options, Run(), training_run)
    with pytest.raises(UsageError, match=message):
        forecast_sft(inputs, str(tiny_model), out, options, Run(), training_run)
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eval_split": 1e-9}, "--eval-split 1e-09 leaves no row to measure on"),
        (
            {"weight": (1.0, 0.01)},
            "an epoch has none of the 6 rows of input 2 that are not held out",
        ),
    ],
)
def test_a_run_without_rows_on_one_side_leaves_nothing_behind(
    inputs: list[str],
    tiny_model: Path,
    tmp_path: Path,
    training: TrainingOptions,
    changes: dict[str, object],
    message: str,
) -> None:
    options = msgspec.structs.replace(training, **changes)
    with pytest.raises(DataError, match=message):
        sft(inputs, str(tiny_model), tmp_path / "out", options, Run(), TrainingRun(save_every=2))
    assert list((tmp_path / "out").glob("v*")) == []


def test_a_forecast_says_the_derived_rate_and_counts_the_steps_of_weighted_inputs(
    inputs: list[str], tiny_model: Path, tmp_path: Path, training: TrainingOptions
) -> None:
    options = msgspec.structs.replace(training, learning_rate=None, weight=(2.0, 0.5))
    found = forecast_sft(inputs, str(tiny_model), tmp_path / "out", options, Run())
    assert found.options["learning_rate"] == ResolvedOption(1e-5, "derived")
    assert found.rows["steps"] == 2 * 7  # 24 + 3 rows in steps of 4, two epochs


@pytest.mark.slow
def test_padded_rows_give_the_losses_of_packed_ones(
    inputs: list[str], tiny_model: Path, tmp_path: Path, training: TrainingOptions
) -> None:
    losses = []
    for packing in (None, True, False):
        options = msgspec.structs.replace(training, packing=packing, max_steps=3)
        sft(inputs, str(tiny_model), tmp_path / str(packing), options, Run())
        found = steps_in(tmp_path / str(packing) / "v1")
        losses.append([step.loss for step in found])
    assert losses[0] == losses[1]
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


def test_rows_that_cannot_be_kept_apart_are_not_packed_against_the_models_will(
    training: TrainingOptions,
) -> None:
    config = GemmaConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, intermediate_size=32,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    options = msgspec.structs.replace(training, packing=True)
    with pytest.raises(
        UsageError, match="--packing: it is not known how to keep packed rows of a gemma apart"
    ):
        passes_of(model, torch.device("cpu"), options, print)


@pytest.mark.slow
def test_an_adapter_on_weights_of_four_bits_learns_as_on_whole_ones_and_is_merged_into_them(
    inputs: list[str], tiny_model: Path, tmp_path: Path, training: TrainingOptions
) -> None:
    pytest.importorskip("bitsandbytes")
    options = msgspec.structs.replace(training, method="qlora", learning_rate=1e-2, epochs=8)
    model = load_student(lookup.find(str(tiny_model), "--student"), options)
    quantized = {name for name, one in model.named_parameters() if one.dtype == torch.uint8}
    assert len(quantized) == 7  # of the one layer

    out = tmp_path / "out"
    manifest = sft(inputs, str(tiny_model), out, options, Run(), TrainingRun(merge=True)).manifest
    whole = msgspec.structs.replace(options, method="lora")
    sft(inputs, str(tiny_model), tmp_path / "lora", whole, Run())
    ours, theirs = (
        [step.loss for step in steps_in(folder / "v1")] for folder in (out, tmp_path / "lora")
    )
    assert ours[-1] < ours[0] - 0.3
    assert ours == pytest.approx(theirs, rel=0.01)
    assert ours != theirs
    base = json.loads((out / "v1" / "adapter_config.json").read_bytes())
    assert base["base_model_name_or_path"] == str(tiny_model)
    merged = AutoModelForCausalLM.from_pretrained(out / "v1" / "merged")
    assert merged.dtype == torch.float32
    assert {entry.name for entry in manifest.files} >= {"merged/model.safetensors"}
