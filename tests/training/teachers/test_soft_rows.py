"""Every row trains on its own soft labels, whatever the order, the packing, the pass or the run it comes in."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from distillpipe.base import interrupts
from distillpipe.base.errors import DataError, Interrupted
from distillpipe.base.records import SoftLabels, Trace
from distillpipe.base.training_options import Distillation, TrainingOptions
from distillpipe.data.store.labels import (
    INSERTED,
    NO_TOKEN,
    Labels,
)
from distillpipe.models.chat import Chat
from distillpipe.models.vocabulary import vocabulary_of
from distillpipe.training import loop, states
from distillpipe.training.losses.soft_losses import read_logits, top_k_divergence
from distillpipe.training.rows.batches import Batches
from distillpipe.training.rows.rows import Row, StoredLabels, row_of
from distillpipe.training.rows.stored_rows import StoredRows, store
from distillpipe.training.teachers.soft_rows import SoftRows

K = 4
NUM_STEPS = 6  # of two epochs
KD = Distillation(
    kd_weight=1.0, kd_divergence="forward", kd_beta=0.5, kd_temperature=1.0, kd_schedule="linear"
)
OPTIONS = TrainingOptions(
    method="full", rank=4, alpha=4, learning_rate=0.0, scheduler="constant", warmup=0.0,
    weight_decay=0.0, max_grad_norm=1.0, epochs=2, max_steps=None, batch_size=4, max_length=512,
    dtype="fp32", chat_template=None, seed=1, distillation=KD,
)  # fmt: skip


def located(trace: Trace, folder: Path) -> Trace:
    """The trace as `sft` reads it: its labels' file with the folder."""
    found = trace.soft_labels
    whole = found and msgspec.structs.replace(found, file=str(folder / found.file))
    return msgspec.structs.replace(trace, soft_labels=whole)


def read(folder: Path) -> list[Trace]:
    lines = (folder / "part-00000.jsonl").read_bytes().splitlines()
    return [located(msgspec.json.decode(line, type=Trace), folder) for line in lines]


@pytest.fixture(scope="module")
def soft_rows(teacher_chat: Chat) -> SoftRows:
    return SoftRows(teacher_chat, 512)


@pytest.fixture(scope="module")
def rows(dataset, soft_rows, teacher_chat, stored: Callable[..., StoredRows]) -> StoredRows:
    made = []
    for trace in read(dataset):
        row = row_of(trace, teacher_chat)
        made.append(row._replace(labels=soft_rows.align(trace, row)))
    return stored(made)


class Sums(NamedTuple):
    """Of one row."""

    hard: float
    soft: float
    num_tokens: int
    num_labelled: int


