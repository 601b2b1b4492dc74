"""Our training loop compared with TRL's SFTTrainer and a plain padded loop: same rows, model, precision, optimizer.

    OMP_NUM_THREADS=2 python scripts/bench/sft.py                       the shipped student, wall-clock seconds
    OMP_NUM_THREADS=1 python scripts/bench/sft.py --processor-time      on a machine that others use too
    python scripts/bench/sft.py --data runs/quickstart/clean            rows of a dataset of ours

Without --data the rows are worked solutions of the shipped problems, as long as the teacher's. Each arm trains one epoch
in steps of --batch-size rows. Ours is `distill sft`, including loading and saving. The plain loop pads each batch to its
longest row, computes all logits, and uses AdamW with defaults. TRL runs without checkpointing, saving and logging, in
padded or packed batches (--trl-packed TOKENS; compare both, they differ several times). Every round runs all arms, in
rotating order. Prints medians, extremes and the ratios of each round.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from distillpipe.base.records import Message
from distillpipe.base.training_options import TrainingOptions
from distillpipe.data.store import dataset
from distillpipe.models import lookup
from distillpipe.models.chat import Chat, load_chat
from distillpipe.training import loop
from distillpipe.training.rows.rows import IGNORED, Row, row_of
from distillpipe.training.rows.stored_rows import StoredRows, store

QUICKSTART = Path(__file__).parents[2] / "data" / "quickstart"


def worked_solutions(chat: Chat, number: int) -> Iterator[Row]:
    """Rows of the shipped problems with a random reasoning of two to five steps."""
    lines = (QUICKSTART / "problems-train.jsonl").read_bytes().splitlines()
    draw = random.Random(0)
    for at in range(number):
        problem = json.loads(lines[at % len(lines)])["problem"]
        total, steps = draw.randint(2, 20), []
        for _ in range(draw.randint(2, 5)):
            more = draw.randint(2, 9)
            steps.append(f"Finds {more}: {total}+{more}={total + more}.")
            total += more
        answer = Message(
            role="assistant", content=f"\\boxed{{{total}}}", reasoning_content="\n".join(steps)
        )
        prompt = chat.prompt_ids([Message(role="user", content=problem)])
        yield Row(str(at), prompt + chat.completion_ids(answer), len(prompt))


def ours(arguments: argparse.Namespace, rows: StoredRows) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = options_of(arguments)
        loop.train(lookup.find(arguments.student, "--student"), rows, Path(folder), options, 10**9)


def plain(arguments: argparse.Namespace, rows: StoredRows) -> None:
    """A simple loop: shuffled batches, padding and mask, the loss of the library."""
    model = AutoModelForCausalLM.from_pretrained(arguments.student, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate, weight_decay=1e-4)
    numbers = list(range(len(rows)))
    random.Random(0).shuffle(numbers)
    for first in range(0, len(numbers), arguments.batch_size):
        batch = [rows[number] for number in numbers[first : first + arguments.batch_size]]
        width = max(len(row.ids) for row in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        labels = torch.full((len(batch), width), IGNORED)
        for at, row in enumerate(batch):
            ids[at, : len(row.ids)] = torch.tensor(row.ids)
            labels[at, row.num_prompt : len(row.ids)] = torch.tensor(row.ids[row.num_prompt :])
        mask = torch.arange(width) < torch.tensor([len(row.ids) for row in batch])[:, None]
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.dtype == "bf16"):
            loss = model(input_ids=ids, attention_mask=mask.long(), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def trl(
    arguments: argparse.Namespace, rows: StoredRows, packed_tokens: int = 0
) -> Callable[[], None]:
    """TRL's trainer, made beforehand; its time is that of `train` alone.

    Packed, a step has as many lines of `packed_tokens` as hold --batch-size rows on average.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    columns: dict[str, list[Any]] = {"input_ids": [], "labels": []}
    for row in rows:
        columns["input_ids"].append(row.ids)
        columns["labels"].append([IGNORED] * row.num_prompt + row.ids[row.num_prompt :])
    tokens_a_row = sum(map(len, columns["input_ids"])) / len(rows)
    per_step = (
        max(1, round(arguments.batch_size * tokens_a_row / packed_tokens)) if packed_tokens else 0
    )
    packing: dict[str, Any] = (
        {"packing": True, "max_length": packed_tokens, "completion_only_loss": False}
        if packed_tokens
        else {"max_length": None, "dataset_kwargs": {"skip_prepare_dataset": True}}
    )
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=per_step or arguments.batch_size,
        num_train_epochs=1,
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="cosine",
        weight_decay=1e-4,
        optim="adamw_torch_fused",
        gradient_checkpointing=False,
        bf16=arguments.dtype == "bf16",
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **packing,
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(arguments.student, dtype=torch.float32),
        args=config,
        train_dataset=Dataset.from_dict(columns),
        processing_class=AutoTokenizer.from_pretrained(arguments.student),
    )
    return lambda: trainer.train()


