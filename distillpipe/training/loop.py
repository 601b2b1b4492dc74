"""The training loop on accelerate: a killed run goes on exactly from the last state that was saved."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import distributed

from distillpipe.base.errors import Interrupted
from distillpipe.base.interrupts import shielded
from distillpipe.base.progress import progress, say
from distillpipe.base.training_options import TrainingOptions
from distillpipe.models.lookup import Model
from distillpipe.training import speed, states
from distillpipe.training.rows.batches import Batches, Numbers, share_of
from distillpipe.training.rows.packing import Pass
from distillpipe.training.rows.rows import IGNORED
from distillpipe.training.rows.stored_rows import StoredRows
from distillpipe.training.setup import Setup
from distillpipe.training.states import LOSSES, Step
from distillpipe.training.step import StudentLoss, held_out_loss_sum, passes_of, take_step
from distillpipe.training.student import load_student, optimizer_of, save_student, schedule_of
from distillpipe.training.teachers.teaching import Lesson, Teaching
from distillpipe.training.trackers import Trackers

EVAL_ROWS = 64  # that each process reads together


class Trained(NamedTuple):
    """What all runs of the loop for one version did."""

    supervised_tokens: int
    seconds: float
    "of the steps"
    summary: dict[str, Any]
    "see `speed.summary`"


def train(
    student: Model,
    rows: StoredRows,
    folder: Path,
    options: TrainingOptions,
    save_every: int,
    setup: Setup | None = None,
) -> Trained:
    """Train `student` on `rows`, going on from a state in `folder`; the weights end up in `folder`.

    The loss of the rows held out is measured every `save_every` steps, where a state is saved, and at the end.
    Raises EngineError where the loss is not a number; the last state saved stays. One of several processes
    (`ranks`) calls this as a single one does; the first of them writes and talks.
    """
    setup = setup or Setup()
    batches = Batches(rows, options, setup.rows_by_input)
    total = batches.num_steps
    session = Session(student, rows, options, total, setup)
    done = session.restore(folder)
    if session.is_main:
        states.cut(folder, done)
    report_to = setup.report_to if session.is_main else ()
    shown = progress("sft", total, done) if session.is_main else nullcontext(lambda *_: None)
    with (
        shown as advance,
        Trackers(report_to, folder, done, options) as trackers,
        (folder / LOSSES if session.is_main else Path(os.devnull)).open(
            "ab", buffering=0
        ) as losses,
    ):
        steps = batches.steps(done)
        measured = [step.eval_loss for step in states.steps_in(folder) if step.step <= done]
        try:
            while done < total:
                if session.is_stopped(setup.is_stopped):
                    raise Interrupted(signal.SIGINT)
                with shielded():
                    step = session.step(done + 1, next(steps), measured)
                    done = step.step
                    is_saved = done % save_every == 0 or done == total
                    if is_saved and len(batches.held_out):
                        held_out = session.held_out_loss(batches.held_out)
                        step = msgspec.structs.replace(step, eval_loss=held_out)
                        measured.append(held_out)
                        session.say(f"step {done:,} of {total:,}: held-out loss {held_out:.4f}")
                    losses.write(msgspec.json.encode(step) + b"\n")
                    trackers.log(step)
                    if is_saved:
                        session.save(folder, done)
                advance(1, step.supervised_tokens)
        except Interrupted:
            session.save(folder, done)
            session.say(f"stopped after step {done} of {total}")
            raise
    session.write(folder)
    return trained(folder)


def trained(folder: Path) -> Trained:
    """What was done, as losses.jsonl says."""
    steps = states.steps_in(folder)
    supervised = sum(step.supervised_tokens for step in steps)
    return Trained(supervised, sum(step.seconds for step in steps), speed.summary(steps))


# What one process trains with: the model, its optimizer and schedule, and what a step of them is.
#
# Where several processes train, each makes this for itself, all do the same at the same time, and each has some of the rows.


class Session:
    """A student in training."""

    def __init__(
        self,
        student: Model,
        rows: StoredRows,
        options: TrainingOptions,
        num_steps: int,
        setup: Setup,
    ) -> None:
        set_seed(options.seed)
        self.accelerator = Accelerator(
            mixed_precision="bf16" if options.dtype == "bf16" else "no",
            cpu=not torch.cuda.is_available(),
        )
        self._student, self._rows, self._options = student, rows, options
        model: Any = load_student(student, options, self.accelerator.device)
        self._passes = passes_of(model, self.accelerator.device, options)
        self._work = speed.work_of(model)
        self._peak = speed.device_peak(self.accelerator.device, options.dtype)
        self._teaching, projections = None, None
        if options.distillation is not None:
            device = self.accelerator.device
            self._teaching = Teaching(student, model, setup.teachers, options, device)
            projections = self._teaching.projections
        self._num_steps = num_steps
        self.model: Any = StudentLoss(model, projections)
        self._sharded = setup.sharding == "fsdp"
        if self._sharded:
            from distillpipe.training import sharding

            sharding.shard(self.model, self.accelerator.device, options.dtype)
        self._optimizer: Any = optimizer_of(self.model, options)
        self._schedule = schedule_of(self._optimizer, options, num_steps)
        if not self._sharded:
            self.model, self._optimizer = self.accelerator.prepare(self.model, self._optimizer)
        self.accelerator.register_for_checkpointing(self._schedule)
        self.model.train()

    def say(self, text: str) -> None:
        """Say it once, whatever the number of processes."""
        if self.is_main:
            say(f"sft: {text}")

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and talks."""
        return bool(self.accelerator.is_main_process)

    def step(self, number: int, numbers: Numbers, measured: Sequence[float | None] = ()) -> Step:
        """Train on the rows of these numbers; `number` is the step's own, 1-based.

        `measured` are the held-out losses so far, that the weight of soft labels may follow.
        """
        began = time.monotonic()
        rows, passes = self._shares(numbers)
        operations = self._work.of_rows(rows) if self._work else 0
        supervised = sum(one.num_supervised for one in passes)
        tokens = sum(len(row.ids) for row in rows)
        sums = self._over_processes([supervised, tokens, operations])
        lesson = None
        if self._teaching is not None:
            mixture = self._teaching.mixture(number - 1, self._num_steps, measured)
            lesson = Lesson(self._teaching, mixture, sums[0] / len(numbers))
        loss, norm, taught = take_step(
            self.accelerator,
            self.model,
            self._optimizer,
            passes,
            round(sums[0]),
            self._options,
            lesson,
        )
        rate = self._schedule.get_last_lr()[0]
        self._schedule.step()
        seconds = time.monotonic() - began
        peak = self._peak and self._peak * self.accelerator.num_processes
        mfu = sums[2] / seconds / peak if peak and self._work else None
        memory = round(self._over_processes([speed.peak_bytes()], max)[0])
        tokens = round(sums[1])
        return Step(
            number,
            loss,
            rate,
            norm,
            round(sums[0]),
            tokens,
            seconds,
            tokens / seconds,
            mfu,
            memory,
            **taught,
        )

    def held_out_loss(self, numbers: Numbers) -> float:
        """The mean loss over the supervised tokens of the rows of these numbers."""
        loss_sum, num_supervised = 0.0, 0
        size = EVAL_ROWS * self.accelerator.num_processes
        for at in range(0, len(numbers), size):
            _, passes = self._shares(numbers[at : at + size])
            loss_sum += held_out_loss_sum(self.accelerator, self.model, passes)
            num_supervised += sum(one.num_supervised for one in passes)
        loss_sum, total = self._over_processes([loss_sum, num_supervised])
        return loss_sum / total

    def is_stopped(self, is_asked: Callable[[], bool] | None) -> bool:
        """Whether any process was asked to stop: all find the same."""
        return is_asked is not None and self._over_processes([float(is_asked())], max)[0] > 0

    def save(self, folder: Path, done: int) -> None:
        """Save all that the next step depends on."""
        sharded = (self.model, self._optimizer) if self._sharded else None
        states.save(self.accelerator, folder, done, sharded)

    def restore(self, folder: Path) -> int:
        """Go on from the newest state; the number of steps that it has behind it, 0 without one."""
        sharded = (self.model, self._optimizer) if self._sharded else None
        return states.restore(self.accelerator, folder, sharded)

    def write(self, folder: Path) -> None:
        """Write the weights as a model's folder has them."""
        whole = None
        if self._sharded:
            from distillpipe.training import sharding

            whole = sharding.whole(self.model)
        if self.is_main:
            trained = self.accelerator.unwrap_model(self.model).model
            save_student(trained, self._student, folder, whole)
        self.accelerator.wait_for_everyone()

    def _shares(self, numbers: Numbers) -> tuple[list[Any], list[Pass]]:
        """The rows of this process, and its passes: as many as every process has, with empty ones where
        it needs fewer, since they wait for each other in each.
        """
        processes, place = self.accelerator.num_processes, self.accelerator.process_index
        rows = [self._rows[int(number)] for number in numbers]
        if processes == 1:
            return rows, self._passes(rows)
        mine = share_of([len(row.ids) for row in rows], processes, place)
        passes = self._passes([rows[at] for at in mine])
        most = round(self._over_processes([len(passes)], max)[0])
        shortest = min(rows, key=lambda row: len(row.ids))
        (empty,) = self._passes([shortest])
        empty = empty._replace(labels=torch.full_like(empty.labels, IGNORED), rows=[])
        return [rows[at] for at in mine], passes + [empty] * (most - len(passes))

    def _over_processes(
        self, values: list[float], of: Callable[[list[float]], Any] = sum
    ) -> list[float]:
        """The sums, or the largest, of each of some numbers over all processes."""
        if self.accelerator.num_processes == 1:
            return values
        found = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        operation = distributed.ReduceOp.MAX if of is max else distributed.ReduceOp.SUM
        distributed.all_reduce(found, operation)
        return [float(value) for value in found]