def top_k_losses(
    logits: torch.Tensor, tokens: torch.Tensor, logprobs: torch.Tensor
) -> torch.Tensor:
    return top_k_divergence(
        read_logits(logits, tokens.clamp(min=0)), logits.size(-1), tokens, logprobs,
        divergence="forward", beta=0.5, temperature=1.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def sums(student, rows, given) -> dict[str, Sums]:
    """The losses of each row alone, its labels found by its name."""
    model = AutoModelForCausalLM.from_pretrained(student.folder, dtype=torch.float32)
    found = {}
    for row in rows:
        with torch.inference_mode():
            logits = model(torch.tensor([row.ids])).logits[0, row.num_prompt - 1 : -1]
        targets = torch.tensor(row.ids[row.num_prompt :])
        hard = torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        soft = 0.0
        if (labels := given.get(row.id)) is not None:
            tops = torch.from_numpy(labels.top_tokens.astype(np.int64))
            soft = top_k_losses(logits, tops, torch.from_numpy(labels.top_logprobs)).sum().item()
        found[row.id] = Sums(hard, soft, len(targets), len(targets) if labels else 0)
    return found


def total(sums: dict[str, Sums], batch: list[Row]) -> Sums:
    return Sums(*map(sum, zip(*(sums[row.id] for row in batch), strict=True)))


def soft_losses(sums: dict[str, Sums], rows: StoredRows) -> list[float]:
    """The soft loss of each step of a run."""
    found = [total(sums, batch) for batch in batches_of(rows)]
    return [one.soft / one.num_labelled for one in found]


def batches_of(rows: StoredRows) -> list[list[Row]]:
    """The rows of each step of two epochs."""
    steps = Batches(rows, OPTIONS).steps()
    return [[rows[int(number)] for number in next(steps)] for _ in range(NUM_STEPS)]


@pytest.mark.parametrize("width", ["packed", "one row a pass", "padded"])
def test_every_step_has_the_labels_of_its_own_rows(
    tmp_path, student, rows, sums, width, monkeypatch
) -> None:
    options = OPTIONS
    if width == "one row a pass":
        monkeypatch.setattr("distillpipe.training.passes.MIN_TOKENS", 1)
        options = msgspec.structs.replace(OPTIONS, max_length=110)
    if width == "padded":
        monkeypatch.setattr("distillpipe.training.rows.attention.FAMILIES", ())
    loop.train(student, rows, tmp_path, options, 100)
    steps = states.steps_in(tmp_path)
    wanted = [total(sums, batch) for batch in batches_of(rows)]
    hard = [one.hard / one.num_tokens for one in wanted]
    assert len({round(one, 3) for one in soft_losses(sums, rows)}) == NUM_STEPS  # none like another
    assert [step.soft_loss for step in steps] == pytest.approx(soft_losses(sums, rows), rel=1e-4)
    assert [step.hard_loss for step in steps] == pytest.approx(hard, rel=1e-4)
    assert {(step.kd_weight, step.kd_temperature) for step in steps} == {(1.0, 1.0)}


def test_a_prompt_that_is_trained_on_has_no_soft_labels(rows, soft_rows) -> None:
    for row in rows:
        whole = row.with_prompt()
        assert whole.num_supervised == len(row.ids) - 1
        assert whole.num_labelled == row.num_labelled
        if row.labels is None:
            continue
        one, other = soft_rows.targets([row]), soft_rows.targets([whole])
        num_more = row.num_prompt - 1
        assert not other.labelled[:num_more].any()
        for mine, theirs in zip(one, other, strict=True):
            assert torch.equal(mine, theirs[num_more:])


def test_soft_and_hard_loss_are_mixed_where_there_are_labels_alone(
    tmp_path, student, rows, sums, stored
) -> None:
    kd = msgspec.structs.replace(OPTIONS.distillation, kd_weight=0.5)
    options = msgspec.structs.replace(OPTIONS, distillation=kd, train_on_prompt=True)
    loop.train(student, stored(row.with_prompt() for row in rows), tmp_path, options, 100)
    for step, batch in zip(states.steps_in(tmp_path), batches_of(rows), strict=True):
        assert step.supervised_tokens == sum(len(row.ids) - 1 for row in batch)
        wanted = total(sums, batch)
        assert step.soft_loss == pytest.approx(wanted.soft / wanted.num_labelled, rel=1e-4)


def test_a_resumed_run_goes_on_with_the_labels_of_its_rows(tmp_path, student, rows, sums) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupts.install()
    watcher = threading.Thread(target=_interrupt_after, args=(tmp_path / states.LOSSES, 3))
    watcher.start()
    try:
        with pytest.raises(Interrupted):
            loop.train(student, rows, tmp_path, OPTIONS, 100)
    finally:
        watcher.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    assert 3 <= len(states.steps_in(tmp_path)) < NUM_STEPS
    loop.train(student, rows, tmp_path, OPTIONS, 100)
    found = [step.soft_loss for step in states.steps_in(tmp_path)]
    assert found == pytest.approx(soft_losses(sums, rows), rel=1e-4)


def _interrupt_after(losses: Path, num_steps: int) -> None:
    while not losses.is_file() or len(losses.read_bytes().splitlines()) < num_steps:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)


def test_a_label_that_is_not_that_of_its_token_is_an_error_in_the_step(rows, soft_rows) -> None:
    one, other = [row for row in rows if row.labels is not None][:2]
    length = one.num_prompt + min(one.num_supervised, other.num_supervised)
    mixed = one.cut(length)._replace(labels=other.cut(length).labels)
    with pytest.raises(DataError, match=f"row {one.id}: the labels in .* do not match its tokens"):
        soft_rows.targets([mixed])


def test_weights_and_temperature_go_to_their_ends_and_the_loss_is_mixed_by_them(
    tmp_path, student, rows, sums
) -> None:
    kd = msgspec.structs.replace(KD, kd_weight=0.9, kd_weight_end=0.0, kd_temperature_end=1.0)
    options = msgspec.structs.replace(OPTIONS, distillation=kd)
    loop.train(student, rows, tmp_path, options, 100)
    steps = states.steps_in(tmp_path)
    assert [step.kd_weight for step in steps] == pytest.approx([0.9, 0.72, 0.54, 0.36, 0.18, 0])
    for step, batch in zip(steps, batches_of(rows), strict=True):
        every = total(sums, batch)
        hard_of_labelled = sum(sums[row.id].hard for row in batch if row.labels is not None)
        wanted = every.hard + step.kd_weight * (every.soft - hard_of_labelled)
        assert step.loss == pytest.approx(wanted / every.num_tokens, rel=1e-4)


def test_what_forcing_put_there_has_no_label(
    tmp_path,
    traces,
    completions,
    teacher_chat,
    write_labelled,
    soft_rows,
    labels_of: Callable[..., Labels],
) -> None:
    trace = traces[0]
    labels = labels_of(completions[trace.id], trace.id, 400)
    labels.flags[5:8] = INSERTED
    write_labelled(tmp_path / "t", [(trace, labels)], vocabulary_of(teacher_chat))
    (found,) = read(tmp_path / "t" / "v1")
    row = row_of(found, teacher_chat)
    targets = soft_rows.targets([row._replace(labels=soft_rows.align(found, row))])
    assert targets.labelled.logical_not().nonzero()[:, 0].tolist() == [5, 6, 7]