def options_of(arguments: argparse.Namespace) -> TrainingOptions:
    return TrainingOptions(
        method="full", rank=32, alpha=32, learning_rate=arguments.learning_rate, scheduler="cosine",
        warmup=0.05, weight_decay=1e-4, max_grad_norm=1.0, epochs=1, max_steps=None,
        batch_size=arguments.batch_size, max_length=arguments.max_length, dtype=arguments.dtype,
        chat_template=None, seed=0,
    )  # fmt: skip


def measure(arguments: argparse.Namespace, rows: StoredRows) -> None:
    clock = time.process_time if arguments.processor_time else time.perf_counter
    arms = [name for name in arguments.arms.split(",") if name]
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(arguments.rounds):
        turn = number % len(arms)
        for name in arms[turn:] + arms[:turn]:
            run: Callable[[], None] = {
                "ours": lambda: ours(arguments, rows),
                "plain": lambda: plain(arguments, rows),
                "trl": lambda: None,
                "trl-packed": lambda: None,
            }[name]
            if name.startswith("trl"):
                run = trl(arguments, rows, arguments.trl_packed if name == "trl-packed" else 0)
            started = clock()
            run()
            rates[name].append(rows.num_supervised / (clock() - started))
        print("  " + "  ".join(f"{name} {rates[name][-1]:,.0f}" for name in arms), flush=True)
    for name in arms:
        found = rates[name]
        print(f"{name}: median {statistics.median(found):,.0f} supervised tokens/s "
              f"({min(found):,.0f} to {max(found):,.0f})")  # fmt: skip
        if name != "ours" and "ours" in arms:
            ratios = [a / b for a, b in zip(rates["ours"], found, strict=True)]
            print(f"  ours is {statistics.median(ratios):.2f} times that "
                  f"({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--student", default=str(QUICKSTART / "student-qwen"))
    parser.add_argument("--data", help="a dataset of ours; default: worked solutions")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--arms", default="ours,trl,plain", help="of ours, trl, trl-packed, plain")
    parser.add_argument("--trl-packed", type=int, default=1024, help="tokens of a packed line")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--processor-time", action="store_true")
    arguments = parser.parse_args()
    chat = load_chat(Path(arguments.student), "the student")
    if arguments.data:
        made = (row_of(trace, chat) for trace in dataset.read_traces(arguments.data))
        source = (row for row, _ in zip(made, range(arguments.rows), strict=False))
    else:
        source = worked_solutions(chat, arguments.rows)
    with tempfile.TemporaryDirectory() as folder:
        rows = store(Path(folder) / "rows", source)
        lengths = [len(row.ids) for row in rows]
        print(f"{len(rows):,} rows, {statistics.mean(lengths):.0f} tokens a row ({min(lengths)} to "
              f"{max(lengths)}), {rows.num_supervised / len(rows):.0f} of them supervised; {arguments.dtype}, "
              f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")  # fmt: skip
        measure(arguments, rows)


if __name__ == "__main__":
    main()
