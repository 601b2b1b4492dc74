"""Training at real shapes on a GPU: tokens per second, MFU (share of the peak) and memory, ours and TRL's.

    python scripts/bench/sft_gpu.py --shape qwen2.5-1.5b --tokens 8192                     full, bf16
    python scripts/bench/sft_gpu.py --shape qwen2.5-7b --tokens 8192 --method lora
    python scripts/bench/sft_gpu.py --shape qwen2.5-1.5b --tokens 32768 --gradient-checkpointing
    python scripts/bench/sft_gpu.py --shape tiny --tokens 256 --steps 4                    on a laptop, to try it

Weights and rows are random; a quarter of each row is prompt. A step has --rows rows of --tokens tokens, so that TRL
needs no packing with the same attention. `--mixed` gives ours rows of different lengths that fill as many packs. Each
arm runs in its own process, --rounds times in turn, and the first three steps are not counted. MFU counts 6N operations
(4N for an adapter) and attention, as losses.jsonl does (`distillpipe/training/speed.py`). The speed of a large matrix
product is printed too.
"""

import argparse
import multiprocessing
import random
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from distillpipe.base.memory import peak_gpu_memory, peak_memory
from distillpipe.base.training_options import TrainingOptions
from distillpipe.models import lookup
from distillpipe.training import loop, speed, states
from distillpipe.training.rows.rows import IGNORED, Row
from distillpipe.training.rows.stored_rows import store
from distillpipe.training.student import add_adapter

WARM_UP = 3  # steps
SHAPES = {  # hidden size, layers, heads, key and value heads, inner size, vocabulary, tied
    "tiny": (64, 2, 2, 1, 192, 1000, True),
    "qwen2.5-1.5b": (1536, 28, 12, 2, 8960, 151936, True),
    "qwen2.5-7b": (3584, 28, 28, 4, 18944, 152064, False),
}


class Measured(NamedTuple):
    """The steps after the first ones."""

    tokens_per_second: float
    memory_bytes: int


def config_of(shape: str, tokens: int) -> Qwen2Config:
    width, layers, heads, kv_heads, inner, vocabulary, tied = SHAPES[shape]
    return Qwen2Config(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
        intermediate_size=inner, vocab_size=vocabulary, tie_word_embeddings=tied,
        max_position_embeddings=max(32768, tokens),
    )  # fmt: skip


def options_of(arguments: argparse.Namespace) -> TrainingOptions:
    return TrainingOptions(
        method=arguments.method, rank=32, alpha=32, learning_rate=1e-5, scheduler="constant", warmup=0.0,
        weight_decay=1e-4, max_grad_norm=1.0, epochs=10**6, max_steps=arguments.steps + WARM_UP,
        batch_size=arguments.rows, max_length=arguments.tokens, dtype=arguments.dtype, chat_template=None, seed=0,
        gradient_checkpointing=arguments.gradient_checkpointing,
    )  # fmt: skip


