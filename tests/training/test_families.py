"""Training small random students of today's families: what learns, what stays, and what the checkpoint computes."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from distillpipe.base.records import Trace
from distillpipe.base.training_options import TrainingOptions
from distillpipe.models import loading, lookup
from distillpipe.models.chat import Chat
from distillpipe.training import loop, states
from distillpipe.training.rows.rows import row_of
from distillpipe.training.rows.stored_rows import StoredRows
from distillpipe.training.student import adapted_layers

OPTIONS = TrainingOptions(
    method="full", rank=4, alpha=32, learning_rate=3e-3, scheduler="constant", epochs=3, batch_size=4,
    max_length=512, dtype="fp32", seed=1,
)  # fmt: skip
SHAPE: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 512, "head_dim": 8,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
DELTA_NET = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}  # fmt: skip
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
VISION = {
    "depth": 1,
    "hidden_size": 16,
    "num_heads": 2,
    "intermediate_size": 16,
    "out_hidden_size": 32,
}
SMALL_VISION = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
FAMILIES: dict[str, Any] = {
    "qwen3_moe": transformers.Qwen3MoeConfig(**SHAPE, **EXPERTS, num_experts=4),
    "gpt_oss": transformers.GptOssConfig(
        **SHAPE, sliding_window=16, num_local_experts=4, num_experts_per_tok=2
    ),
    "qwen3_5": transformers.Qwen3_5Config(text_config=SHAPE | DELTA_NET, vision_config=VISION),
    "qwen3_next": transformers.Qwen3NextConfig(
        **SHAPE, **DELTA_NET, **EXPERTS, num_experts=4, shared_expert_intermediate_size=16
    ),
    "lfm2": transformers.Lfm2Config(
        **SHAPE, layer_types=["conv", "full_attention", "conv", "full_attention"]
    ),
    "granite": transformers.GraniteConfig(**SHAPE, logits_scaling=4.0),
    "smollm3": transformers.SmolLM3Config(**SHAPE),
    "gemma4_text": transformers.Gemma4TextConfig(
        **SHAPE,
        sliding_window=16,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=512,
        global_head_dim=16,
        final_logit_softcapping=20.0,
    ),
    "gemma3": transformers.Gemma3Config(
        text_config={"model_type": "gemma3_text", **SHAPE, "sliding_window": 16},
        vision_config=SMALL_VISION,
    ),
    "mistral3": transformers.Mistral3Config(
        text_config={"model_type": "ministral3", **SHAPE},
        vision_config={"model_type": "pixtral", **SMALL_VISION},
    ),
}
DAILY = ("qwen3_5", "gpt_oss")  # all others are slow tests
ROUTERS = {"qwen3_moe": "mlp.gate", "gpt_oss": "mlp.router", "qwen3_next": "mlp.gate"}


@pytest.fixture(scope="module")
def rows(
    teacher_chat: Chat,
    additions: Callable[[range, range], list[Trace]],
    stored: Callable[..., StoredRows],
) -> StoredRows:
    return stored(row_of(trace, teacher_chat) for trace in additions(range(3, 7), range(2, 4)))


@pytest.fixture
def student_of(tmp_path: Path, repository: Path) -> Callable[[str], lookup.Model]:
    """`student_of("gpt_oss")`: a random model of the family with the tokenizer of the shipped students."""

    def make(family: str) -> lookup.Model:
        folder = tmp_path / "student"
        torch.manual_seed(0)
        config = FAMILIES[family]
        if family == "qwen3_5":  # as it is published, with a tower for images
            model: Any = transformers.Qwen3_5ForConditionalGeneration(config)
        else:
            model = loading.build(config, dtype=torch.float32)
        model.save_pretrained(folder)
        shipped = repository / "data/quickstart/student-qwen"
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy(shipped / name, folder)
        return lookup.find(str(folder), "--student")

    return make


def losses(folder: Path) -> list[float]:
    return [step.loss for step in states.steps_in(folder)]


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize(
    "family",
    [one if one in DAILY else pytest.param(one, marks=pytest.mark.slow) for one in FAMILIES],
)
def test_a_family_learns_and_its_checkpoint_computes_the_same(
    family: str, method: str, tmp_path: Path, student_of: Callable[[str], lookup.Model],
    rows: StoredRows,
) -> None:  # fmt: skip
    student = student_of(family)
    folder = tmp_path / "trained"
    folder.mkdir()

    loop.train(student, rows, folder, msgspec.structs.replace(OPTIONS, method=method), 1000)

    assert losses(folder)[-1] < 0.995 * losses(folder)[0]
    if method == "full":
        trained = loading.load_model(folder, "trained", dtype=torch.float32).eval()
        before = loading.load_model(student.folder, "student", dtype=torch.float32).eval()
        ids = torch.tensor([[5, 17, 90, 3]])
        with torch.no_grad():
            assert not torch.allclose(trained(ids).logits, before(ids).logits, atol=1e-3)


@pytest.mark.parametrize("family", ROUTERS)
def test_an_adapter_leaves_routers_and_experts_alone(
    family: str, tmp_path: Path, student_of: Callable[[str], lookup.Model], rows: StoredRows
) -> None:
    folder = tmp_path / "trained"
    folder.mkdir()
    options = msgspec.structs.replace(OPTIONS, method="lora", max_steps=1)

    loop.train(student_of(family), rows, folder, options, 1000)

    adapted = {
        name.rsplit(".lora_", 1)[0] for name in load_file(folder / "adapter_model.safetensors")
    }
    assert any(name.endswith("self_attn.q_proj") for name in adapted)
    assert not [name for name in adapted if name.endswith((ROUTERS[family], "shared_expert_gate"))]
    assert not [name for name in adapted if ".experts" in name]


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("smollm3", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        ("qwen3_next", {
            "q_proj", "k_proj", "v_proj", "o_proj", "in_proj_qkvz", "in_proj_ba", "out_proj",
        }),
        ("gpt_oss", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("lfm2", {"q_proj", "k_proj", "v_proj", "out_proj", "in_proj", "w1", "w2", "w3"}),
        ("qwen3_5", {
            "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
            "in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj",
        }),
    ],
)  # fmt: skip
def test_linear_layers_of_every_kind_get_an_adapter(family: str, expected: set[str]) -> None:
    model = AutoModelForCausalLM.from_config(FAMILIES[family], dtype=torch.float32)
    assert {name.rpartition(".")[2] for name in adapted_layers(model)} == expected
