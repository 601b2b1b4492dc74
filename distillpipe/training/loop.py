"""The training loop on accelerate: a killed run goes on exactly from the last state that was saved."""

import os
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from distillpipe.base.errors import Interrupted
from distillpipe.base.interrupts import shielded
from distillpipe.base.options import TrainingOptions
from distillpipe.base.progress import progress
from distillpipe.models.lookup import Model
from distillpipe.training import speed, states
from distillpipe.training.batches import Batches
from distillpipe.training.session import Session
from distillpipe.training.setup import Setup
from distillpipe.training.states import LOSSES
from distillpipe.training.stored_rows import StoredRows
from distillpipe.training.trackers import Trackers


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