def rows_of(arguments: argparse.Namespace, mixed: bool) -> list[Row]:
    draw = random.Random(0)
    vocabulary = SHAPES[arguments.shape][5]
    rows = []
    for number in range(arguments.rows * 2):
        left = arguments.tokens
        while left:
            length = min(left, draw.randint(64, arguments.tokens)) if mixed else left
            ids = [draw.randrange(vocabulary) for _ in range(length)]
            rows.append(Row(f"{number}-{left}", ids, length // 4))
            left -= length
    return rows


def ours(arguments: argparse.Namespace, model: Path, mixed: bool = False) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        rows = store(Path(folder) / "rows", rows_of(arguments, mixed))
        options = msgspec.structs.replace(
            options_of(arguments), batch_size=max(1, len(rows) // 2), epochs=10**6
        )
        out = Path(folder) / "out"
        out.mkdir()
        loop.train(lookup.find(str(model), "--student"), rows, out, options, 10**9)
        steps = states.steps_in(out)[WARM_UP:]
    found = speed.summary(steps)
    return Measured(found["tokens_per_second"], found["peak_memory_bytes"])


def mixed(arguments: argparse.Namespace, model: Path) -> Measured:
    return ours(arguments, model, mixed=True)


def trl(arguments: argparse.Namespace, model: Path) -> Measured:
    """TRL's trainer, nothing saved or logged, with the attention that torch has; the time of its steps."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    rows = rows_of(arguments, mixed=False)
    labels = [[IGNORED] * row.num_prompt + row.ids[row.num_prompt :] for row in rows]
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=1, gradient_accumulation_steps=arguments.rows,
        max_steps=arguments.steps + WARM_UP, learning_rate=1e-5, optim="adamw_torch_fused", max_length=None,
        gradient_checkpointing=arguments.gradient_checkpointing, bf16=arguments.dtype == "bf16",
        use_cpu=not torch.cuda.is_available(), save_strategy="no", logging_strategy="no", report_to=[],
        disable_tqdm=True, dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.float32, attn_implementation="sdpa"
        ),
        args=config,
        train_dataset=Dataset.from_dict({"input_ids": [row.ids for row in rows], "labels": labels}),
        peft_config=None
        if arguments.method == "full"
        else LoraConfig(r=32, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Clock()],
    )
    trainer.train()
    seconds = ends[-1] - ends[WARM_UP - 1]
    return Measured(
        arguments.steps * arguments.rows * arguments.tokens / seconds,
        peak_gpu_memory() or peak_memory(),
    )


def product_speed(
    config: Qwen2Config, arguments: argparse.Namespace, device: torch.device
) -> float:
    """Operations per second of a matrix product as large as the model's; the fastest of several."""
    dtype = torch.bfloat16 if arguments.dtype == "bf16" else torch.float32
    rows, width, inner = min(arguments.tokens, 8192), config.hidden_size, config.intermediate_size
    states = torch.randn(rows, width, device=device, dtype=dtype)
    weights = torch.randn(width, inner, device=device, dtype=dtype)
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        (states @ weights)[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return 2 * rows * width * inner / min(seconds)


ARMS = {"ours": ours, "mixed": mixed, "trl": trl}


def measure(pipe: Connection, arm: str, arguments: argparse.Namespace, model: Path) -> None:
    pipe.send(ARMS[arm](arguments, model))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-1.5b")
    parser.add_argument("--method", choices=("full", "lora"), default="full")
    parser.add_argument("--dtype", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--tokens", type=int, default=8192, help="of a row")
    parser.add_argument("--rows", type=int, default=2, help="of a step")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--arms", default="ours,mixed,trl", help="of ours, mixed, trl")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    config, options = config_of(arguments.shape, arguments.tokens), options_of(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.device("meta"):
        work = speed.operation_counts(
            add_adapter(AutoModelForCausalLM.from_config(config), options)
        )
    assert work is not None
    length = arguments.tokens
    per_token = work.of_token + work.of_label * 0.75 + work.of_square * length
    peak = speed.device_peak(device, arguments.dtype)
    ceiling = product_speed(config, arguments, device)
    print(f"{arguments.shape}, {arguments.method}, {arguments.dtype}, {arguments.rows} rows of {length:,} tokens a step; "
          f"a product of matrices reaches {ceiling / 1e12:.1f} TFLOP/s")  # fmt: skip
    processes = multiprocessing.get_context("spawn")
    found: dict[str, list[Measured]] = {arm: [] for arm in arguments.arms.split(",")}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        with torch.device(device):
            AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(model)
        torch.cuda.empty_cache()
        for _ in range(arguments.rounds):
            for arm in found:
                receiver, sender = processes.Pipe(duplex=False)
                child = processes.Process(target=measure, args=(sender, arm, arguments, model))
                child.start()
                sender.close()
                try:
                    found[arm].append(receiver.recv())
                except EOFError:
                    print(f"{arm}: did not end")
                child.join()
    for arm, runs in found.items():
        if runs:
            rate = statistics.median(one.tokens_per_second for one in runs)
            speed_reached = rate * per_token
            mfu = f"{speed_reached / peak:.1%} MFU" if peak else "MFU not known"
            memory = max(one.memory_bytes for one in runs) / 1e9
            print(f"{arm}: {rate:,.0f} tokens/s, {speed_reached / 1e12:.2f} TFLOP/s, {mfu}, "
                  f"{speed_reached / ceiling:.1%} of the product, {memory:.1f} GB")  # fmt: skip


if __name__ == "__main__":
    main()
