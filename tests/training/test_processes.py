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

from distillpipe.base import interrupts
from distillpipe.base.errors import EngineError, Interrupted
from distillpipe.base.options import EngineOptions, LabelOptions
from distillpipe.base.records import Trace
from distillpipe.base.training_options import Distillation, TrainingOptions, TrainingRun
from distillpipe.models import lookup
from distillpipe.models.chat import Chat
from distillpipe.stages.label import label
from distillpipe.stages.run import Run
from distillpipe.stages.sft import sft
from distillpipe.training import loop, passes, processes, states
from distillpipe.training.rows import stored_rows
from distillpipe.training.rows.batches import share_of
from distillpipe.training.rows.rows import row_of
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
) -> Callable[..., processes.Job]:
    """A job on 17 rows, of which some are held out; its folder is named."""
    rows = tmp_path / "rows"
    stored_rows.store(rows, (row_of(trace, teacher_chat) for trace in make_traces(17)))

    def make(name: str, options: TrainingOptions = OPTIONS, **setup: object) -> processes.Job:
        (tmp_path / name).mkdir()
        student = lookup.find(str(tiny_model), "--student")
        return processes.Job(student, rows, tmp_path / name, options, 7, Setup(**setup))

    return make


def in_one_process(job: processes.Job) -> list[states.Step]:
    loop.train(
        job.student, stored_rows.StoredRows(job.rows), job.folder, job.options, job.save_every
    )
    return states.steps_in(job.folder)


def assert_alike(found: list[states.Step], wanted: list[states.Step]) -> None:
    assert [step.step for step in found] == [step.step for step in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-4)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-3)
        assert one.eval_loss == pytest.approx(other.eval_loss, abs=1e-4)
        assert (one.tokens, one.supervised_tokens) == (other.tokens, other.supervised_tokens)
        for name in ("hard_loss", "soft_loss", "feature_loss", "relation_loss", "kd_weight"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-4), name


def assert_weights_alike(folder: Path, other: Path) -> None:
    ours, theirs = (load_file(*each.glob("*model.safetensors")) for each in (folder, other))
    assert ours.keys() == theirs.keys()
    for key, weight in ours.items():
        assert weight.dtype == theirs[key].dtype
        assert (weight - theirs[key]).abs().max() < 1e-3, key


def kill_one() -> None:
    multiprocessing.active_children()[-1].kill()


def after_steps(folder: Path, number: int, act: Callable[[], None]) -> threading.Thread:
    def watch() -> None:
        while len(states.steps_in(folder)) < number:
            time.sleep(0.01)
        act()

    watcher = threading.Thread(target=watch)
    watcher.start()
    return watcher


