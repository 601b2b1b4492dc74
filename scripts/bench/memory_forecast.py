"""The memory forecast of `sft --dry-run`, compared with the memory of training and with counting tensors.

    OMP_NUM_THREADS=2 python scripts/bench/memory_forecast.py              shapes that fit a laptop
    python scripts/bench/memory_forecast.py qwen2:1536x28x151936:8192x1:full:bf16     family:widthxlayersxvocabulary:tokensxrows

Each model has random weights and takes two steps in its own process. "measured" is the peak of torch's allocator in the
second step: weights, optimizer moments, and the allocations that the profiler saw on the CPU (on CUDA the allocator's
own peak). "counted" is another way to forecast: the saved tensors of a forward pass of fake tensors, plus weights,
gradients, moments, copies and three times the logits of a chunk.
"""

import argparse
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from distillpipe.base.training_options import TrainingOptions
from distillpipe.engines.transformers.output_head import LogitChange
from distillpipe.training.forecast import (
    LOGITS_COPIES,
    Length,
    Machine,
    largest_pass,
    memory_of,
)
from distillpipe.training.passes import CHUNK_LOGITS
from distillpipe.training.rows.rows import Row
from distillpipe.training.shapes import read_shapes
from distillpipe.training.step import StudentLoss, passes_of, take_step
from distillpipe.training.student import add_adapter, make_optimizer

STEPS = 2
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2}
SHAPES = (
    "qwen2:128x3x512:128x4:full:fp32", "qwen2:128x3x512:128x16:full:fp32", "qwen2:128x3x512:128x16:full:fp32:checkpointing",
    "qwen2:256x12x8000:1024x2:full:fp32", "qwen2:256x12x8000:1024x2:full:bf16", "qwen2:256x12x8000:1024x2:full:bf16:checkpointing",
    "qwen2:256x12x8000:1024x2:lora:fp32", "qwen2:256x6x8000:512x2:lora:bf16", "qwen2:256x6x8000:512x2:qlora:bf16",
    "qwen2:256x6x8000:512x2:qlora:fp32", "gpt_oss:256x4x8000:512x2:full:fp32", "qwen3_moe:256x4x8000:512x2:full:fp32",
    "phi3:256x6x8000:512x2:full:bf16", "gemma2:256x6x16000:512x2:full:fp32", "qwen3:512x8x32000:512x1:full:fp32", "qwen3:512x8x32000:512x1:lora:bf16",
    "llama:512x8x32000:256x4:full:fp32", "llama:512x8x32000:256x4:full:bf16", "llama:512x8x32000:256x4:lora:fp32:checkpointing",
    "llama:512x8x32000:256x4:qlora:bf16:checkpointing", "llama:512x8x32000:1024x2:full:fp32", "llama:768x10x32000:256x2:full:fp32",
    "qwen2:64x1x151936:2048x1:full:fp32",
)  # fmt: skip


class Case(NamedTuple):
    """A model and its training settings."""

    config: Any
    options: TrainingOptions
    tokens: int


def case_of(text: str) -> Case:
    """`family:widthxlayersxvocabulary:tokensxrows:method:dtype[:checkpointing]`."""
    family, model, rows, method, dtype, *again = text.split(":")
    width, layers, vocabulary = map(int, model.split("x"))
    tokens, num_rows = map(int, rows.split("x"))
    experts = {}
    if family == "qwen3_moe":
        experts = {"moe_intermediate_size": width, **EXPERTS}
    if family == "gpt_oss":
        experts = {"num_local_experts": 8, "num_experts_per_tok": 2}
    config = AutoConfig.for_model(
        family, hidden_size=width, num_hidden_layers=layers, vocab_size=vocabulary, intermediate_size=3 * width,
        num_attention_heads=max(2, width // 64), num_key_value_heads=max(1, width // 128), head_dim=64,
        tie_word_embeddings=True, max_position_embeddings=32768, bos_token_id=1, eos_token_id=2, pad_token_id=0, **experts,
    )  # fmt: skip
    options = TrainingOptions(
        method=method, rank=32, alpha=32, learning_rate=1e-4, scheduler="constant", warmup=0.0,
        weight_decay=0.0, max_grad_norm=1.0, epochs=1, max_steps=None, batch_size=num_rows,
        max_length=tokens, dtype=dtype, chat_template=None, seed=0, gradient_checkpointing=bool(again),
    )  # type: ignore[arg-type]  # fmt: skip
    return Case(config, options, tokens)


def load(case: Case, device: torch.device) -> Any:
    """The model with random weights, loaded as by `student.load_student`."""
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(case.config, dtype=torch.float32)
    if case.options.method == "qlora":
        from tempfile import TemporaryDirectory

        how = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )  # fmt: skip
        with TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, quantization_config=how, device_map={"": device}
            )
    if case.options.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return add_adapter(model, case.options)


