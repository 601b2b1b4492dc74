"""What `sft --dry-run` forecasts: memory from shapes against what a step holds, time from the arithmetic."""

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, Qwen2Config

from distillpipe.base.records import Trace
from distillpipe.base.training_options import Distillation, Divergence, TrainingOptions
from distillpipe.training import forecast
from distillpipe.training.forecast import Length, Machine, Memory, largest_pass, memory_of
from distillpipe.training.losses.soft_losses import DenseTargets, LiveTargets, Mixture
from distillpipe.training.losses.token_losses import SoftLoss, loss_sums
from distillpipe.training.rows.rows import IGNORED
from distillpipe.training.shapes import Shapes, read_shapes
from distillpipe.training.speed import operation_counts
from distillpipe.training.student import add_adapter, make_optimizer

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
CPU = Machine(is_cuda=False, name="")
BIG = {
    "model_type": "qwen2", "hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64,
    "num_attention_heads": 40, "num_key_value_heads": 8, "vocab_size": 152064, "tie_word_embeddings": False,
    "max_position_embeddings": 32768,
}  # fmt: skip


def changed(**changes: Any) -> TrainingOptions:
    return msgspec.structs.replace(OPTIONS, **changes)


def shapes(config: dict[str, Any] | None = None) -> Shapes:
    return read_shapes(config or CONFIG.to_dict(), Path("nowhere"), "a model")


def memory(machine: Machine = CPU, *, rows: list[Length] = ROWS, **changes: Any) -> Memory:
    options = changed(**changes)
    return memory_of(shapes(), options, largest_pass(rows, options), machine)


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({}, 0.1), ({"dtype": "bf16"}, 0.15), ({"method": "lora"}, 0.1),
        ({"method": "lora", "dtype": "bf16"}, 0.15), ({"gradient_checkpointing": True}, 0.3),
    ],
)  # fmt: skip
@pytest.mark.parametrize("tokens", [100, 280])
def test_the_peak_is_that_of_a_real_step(
    changes: dict[str, Any], tolerance: float, tokens: int
) -> None:
    options = changed(**changes)
    real = peak_of_a_step(options, tokens)
    found = memory_of(shapes(), options, (Length(tokens, tokens - 20), 1), CPU)

    assert found.total == pytest.approx(real, rel=tolerance)


def peak_of_a_step(options: TrainingOptions, tokens: int) -> int:
    """Bytes of weights and moments, and the most that was allocated beside them in the second of two steps."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG, dtype=torch.float32).train()
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model = add_adapter(model, options)
    optimizer = make_optimizer(model, options)
    ids = torch.randint(1000, (1, tokens))
    labels = ids.clone()
    labels[:, :20] = IGNORED

    def step() -> None:
        base = model.get_base_model().base_model if options.method == "lora" else model.base_model
        with torch.autocast("cpu", torch.bfloat16, enabled=options.dtype == "bf16"):
            hidden = base(input_ids=ids, use_cache=False).last_hidden_state
            total = loss_sums(hidden, model.get_output_embeddings(), labels).total
        total.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    weights = {one.data_ptr(): one.nbytes for one in [*model.parameters(), *model.buffers()]}
    moments = (one for state in optimizer.state.values() for one in state.values())
    return sum(weights.values()) + sum(one.nbytes for one in moments) + most_allocated(step)


def most_allocated(work: Callable[[], None]) -> int:
    """The most bytes that torch had allocated at a time beside those of before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    now = most = 0
    events = (one for one in found.profiler.kineto_results.events() if one.name() == "[memory]")
    for event in sorted(events, key=lambda one: one.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def test_full_training_holds_three_numbers_a_weight_and_an_adapter_one() -> None:
    num_weights = shapes().num_weights
    adapter = 4 * 3 * ((64 + 64) * 2 + (64 + 32) * 2 + (64 + 160) * 3)  # 7 pairs in 3 layers
    full, lora = memory(), memory(method="lora")

    assert (full.weights, full.moments, full.gradients) == (
        4 * num_weights, 8 * num_weights, 4 * num_weights,
    )  # fmt: skip
    assert (lora.weights, lora.moments, lora.gradients) == (
        4 * (num_weights + adapter), 8 * adapter, 4 * adapter,
    )  # fmt: skip


def test_qlora_holds_its_linear_layers_in_four_bits() -> None:
    linear = 3 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 160)
    saved = memory(method="lora").weights - memory(method="qlora").weights

    # 4 bits, a byte for each block of 64, and four bytes for each 256 of these
    assert saved == pytest.approx(linear * (4 - 0.5 - 1 / 64 - 1 / 4096), abs=1)


