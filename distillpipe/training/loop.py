"""The training loop on accelerate; a killed run resumes from the last saved state with the same result."""

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
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import distributed

from distillpipe.base.errors import Interrupted
from distillpipe.base.interrupts import shielded
from distillpipe.base.progress import progress, say
from distillpipe.base.training_options import TrainingOptions
from distillpipe.engines.transformers.output_head import output_head
from distillpipe.models.lookup import Model
from distillpipe.training import speed, states
from distillpipe.training.rows.batches import Batches, Numbers, share_of
from distillpipe.training.rows.packing import Pass
from distillpipe.training.rows.rows import IGNORED
from distillpipe.training.rows.stored_rows import StoredRows
from distillpipe.training.setup import Setup
from distillpipe.training.states import LOSSES, Step
from distillpipe.training.step import StudentLoss, held_out_loss_sum, passes_of, take_step
from distillpipe.training.student import (
    has_experts,
    load_student,
    make_optimizer,
    make_schedule,
    save_student,
    without_adapter,
)
from distillpipe.training.teachers.teaching import DistillationLoss, StepDistillation
from distillpipe.training.trackers import Trackers

EVAL_ROWS = 64  # rows that each process evaluates at a time


class Trained(NamedTuple):
    """Totals over all runs of the loop for one version."""

    supervised_tokens: int
    seconds: float
    "time in steps"
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
    """Train `student` on `rows` and write the weights into `folder`; resumes from a saved state in `folder`.

    The held-out loss is measured every `save_every` steps, when a state is saved, and at the end. Raises EngineError
    if the loss is not finite; the last saved state stays. Each of several processes (`processes`) calls this
    function; only the main process writes and prints.
    """
    setup = setup or Setup()
    batches = Batches(rows, options, setup.rows_by_input)
    total = batches.num_steps
    session = TrainingSession(student, rows, options, total, setup)
    done = session.restore(folder)
    if session.is_main:
        states.truncate_losses(folder, done)
    report_to = setup.report_to if session.is_main else ()
    progress_bar = progress("sft", total, done) if session.is_main else nullcontext(lambda *_: None)
    with (
        progress_bar as advance,
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
    """Totals from losses.jsonl."""
    steps = states.steps_in(folder)
    supervised = sum(step.supervised_tokens for step in steps)
    return Trained(supervised, sum(step.seconds for step in steps), speed.summary(steps))


# The state of one training process: model, optimizer, learning-rate schedule.
#
# With several processes each builds its own, all run the same code at the same time, and each trains on a share of the rows.


class TrainingSession:
    """A student, its optimizer and schedule, in one process."""

    def __init__(
        self,
        student: Model,
        rows: StoredRows,
        options: TrainingOptions,
        num_steps: int,
        setup: Setup,
    ) -> None:
        set_seed(options.seed)
        # Accelerate keeps the first precision of a process and refuses another; a notebook trains more than once.
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            mixed_precision="bf16" if options.dtype == "bf16" else "no",
            cpu=not torch.cuda.is_available(),
        )
        self._student, self._rows, self._options = student, rows, options
        model: Any = load_student(student, options, self.accelerator.device)
        if options.method != "full" and has_experts(model):
            self.say(
                "the adapter is on attention and recurrent layers only: experts and routers stay as they are; "
                "--method full trains them"
            )
        logit_change = output_head(without_adapter(model), f"--student {student.name}").change
        self._passes = passes_of(model, self.accelerator.device, options, self.say)
        self._work = speed.operation_counts(model)
        self._peak = speed.device_peak(self.accelerator.device, options.dtype)
        self._distillation, projections = None, None
        if options.distillation is not None:
            device = self.accelerator.device
            self._distillation = DistillationLoss(student, model, setup.teachers, options, device)
            projections = self._distillation.projections
        self._num_steps = num_steps
        self.model: Any = StudentLoss(model, logit_change, projections)
        self._sharded = setup.sharding == "fsdp"
        if self._sharded:
            from distillpipe.training import sharding

            sharding.shard(self.model, self.accelerator.device, options.dtype)
        self._optimizer: Any = make_optimizer(self.model, options)
        self._schedule = make_schedule(self._optimizer, options, num_steps)
        if not self._sharded:
            self.model, self._optimizer = self.accelerator.prepare(self.model, self._optimizer)
        self.accelerator.register_for_checkpointing(self._schedule)
        self.model.train()

    def say(self, text: str) -> None:
        """Print a progress message, in the main process only."""
        if self.is_main:
            say(f"sft: {text}")

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return bool(self.accelerator.is_main_process)

    def step(self, number: int, numbers: Numbers, measured: Sequence[float | None] = ()) -> Step:
        """Train on the rows with these indices; `number` is the 1-based number of the step.

        `measured`: the held-out losses so far, which --kd-adaptive scales the weight of soft labels by.
        """
        started = time.monotonic()
        rows, passes = self._shares(numbers)
        operations = self._work.of_rows(rows) if self._work else 0
        supervised = sum(batch.num_supervised for batch in passes)
        tokens = sum(len(row.ids) for row in rows)
        sums = self._over_processes([supervised, tokens, operations])
        distillation = None
        if self._distillation is not None:
            mixture = self._distillation.mixture(number - 1, self._num_steps, measured)
            distillation = StepDistillation(self._distillation, mixture, sums[0] / len(numbers))
        loss, norm, kd_losses = take_step(
            self.accelerator,
            self.model,
            self._optimizer,
            passes,
            round(sums[0]),
            self._options,
            distillation,
        )
        rate = self._schedule.get_last_lr()[0]
        self._schedule.step()
        seconds = time.monotonic() - started
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
            **kd_losses,
        )

    def held_out_loss(self, numbers: Numbers) -> float:
        """The mean loss over the supervised tokens of the rows with these indices."""
        loss_sum, num_supervised = 0.0, 0
        size = EVAL_ROWS * self.accelerator.num_processes
        for start in range(0, len(numbers), size):
            _, passes = self._shares(numbers[start : start + size])
            loss_sum += held_out_loss_sum(self.accelerator, self.model, passes)
            num_supervised += sum(batch.num_supervised for batch in passes)
        loss_sum, total = self._over_processes([loss_sum, num_supervised])
        return loss_sum / total

    def is_stopped(self, stop_requested: Callable[[], bool] | None) -> bool:
        """Whether any process was asked to stop; the answer is the same in all processes."""
        return (
            stop_requested is not None
            and self._over_processes([float(stop_requested())], max)[0] > 0
        )

    def save(self, folder: Path, done: int) -> None:
        """Save everything that the next step depends on."""
        sharded = (self.model, self._optimizer) if self._sharded else None
        states.save(self.accelerator, folder, done, sharded)

    def restore(self, folder: Path) -> int:
        """Load the newest state and return the number of steps done; 0 if there is no state."""
        sharded = (self.model, self._optimizer) if self._sharded else None
        return states.restore(self.accelerator, folder, sharded)

    def write(self, folder: Path) -> None:
        """Write the weights into a Hugging Face model folder."""
        full_weights = None
        if self._sharded:
            from distillpipe.training import sharding

            full_weights = sharding.full_weights(self.model)
        if self.is_main:
            trained = self.accelerator.unwrap_model(self.model).model
            save_student(trained, self._student, folder, full_weights)
        self.accelerator.wait_for_everyone()

    def _shares(self, numbers: Numbers) -> tuple[list[Any], list[Pass]]:
        """The rows of this process and its passes.

        Processes wait for each other in each pass, so all get the same number; the surplus passes have no loss.
        """
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        rows = [self._rows[int(number)] for number in numbers]
        if processes == 1:
            return rows, self._passes(rows)
        own = share_of([len(row.ids) for row in rows], processes, rank)
        passes = self._passes([rows[index] for index in own])
        most_passes = round(self._over_processes([len(passes)], max)[0])
        shortest = min(rows, key=lambda row: len(row.ids))
        (empty,) = self._passes([shortest])
        empty = empty._replace(labels=torch.full_like(empty.labels, IGNORED), rows=[])
        return [rows[index] for index in own], passes + [empty] * (most_passes - len(passes))

    def _over_processes(
        self, values: list[float], reduce: Callable[[list[float]], Any] = sum
    ) -> list[float]:
        """Each value reduced over all processes, by sum or max."""
        if self.accelerator.num_processes == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        operation = distributed.ReduceOp.MAX if reduce is max else distributed.ReduceOp.SUM
        distributed.all_reduce(tensor, operation)
        return [float(value) for value in tensor]
