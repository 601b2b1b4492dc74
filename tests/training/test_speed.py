"""Operations, the peaks of devices, and what the manifest says of all steps."""

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen3MoeConfig

from distillpipe.training.rows.rows import Row
from distillpipe.training.speed import OperationCounts, operation_counts, summary
from distillpipe.training.states import Step

CONFIG = Qwen2Config(
    vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, intermediate_size=48, tie_word_embeddings=True,
)  # fmt: skip
# Weights of the matrices of a layer: queries and output 32x32, keys and values 32x16, gate, up and down 32x48.
BODY = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48)


def test_full_training_costs_six_operations_a_weight_and_attention_half_a_square() -> None:
    model = AutoModelForCausalLM.from_config(CONFIG)
    assert operation_counts(model) == OperationCounts(6 * BODY, 6 * 32 * 100, 6 * 2 * 32)


def test_an_adapter_costs_four_a_weight_of_its_base_and_six_of_its_own() -> None:
    base = AutoModelForCausalLM.from_config(CONFIG)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear"))
    own = sum(one.numel() for one in model.parameters() if one.requires_grad)
    assert operation_counts(model) == OperationCounts(4 * BODY + 6 * own, 4 * 32 * 100, 6 * 2 * 32)


def test_the_work_of_experts_is_not_known() -> None:
    config = Qwen3MoeConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=48, moe_intermediate_size=16, num_experts=4,
    )  # fmt: skip
    assert operation_counts(AutoModelForCausalLM.from_config(config)) is None


def test_the_work_of_rows_counts_the_head_where_there_is_loss_and_each_row_squared() -> None:
    rows = [Row("a", [1] * 10, 4), Row("b", [1] * 3, 1)]
    assert OperationCounts(100, 7, 2).of_rows(rows) == 100 * 13 + 7 * (6 + 2) + 2 * (100 + 9)


def test_all_steps_together_are_means_over_their_time_and_the_largest_memory() -> None:
    steps = [
        Step(1, 2.0, 1e-3, 1.0, 30, 60, 1.0, 60.0, 0.4, 500),
        Step(2, 1.0, 1e-3, 1.0, 60, 120, 3.0, 40.0, 0.2, 700),
    ]
    assert summary(steps) == {
        "loss": 1.0,
        "eval_loss": None,
        "tokens_per_second": 45.0,
        "supervised_tokens_per_second": 22.5,
        "mfu": pytest.approx(0.25),
        "peak_memory_bytes": 700,
    }
    unknown = [Step(1, 2.0, 1e-3, 1.0, 30, 60, 1.0, 60.0, None, 500)]
    assert summary(unknown)["mfu"] is None