def test_more_rows_than_one_pass_takes_need_the_memory_of_one_pass_and_of_gradients() -> None:
    long = [Length(3000, 2000)] * 16
    found = memory(rows=long, batch_size=16, max_length=4096)
    alone = memory(rows=long, batch_size=1, max_length=4096)

    assert found.activations == alone.activations
    assert found.total - alone.total == found.gradients


def test_gradient_checkpointing_keeps_the_inputs_of_layers_and_one_layer() -> None:
    plain, again = (memory(gradient_checkpointing=on) for on in (False, True))
    inputs = 3 * 4 * 280 * 64

    assert 0 < again.activations - inputs < plain.activations / 2
    assert again.total < plain.total


def test_scores_of_attention_count_where_no_kernel_keeps_them_out() -> None:
    config = {
        **CONFIG.to_dict(),
        "model_type": "gpt_oss",
        "num_local_experts": 4,
        "num_experts_per_tok": 1,
    }
    short, long = (
        memory_of(shapes(config), OPTIONS, (Length(tokens, tokens), 1), CPU).activations
        for tokens in (1000, 2000)
    )
    squares = 3 * 2 * 2 * 4 * (2000**2 - 2 * 1000**2)  # layers, heads, scores and their copy, fp32

    assert long - 2 * short == squares


def test_fsdp_divides_what_is_held_and_ddp_holds_gradients_twice() -> None:
    alone = memory()
    sharded = memory(Machine(False, "", 8, is_sharded=True))
    copied = memory(Machine(False, "", 8))

    assert (sharded.weights, sharded.moments, sharded.gradients) == (
        alone.weights // 8, alone.moments // 8, alone.gradients // 8,
    )  # fmt: skip
    assert sharded.copies == 4 * (64 * 1000 + 64 + 2 * shapes().layers[0].num_weights)
    assert copied.gradients == 2 * alone.gradients
    assert copied.total == alone.total + alone.gradients


