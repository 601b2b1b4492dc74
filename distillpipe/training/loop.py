"""The training loop on accelerate: a killed run goes on exactly from the last state that was saved."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import get_scheduler

from distillpipe.errors import Interrupted
from distillpipe.interrupts import shielded
from distillpipe.models import Model
from distillpipe.progress import progress, say
from distillpipe.records import TrainingOptions
from distillpipe.training import speed, states
from distillpipe.training.batches import num_steps, step_rows
from distillpipe.training.soft_rows import SoftRows
from distillpipe.training.states import LOSSES, Step
from distillpipe.training.step import passes_of, take_step, teaching_at
from distillpipe.training.stored_rows import StoredRows
from distillpipe.training.student import load_student, optimizer_of, save_student


class Trained(NamedTuple):
    """What a run of the loop did."""

    supervised_tokens: int
    "of all steps of the version, earlier runs included"
    seconds: float
    "of training, over all runs of the version"
    summary: dict[str, Any]
    "see `speed.summary`"


def train(
    student: Model,
    rows: StoredRows,
    folder: Path,
    options: TrainingOptions,
    save_every: int,
    soft_rows: SoftRows | None = None,
) -> Trained:
    """Train `student` on `rows`, going on from a state in `folder`; the weights end up in `folder`.

    `soft_rows` looks up soft labels, where `options.distillation` asks for them.

    Raises EngineError where the loss is not a number; the last state saved stays.
    """
    set_seed(options.seed)
    accelerator = Accelerator(mixed_precision="bf16" if options.dtype == "bf16" else "no")
    model = load_student(student, options)
    passes = passes_of(model, accelerator.device, options)
    work = speed.work_of(model)
    peak = speed.device_peak(accelerator.device, options.dtype)
    optimizer = optimizer_of(model, options)
    total = num_steps(len(rows), options.batch_size, options.epochs, options.max_steps)
    schedule = get_scheduler(
        options.scheduler, optimizer, round(options.warmup * total), num_training_steps=total
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    accelerator.register_for_checkpointing(schedule)
    model.train()

    done = states.restore(accelerator, folder)
    history = states.history(folder, done)
    batches = step_rows(rows, options.batch_size, options.seed, done)
    started, seconds_before = time.monotonic(), sum(step.seconds for step in history)
    with (
        progress("sft", total, done) as advance,
        (folder / LOSSES).open("ab", buffering=0) as losses,
    ):
        try:
            while done < total:
                with shielded():
                    began = time.monotonic()
                    batch = next(batches)
                    teaching = teaching_at(done, total, options.distillation, soft_rows)
                    loss, norm, tokens, taught = take_step(
                        accelerator, model, optimizer, passes(batch), options, teaching
                    )
                    rate = schedule.get_last_lr()[0]
                    schedule.step()
                    done += 1
                    seconds = time.monotonic() - began
                    measured = speed.measure(batch, seconds, work, peak)
                    step = Step(done, loss, rate, norm, tokens, *measured, **taught)
                    history.append(step)
                    losses.write(msgspec.json.encode(step) + b"\n")
                    if done % save_every == 0 and done < total:
                        states.save(accelerator, folder, done)
                advance(1, tokens)
        except Interrupted:
            states.save(accelerator, folder, done)
            say(f"sft: stopped after step {done} of {total}")
            raise
        states.save(accelerator, folder, done)
    save_student(accelerator, model, student, folder)
    seconds = seconds_before + time.monotonic() - started
    supervised = sum(step.supervised_tokens for step in history)
    return Trained(supervised, seconds, speed.summary(history))
