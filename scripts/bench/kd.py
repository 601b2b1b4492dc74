"""The cost of soft labels: steps of sft with soft labels compared with plain steps on the same rows.

    OMP_NUM_THREADS=2 python scripts/bench/kd.py                        the shipped student; a minute or two
    OMP_NUM_THREADS=1 python scripts/bench/kd.py --processor-time       on a machine that others use too
    python scripts/bench/kd.py --cuda                                   a Qwen2 of 1.5B shape, random weights, rows of
                                                                        4,096 tokens, on a GPU; five minutes

Arms: plain; stored (K = 20 labels per token, read from their files, T = 1); stored-t2 (T = 2); live (a copy of the
student is the teacher); hidden (live, with features and relations). Each step has the same rows. Every round runs all
arms, in rotating order. Seconds per step do not include loading and saving. Prints medians, extremes, and the ratios to
plain of each round. Labels are random, because their values do not change the cost.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import torch

from distillpipe.base.records import Message, TokenCounts, Trace
from distillpipe.base.training_options import Distillation, TrainingOptions
from distillpipe.data.store.label_writer import LabelWriter
from distillpipe.data.store.labels import SAMPLED, Labels, LabelSource
from distillpipe.models import lookup
from distillpipe.models.chat import Chat, load_chat
from distillpipe.models.lookup import Model
from distillpipe.models.vocabulary import vocabulary_of
from distillpipe.training.loop import TrainingSession
from distillpipe.training.rows.batches import Batches
from distillpipe.training.rows.rows import row_of
from distillpipe.training.rows.stored_rows import StoredRows, store
from distillpipe.training.setup import Setup
from distillpipe.training.teachers.teaching import soft_rows_of

QUICKSTART = Path(__file__).parents[2] / "data" / "quickstart"
KD = Distillation(
    kd_weight=0.5, kd_divergence="forward", kd_beta=0.5, kd_temperature=1.0, kd_schedule="linear"
)
ARMS = {
    "plain": None,
    "stored": KD,
    "stored-t2": msgspec.structs.replace(KD, kd_temperature=2.0),
    "live": KD,
    "hidden": msgspec.structs.replace(KD, feature_weight=0.1, relation_weight=0.1),
}
LIVE = ("live", "hidden")


def traces_of(arguments: argparse.Namespace) -> Iterator[Trace]:
    """Traces of the shipped problems with a random reasoning; with --cuda of about 4,096 tokens."""
    lines = (QUICKSTART / "problems-train.jsonl").read_bytes().splitlines()
    draw = random.Random(0)
    for at in range(arguments.rows):
        problem = json.loads(lines[at % len(lines)])["problem"]
        total, steps = draw.randint(2, 20), []
        for _ in range(arguments.reasoning_steps or draw.randint(2, 5)):
            more = draw.randint(2, 9)
            steps.append(f"Finds {more}: {total}+{more}={total + more}.")
            total += more
        answer = Message(
            role="assistant", content=f"\\boxed{{{total}}}", reasoning_content="\n".join(steps)
        )
        yield Trace(
            id=f"{at:016x}/{at:016x}", problem_id=f"{at:016x}", row_key=f"{at:032x}", sample=0,
            benchmark=None, problem=problem, reference_answer=str(total), verifier="math", domain=None,
            messages=[Message(role="user", content=problem), answer], finish_reason="stop",
            num_tokens=TokenCounts(prompt=0, reasoning=0, response=0, total=0), teacher="itself", seed=0,
        )  # fmt: skip


def labelled(arguments: argparse.Namespace, chat: Chat, folder: Path) -> Iterator[Trace]:
    """The traces with random labels in files."""
    source = LabelSource(arguments.k, "itself", "none", vocabulary_of(chat))
    writer = LabelWriter(folder, "0" * 16, source, [])
    draw = np.random.default_rng(0)
    for trace in traces_of(arguments):
        ids = np.array(chat.completion_ids(trace.messages[-1]), np.uint32)
        tops = draw.integers(0, len(chat.tokenizer), (len(ids), arguments.k)).astype(np.uint32)
        logprobs = np.log(draw.dirichlet(np.ones(arguments.k + 1), len(ids))[:, 1:]).astype(
            np.float16
        )
        flags = np.full(len(ids), SAMPLED, np.uint8)
        found = writer.append(Labels(ids, flags, tops, logprobs, logprobs[:, 0]))
        whole = msgspec.structs.replace(found, file=str(folder / found.file))
        yield msgspec.structs.replace(trace, soft_labels=whole)
    writer.close()


def rows_of(
    arguments: argparse.Namespace, arm: str, student: Model, options: TrainingOptions, folder: Path
) -> StoredRows:
    """The rows of an arm; the tokens are the same for all arms."""
    chat = load_chat(student.folder, student.name)
    folder.mkdir()
    made = list(labelled(arguments, chat, folder))
    rows = [row_of(trace, chat) for trace in made]
    if ARMS[arm] is not None:
        teachers = [student] if arm in LIVE else []
        soft_rows = soft_rows_of(student, options, teachers)
        rows = [soft_rows.with_targets(*pair) for pair in zip(made, rows, strict=True)]
        assert all(row.num_labelled == row.num_supervised for row in rows)
    return store(folder / "rows", rows)


def large_student(folder: Path) -> Model:
    """A Qwen2 of the shape of Qwen2.5-1.5B with the shipped tokenizer."""
    import shutil

    from transformers import AutoModelForCausalLM, Qwen2Config

    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(QUICKSTART / "teacher" / name, folder / name)
    config = Qwen2Config(
        vocab_size=151_936, hidden_size=1536, num_hidden_layers=28, num_attention_heads=12,
        num_key_value_heads=2, intermediate_size=8960, max_position_embeddings=32768,
        tie_word_embeddings=True,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    return lookup.find(str(folder), "--student")


def options_of(arguments: argparse.Namespace, arm: str) -> TrainingOptions:
    return TrainingOptions(
        method="full", rank=32, alpha=32, learning_rate=1e-5, scheduler="constant", warmup=0.0,
        weight_decay=1e-4, max_grad_norm=1.0, epochs=1, max_steps=None, batch_size=arguments.batch_size,
        max_length=32768 if arguments.cuda else 512, dtype="bf16" if arguments.cuda else "fp32",
        gradient_checkpointing=arguments.cuda, chat_template=None, seed=0, distillation=ARMS[arm],
    )  # fmt: skip


def seconds_a_step(
    arguments: argparse.Namespace, arm: str, student: Model, rows: StoredRows, folder: Path
) -> float:
    options = options_of(arguments, arm)
    batches = Batches(rows, options)
    teachers = (student,) if arm in LIVE else ()
    session = TrainingSession(student, rows, options, batches.num_steps, Setup(teachers=teachers))
    steps = batches.steps()
    session.step(1, next(steps))  # kernels are chosen and memory is taken once
    clock = time.process_time if arguments.processor_time else time.perf_counter
    began = clock()
    for number in range(2, batches.num_steps + 1):
        session.step(number, next(steps))
    if arguments.cuda:
        torch.cuda.synchronize()
    return (clock() - began) / (batches.num_steps - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("--processor-time", action="store_true")
    arguments = parser.parse_args()
    arguments.rows = arguments.rows or (40 if arguments.cuda else 160)
    arguments.batch_size = arguments.batch_size or (4 if arguments.cuda else 16)
    arguments.reasoning_steps = 240 if arguments.cuda else None
    arms = arguments.arms.split(",")
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = lookup.find(str(QUICKSTART / "student-qwen"), "--student")
        student = large_student(folder / "model") if arguments.cuda else small
        rows = {
            arm: rows_of(arguments, arm, student, options_of(arguments, arm), folder / arm)
            for arm in arms
        }
        tokens = sum(len(row.ids) for row in rows[arms[0]])
        print(
            f"{arguments.rows} rows of {tokens / arguments.rows:.0f} tokens, {arguments.batch_size} a step"
        )
        for number in range(arguments.rounds):
            turn = number % len(arms)
            for arm in arms[turn:] + arms[:turn]:
                times[arm].append(seconds_a_step(arguments, arm, student, rows[arm], folder))
    for arm, found in times.items():
        line = f"{arm:10} {statistics.median(found):8.4f} s a step ({min(found):.4f} to {max(found):.4f})"
        if arm != "plain" and "plain" in times:
            ratios = [one / other for one, other in zip(found, times["plain"], strict=True)]
            line += f"   {statistics.median(ratios):.2f} of plain ({min(ratios):.2f} to {max(ratios):.2f})"
        print(line)


if __name__ == "__main__":
    main()
