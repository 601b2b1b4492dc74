"""What a killed run goes on from: states of all that the next step depends on, and the losses so far.

A draft of a checkpoint holds `state-000100/` (weights, optimizer, schedule, random numbers after step 100)
and `losses.jsonl`. A state is written beside the last one and renamed when it is whole.
"""

import shutil
from pathlib import Path
from typing import Any

import msgspec
from accelerate import Accelerator

from distillpipe.base.errors import UsageError
from distillpipe.base.filesystem import sync_file, sync_folder
from distillpipe.base.progress import say
from distillpipe.data.store.jsonl import decode
from distillpipe.models.loading import outside

LOSSES = "losses.jsonl"
SHARDED = "sharded"  # in a state: what each of several processes has a share of
Sharded = tuple[Any, Any]


class Step(msgspec.Struct, frozen=True):
    """A line of losses.jsonl."""

    step: int
    "1-based"
    loss: float
    "mean over the supervised tokens of the step"
    learning_rate: float
    grad_norm: float
    supervised_tokens: int
    tokens: int
    "prompts included"
    seconds: float
    tokens_per_second: float
    mfu: float | None
    "share of the device's peak, 0 to 1: see `speed`; null where that is not known"
    peak_memory_bytes: int
    "so far in this run, of the largest process: on GPUs what torch held, else what was resident"
    eval_loss: float | None = None
    "mean over the supervised tokens of the rows held out, after the step; null where it was not measured"
    hard_loss: float | None = None
    "mean over the supervised tokens; this and what follows is null where no teacher is learnt from"
    soft_loss: float | None = None
    "mean over those with a soft label; null where the step has none"
    kd_weight: float | None = None
    kd_temperature: float | None = None
    feature_loss: float | None = None
    "mean over the supervised tokens"
    relation_loss: float | None = None
    "mean over the rows"


_steps = msgspec.json.Decoder(Step)


def save(accelerator: Accelerator, folder: Path, step: int, sharded: Sharded | None = None) -> None:
    """Save all that the next step depends on; older states go when the new one is whole.

    Every process calls it; `sharded`: model and optimizer, where each process has its share of them.
    """
    final, writing = folder / f"state-{step:06d}", folder / "state.writing"
    is_there = final.exists()
    accelerator.wait_for_everyone()
    if is_there:
        return
    if accelerator.is_main_process:
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir()
    accelerator.wait_for_everyone()
    accelerator.save_state(str(writing))
    if sharded is not None:
        from distillpipe.training import sharding

        sharding.save(writing / SHARDED, *sharded)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _complete(folder, writing, final)
    accelerator.wait_for_everyone()


def _complete(folder: Path, writing: Path, final: Path) -> None:
    for file in filter(Path.is_file, writing.rglob("*")):
        with file.open("rb") as written:
            sync_file(written.fileno(), file)
    sync_folder(writing)
    writing.rename(final)
    sync_folder(folder)
    for state in _states(folder):
        if state != final:
            _remove_state(state)


def restore(accelerator: Accelerator, folder: Path, sharded: Sharded | None = None) -> int:
    """Load the newest state, where there is one; the number of steps that it has behind it.

    Raises UsageError where weights were sharded and are not now, or the other way round.
    """
    states = _states(folder)
    if not states:
        return 0
    if (states[-1] / SHARDED).is_dir() != (sharded is not None):
        raise UsageError(
            f"{states[-1]} was saved {'without' if sharded else 'with'} --sharding fsdp: go on as the run was "
            "begun, or begin anew with --fresh"
        )
    with outside(f"{states[-1]} could not be loaded", "remove it to train from the beginning"):
        accelerator.load_state(str(states[-1]))
    if sharded is not None:
        from distillpipe.training import sharding

        sharding.load(states[-1] / SHARDED, *sharded)
    done = int(states[-1].name.removeprefix("state-"))
    if accelerator.is_main_process:
        say(f"sft: going on after step {done}")
    return done


def _states(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("state-*") if path.is_dir())


def cut(folder: Path, done: int) -> None:
    """Cut the lines of steps that no state covers from losses.jsonl."""
    path = folder / LOSSES
    kept = [step for step in steps_in(folder) if step.step <= done]
    rewritten = path.with_suffix(".writing")
    rewritten.write_bytes(b"".join(msgspec.json.encode(step) + b"\n" for step in kept))
    rewritten.replace(path)


def steps_in(folder: Path) -> list[Step]:
    """The steps in the losses.jsonl of a folder; none where it is missing, and without a torn last line."""
    path = folder / LOSSES
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    whole = (line for line in lines if line.endswith(b"\n"))
    return [decode(line, _steps, f"{path}:{number}") for number, line in enumerate(whole, start=1)]


def remove_states(folder: Path) -> None:
    """Remove what only a resumed run would need."""
    for state in _states(folder):
        _remove_state(state)


def _remove_state(state: Path) -> None:
    """Half removed it is no state any more: it goes under the name of one that was never whole."""
    going = state.with_name("state.writing")
    shutil.rmtree(going, ignore_errors=True)
    state.rename(going)
    shutil.rmtree(going)
