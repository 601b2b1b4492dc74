"""The training loop: accelerate, PEFT for adapters, state saved so that a killed run goes on exactly.

A draft of a checkpoint holds `state-000100/` (weights, optimizer, schedule, random numbers after step 100)
and `losses.jsonl`. A state is written beside the last one and renamed when it is whole.
"""

import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import AutoConfig, AutoModelForCausalLM, get_scheduler
from transformers.utils.logging import disable_progress_bar

from distillpipe.errors import EngineError, Interrupted, first_line
from distillpipe.interrupts import shielded
from distillpipe.jsonl import sync_folder
from distillpipe.models import Model
from distillpipe.progress import progress, say
from distillpipe.records import TrainingOptions
from distillpipe.training.attention import implementation
from distillpipe.training.batches import num_steps, step_rows
from distillpipe.training.context import student_config
from distillpipe.training.losses import token_loss_sum
from distillpipe.training.packing import Pass, capacity, packed_passes, padded_passes
from distillpipe.training.rows import Row
from distillpipe.training.stored_rows import StoredRows

disable_progress_bar()  # of loading, which is quick and would break our own
logging.getLogger("accelerate").setLevel(logging.ERROR)  # it warns of tied weights at every save

LOSSES = "losses.jsonl"


class Step(msgspec.Struct, frozen=True):
    """A line of losses.jsonl."""

    step: int
    "1-based"
    loss: float
    "mean over the supervised tokens of the step"
    learning_rate: float
    grad_norm: float
    supervised_tokens: int
    seconds: float


class Trained(NamedTuple):
    """What a run of the loop did."""

    supervised_tokens: int
    "of all steps of the version, earlier runs included"
    seconds: float
    "of training, over all runs of the version"


