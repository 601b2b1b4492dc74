"""What `sft --dry-run` predicts: memory tensor by tensor, time from the arithmetic."""

from typing import Any

import msgspec
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from distillpipe.base.training_options import TrainingOptions
from distillpipe.training import prediction
from distillpipe.training.expected import Length
from distillpipe.training.prediction import predict

CONFIG = Qwen2Config(
    vocab_size=1000, hidden_size=64, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
    intermediate_size=160, max_position_embeddings=512, tie_word_embeddings=True,
)  # fmt: skip
OPTIONS = TrainingOptions(
    method="full", rank=4, alpha=4, learning_rate=1e-3, scheduler="cosine", warmup=0.1,
    weight_decay=1e-4, max_grad_norm=1.0, epochs=3, max_steps=None, batch_size=4, max_length=512,
    dtype="fp32", chat_template=None, seed=1,
)  # fmt: skip
ROWS = [Length(100, 60), Length(40, 30), Length(60, 50), Length(80, 10)] * 2
CPU = torch.device("cpu")


def changed(**changes: Any) -> TrainingOptions:
    return msgspec.structs.replace(OPTIONS, **changes)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_activations_are_those_that_a_real_forward_pass_keeps(dtype: str) -> None:
    model = AutoModelForCausalLM.from_config(CONFIG, dtype=torch.float32).train()
    weights = {one.data_ptr() for one in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"),
    ):
        model.base_model(input_ids=torch.zeros(1, 280, dtype=torch.long), use_cache=False)
    real = sum(one.untyped_storage().nbytes() for at, one in kept.items() if at not in weights)
    assert prediction._saved_bytes(CONFIG, changed(dtype=dtype), 280) == real


def test_full_training_holds_four_numbers_a_weight_and_an_adapter_one() -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIG)
    num_weights = sum(one.numel() for one in model.parameters())
    found = predict(CONFIG, OPTIONS, ROWS, 8, CPU)
    logits = 3 * 4 * (60 + 30 + 50 + 10) * 1000
    saved = prediction._saved_bytes(CONFIG, OPTIONS, 280)
    assert found.memory_bytes == 4 * 4 * num_weights + saved + logits
    assert found.disk_bytes == 7 * 4 * num_weights
    lora = predict(CONFIG, changed(method="lora"), ROWS, 8, CPU)
    adapter = (
        4 * 3 * ((64 + 64) * 2 + (64 + 32) * 2 + (64 + 160) * 3)
    )  # weights of 7 pairs in 3 layers
    assert lora.disk_bytes == 7 * 4 * adapter
    assert lora.memory_bytes == 4 * num_weights + 4 * 4 * adapter + saved + logits


def test_the_arithmetic_grows_with_the_rows_and_the_memory_does_not() -> None:
    once, often = (predict(CONFIG, OPTIONS, ROWS, number, CPU) for number in (8, 80))
    assert often.memory_bytes == once.memory_bytes
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIG)
    matrices = [
        one for name, one in model.named_parameters() if one.ndim > 1 and "embed" not in name
    ]
    of_token, of_label = 6 * sum(one.numel() for one in matrices), 6 * 64 * 1000
    squares = sum(row.tokens**2 for row in ROWS)
    assert once.operations == 560 * of_token + 300 * of_label + 6 * 3 * 64 * squares
    assert often.operations == 10 * once.operations


def test_rows_longer_than_a_pass_together_need_the_memory_of_a_full_one() -> None:
    long = [Length(3000, 2000)] * 16
    found = predict(CONFIG, changed(batch_size=16, max_length=4096), long, 16, CPU)
    alone = predict(CONFIG, changed(batch_size=1, max_length=4096), long, 16, CPU)
    assert found.memory_bytes == alone.memory_bytes


def test_gradient_checkpointing_needs_less() -> None:
    plain, again = (
        predict(CONFIG, changed(gradient_checkpointing=on), ROWS, 8, CPU).memory_bytes
        for on in (False, True)
    )
    assert again < plain


def test_the_speed_of_products_is_measured() -> None:
    assert prediction.product_speed(CONFIG, OPTIONS, 280, CPU) > 1e6
