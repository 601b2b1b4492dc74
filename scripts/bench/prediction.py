"""What `sft --dry-run` predicts, beside what training takes: memory and seconds, a line a shape.

    OMP_NUM_THREADS=2 python scripts/bench/prediction.py                          shapes that fit a laptop
    OMP_NUM_THREADS=1 python scripts/bench/prediction.py --processor-time         where others use the machine
    python scripts/bench/prediction.py 1536x28x151936:8192x1:full:bf16            widthxlayersxvocabulary:tokensxrows

Each shape is a Qwen2 with random weights, trained for three steps in a process of its own. Memory is the growth of
the process from before the model is made (on CUDA: the peak of what torch allocated).
"""

import argparse
import multiprocessing
import resource
import time
from typing import NamedTuple

import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM, Qwen2Config

from distillpipe.base.training_options import TrainingOptions
from distillpipe.training.expected import Length
from distillpipe.training.prediction import predict
from distillpipe.training.rows.rows import Row
from distillpipe.training.step import passes_of, take_step
from distillpipe.training.student import adapted, optimizer_of

STEPS = 3
SHAPES = (
    "128x3x512:115x16:full:fp32", "512x4x32000:512x4:full:fp32", "512x4x32000:512x4:lora:fp32",
    "512x4x32000:512x4:full:bf16", "256x12x32000:2048x1:full:fp32", "256x12x32000:2048x1:full:fp32:checkpointing",
    "64x1x151936:4096x1:full:fp32",
)  # fmt: skip


class Shape(NamedTuple):
    """A model, the rows of a step, and how it is trained."""

    config: Qwen2Config
    options: TrainingOptions
    tokens: int


def shape_of(text: str) -> Shape:
    """`widthxlayersxvocabulary:tokensxrows:method:dtype[:checkpointing]`."""
    model, rows, method, dtype, *again = text.split(":")
    width, layers, vocabulary = map(int, model.split("x"))
    tokens, num_rows = map(int, rows.split("x"))
    config = Qwen2Config(
        hidden_size=width, num_hidden_layers=layers, vocab_size=vocabulary, intermediate_size=3 * width,
        num_attention_heads=max(2, width // 64), num_key_value_heads=max(1, width // 128),
        tie_word_embeddings=True, max_position_embeddings=32768,
    )  # fmt: skip
    options = TrainingOptions(
        method=method, rank=32, alpha=32, learning_rate=1e-4, scheduler="constant", warmup=0.0,
        weight_decay=0.0, max_grad_norm=1.0, epochs=1, max_steps=None, batch_size=num_rows,
        max_length=tokens, dtype=dtype, chat_template=None, seed=0, gradient_checkpointing=bool(again),
    )  # type: ignore[arg-type]  # fmt: skip
    return Shape(config, options, tokens)


def measure(text: str, by_processor: bool) -> None:
    """Print the line of a shape."""
    config, options, tokens = shape_of(text)
    lengths = [Length(tokens, tokens * 3 // 4)] * options.batch_size
    accelerator = Accelerator(mixed_precision="bf16" if options.dtype == "bf16" else "no")
    told = predict(config, options, lengths, STEPS * options.batch_size, accelerator.device)
    before = peak()
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model = adapted(model, options)
    passes = passes_of(model, accelerator.device, options)
    model, optimizer = accelerator.prepare(model, optimizer_of(model, options))
    model.train()
    rows = [Row(str(at), [5] * tokens, tokens // 4) for at in range(options.batch_size)]
    clock = time.process_time if by_processor else time.perf_counter
    started = clock()
    for _ in range(STEPS):
        take_step(accelerator, model, optimizer, passes(rows), options)
    seconds, memory = clock() - started, peak() - before
    print(
        f"{text:48s} memory {told.memory_bytes / 1e9:6.2f} GB, was {memory / 1e9:6.2f}: "
        f"{told.memory_bytes / memory:.2f}   time {told.seconds:6.1f} s, was {seconds:6.1f}: {told.seconds / seconds:.2f}"
    )


def peak() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """A process for each shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", default=SHAPES)
    parser.add_argument("--processor-time", action="store_true", help="of one thread")
    given = parser.parse_args()
    processes = multiprocessing.get_context("spawn")
    for shape in given.shapes:
        child = processes.Process(target=measure, args=(shape, given.processor_time))
        child.start()
        child.join()


if __name__ == "__main__":
    main()
