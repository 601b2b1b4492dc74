"""The learning rate where none is given."""

import json
from pathlib import Path

import pytest

from distillpipe.base.errors import UsageError
from distillpipe.base.training_options import TrainingOptions
from distillpipe.models.lookup import Model
from distillpipe.training.student_config import default_learning_rate


def student(folder: Path, **config: object) -> Model:
    (folder / "config.json").write_text(json.dumps(config))
    return Model("student", folder, "id")


def options(method: str) -> TrainingOptions:
    return TrainingOptions(
        method=method, rank=32, alpha=32, learning_rate=None, scheduler="cosine", warmup=0.05,
        weight_decay=1e-4, max_grad_norm=1.0, epochs=5, max_steps=None, batch_size=16,
        max_length=512, dtype="bf16", chat_template=None, seed=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "width", "rate"),
    [
        ("qwen2", 1536, 5.1e-4),  # 5e-4 * 1.302 ** 0.0775
        ("qwen3_moe", 2048, 5.0e-4),
        ("llama", 2048, 4.9e-4),
        ("llama", 4096, 2.9e-4),  # 5e-4 * 0.488 ** 0.781
        ("mistral", 4096, 2.9e-4),  # as for Llama
    ],
)
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_the_rate_of_an_adapter_follows_width_and_family(
    tmp_path: Path, method: str, kind: str, width: int, rate: float
) -> None:
    found = default_learning_rate(
        student(tmp_path, model_type=kind, hidden_size=width), options(method)
    )
    assert found.rate == rate
    assert f"{width:,}" in found.why


def test_the_width_of_a_model_of_text_and_images_is_that_of_its_text(tmp_path: Path) -> None:
    text = {"model_type": "qwen3_vl_text", "hidden_size": 1536}
    one = student(tmp_path, model_type="qwen3_vl", text_config=text)
    assert default_learning_rate(one, options("lora")).rate == 5.1e-4


def test_full_training_takes_the_rate_of_s1_whatever_the_student(tmp_path: Path) -> None:
    assert default_learning_rate(student(tmp_path), options("full")).rate == 1e-5


def test_a_config_without_a_width_asks_for_the_rate(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no hidden_size, .* give --learning-rate"):
        default_learning_rate(student(tmp_path, model_type="gpt2"), options("lora"))