def test_rows_with_fewer_labels_and_missing_tokens_share_a_pass(
    tmp_path,
    traces,
    completions,
    teacher_chat,
    write_labelled,
    soft_rows,
    labels_of: Callable[..., Labels],
) -> None:
    made = []
    for trace, k in zip(traces, (2, 5), strict=False):
        labels = labels_of(completions[trace.id], trace.id, 400, k)
        if k == 2:
            labels.top_tokens[:, 1], labels.top_logprobs[:, 1] = NO_TOKEN, -np.inf
        write_labelled(tmp_path / str(k), [(trace, labels)], vocabulary_of(teacher_chat))
        (found,) = read(tmp_path / str(k) / "v1")
        row = row_of(found, teacher_chat)
        made.append(row._replace(labels=soft_rows.align(found, row)))
    targets = soft_rows.targets(made)
    length = made[0].num_supervised
    assert targets.tokens.shape == (length + made[1].num_supervised, 5)
    assert (targets.tokens[:length, 1:] == -1).all()
    assert (targets.tokens[length:] >= 0).all()
    assert torch.isfinite(targets.logprobs).all()


def test_a_cut_row_keeps_the_labels_of_what_is_left(
    tmp_path, dataset, soft_rows, teacher_chat
) -> None:
    trace = next(one for one in read(dataset) if one.soft_labels is not None)
    row = row_of(trace, teacher_chat)
    whole = row._replace(labels=soft_rows.align(trace, row))
    cut = whole.cut(row.num_prompt + 7)
    wanted = soft_rows.targets([whole]).part(0, 7)
    found = soft_rows.targets([cut])
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
    again = store(tmp_path / "rows", [cut, whole._replace(id="whole")])
    assert list(again) == [cut, whole._replace(id="whole")]


def test_rows_whose_labels_were_moved_are_made_anew(tmp_path: Path) -> None:
    def row(folder: str) -> Row:
        labels = SoftLabels(file=str(tmp_path / folder / "labels-1-00000"), offset=0, length=2, k=1)
        return Row("a", [1, 2, 3], 1, both_labels(labels))

    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "labels-1-00000.labels").touch()
    assert list(store(tmp_path / "rows", [row("old")])) == [row("old")]
    assert list(store(tmp_path / "rows", [row("new")])) == [row("old")]  # whole: not asked for
    (tmp_path / "old" / "labels-1-00000.labels").unlink()
    assert list(store(tmp_path / "rows", [row("new")])) == [row("new")]


def both_labels(found: SoftLabels) -> StoredLabels:
    return StoredLabels(found, np.array([0, 1], "<i4").tobytes())


# another family


@pytest.fixture
def real_trace(reference_rows, make_trace) -> Trace:
    found = next(row for row in reference_rows("traces/r1_mmlu_pro_mcq.jsonl") if row["reasoning"])
    return make_trace(
        problem=found["problem"], reasoning=found["reasoning"].strip(),
        response=found["answer_text"].strip(),
    )  # fmt: skip


def test_labels_teach_a_student_of_a_smaller_padded_vocabulary(
    tmp_path, family_chat, make_trace, write_labelled, labels_of
) -> None:
    chats = family_chat("opened"), family_chat("spelt")
    check_labels_of_another_family(
        make_trace(), *chats, (474, 575, 512), write_labelled, labels_of, tmp_path
    )


@pytest.mark.reference
def test_labels_of_r1_distill_teach_a_qwen_student(
    tmp_path, family_chat, real_trace, write_labelled, labels_of
) -> None:
    chats, sizes = (
        [family_chat(name) for name in ("r1-distill-qwen", "qwen2.5")],
        (151_643, 152_063, 151_936),
    )
    check_labels_of_another_family(real_trace, *chats, sizes, write_labelled, labels_of, tmp_path)


def check_labels_of_another_family(
    trace: Trace, teacher: Chat, student: Chat, sizes: tuple[int, int, int], write_labelled: Any,
    labels_of: Callable[..., Labels], tmp_path: Path,
) -> None:  # fmt: skip
    num_ordinary, last_of_teacher, size_of_student = sizes
    ids = teacher.completion_ids(trace.messages[-1])
    labels = labels_of(ids, trace.id, num_ordinary, 3)
    labels.top_tokens[:, 0], labels.top_tokens[:, 1] = ids, last_of_teacher  # in its padding
    write_labelled(tmp_path / "t", [(trace, labels)], vocabulary_of(teacher))
    (found,) = read(tmp_path / "t" / "v1")
    row, soft = row_of(found, student), SoftRows(student, size_of_student)
    targets = soft.targets([row._replace(labels=soft.align(found, row))])
    own = torch.tensor(row.ids[row.num_prompt :])
    assert targets.labelled.sum() >= len(ids) - 2  # <think> and </think> are several tokens here
    assert torch.equal(targets.tokens[targets.labelled, 0].long(), own[targets.labelled])
    assert (targets.tokens[:, 1] == -1).all()
    assert targets.labelled[-1]  # the end of a turn, which is another token
    assert int(own[-1]) == student.ending_id != ids[-1]
    logits = torch.zeros(4, size_of_student, requires_grad=True)
    tokens, logprobs, _ = targets.part(0, 4)
    top_k_losses(logits, tokens.long(), logprobs).sum().backward()
    assert torch.isfinite(logits.grad).all()
