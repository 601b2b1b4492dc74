"""Training in several processes: the losses of one, whatever happens on the way; nothing is left running."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from safetensors.torch import load_file

from distillpipe import interrupts, models
from distillpipe.chat import Chat
from distillpipe.errors import EngineError, Interrupted
from distillpipe.records import Trace, TrainingOptions
from distillpipe.training import loop, ranks, states, stored_rows
from distillpipe.training.batches import share_of
from distillpipe.training.rows import row_of
from distillpipe.training.setup import Setup

OPTIONS = TrainingOptions(
    method="full", rank=4, alpha=4, learning_rate=1e-3, scheduler="cosine", warmup=0.1,
    weight_decay=1e-4, max_grad_norm=1.0, epochs=40, max_steps=None, batch_size=4, max_length=512,
    dtype="fp32", chat_template=None, seed=1, eval_split=0.2,
)  # fmt: skip


@pytest.mark.parametrize(
    ("lengths", "shares"),
    [
        ([5, 3, 2], [[0], [1, 2]]),
        ([1, 1, 9, 1], [[2], [0, 1, 3]]),
        ([4, 4, 4, 4], [[0, 2], [1, 3]]),
        ([7], [[0], []]),
        ([], [[], []]),
    ],
)
def test_a_step_is_split_by_tokens(lengths: list[int], shares: list[list[int]]) -> None:
    assert [share_of(lengths, 2, number) for number in range(2)] == shares


@pytest.fixture
def make_job(
    tmp_path: Path, tiny_model: Path, make_traces: Callable[..., list[Trace]], teacher_chat: Chat
) -> Callable[..., ranks.Job]:
    """A job on 17 rows, of which some are held out; its folder is named."""
    rows = tmp_path / "rows"
    stored_rows.store(rows, (row_of(trace, teacher_chat) for trace in make_traces(17)))

    def make(name: str, options: TrainingOptions = OPTIONS, **setup: object) -> ranks.Job:
        (tmp_path / name).mkdir()
        student = models.find(str(tiny_model), "--student")
        return ranks.Job(student, rows, tmp_path / name, options, 7, Setup(**setup))

    return make


def in_one_process(job: ranks.Job) -> list[states.Step]:
    loop.train(
        job.student, stored_rows.StoredRows(job.rows), job.folder, job.options, job.save_every
    )
    return steps_of(job)


def steps_of(job: ranks.Job) -> list[states.Step]:
    return states.steps_in(job.folder)


def assert_alike(found: list[states.Step], wanted: list[states.Step]) -> None:
    assert [step.step for step in found] == [step.step for step in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-4)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-3)
        assert one.eval_loss == pytest.approx(other.eval_loss, abs=1e-4)
        assert (one.tokens, one.supervised_tokens) == (other.tokens, other.supervised_tokens)


def after_steps(job: ranks.Job, number: int, act: Callable[[], None]) -> threading.Thread:
    def watch() -> None:
        while len(states.steps_in(job.folder)) < number:
            time.sleep(0.01)
        act()

    watcher = threading.Thread(target=watch)
    watcher.start()
    return watcher


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_processes_of_which_one_is_killed_end_with_the_losses_and_weights_of_one(
    make_job: Callable[..., ranks.Job], sharding: str
) -> None:
    one = make_job("one")
    wanted = in_one_process(one)
    assert len(wanted) > 100
    job = make_job("two", sharding=sharding)
    watcher = after_steps(job, 12, lambda: multiprocessing.active_children()[-1].kill())
    with pytest.raises(EngineError, match=r"process \d of 2 .* was killed by signal 9"):
        ranks.train(job, 2)
    watcher.join()
    assert multiprocessing.active_children() == []
    assert len(steps_of(job)) < len(wanted)

    ranks.train(job, 2)
    assert_alike(steps_of(job), wanted)
    ours, theirs = (load_file(each.folder / "model.safetensors") for each in (job, one))
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert weight.dtype == theirs[name].dtype
        assert (weight - theirs[name]).abs().max() < 1e-3, name


@pytest.fixture
def signals() -> Iterator[None]:
    """Ctrl-C as the command takes it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupts.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.slow
@pytest.mark.usefixtures("signals")
def test_ctrl_c_ends_all_processes_with_a_state_and_an_adapter_goes_on_in_another_number_of_them(
    make_job: Callable[..., ranks.Job],
) -> None:
    options = msgspec.structs.replace(OPTIONS, method="lora")
    wanted = in_one_process(make_job("one", options))
    job = make_job("two", options)
    watcher = after_steps(job, 9, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted):
        ranks.train(job, 2)
    watcher.join()
    assert multiprocessing.active_children() == []
    done = len(steps_of(job))
    assert 9 <= done < len(wanted)
    assert [path.name for path in job.folder.glob("state-*")] == [f"state-{done:06d}"]
    assert_alike(in_one_process(job), wanted)
    assert (job.folder / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_is_one_error_of_all_processes(
    make_job: Callable[..., ranks.Job],
) -> None:
    options = msgspec.structs.replace(
        OPTIONS, learning_rate=1e30, scheduler="constant", warmup=0.0, max_grad_norm=1e30
    )
    job = make_job("two", options)
    with pytest.raises(EngineError, match="lower --learning-rate"):
        ranks.train(job, 2)
    assert multiprocessing.active_children() == []
