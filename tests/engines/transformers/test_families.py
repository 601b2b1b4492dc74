"""Small random models of today's families: what the slots decode is what transformers' `generate` decodes."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from distillpipe.base.errors import EngineError
from distillpipe.base.options import Sampling
from distillpipe.engines.base import Completion, Request
from distillpipe.engines.transformers.labels import Text, score
from distillpipe.engines.transformers.output_head import output_head
from distillpipe.engines.transformers.slot_cache import ATTENTION
from distillpipe.engines.transformers.slot_model import tried
from distillpipe.engines.transformers.slots import Slots

CPU = torch.device("cpu")
SHAPE = {
    "vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 128, "head_dim": 8,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
DELTA_NET = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}  # fmt: skip
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
WINDOW = {"sliding_window": 6}
VISION = {
    "depth": 1,
    "hidden_size": 16,
    "num_heads": 2,
    "intermediate_size": 16,
    "out_hidden_size": 32,
}
MIXED = ["sliding_attention", "full_attention"] * 2
MLA = {
    "num_key_value_heads": 4, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4, "v_head_dim": 6, "n_routed_experts": 4, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 1, "head_dim": 4,
}  # fmt: skip

# By name: class of the config, its fields. Windows are shorter than the prompts.
FULL_ATTENTION: dict[str, tuple[str, dict[str, Any]]] = {
    "smollm3": ("SmolLM3Config", {}),
    "ministral3": ("Ministral3Config", {}),
    "glm4_moe": (
        "Glm4MoeConfig",
        {**EXPERTS, "n_routed_experts": 4, "n_group": 1, "topk_group": 1},
    ),
    "deepseek_v3": ("DeepseekV3Config", {**EXPERTS, **MLA}),
    "seed_oss": ("SeedOssConfig", {}),
    "apertus": ("ApertusConfig", {}),
    "granite": ("GraniteConfig", {"logits_scaling": 8.0}),
    "qwen3_moe": ("Qwen3MoeConfig", {**EXPERTS, "num_experts": 4}),
}
SLIDING: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma4": ("Gemma4TextConfig", {
        **WINDOW, "layer_types": MIXED, "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 256, "num_kv_shared_layers": 1, "global_head_dim": 16,
        "final_logit_softcapping": 2.0,
    }),
    "gemma3": ("Gemma3TextConfig", {**WINDOW, "layer_types": MIXED}),
    "gpt_oss": ("GptOssConfig", {**WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "olmo3": ("Olmo3Config", WINDOW),
    "exaone4": ("Exaone4Config", WINDOW),
    "cohere2": ("Cohere2Config", {**WINDOW, "logit_scale": 0.25}),
    "mistral, all layers sliding": ("MistralConfig", WINDOW),
    "qwen2 with windows": ("Qwen2Config", {
        **WINDOW, "use_sliding_window": True, "layer_types": MIXED,
    }),
}  # fmt: skip
RECURRENT: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3_5": ("Qwen3_5TextConfig", DELTA_NET),
    "qwen3_5 with a vision tower": ("Qwen3_5Config", {
        "text_config": {**SHAPE, **DELTA_NET}, "vision_config": VISION,
    }),
    "qwen3_next": ("Qwen3NextConfig", {
        **DELTA_NET, **EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 16,
    }),
    "lfm2": ("Lfm2Config", {"layer_types": ["conv", "conv", "full_attention", "conv"]}),
    "nemotron_h": ("NemotronHConfig", {
        "hybrid_override_pattern": "M*M-", "mamba_num_heads": 8,
        "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 2, "chunk_size": 8,
    }),
    "granite 4": ("GraniteMoeHybridConfig", {
        **MAMBA, "layer_types": ["mamba", "attention"] * 2, "logits_scaling": 8.0,
        "shared_intermediate_size": 32,
    }),
    "falcon_h1": ("FalconH1Config", {**MAMBA, "mamba_d_ssm": 64, "lm_head_multiplier": 0.3}),
    "olmo_hybrid": ("OlmoHybridConfig", DELTA_NET),
}  # fmt: skip
FAMILIES = FULL_ATTENTION | SLIDING | RECURRENT
DAILY = (
    "gemma4",
    "gpt_oss",
    "qwen3_5",
    "granite",
)  # a family of each kind of layer; all others are slow tests


def each(families: Iterable[str]) -> list[Any]:
    return [
        family if family in DAILY else pytest.param(family, marks=pytest.mark.slow)
        for family in families
    ]


PROMPTS = [[7, 3, 9, 11, 200, 5, 8, 4, 1, 2, 33, 44][:length] for length in (12, 5, 5, 9, 12, 2)]


def random_model(family: str) -> Any:
    """A model with weights large enough that another mask or state changes its tokens."""
    name, fields = FAMILIES[family]
    shape = {} if "text_config" in fields else SHAPE
    if "hybrid_override_pattern" in fields:  # it says how many layers there are
        shape = {key: value for key, value in shape.items() if key != "num_hidden_layers"}
    config = getattr(transformers, name)(**(shape | fields))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data.mul_(3)
    return model


def decoded(model: Any, max_tokens: int) -> dict[str, list[int]]:
    """Greedy completions of all prompts from three slots, by index of the prompt."""
    model.set_attn_implementation(ATTENTION)
    has_states = tried(model, "it", CPU).has_states
    slots = Slots(model, output_head(model, "it"), 3, 128, CPU)
    sampling = Sampling(temperature=0.0, top_p=1.0, max_tokens=max_tokens)
    waiting = [Request(str(at), ids, sampling, at) for at, ids in enumerate(PROMPTS)]
    completions: dict[str, list[int]] = {}
    while waiting or slots.num_active:
        group: list[Request] = []
        while waiting and len(group) + slots.num_active < 3:
            if group and has_states and len(waiting[0].prompt_ids) != len(group[0].prompt_ids):
                break
            group.append(waiting.pop(0))
        if group:
            slots.prefill(group)
        slots.step()
        for completion in slots.take_finished(frozenset()):
            assert isinstance(completion, Completion)
            completions[completion.key] = completion.token_ids
    return completions


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("family", each(FAMILIES))
def test_slots_decode_what_generate_decodes(family: str) -> None:
    model = random_model(family)
    completions = decoded(model, max_tokens=14)

    model.set_attn_implementation("eager")
    for at, prompt in enumerate(PROMPTS):
        whole = model.generate(torch.tensor([prompt]), max_new_tokens=14, do_sample=False)
        assert completions[str(at)] == whole[0, len(prompt) :].tolist()


@pytest.mark.parametrize("family", each(FAMILIES))
def test_labels_are_the_probabilities_of_the_model_itself(family: str) -> None:
    model = random_model(family)
    text = Text(PROMPTS[0], [5, 17, 90, 3])
    ids = torch.tensor([[*text.prompt_ids, *text.completion_ids]])
    with torch.no_grad():
        logprobs = model(ids).logits[0, len(text.prompt_ids) - 1 : -1].float().log_softmax(-1)

    model.set_attn_implementation(ATTENTION)
    [(_, labels)] = score(model, output_head(model, "it"), [text], 256, CPU)

    assert labels is not None
    expected = logprobs.gather(1, torch.from_numpy(labels.top_tokens.astype("int64")))
    assert torch.from_numpy(labels.top_logprobs).float().exp() == pytest.approx(
        expected.exp(), abs=1e-3
    )


@pytest.mark.parametrize("family", each(RECURRENT))
def test_a_round_goes_on_in_its_slot_only_behind_all_it_read(family: str) -> None:
    model = random_model(family)
    model.set_attn_implementation(ATTENTION)
    slots = Slots(model, output_head(model, "it"), 2, 128, CPU)
    sampling = Sampling(temperature=0.0, top_p=1.0, max_tokens=6)
    slots.prefill([Request("0", PROMPTS[0], sampling, 0, limit=12)])
    while not (finished := slots.take_finished(frozenset())):
        slots.step()
    [first] = finished
    assert isinstance(first, Completion)
    read = [*PROMPTS[0], *first.token_ids]

    earlier = Request("0", [*read[:-3], 99], sampling, 0, limit=12)
    assert slots.resume([earlier]) == [earlier]

    longer = Request("0", [*read, 99], sampling, 0, limit=12)
    assert slots.resume([longer]) == []
    while not (finished := slots.take_finished(frozenset())):
        slots.step()
    [second] = finished
    assert isinstance(second, Completion)
    model.set_attn_implementation("eager")
    whole = model.generate(torch.tensor([[*read, 99]]), max_new_tokens=12, do_sample=False)
    assert second.token_ids == whole[0, len(read) + 1 :].tolist()


def test_a_family_that_slots_cannot_hold_is_refused_with_the_reason() -> None:
    config = transformers.Mamba2Config(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_heads=8, head_dim=8, state_size=8, n_groups=1
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()

    with pytest.raises(EngineError, match=r"does not support a mamba2.*--engine vllm"):
        tried(model, "it", CPU)