def held(model: Any, optimizer: Any) -> int:
    """Bytes of weights, quantization constants and moments."""
    found = {}
    for one in [*model.parameters(), *model.buffers()]:
        found[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
        if (state := getattr(one, "quant_state", None)) is not None:
            nested = state.state2
            for part in (state.absmax, nested.absmax, nested.code, state.code):
                found[part.untyped_storage().data_ptr()] = part.untyped_storage().nbytes()
    moments = (value for state in optimizer.state.values() for value in state.values())
    return sum(found.values()) + sum(one.nbytes for one in moments if torch.is_tensor(one))


def measure(pipe: Connection, text: str) -> None:
    """Send the peak of a step, and the seconds of the step before."""
    case = case_of(text)
    torch.manual_seed(0)
    accelerator = Accelerator(mixed_precision="bf16" if case.options.dtype == "bf16" else "no")
    model = load(case, accelerator.device)
    passes = passes_of(model, accelerator.device, case.options, print)
    wrapped, optimizer = StudentLoss(model, LogitChange()), make_optimizer(model, case.options)
    wrapped, optimizer = accelerator.prepare(wrapped, optimizer)
    wrapped.train()
    rows = [
        Row(str(at), [5] * case.tokens, case.tokens // 4) for at in range(case.options.batch_size)
    ]

    def step() -> None:
        made = passes(rows)
        supervised = sum(one.num_supervised for one in made)
        take_step(accelerator, wrapped, optimizer, made, supervised, case.options)

    started = time.perf_counter()
    for _ in range(STEPS - 1):
        step()
    seconds = (time.perf_counter() - started) / (STEPS - 1)
    if accelerator.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        pipe.send((torch.cuda.max_memory_allocated(), seconds))
        return
    before = held(model, optimizer)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step()
    now = most = 0
    events = (one for one in found.profiler.kineto_results.events() if one.name() == "[memory]")
    for event in sorted(events, key=lambda one: one.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    pipe.send((before + most, seconds))


def forecast(text: str, machine: Machine) -> int:
    case = case_of(text)
    shapes = read_shapes(case.config.to_dict(), Path("nowhere"), text)
    return memory_of(
        shapes, case.options, largest_pass(lengths_of(case), case.options), machine
    ).total


def lengths_of(case: Case) -> list[Length]:
    return [Length(case.tokens, case.tokens - case.tokens // 4)] * case.options.batch_size


def counted(text: str) -> int:
    """The forecast from a forward pass of fake tensors; it does not support qlora."""
    case = case_of(text)
    largest, _ = largest_pass(lengths_of(case), case.options)
    with torch.device("meta"):
        model = add_adapter(AutoModelForCausalLM.from_config(case.config), case.options)
    weights = list(model.parameters())
    found = 4 * sum(one.numel() * (4 if one.requires_grad else 1) for one in weights)
    if case.options.dtype == "bf16":
        found += 2 * sum(one.numel() for one in weights if one.ndim > 1)
    vocabulary = case.config.vocab_size
    found += LOGITS_COPIES * 4 * min(largest.supervised * vocabulary, CHUNK_LOGITS)
    saved: dict[int, torch.Tensor] = {}
    with FakeTensorMode():
        model = AutoModelForCausalLM.from_config(case.config, dtype=torch.float32)
        own = {one.untyped_storage()._cdata for one in model.parameters()}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            saved[tensor.untyped_storage()._cdata] = tensor
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=case.options.dtype == "bf16"),
        ):
            ids = torch.zeros(1, largest.tokens, dtype=torch.long)
            model.train().base_model(input_ids=ids, use_cache=False)
    activations = sum(one.untyped_storage().nbytes() for at, one in saved.items() if at not in own)
    if case.options.gradient_checkpointing:
        layers = case.config.num_hidden_layers
        activations = activations // layers + 4 * largest.tokens * case.config.hidden_size * layers
    return found + activations


def main() -> None:
    """Run a process for each case; print a line for each, and the errors over all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", default=SHAPES)
    arguments = parser.parse_args()
    processes = multiprocessing.get_context("spawn")
    machine = Machine(torch.cuda.is_available(), "")
    ratios = []
    print(
        "| case | measured, MB | forecast | ratio | counted | ratio | s a step |\n|---|---|---|---|---|---|---|"
    )
    for text in arguments.cases:
        receiver, sender = processes.Pipe(duplex=False)
        child = processes.Process(target=measure, args=(sender, text))
        child.start()
        sender.close()
        try:
            real, seconds = receiver.recv()
        except EOFError:
            print(f"| {text} | did not end |")
            continue
        finally:
            child.join()
        told = forecast(text, machine)
        ratios.append(told / real)
        try:
            other = counted(text)
            beside = f"{other / 1e6:,.1f} | {other / real:.2f}"
        except Exception as error:  # noqa: BLE001 - another way, which not every model takes
            beside = f"{type(error).__name__} | "
        print(
            f"| {text} | {real / 1e6:,.1f} | {told / 1e6:,.1f} | {told / real:.2f} | {beside} | {seconds:.2f} |",
            flush=True,
        )
    errors = [abs(one - 1) for one in ratios]
    print(
        f"\nforecast over measured: {min(ratios):.2f} to {max(ratios):.2f}, median error {statistics.median(errors):.1%}"
    )


if __name__ == "__main__":
    main()
