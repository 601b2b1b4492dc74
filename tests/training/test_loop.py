"""The loop on the shipped student: it learns, resumes exactly, and writes a checkpoint that loads."""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from transformers import AutoModelForCausalLM, get_cosine_with_min_lr_schedule_with_warmup

from distillpipe.base import interrupts
from distillpipe.base.errors import DataError, EngineError, Interrupted
from distillpipe.base.records import Trace
from distillpipe.base.training_options import TrainingOptions
from distillpipe.models import lookup
from distillpipe.models.chat import Chat
from distillpipe.training import loop, states
from distillpipe.training.rows.batches import Batches
from distillpipe.training.rows.rows import Row, row_of
from distillpipe.training.rows.stored_rows import StoredRows
from distillpipe.training.setup import Setup
from distillpipe.training.student import load_student, make_schedule

OPTIONS = TrainingOptions(
    method="full", rank=4, alpha=4, learning_rate=1e-3, scheduler="cosine", warmup=0.1,
    weight_decay=1e-4, max_grad_norm=1.0, epochs=3, max_steps=None, batch_size=4, max_length=512,
    dtype="fp32", chat_template=None, seed=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def student(repository: Path) -> lookup.Model:
    return lookup.find(str(repository / "data/quickstart/student-qwen"), "--student")


@pytest.fixture(scope="module")
def rows(
    make_trace: Callable[..., Trace], teacher_chat: Chat, stored: Callable[..., StoredRows]
) -> StoredRows:
    traces = [
        make_trace(
            problem=f"Mia has {a} pens. Mia finds {b} pens. How many pens does Mia have now?",
            reasoning=f"Mia starts with {a}.\nFinds {b}: {a}+{b}={a + b}.",
            response=f"Mia has {a + b} pens now.\n\n\\boxed{{{a + b}}}",
        )
        for a in range(3, 10)
        for b in range(2, 5)
    ]
    return stored(row_of(trace, teacher_chat) for trace in traces)


def test_training_lowers_the_loss_and_counts_every_supervised_token(
    tmp_path: Path, student: lookup.Model, rows: StoredRows
) -> None:
    trained = loop.train(student, rows, tmp_path, OPTIONS, save_every=100)
    steps = states.steps_in(tmp_path)
    assert [step.step for step in steps] == list(range(1, 19))  # 21 rows, 4 a step, 3 epochs
    assert steps[-1].loss < steps[0].loss / 2
    assert trained.supervised_tokens == 3 * sum(row.num_supervised for row in rows)
    assert sum(step.tokens for step in steps) == 3 * sum(len(row.ids) for row in rows)
    assert trained.summary["loss"] == steps[-1].loss
    assert AutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.bfloat16


def test_the_loss_of_a_step_is_the_mean_over_its_supervised_tokens(
    tmp_path: Path, student: lookup.Model, rows: StoredRows
) -> None:
    options = msgspec.structs.replace(OPTIONS, batch_size=len(rows), epochs=1)
    loop.train(student, rows, tmp_path, options, save_every=100)
    model = AutoModelForCausalLM.from_pretrained(student.folder, dtype=torch.float32)
    assert states.steps_in(tmp_path)[0].loss == pytest.approx(mean_loss(model, rows), rel=1e-5)


def mean_loss(model: Any, rows: Sequence[Row]) -> float:
    """One by one, the library's own loss."""
    total = 0.0
    for row in rows:
        labels = torch.tensor([row.ids])
        labels[0, : row.num_prompt] = -100
        total += model(torch.tensor([row.ids]), labels=labels).loss.item() * row.num_supervised
    return total / sum(row.num_supervised for row in rows)


RECIPE = msgspec.structs.replace(
    OPTIONS, adam_beta1=0.8, adam_beta2=0.999, min_learning_rate=1e-4, train_on_prompt=True,
    warmup=1 / 3, epochs=6, batch_size=4, weight_decay=0.1,
)  # fmt: skip


@pytest.mark.parametrize("scheduler", ["cosine", pytest.param("linear", marks=pytest.mark.slow)])
def test_the_recipe_of_others_is_trained_as_they_train_it(
    tmp_path: Path, student: lookup.Model, rows: StoredRows, stored: Any, scheduler: Any
) -> None:
    # AdamW (Loshchilov and Hutter 2019, algorithm 2) in float64, loss on prompt and completion, one row at a time
    options, few = msgspec.structs.replace(RECIPE, scheduler=scheduler), rows[:4]
    loop.train(student, stored(row.with_prompt() for row in few), tmp_path, options, 100)
    steps = states.steps_in(tmp_path)
    num_tokens = sum(len(row.ids) - 1 for row in few)
    assert [step.supervised_tokens for step in steps] == [num_tokens] * 6

    model = AutoModelForCausalLM.from_pretrained(student.folder, dtype=torch.float64)
    moments = {one: (torch.zeros_like(one), torch.zeros_like(one)) for one in model.parameters()}
    for number, step in enumerate(steps):
        # two steps of warm-up, then from 1e-3 to 1e-4 over four
        done = (number - 2) / 4
        course = (1 + math.cos(math.pi * done)) / 2 if scheduler == "cosine" else 1 - done
        rate = 1e-3 * number / 2 if number < 2 else 1e-4 + 9e-4 * course
        assert step.learning_rate == pytest.approx(rate, rel=1e-9)
        loss = sum(_loss_sum(model, row) for row in few) / num_tokens
        loss.backward()
        assert step.loss == pytest.approx(loss.item(), rel=2e-5)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        assert step.grad_norm == pytest.approx(norm.item(), rel=1e-3)
        with torch.no_grad():
            for one, (mean, square) in moments.items():
                one *= 1 - rate * (0.1 if one.ndim > 1 else 0.0)
                mean.lerp_(one.grad, 1 - 0.8)
                square.lerp_(one.grad**2, 1 - 0.999)
                unbiased = mean / (1 - 0.8 ** (number + 1))
                spread = (square / (1 - 0.999 ** (number + 1))).sqrt()
                one -= rate * unbiased / (spread + 1e-8)
                one.grad = None


def _loss_sum(model: Any, row: Row) -> torch.Tensor:
    """Over all tokens but the first, by the library's own loss, whose labels have nothing masked."""
    ids = torch.tensor([row.ids])
    found: torch.Tensor = model(ids, labels=ids).loss * (len(row.ids) - 1)
    return found


@pytest.mark.parametrize("warmup", [0.0, 0.03, 0.5, 1.0])
def test_the_floor_of_cosine_is_that_of_transformers(warmup: float) -> None:
    options = msgspec.structs.replace(OPTIONS, warmup=warmup, min_learning_rate=1e-4)
    found, wanted = [], []
    for made in (
        lambda optimizer: make_schedule(optimizer, options, 40),
        lambda optimizer: get_cosine_with_min_lr_schedule_with_warmup(
            optimizer, round(warmup * 40), 40, min_lr_rate=0.1
        ),
    ):
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
        schedule = made(optimizer)
        rates = found if not found else wanted
        for _ in range(41):
            rates.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
    assert found == pytest.approx(wanted, rel=1e-12)


def test_a_linear_course_with_a_floor_and_nothing_but_warmup_ends() -> None:
    options = msgspec.structs.replace(
        OPTIONS, scheduler="linear", warmup=1.0, min_learning_rate=1e-4
    )
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = make_schedule(optimizer, options, 4)
    for _ in range(6):
        optimizer.step()
        schedule.step()
    assert 0 < schedule.get_last_lr()[0] <= 1e-3


def test_the_held_out_loss_is_measured_at_every_state_and_changes_no_step(
    tmp_path: Path, student: lookup.Model, rows: StoredRows
) -> None:
    options = msgspec.structs.replace(OPTIONS, eval_split=0.3, learning_rate=0.0, epochs=2)
    trained = loop.train(student, rows, tmp_path, options, save_every=4)
    steps = states.steps_in(tmp_path)
    held_out = [rows[int(at)] for at in Batches(rows, options).held_out]
    assert len(steps) == 2 * -(-(len(rows) - len(held_out)) // 4)
    measured = [step.step for step in steps if step.eval_loss is not None]
    assert measured == [*range(4, len(steps), 4), len(steps)]

    model = AutoModelForCausalLM.from_pretrained(student.folder, dtype=torch.float32)
    wanted = mean_loss(model, held_out)  # the weights never change at a learning rate of 0
    assert [steps[at - 1].eval_loss for at in measured] == pytest.approx([wanted] * len(measured))
    assert trained.summary["eval_loss"] == steps[-1].eval_loss


def test_many_held_out_rows_are_measured_in_chunks(
    tmp_path: Path, student: lookup.Model, rows: StoredRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = msgspec.structs.replace(OPTIONS, eval_split=0.3, max_steps=1)
    loop.train(student, rows, tmp_path, options, save_every=4)
    once = states.steps_in(tmp_path)[0]
    states.remove_states(tmp_path)
    monkeypatch.setattr("distillpipe.training.losses.token_losses.CHUNK_LOGITS", 2**12)
    monkeypatch.setattr("distillpipe.training.loop.EVAL_ROWS", 2)
    loop.train(student, rows, tmp_path, options, save_every=4)
    assert states.steps_in(tmp_path)[0].eval_loss == pytest.approx(once.eval_loss, rel=1e-5)


def test_rows_that_need_several_forward_passes_give_the_same_losses(
    tmp_path: Path, student: lookup.Model, rows: StoredRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, several = tmp_path / "once", tmp_path / "several"
    once.mkdir()
    several.mkdir()
    options = msgspec.structs.replace(OPTIONS, max_steps=3)
    loop.train(student, rows, once, options, save_every=100)
    monkeypatch.setattr("distillpipe.training.passes.MIN_TOKENS", 1)
    options = msgspec.structs.replace(options, max_length=100)  # passes of one row each
    loop.train(student, rows, several, options, save_every=100)
    wanted = [step.loss for step in states.steps_in(once)]
    assert [step.loss for step in states.steps_in(several)] == pytest.approx(wanted, rel=1e-4)


def test_a_process_can_train_twice_each_time_in_a_precision_of_its_own(
    tmp_path: Path, student: lookup.Model, rows: StoredRows
) -> None:
    for number, dtype in enumerate(("fp32", "bf16", "fp32")):
        options = msgspec.structs.replace(OPTIONS, dtype=dtype, max_steps=1)
        (tmp_path / str(number)).mkdir()
        loop.train(student, rows, tmp_path / str(number), options, 10)

    first, half, last = (states.steps_in(tmp_path / str(number))[0].loss for number in range(3))
    assert first == last != half


@pytest.mark.parametrize("method", ["full", pytest.param("lora", marks=pytest.mark.slow)])
def test_activations_made_twice_give_the_same_losses(
    tmp_path: Path, student: lookup.Model, rows: StoredRows, method: str
) -> None:
    kept, again = tmp_path / "kept", tmp_path / "again"
    kept.mkdir()
    again.mkdir()
    options = msgspec.structs.replace(OPTIONS, max_steps=3, method=method)
    loop.train(student, rows, kept, options, save_every=100)
    options = msgspec.structs.replace(options, gradient_checkpointing=True)
    assert load_student(student, options).is_gradient_checkpointing
    loop.train(student, rows, again, options, save_every=100)
    wanted = [(step.loss, step.grad_norm) for step in states.steps_in(kept)]
    assert [(step.loss, step.grad_norm) for step in states.steps_in(again)] == wanted


@pytest.mark.parametrize("method", ["full", pytest.param("lora", marks=pytest.mark.slow)])
def test_an_interrupted_run_goes_on_with_the_losses_of_an_undisturbed_one(
    tmp_path: Path, student: lookup.Model, rows: StoredRows, method: str
) -> None:
    options = msgspec.structs.replace(
        OPTIONS, method=method, weight=(1.5,), eval_split=0.1, epochs=1
    )
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    whole.mkdir()
    parted.mkdir()
    loop.train(student, rows, whole, options, 7, Setup((len(rows),)))

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupts.install()
    watcher = threading.Thread(target=_interrupt_after, args=(parted / states.LOSSES, 5))
    watcher.start()
    try:
        with pytest.raises(Interrupted):
            loop.train(student, rows, parted, options, 7, Setup((len(rows),)))
    finally:
        watcher.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    assert 5 <= len(states.steps_in(parted)) < len(states.steps_in(whole)) == 8
    loop.train(student, rows, parted, options, 7, Setup((len(rows),)))

    wanted = [
        (step.step, step.loss, step.grad_norm, step.eval_loss) for step in states.steps_in(whole)
    ]
    found = [
        (step.step, step.loss, step.grad_norm, step.eval_loss) for step in states.steps_in(parted)
    ]
    assert found == wanted
    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    assert (whole / name).read_bytes() == (parted / name).read_bytes()


def _interrupt_after(losses: Path, num_steps: int) -> None:
    while not losses.is_file() or len(losses.read_bytes().splitlines()) < num_steps:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)


def test_lines_of_steps_that_no_state_covers_are_done_anew(
    tmp_path: Path, student: lookup.Model, rows: StoredRows
) -> None:
    options = msgspec.structs.replace(OPTIONS, max_steps=3)
    loop.train(student, rows, tmp_path, options, save_every=100)
    wanted = [step.loss for step in states.steps_in(tmp_path)]
    states.remove_states(tmp_path)  # as after a kill before the first state: only lines are there
    with (tmp_path / states.LOSSES).open("ab") as file:
        file.write(b'{"step": 7, "lo')
    loop.train(student, rows, tmp_path, options, save_every=100)
    assert [step.loss for step in states.steps_in(tmp_path)] == wanted


def test_an_adapter_is_saved_alone_and_loads_on_its_base(
    tmp_path: Path, student: lookup.Model, rows: StoredRows
) -> None:
    options = msgspec.structs.replace(OPTIONS, method="lora", max_steps=3)
    loop.train(student, rows, tmp_path, options, save_every=100)
    assert (tmp_path / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "model.safetensors").exists()
    base = AutoModelForCausalLM.from_pretrained(student.folder, dtype=torch.float32)
    adapted = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.tensor([rows[0].ids])
    assert not torch.allclose(base(ids).logits, adapted(ids).logits, atol=1e-3)


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_last_state(
    tmp_path: Path, student: lookup.Model, rows: StoredRows
) -> None:
    options = msgspec.structs.replace(
        OPTIONS, learning_rate=1e30, scheduler="constant", warmup=0.0, max_grad_norm=1e30
    )
    with pytest.raises(EngineError, match="lower --learning-rate"):
        loop.train(student, rows, tmp_path, options, save_every=1)
    assert [path.name for path in tmp_path.glob("state-*")] == ["state-000001"]


def test_a_damaged_state_is_named_in_one_line(
    tmp_path: Path, student: lookup.Model, rows: StoredRows
) -> None:
    options = msgspec.structs.replace(OPTIONS, max_steps=2)
    loop.train(student, rows, tmp_path, options, save_every=1)
    (state,) = tmp_path.glob("state-*")
    for name in ("optimizer.bin", "model.safetensors"):
        path = state / name
        whole = path.read_bytes()
        for damaged in (b"", whole[:-1000], b"\x80\x04" + whole):
            path.write_bytes(damaged)
            with pytest.raises(EngineError) as error:
                loop.train(student, rows, tmp_path, options, save_every=1)
            said = str(error.value)
            assert said.startswith(f"{state} could not be loaded: "), said
            assert said.endswith("; remove it to train from the beginning")
            assert "\n" not in said
        path.write_bytes(whole)


def test_a_damaged_line_of_losses_is_named(tmp_path: Path) -> None:
    (tmp_path / states.LOSSES).write_bytes(b'{"step": 1}\n')
    with pytest.raises(DataError, match=r"losses.jsonl:1: not a row of kind Step"):
        states.steps_in(tmp_path)