@pytest.mark.parametrize(
    "sharding",
    [
        pytest.param("ddp", marks=pytest.mark.long),  # killed beside a live teacher: slow
        pytest.param("fsdp", marks=pytest.mark.slow),
    ],
)
def test_two_processes_of_which_one_is_killed_end_with_the_losses_and_weights_of_one(
    make_job: Callable[..., processes.Job], sharding: str
) -> None:
    one = make_job("one")
    wanted = in_one_process(one)
    assert len(wanted) > 100
    job = make_job("two", sharding=sharding)
    watcher = after_steps(job.folder, 12, kill_one)
    with pytest.raises(EngineError, match=r"process \d of 2 .* was killed by signal 9"):
        processes.train(job, 2)
    watcher.join()
    assert multiprocessing.active_children() == []
    assert len(states.steps_in(job.folder)) < len(wanted)

    processes.train(job, 2)
    assert_alike(states.steps_in(job.folder), wanted)
    assert_weights_alike(job.folder, one.folder)


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
    make_job: Callable[..., processes.Job],
) -> None:
    options = msgspec.structs.replace(OPTIONS, method="lora")
    wanted = in_one_process(make_job("one", options))
    job = make_job("two", options)
    watcher = after_steps(job.folder, 9, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted):
        processes.train(job, 2)
    watcher.join()
    assert multiprocessing.active_children() == []
    done = len(states.steps_in(job.folder))
    assert 9 <= done < len(wanted)
    assert [path.name for path in job.folder.glob("state-*")] == [f"state-{done:06d}"]
    assert_alike(in_one_process(job), wanted)
    assert (job.folder / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_is_one_error_of_all_processes(
    make_job: Callable[..., processes.Job],
) -> None:
    options = msgspec.structs.replace(
        OPTIONS, learning_rate=1e30, scheduler="constant", warmup=0.0, max_grad_norm=1e30
    )
    job = make_job("two", options)
    with pytest.raises(EngineError, match="lower --learning-rate"):
        processes.train(job, 2)
    assert multiprocessing.active_children() == []


@pytest.fixture(scope="module")
def teacher(repository: Path) -> str:
    """Four layers of width 128 where the student has one of 64."""
    return str(repository / "data" / "quickstart" / "teacher")


@pytest.fixture(scope="module")
def inputs(
    tmp_path_factory: pytest.TempPathFactory,
    additions: Callable[[range, range], list[Trace]],
    make_traces: Callable[..., list[Trace]],
    write_dataset: Callable[..., object],
    teacher: str,
) -> list[str]:
    """Nine rows that the teacher has labelled, and five that it has not."""
    folder = tmp_path_factory.mktemp("inputs")
    write_dataset(folder / "nine", additions(range(3, 6), range(2, 5)))
    write_dataset(folder / "five", make_traces(5))
    options = LabelOptions(20, None, EngineOptions(engine="transformers", concurrency=None))
    label([str(folder / "nine")], teacher, folder / "labelled", options, Run())
    return [str(folder / "labelled"), str(folder / "five")]


KD = Distillation(
    kd_weight=0.9, kd_weight_end=0.3, kd_divergence="forward", kd_beta=0.5, kd_temperature=2.0,
    kd_temperature_end=1.0, kd_schedule="linear",
)  # fmt: skip
STORED = msgspec.structs.replace(
    OPTIONS, distillation=msgspec.structs.replace(KD, kd_adaptive=5), batch_size=5, epochs=12,
    seed=3,
)  # fmt: skip
LIVE = msgspec.structs.replace(
    OPTIONS, distillation=msgspec.structs.replace(KD, feature_weight=0.5, relation_weight=2.0),
    batch_size=2, epochs=8, max_length=70, seed=3,
)  # fmt: skip
ADAPTER = msgspec.structs.replace(STORED, method="lora")


@pytest.mark.parametrize(
    ("sharding", "options"),
    [
        pytest.param("ddp", STORED, marks=pytest.mark.long),
        pytest.param("fsdp", ADAPTER, marks=pytest.mark.slow),
        pytest.param("ddp", LIVE, marks=pytest.mark.slow),
        pytest.param("fsdp", LIVE, marks=pytest.mark.long),
    ],
    ids=["stored, ddp", "stored, fsdp, adapter", "live, ddp", "live, fsdp"],
)
def test_two_processes_of_which_one_is_killed_learn_from_a_teacher_what_one_learns(
    tmp_path: Path,
    tiny_model: Path,
    inputs: list[str],
    teacher: str,
    sharding: str,
    options: TrainingOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Relations between rows are those of a pass, so live rows come one a pass, in one process as in two."""
    one, two, student = tmp_path / "one", tmp_path / "two", str(tiny_model)
    training = TrainingRun(save_every=5)
    if options == LIVE:
        monkeypatch.setattr(passes, "MIN_TOKENS", 1)
        inputs = inputs[:1]
        training = TrainingRun(save_every=5, teacher=(teacher,))
    alone = sft(inputs, student, one, options, Run(), training)
    wanted = states.steps_in(alone.path)
    assert min(step.tokens for step in wanted) < 64  # a step of one row: one of two has none

    several = msgspec.structs.replace(training, num_processes=2, sharding=sharding)
    watcher = after_steps(two / "v1.partial", 7, kill_one)
    with pytest.raises(EngineError, match=r"process \d of 2 .* was killed by signal 9"):
        sft(inputs, student, two, options, Run(), several)
    watcher.join()
    assert 7 <= len(states.steps_in(two / "v1.partial")) < len(wanted)
    together = sft(inputs, student, two, options, Run(), several)
    assert_alike(states.steps_in(together.path), wanted)
    assert_weights_alike(together.path, alone.path)
    for name in ("rows_kept", "rows_taught", "tokens_taught", "tokens_kept", "rows_by_input"):
        assert getattr(together.manifest.counts, name) == getattr(alone.manifest.counts, name)
