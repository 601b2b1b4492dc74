"""Shapes from config.json against the models that transformers builds from it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from distillpipe.base.errors import UsageError
from distillpipe.training.shapes import DENSE, EXPERTS, Shapes, read_shapes

NOWHERE = Path("nowhere")
COMMON = {
    "vocab_size": 1000, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 160, "head_dim": 32, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MIXED = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
MORE: dict[str, dict[str, Any]] = {
    "qwen3_moe": MIXED,
    "qwen2_moe": {**MIXED, "shared_expert_intermediate_size": 80},
    "mixtral": {"num_local_experts": 8, "num_experts_per_tok": 2},
    "gpt_oss": {"num_local_experts": 8, "num_experts_per_tok": 2},
    "deepseek_v3": {
        "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "n_shared_experts": 1,
        "first_k_dense_replace": 1, "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8, "v_head_dim": 16, "n_group": 2, "topk_group": 1,
    },
}  # fmt: skip
FAMILIES = sorted((DENSE | EXPERTS) - {"gemma3"})  # which is read by its text part, gemma3_text


def config_and_model(family: str, **changes: Any) -> tuple[dict[str, Any], Any]:
    config = AutoConfig.for_model(family, **{**COMMON, **MORE.get(family, {}), **changes})
    with torch.device("meta"):
        return config.to_dict(), AutoModelForCausalLM.from_config(config)


def linear_layers(model: Any) -> list[torch.nn.Linear]:
    head = model.get_output_embeddings()
    return [one for one in model.modules() if isinstance(one, torch.nn.Linear) and one is not head]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_known_family_has_the_weights_of_its_model(family: str) -> None:
    config, model = config_and_model(family)
    found = read_shapes(config, NOWHERE, family)

    assert found.num_weights == sum(one.numel() for one in model.parameters())
    linear = linear_layers(model)
    assert found.num_adapter(3) == 3 * sum(one.in_features + one.out_features for one in linear)
    assert found.num_embeddings == model.get_input_embeddings().weight.numel()
    assert found.tied == (
        model.get_output_embeddings().weight is model.get_input_embeddings().weight
    )


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "phi3", "mistral"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_head_that_is_the_embedding_counts_once(family: str, tied: bool) -> None:
    config, model = config_and_model(family, tie_word_embeddings=tied)
    found = read_shapes(config, NOWHERE, family)

    assert found.num_weights == sum(one.numel() for one in model.parameters())


def test_a_published_config_gives_the_published_number_of_weights() -> None:
    # config.json of Qwen/Qwen2.5-32B: "Number of Parameters: 32.5B, (Non-Embedding): 31.0B" in its card
    config = {
        "model_type": "qwen2", "hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64,
        "num_attention_heads": 40, "num_key_value_heads": 8, "vocab_size": 152064, "tie_word_embeddings": False,
    }  # fmt: skip
    found = read_shapes(config, NOWHERE, "Qwen2.5-32B")

    assert found.num_weights == pytest.approx(32.76e9, rel=0.001)
    assert found.num_weights - 2 * found.num_embeddings == pytest.approx(31.2e9, rel=0.01)


def test_another_family_is_read_from_its_weights(tmp_path: Path) -> None:
    config = AutoConfig.for_model("olmo2", **COMMON)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path)
    found = read_shapes(config.to_dict(), tmp_path, "olmo2")

    assert found.num_weights == sum(one.numel() for one in model.parameters())
    linear = linear_layers(model)
    assert found.num_adapter(1) == sum(one.in_features + one.out_features for one in linear)
    assert len(found.layers) == 3


def test_another_family_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="the memory of a olmo2 can only be computed from its weights"
    ):
        read_shapes({"model_type": "olmo2"}, tmp_path, "a model")
    save_file({"other": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match="can only be computed from its weights"):
        read_shapes({"model_type": "olmo2"}, tmp_path, "a model")


def test_a_config_without_a_size_names_it() -> None:
    config = {
        "model_type": "llama",
        "num_attention_heads": 4,
        "hidden_size": 64,
        "num_hidden_layers": 2,
    }
    with pytest.raises(UsageError, match=r"a model: config\.json has no intermediate_size"):
        read_shapes(config, NOWHERE, "a model")


def test_a_token_meets_some_experts_only() -> None:
    config, _ = config_and_model("qwen3_moe")
    found: Shapes = read_shapes(config, NOWHERE, "qwen3_moe")
    (layer, *_) = found.layers

    assert layer.num_experts_weights == 8 * 3 * 64 * 48 + 8 * 64
    assert layer.num_active == 2 * 3 * 64 * 48 + 8 * 64