def train(
    student: Model, rows: StoredRows, folder: Path, options: TrainingOptions, save_every: int
) -> Trained:
    """Train `student` on `rows`, going on from a state in `folder`; the weights end up in `folder`.

    Raises EngineError where the loss is not a number; the last state saved stays.
    """
    set_seed(options.seed)
    accelerator = Accelerator(mixed_precision="bf16" if options.dtype == "bf16" else "no")
    model = _load(student, options)
    passes = _passes(model, accelerator.device, options)
    optimizer = _optimizer(model, options)
    total = num_steps(len(rows), options.batch_size, options.epochs, options.max_steps)
    schedule = get_scheduler(
        options.scheduler, optimizer, round(options.warmup * total), num_training_steps=total
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    accelerator.register_for_checkpointing(schedule)
    model.train()

    done = _restore(accelerator, folder)
    history = _history(folder, done)
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
                    loss, norm, tokens = _step(
                        accelerator, model, optimizer, passes(next(batches)), options
                    )
                    rate = schedule.get_last_lr()[0]
                    schedule.step()
                    done += 1
                    step = Step(done, loss, rate, norm, tokens, time.monotonic() - began)
                    history.append(step)
                    losses.write(msgspec.json.encode(step) + b"\n")
                    if done % save_every == 0 and done < total:
                        _save_state(accelerator, folder, done)
                advance(1, tokens)
        except Interrupted:
            _save_state(accelerator, folder, done)
            say(f"sft: stopped after step {done} of {total}")
            raise
        _save_state(accelerator, folder, done)
    _save_model(accelerator, model, student, folder)
    seconds = seconds_before + time.monotonic() - started
    return Trained(sum(step.supervised_tokens for step in history), seconds)


def _optimizer(model: Any, options: TrainingOptions) -> torch.optim.Optimizer:
    """AdamW with the betas of s1; matrices decay, biases and norms do not, as in transformers' trainer."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [one for one in trained if one.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [one for one in trained if one.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.95), fused=True)


def _passes(
    model: Any, device: torch.device, options: TrainingOptions
) -> Callable[[list[Row]], list[Pass]]:
    """What puts the rows of a step into forward passes; the model's attention is set to suit."""
    attention = implementation(model.config, device, options.dtype)
    if attention is not None:
        model.set_attn_implementation(attention)
    split = padded_passes if attention is None else packed_passes
    return lambda rows: list(split(rows, capacity(options.max_length)))


def _step(
    accelerator: Accelerator,
    model: Any,
    optimizer: Any,
    passes: list[Pass],
    options: TrainingOptions,
) -> tuple[float, float, int]:
    """One optimizer step: mean loss over its supervised tokens, norm of the gradient, their number."""
    num_supervised = sum(one.num_supervised for one in passes)
    losses = []
    for one in passes:
        moved = one.to(accelerator.device)
        with accelerator.autocast():
            hidden = _base_model(model)(input_ids=moved.ids, use_cache=False, **moved.places)
            loss = token_loss_sum(
                hidden.last_hidden_state, model.get_output_embeddings(), moved.labels
            )
        accelerator.backward(loss / num_supervised)
        losses.append(loss.detach())
    loss_sum = float(sum(losses))
    limit = options.max_grad_norm or math.inf
    norm = float(accelerator.clip_grad_norm_(model.parameters(), limit) or 0.0)
    if not math.isfinite(loss_sum + norm):
        raise EngineError(
            f"the loss is {loss_sum / num_supervised} and the norm of its gradient {norm}: "
            "the last state saved is kept; lower --learning-rate, or train with --dtype fp32"
        )
    optimizer.step()
    optimizer.zero_grad()
    return loss_sum / num_supervised, norm, num_supervised


def _load(student: Model, options: TrainingOptions) -> Any:
    """The student with fp32 weights, an adapter around it for lora."""
    try:
        model = AutoModelForCausalLM.from_pretrained(
            student.folder, config=student_config(student, options), dtype=torch.float32
        )
    except (OSError, ValueError, ImportError) as error:
        raise EngineError(
            f"--student {student.name} could not be loaded: {first_line(error)}"
        ) from error
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if options.method == "full":
        return model
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=options.rank, lora_alpha=options.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


def _base_model(model: Any) -> Any:
    """The transformer below the head, with the adapter's layers in it."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.base_model


def _save_state(accelerator: Accelerator, folder: Path, step: int) -> None:
    """Save all that the next step depends on; older states go when the new one is whole."""
    final, writing = folder / f"state-{step:06d}", folder / "state.writing"
    if final.exists():
        return
    shutil.rmtree(writing, ignore_errors=True)
    accelerator.save_state(str(writing))
    for file in filter(Path.is_file, writing.rglob("*")):
        with file.open("rb") as written:
            os.fsync(written.fileno())
    sync_folder(writing)
    writing.rename(final)
    sync_folder(folder)
    for state in _states(folder):
        if state != final:
            _remove_state(state)


def _restore(accelerator: Accelerator, folder: Path) -> int:
    """Load the newest state, where there is one; the number of steps that it has behind it."""
    states = _states(folder)
    if not states:
        return 0
    accelerator.load_state(str(states[-1]))
    done = int(states[-1].name.removeprefix("state-"))
    say(f"sft: going on after step {done}")
    return done


def _states(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("state-*") if path.is_dir())


def _history(folder: Path, done: int) -> list[Step]:
    """The steps already done; lines of steps that no state covers are cut from losses.jsonl."""
    path = folder / LOSSES
    kept = [step for step in _steps(path) if step.step <= done]
    rewritten = path.with_suffix(".writing")
    rewritten.write_bytes(b"".join(msgspec.json.encode(step) + b"\n" for step in kept))
    rewritten.replace(path)
    return kept


def _steps(path: Path) -> Iterator[Step]:
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield msgspec.json.decode(line, type=Step)


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


def _save_model(accelerator: Accelerator, model: Any, student: Model, folder: Path) -> None:
    """Write the weights in the type that the student's own have; an adapter stays fp32."""
    unwrapped = accelerator.unwrap_model(model)
    if not hasattr(unwrapped, "peft_config"):
        unwrapped.to(AutoConfig.from_pretrained(student.folder).dtype or torch.float32)
    unwrapped.save_pretrained(folder)
