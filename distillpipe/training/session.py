"""What one process trains with: the model, its optimizer and schedule, and what a step of them is."""

import time
from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import get_scheduler

from distillpipe.models import Model
from distillpipe.records import TrainingOptions
from distillpipe.training import speed
from distillpipe.training.batches import Numbers
from distillpipe.training.soft_rows import SoftRows
from distillpipe.training.states import Step
from distillpipe.training.step import held_out_loss, passes_of, take_step, teaching_at
from distillpipe.training.stored_rows import StoredRows
from distillpipe.training.student import load_student, optimizer_of

EVAL_ROWS = 64  # that are read together and share forward passes


class Session:
    """A student in training; `step` and `held_out_loss` are all that is done with it."""

    def __init__(
        self,
        student: Model,
        rows: StoredRows,
        options: TrainingOptions,
        num_steps: int,
        soft_rows: SoftRows | None = None,
    ) -> None:
        set_seed(options.seed)
        self.accelerator = Accelerator(mixed_precision="bf16" if options.dtype == "bf16" else "no")
        self._rows, self._options = rows, options
        self._num_steps, self._soft_rows = num_steps, soft_rows
        model: Any = load_student(student, options)
        self._passes = passes_of(model, self.accelerator.device, options)
        self._work = speed.work_of(model)
        self._peak = speed.device_peak(self.accelerator.device, options.dtype)
        optimizer = optimizer_of(model, options)
        self._schedule = get_scheduler(
            options.scheduler, optimizer, round(options.warmup * num_steps), num_steps
        )
        self.model, self._optimizer = self.accelerator.prepare(model, optimizer)
        self.accelerator.register_for_checkpointing(self._schedule)
        self.model.train()

    def step(self, number: int, numbers: Numbers) -> Step:
        """Train on the rows of these numbers; `number` is the step's own, 1-based."""
        began = time.monotonic()
        batch = self._read(numbers)
        teaching = teaching_at(
            number - 1, self._num_steps, self._options.distillation, self._soft_rows
        )
        passes = self._passes(batch)
        loss, norm, tokens, taught = take_step(
            self.accelerator, self.model, self._optimizer, passes, self._options, teaching
        )
        rate = self._schedule.get_last_lr()[0]
        self._schedule.step()
        measured = speed.measure(batch, time.monotonic() - began, self._work, self._peak)
        return Step(number, loss, rate, norm, tokens, *measured, **taught)

    def held_out_loss(self, numbers: Numbers) -> float:
        """The mean loss over the supervised tokens of the rows of these numbers."""
        parts = (numbers[at : at + EVAL_ROWS] for at in range(0, len(numbers), EVAL_ROWS))
        passes = (one for part in parts for one in self._passes(self._read(part)))
        return held_out_loss(self.accelerator, self.model, passes)

    def _read(self, numbers: Sequence[int] | Numbers) -> list[Any]:
        return [self._rows[int(number)] for number in numbers]
