"""The training loop on accelerate: a killed run goes on exactly from the last state that was saved."""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from distillpipe.errors import Interrupted
from distillpipe.interrupts import shielded
from distillpipe.models import Model
from distillpipe.progress import progress, say
from distillpipe.records import TrainingOptions
from distillpipe.training import speed, states
from distillpipe.training.batches import Batches
from distillpipe.training.session import Session
from distillpipe.training.soft_rows import SoftRows
from distillpipe.training.states import LOSSES
from distillpipe.training.stored_rows import StoredRows
from distillpipe.training.student import save_student


class Trained(NamedTuple):
    """What all runs of the loop for one version did."""

    supervised_tokens: int
    seconds: float
    "of the steps"
    summary: dict[str, Any]
    "see `speed.summary`"


def train(  # noqa: PLR0913 - all that a run is
    student: Model,
    rows: StoredRows,
    folder: Path,
    options: TrainingOptions,
    save_every: int,
    rows_by_input: tuple[int, ...] = (),
    soft_rows: SoftRows | None = None,
) -> Trained:
    """Train `student` on `rows`, going on from a state in `folder`; the weights end up in `folder`.

    The loss of the rows held out is measured every `save_every` steps, where a state is saved, and at the end.
    `rows_by_input`: see `Batches`. `soft_rows` looks up soft labels, where `options.distillation` asks for them.
    Raises EngineError where the loss is not a number; the last state saved stays.
    """
    batches = Batches(rows, options, rows_by_input)
    total = batches.num_steps
    session = Session(student, rows, options, total, soft_rows)
    done = states.restore(session.accelerator, folder)
    history = states.history(folder, done)
    steps = batches.steps(done)
    with (
        progress("sft", total, done) as advance,
        (folder / LOSSES).open("ab", buffering=0) as losses,
    ):
        try:
            while done < total:
                with shielded():
                    step = session.step(done + 1, next(steps))
                    done = step.step
                    is_saved = done % save_every == 0 or done == total
                    if is_saved and len(batches.held_out):
                        held_out = session.held_out_loss(batches.held_out)
                        step = msgspec.structs.replace(step, eval_loss=held_out)
                        say(f"sft: step {done:,} of {total:,}: held-out loss {held_out:.4f}")
                    history.append(step)
                    losses.write(msgspec.json.encode(step) + b"\n")
                    if is_saved:
                        states.save(session.accelerator, folder, done)
                advance(1, step.supervised_tokens)
        except Interrupted:
            states.save(session.accelerator, folder, done)
            say(f"sft: stopped after step {done} of {total}")
            raise
    save_student(session.accelerator, session.model, student, folder)
    supervised = sum(step.supervised_tokens for step in history)
    return Trained(supervised, sum(step.seconds for step in history), speed.summary(history))
