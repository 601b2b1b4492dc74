"""Rows in forward passes: none lost, none split, none seen by another."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from distillpipe.engines.transformers.output_head import OutputHead, output_head
from distillpipe.training.losses.token_losses import loss_sums
from distillpipe.training.passes import MIN_TOKENS, best_fit, capacity
from distillpipe.training.rows.attention import (
    FAMILIES,
    PACKED,
    SINKS,
    Packing,
    implementation,
    leaks,
)
from distillpipe.training.rows.packing import Pass, packed_passes, padded_passes
from distillpipe.training.rows.rows import IGNORED, Row

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def rows_of_lengths(*lengths: int) -> list[Row]:
    return [Row(f"row{at}", [at + 1] * length, 1) for at, length in enumerate(lengths)]


@pytest.mark.parametrize(
    ("lengths", "passes"),
    [
        ([], []),
        ([7], [[0]]),
        ([11], [[0]]),  # longer than a pass: alone in one
        ([11, 1], [[0], [1]]),
        ([5, 5, 5], [[0, 1], [2]]),
        ([3, 6, 7], [[2, 0], [1]]),  # 7 + 3 is fuller than 6 + 3
        ([4, 8, 6, 2], [[1, 3], [2, 0]]),
        ([10, 10], [[0], [1]]),
    ],
)
def test_a_row_goes_where_it_leaves_the_least_room(lengths, passes) -> None:
    assert best_fit(lengths, 10) == passes


@given(st.lists(st.integers(1, 1200), max_size=60), st.integers(1, 1000))
def test_every_row_is_in_one_pass_and_no_pass_is_too_full(lengths: list[int], room: int) -> None:
    passes = best_fit(lengths, room)
    assert sorted(row for one in passes for row in one) == list(range(len(lengths)))
    totals = [sum(lengths[row] for row in one) for one in passes]
    assert all(total <= room or len(one) == 1 for total, one in zip(totals, passes, strict=True))
    if all(length <= room for length in lengths):
        assert sum(2 * total <= room for total in totals) <= 1  # two such would have gone together


def test_a_pass_holds_what_the_longest_row_may_have() -> None:
    assert capacity(32768) == 32768
    assert capacity(512) == MIN_TOKENS == 4096


TRACES = ("math500_r1_family", "qwen3_think_onoff", "r1_mmlu_pro_mcq", "riddles_qwq")


@pytest.mark.parametrize("max_length", [16384, 32768])
def test_packs_of_lengths_like_those_of_traces_are_full(max_length: int) -> None:
    drawn = np.random.default_rng(0).lognormal(
        7.5, 1.0, 1200
    )  # half below 1,800 tokens, a long tail
    lengths = [int(one) for one in drawn if 0 < one <= max_length]
    passes = best_fit(lengths, max_length)
    assert sum(lengths) / (len(passes) * max_length) >= 0.98


@pytest.mark.reference
@pytest.mark.parametrize("max_length", [16384, 32768])
def test_packs_of_real_traces_are_full(
    reference_rows: Callable[[str], list[dict[str, Any]]], max_length: int
) -> None:
    rows = [row for name in TRACES for row in reference_rows(f"traces/{name}.jsonl")]
    lengths = [row["x_qwen_tokens"] for row in rows if 0 < row["x_qwen_tokens"] <= max_length]
    passes = best_fit(lengths, max_length)
    assert sum(lengths) / (len(passes) * max_length) >= 0.98


def test_packed_rows_lie_in_one_line_with_positions_of_their_own() -> None:
    rows = [Row("a", [11, 12, 13, 14], 1), Row("b", [21, 22], 0), Row("c", [31, 32, 33], 3)]
    (one,) = packed_passes(rows, 4096)
    assert one.ids.tolist() == [[11, 12, 13, 14, 31, 32, 33, 21, 22]]
    assert one.labels.tolist() == [[IGNORED, 12, 13, 14] + [IGNORED] * 3 + [IGNORED, 22]]
    assert one.num_supervised == 4
    assert one.model_inputs["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2, 0, 1]]
    assert one.model_inputs["cu_seq_lens_q"].tolist() == [0, 4, 7, 9]
    assert one.model_inputs["max_length_q"] == 4


def test_rows_are_padded_on_the_right_and_labels_begin_after_the_prompt() -> None:
    rows = [Row("a", [11, 12, 13, 14], 1), Row("b", [21, 22], 1), Row("c", [31, 32, 33], 3)]
    ((ids, labels, places, lying),) = padded_passes(rows, 4096)
    assert ids.tolist() == [[21, 22, 0, 0], [31, 32, 33, 0], [11, 12, 13, 14]]
    assert labels.tolist() == [
        [IGNORED, 22, IGNORED, IGNORED],
        [IGNORED, IGNORED, IGNORED, IGNORED],  # all prompt
        [IGNORED, 12, 13, 14],
    ]
    assert ids.dtype == labels.dtype == torch.int64
    assert places == {}
    assert [row.id for row in lying] == ["b", "c", "a"]


@pytest.mark.parametrize("split", [packed_passes, padded_passes])
def test_a_token_with_the_id_of_the_padding_keeps_its_label(split) -> None:
    (one,) = split([Row("a", [5, 0, 0], 1)], 4096)
    assert one.ids.tolist() == [[5, 0, 0]]
    assert one.labels.tolist() == [[IGNORED, 0, 0]]


@pytest.mark.parametrize(
    ("lengths", "shapes"),
    [
        ([5000] * 4, [(3, 5000), (1, 5000)]),
        ([1, 5000, 1, 5000, 5000], [(3, 5000), (2, 5000)]),
        ([8192] * 2, [(2, 8192)]),
        ([8193] * 2, [(1, 8193)] * 2),
        ([16385], [(1, 16385)]),
        ([3, 16385], [(1, 3), (1, 16385)]),
        ([7], [(1, 7)]),
    ],
)
def test_padded_passes_stay_within_their_tokens_unless_one_row_is_longer(lengths, shapes) -> None:
    passes = list(padded_passes(rows_of_lengths(*lengths), 16384))
    assert [tuple(one.ids.shape) for one in passes] == shapes
    assert [tuple(one.labels.shape) for one in passes] == shapes


@pytest.mark.parametrize("split", [packed_passes, padded_passes])
@given(lengths=st.lists(st.integers(1, 9000), min_size=1, max_size=8))
def test_no_row_and_no_label_is_lost_in_the_forward_passes(split, lengths: list[int]) -> None:
    found = {}
    for one in split(rows_of_lengths(*lengths), 16384):
        for number in set(one.ids.flatten().tolist()) - {0}:
            here = one.ids == number
            found[number] = (int(here.sum()), int((one.labels == number).sum()))
            assert int((one.labels[here] != IGNORED).sum()) == found[number][1]
    assert found == {at + 1: (length, length - 1) for at, length in enumerate(lengths)}


SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SPECIAL: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 5},  # shorter than the longest row
    "ministral3": {"sliding_window": 5},
    "smollm3": {"use_sliding_window": True, "sliding_window": 5},
    "olmo3": {"sliding_window": 5},
    "exaone4": {"sliding_window": 5},
    "cohere2": {"sliding_window": 5, "logit_scale": 0.25},
    "granite": {"logits_scaling": 8.0},
    "gemma3_text": {"sliding_window": 5},
    "gemma4_text": {
        "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"],
        "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 64, "global_head_dim": 16,
        "final_logit_softcapping": 2.0,
    },
    "seed_oss": {"attention_dropout": 0.0, "residual_dropout": 0.0},
    "gpt_oss": {"sliding_window": 5, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
    "glm4_moe": {
        "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "n_group": 1,
        "topk_group": 1, "first_k_dense_replace": 1,
    },
}  # fmt: skip
RECURRENT_SHAPES: dict[str, dict[str, Any]] = {
    "qwen3_5_text": {
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
        "linear_value_head_dim": 8, "num_hidden_layers": 4,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "granitemoehybrid": {
        "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1,
        "layer_types": ["mamba", "attention"], "shared_intermediate_size": 24,
    },
}  # fmt: skip


def model_of(family: str) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZES, **SPECIAL.get(family, {}))
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()


def drawn_rows(num_tokens: int) -> list[Row]:
    """Rows of several lengths, one of a single token and one without a prompt."""
    generator = torch.Generator().manual_seed(1)
    lengths, prompts = [9, 1, 14, 3, 14, 6], [2, 1, 5, 0, 13, 3]
    return [
        Row(str(at), torch.randint(3, num_tokens, (length,), generator=generator).tolist(), prompt)
        for at, (length, prompt) in enumerate(zip(lengths, prompts, strict=True))
    ]


def loss_and_gradients(
    model: Any, head: OutputHead, passes: Iterable[Pass]
) -> tuple[float, list[torch.Tensor]]:
    """Of the mean over the supervised tokens of all passes, as a step takes it."""
    model.zero_grad()
    taken = list(passes)
    num_supervised = sum(one.num_supervised for one in taken)
    total = 0.0
    for one in taken:
        hidden = model.base_model(one.ids, use_cache=False, **one.model_inputs).last_hidden_state
        loss = loss_sums(hidden, head, one.labels).total / num_supervised
        loss.backward()
        total += loss.item()
    return total, [one.grad.clone() for one in model.parameters() if one.grad is not None]


def assert_packing_changes_nothing(model: Any, rows: list[Row], room: int) -> None:
    head = output_head(model, "it")
    alone = loss_and_gradients(
        model, head, (one for row in rows for one in padded_passes([row], 1))
    )
    model.set_attn_implementation(PACKED)
    packed = loss_and_gradients(model, head, packed_passes(rows, room))
    assert packed[0] == pytest.approx(alone[0], rel=1e-5)
    for one, wanted in zip(packed[1], alone[1], strict=True):
        assert torch.allclose(one, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("room", [15, 30, 4096])
@pytest.mark.parametrize("family", [*FAMILIES, *SINKS])
def test_packed_rows_have_the_loss_and_the_gradients_of_rows_alone(family: str, room: int) -> None:
    assert_packing_changes_nothing(model_of(family), drawn_rows(SIZES["vocab_size"]), room)


@pytest.mark.parametrize("student", ["student-qwen", "student-llama"])
def test_packing_changes_nothing_for_the_shipped_students(repository: Path, student: str) -> None:
    folder = repository / "data" / "quickstart" / student
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    assert_packing_changes_nothing(model, drawn_rows(model.config.vocab_size), 4096)


def test_another_row_in_the_pass_changes_no_bit_of_a_row() -> None:
    model = model_of("qwen2")
    model.set_attn_implementation(PACKED)
    rows = drawn_rows(SIZES["vocab_size"])
    other = [*rows[:2], Row("other", [63] * 14, 0), *rows[3:]]

    def states_of_the_first(taken: list[Row]) -> torch.Tensor:
        (one,) = packed_passes(taken, 4096)
        states = model.base_model(one.ids, use_cache=False, **one.model_inputs).last_hidden_state
        assert one.ids[0, 28:37].tolist() == rows[0].ids  # behind the two of 14 tokens
        return states[0, 28:37]

    assert torch.equal(states_of_the_first(rows), states_of_the_first(other))


def test_packing_is_for_families_it_was_tried_on_and_kernels_that_can() -> None:
    config = AutoConfig.for_model("qwen2", **SIZES)
    assert implementation(config, CPU, "fp32").attention == PACKED
    assert implementation(config, CPU, "bf16").attention == PACKED
    assert implementation(config, CUDA, "bf16").attention in (PACKED, "flash_attention_2")
    assert implementation(config, CUDA, "fp32") == Packing(
        None, "packed rows need --dtype bf16 on a GPU, not fp32"
    )
    sinks = AutoConfig.for_model("gpt_oss", **SIZES, **SPECIAL["gpt_oss"])
    assert "attention sinks" in implementation(sinks, CUDA, "bf16").reason
    config.attention_dropout = 0.1
    assert "dropout" in implementation(config, CPU, "fp32").reason
    for unknown in ("gpt2", "mamba"):
        packing = implementation(AutoConfig.for_model(unknown), CPU, "fp32")
        assert packing.attention is None
        assert unknown in packing.reason


@pytest.mark.parametrize("family", RECURRENT_SHAPES)
def test_rows_of_a_recurrent_family_are_padded_where_kernels_leak(family: str) -> None:
    config = AutoConfig.for_model(family, **(SIZES | RECURRENT_SHAPES[family]))

    packing = implementation(config, CPU, "fp32")

    assert packing.attention is None
    assert f"the recurrent layers of a {family} carry state" in packing.reason


@pytest.mark.parametrize("family", ["qwen2", "olmo3"])
def test_the_leak_test_finds_nothing_where_rows_are_kept_apart(family: str) -> None:
    config = AutoConfig.for_model(family, **SIZES, **SPECIAL.get(family, {}))
    assert not leaks(config, CPU, "fp32", PACKED)


@pytest.mark.gpu
@pytest.mark.parametrize("family", RECURRENT_SHAPES)
def test_packed_rows_of_a_recurrent_family_on_a_gpu(family: str) -> None:
    """With flash-linear-attention, causal-conv1d and mamba-ssm installed: packed or padded, never leaking."""
    config = AutoConfig.for_model(family, **(SIZES | RECURRENT_SHAPES[family]))
    packing = implementation(config, CUDA, "bf16")
    if packing.attention is None:
        assert "carry state" in packing.reason
        return
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(CUDA).train()
    head = output_head(model, "it")
    with torch.autocast("cuda", torch.bfloat16):
        rows = drawn_rows(SIZES["vocab_size"])
        alone = loss_and_gradients(model, head, (one.to(CUDA) for one in padded_passes(rows, 1)))
        model.set_attn_implementation(packing.attention)
        packed = loss_and_gradients(
            model, head, (one.to(CUDA) for one in packed_passes(rows, 4096))
        )
    assert packed[0] == pytest.approx(alone[0], rel=1e-2)


def test_a_saved_model_does_not_name_our_attention(tmp_path: Path) -> None:
    model = model_of("qwen2")
    model.set_attn_implementation(PACKED)
    model.save_pretrained(tmp_path)
    assert PACKED not in (tmp_path / "config.json").read_text()