def test_a_long_chunk_of_logits_is_no_larger_than_losses_make_it() -> None:
    big = shapes({**CONFIG.to_dict(), "vocab_size": 151_936})
    options = changed(method="lora")
    found = [memory_of(big, options, (Length(one, one), 1), CPU).loss for one in (500, 1000, 9000)]

    assert found[0] == 3 * 4 * 500 * 151_936
    assert found[1] == found[2] == 3 * 4 * (2**27 // 151_936) * 151_936


@pytest.mark.parametrize(
    ("divergence", "num_teachers", "dtype"),
    [
        ("forward", 0, "fp32"),
        ("forward", 1, "fp32"),
        ("reverse", 2, "bf16"),
        ("js", 1, "fp32"),
        ("js", 2, "bf16"),
    ],
)
def test_the_logits_of_live_teachers_are_those_of_a_real_loss(
    divergence: Divergence, num_teachers: int, dtype: str
) -> None:
    number, size, vocabulary = 100, 16, 8000
    taught = Distillation(
        kd_weight=0.5,
        kd_divergence=divergence,
        kd_beta=0.5,
        kd_temperature=1.0,
        kd_schedule="constant",
    )
    options = changed(method="lora", dtype=dtype, distillation=taught)
    big = shapes({**CONFIG.to_dict(), "vocab_size": vocabulary})
    found = memory_of(big, options, (Length(number, number), 1), CPU, num_teachers).loss

    hidden = torch.randn(1, number + 1, size, requires_grad=True)
    labels = torch.randint(vocabulary, (1, number + 1))
    head, *heads = (
        torch.nn.Linear(size, vocabulary, bias=False).requires_grad_(False)
        for _ in range(1 + num_teachers)
    )
    known = torch.ones(number, dtype=torch.bool)
    dense = tuple(DenseTargets(torch.randn(number, size), known, one, vocabulary) for one in heads)
    soft = SoftLoss(LiveTargets(dense, (1.0,) * num_teachers), Mixture(0.5, divergence, 0.5, 1.0))

    def loss() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            loss_sums(hidden, head, labels, soft if dense else None).total.backward()

    assert found == pytest.approx(most_allocated(loss), rel=0.12)


# ---------------------------------------------------------------- time


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_arithmetic_is_that_which_training_counts(method: str) -> None:
    options = changed(method=method)
    with torch.device("meta"):
        work = operation_counts(add_adapter(AutoModelForCausalLM.from_config(CONFIG), options))
    assert work is not None
    expected = sum(
        work.of_token * row.tokens + work.of_label * row.supervised + work.of_square * row.tokens**2
        for row in ROWS
    )

    assert forecast.operations_of(shapes(), options, ROWS) == expected


def test_time_grows_with_the_rows_and_shrinks_with_the_cards() -> None:
    cards = Machine(True, "NVIDIA H100 80GB HBM3", 8)
    alone = cards._replace(num_processes=1)
    once, often, shared = (
        forecast.seconds_of(shapes(), OPTIONS, ROWS, rows, machine) or 0.0
        for rows, machine in ((8, alone), (80, alone), (80, cards))
    )

    assert often == pytest.approx(10 * once)
    assert shared == pytest.approx(often / 8)
    assert forecast.seconds_of(shapes(), OPTIONS, ROWS, 8, Machine(True, "a card")) is None


def test_the_speed_of_products_is_measured() -> None:
    assert forecast.product_speed(280, 64, 160) > 1e6


# ---------------------------------------------------------------- the command


def save_headers(folder: Path, config: dict[str, Any]) -> None:
    """A model's folder whose weights are a hole in a file: the shapes are there and no bytes."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    hidden, inner, table = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    keys = hidden * config["num_key_value_heads"] // config["num_attention_heads"]
    sizes = {"model.embed_tokens.weight": [table, hidden], "lm_head.weight": [table, hidden]}
    for at in range(config["num_hidden_layers"]):
        parts = {
            "self_attn.q_proj": [hidden, hidden], "self_attn.k_proj": [keys, hidden],
            "self_attn.v_proj": [keys, hidden], "self_attn.o_proj": [hidden, hidden],
            "mlp.gate_proj": [inner, hidden], "mlp.up_proj": [inner, hidden], "mlp.down_proj": [hidden, inner],
        }  # fmt: skip
        sizes |= {f"model.layers.{at}.{name}.weight": shape for name, shape in parts.items()}
    header, end = {}, 0
    for name, (rows, columns) in sizes.items():
        begin, end = end, end + 2 * rows * columns
        header[name] = {"dtype": "BF16", "shape": [rows, columns], "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


@pytest.fixture
def place(
    tmp_path: Path, make_traces: Callable[..., list[Trace]], write_dataset: Callable[..., Any]
) -> Path:
    """A dataset of eight traces, and a model of 32 billion weights."""
    write_dataset(tmp_path / "set", make_traces(8))
    save_headers(tmp_path / "big", BIG)
    return tmp_path


def dry(place: Path, *flags: str) -> dict[str, Any]:
    """What --dry-run says, from a process that may import neither torch nor transformers."""
    program = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from distillpipe.cli.app import main; main()"
    )
    command = [
        sys.executable,
        "-c",
        program,
        "sft",
        "set",
        "--student",
        "big",
        "--out",
        "new",
        "--dry-run",
        "--json",
    ]
    done = subprocess.run(
        [*command, *flags], cwd=place, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["dry_run"]
    return dict(found)


def test_a_model_of_32_billion_weights_is_forecast_without_torch(place: Path) -> None:
    found = dry(
        place,
        "--batch-size",
        "8",
        "--num-processes",
        "8",
        "--sharding",
        "fsdp",
        "--gradient-checkpointing",
    )
    estimate = found["estimate"]

    # 16 bytes a weight over 8 processes, and what is gathered: embeddings, head and layers in bf16
    shares = 16 * 32.76e9 / 8
    assert shares < estimate["memory_bytes"] < 1.3 * shares
    assert estimate["disk_bytes"] == pytest.approx(7 * 4 * 32.76e9, rel=0.001)
    assert any(
        "each of the 8 processes loads the whole model into memory before it is sharded: 131" in one
        for one in found["notes"]
    )


@pytest.mark.slow
def test_qlora_is_forecast_to_need_less_than_lora(place: Path) -> None:
    lora, qlora = (
        dry(place, "--method", method)["estimate"]["memory_bytes"] for method in ("lora", "qlora")
    )

    # 31.2 billion weights of linear layers in half a byte, not in four bytes and a copy of two
    assert lora > 4 * 32.76e9
    assert 0.5 * 31.2e9 + 4 * 1.55e9 < qlora < 0.2 * lora
