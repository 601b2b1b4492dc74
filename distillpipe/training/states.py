"""Saved training states, from which a killed run resumes, and the losses so far.

A draft of a checkpoint holds `state-000100/` (weights, optimizer, schedule and random states after step 100) and
`losses.jsonl`. A new state is written under another name beside the last one, and renamed when it is complete.
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
SHARDED = "sharded"  # folder in a state, with the shards of several processes
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
    "share of the device's peak, 0 to 1, see `speed`; null if the peak is not known"
    peak_memory_bytes: int
    "so far in this run, of the largest process: memory of torch on GPUs, else resident memory"
    eval_loss: float | None = None
    "mean over the supervised tokens of the held-out rows, after the step; null if it was not measured"
    hard_loss: float | None = None
    "mean over the supervised tokens; this and all fields below are null without distillation"
    soft_loss: float | None = None
    "mean over the tokens with a soft label; null if the step has none"
    kd_weight: float | None = None
    kd_temperature: float | None = None
    feature_loss: float | None = None
    "mean over the supervised tokens"
    relation_loss: float | None = None
    "mean over the rows"


_steps = msgspec.json.Decoder(Step)


def save(accelerator: Accelerator, folder: Path, step: int, sharded: Sharded | None = None) -> None:
    """Save everything that the next step depends on; older states are removed after the new one is complete.

    All processes call it. `sharded`: model and optimizer, if FSDP shards them.
    """
    final, writing = folder / f"state-{step:06d}", folder / "state.writing"
    exists = final.exists()
    accelerator.wait_for_everyone()
    if exists:
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
    """Load the newest state and return the number of steps done; 0 if there is no state.

    Raises UsageError if the state was saved with --sharding fsdp and the run is without, or the other way round.
    """
    states = _states(folder)
    if not states:
        return 0
    if (states[-1] / SHARDED).is_dir() != (sharded is not None):
        raise UsageError(
            f"{states[-1]} was saved {'without' if sharded else 'with'} --sharding fsdp: continue with the same "
            "setting, or start again with --fresh"
        )
    with outside(f"{states[-1]} could not be loaded", "remove it to train from the beginning"):
        accelerator.load_state(str(states[-1]))
    if sharded is not None:
        from distillpipe.training import sharding

        sharding.load(states[-1] / SHARDED, *sharded)
    done = int(states[-1].name.removeprefix("state-"))
    if accelerator.is_main_process:
        say(f"sft: resuming after step {done}")
    return done


def _states(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("state-*") if path.is_dir())


def truncate_losses(folder: Path, done: int) -> None:
    """Remove the steps after the last saved state from losses.jsonl; they are trained again."""
    path = folder / LOSSES
    kept = [step for step in steps_in(folder) if step.step <= done]
    rewritten = path.with_suffix(".writing")
    rewritten.write_bytes(b"".join(msgspec.json.encode(step) + b"\n" for step in kept))
    rewritten.replace(path)


def steps_in(folder: Path) -> list[Step]:
    """The steps in the losses.jsonl of a folder, without an incomplete last line; [] if the file is missing."""
    path = folder / LOSSES
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    whole = (line for line in lines if line.endswith(b"\n"))
    return [decode(line, _steps, f"{path}:{number}") for number, line in enumerate(whole, start=1)]


def remove_states(folder: Path) -> None:
    """Remove all saved states."""
    for state in _states(folder):
        _remove_state(state)


def _remove_state(state: Path) -> None:
    """Rename the state before removing it, so that a partly removed state is never loaded."""
    doomed = state.with_name("state.writing")
    shutil.rmtree(doomed, ignore_errors=True)
    state.rename(doomed)
    shutil.rmtree(doomed)
