"""Live teachers against sums row by row: distributions, layers and relations, whatever the passes."""

import functools
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config

from distillpipe.base import interrupts
from distillpipe.base.errors import Interrupted, UsageError
from distillpipe.base.records import Trace
from distillpipe.base.training_options import Distillation, TrainingOptions, TrainingRun
from distillpipe.data.forecast import Forecast
from distillpipe.data.store.dataset import find
from distillpipe.models import lookup
from distillpipe.models.chat import Chat
from distillpipe.stages.run import Run
from distillpipe.stages.sft import forecast_sft, preview_sft, sft
from distillpipe.training import forecast as training_forecast
from distillpipe.training import loop, states
from distillpipe.training.losses.feature_losses import feature_loss_sum, relation_loss
from distillpipe.training.losses.soft_losses import dense_loss
from distillpipe.training.rows.batches import Batches
from distillpipe.training.rows.rows import Row, row_of
from distillpipe.training.rows.stored_rows import StoredRows
from distillpipe.training.setup import Setup
from distillpipe.training.teachers.teaching import held_out_progress, soft_rows_of

KD = Distillation(
    kd_weight=0.7, kd_divergence="reverse", kd_beta=0.5, kd_temperature=2.0, kd_schedule="linear",
    feature_weight=0.5, relation_weight=2.0,
)  # fmt: skip
OPTIONS = TrainingOptions(
    method="full", rank=4, alpha=4, learning_rate=0.0, scheduler="constant", warmup=0.0,
    weight_decay=0.0, max_grad_norm=1.0, epochs=1, max_steps=2, batch_size=4, max_length=512,
    dtype="fp32", chat_template=None, seed=1, distillation=KD,
)  # fmt: skip


@pytest.fixture(scope="module")
def student(tiny_model: Path) -> lookup.Model:
    return lookup.find(str(tiny_model), "--student")


@pytest.fixture(scope="module")
def teacher(repository: Path) -> lookup.Model:
    """Four layers of width 128 where the student has one of 64."""
    return lookup.find(str(repository / "data/quickstart/teacher"), "--teacher")


@pytest.fixture(scope="module")
def padded(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> lookup.Model:
    """Another tiny model, its vocabulary padded further."""
    folder = Path(shutil.copytree(tiny_model, tmp_path_factory.mktemp("models") / "padded"))
    config = AutoConfig.from_pretrained(folder)
    config.vocab_size += 64
    torch.manual_seed(7)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return lookup.find(str(folder), "--teacher")


@pytest.fixture(scope="module")
def traces(additions: Callable[[range, range], list[Trace]]) -> list[Trace]:
    return additions(range(3, 7), range(2, 4))


@pytest.fixture(scope="module")
def rows_for(
    student, traces, teacher_chat: Chat, stored: Callable[..., StoredRows]
) -> Callable[..., StoredRows]:
    """The rows of a student that these teachers teach."""

    def make(*teachers: lookup.Model) -> StoredRows:
        soft_rows = soft_rows_of(student, OPTIONS, teachers)
        return stored(
            [soft_rows.with_targets(trace, row_of(trace, teacher_chat)) for trace in traces]
        )

    return make


@functools.cache
def loaded(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


class Outputs:
    """What a model says of the supervised tokens of a row, alone and unpadded."""

    def __init__(self, model: lookup.Model, row: Row) -> None:
        with torch.no_grad():
            out = loaded(model.folder)(torch.tensor([row.ids]), output_hidden_states=True)
        self.logits = out.logits[0, row.num_prompt - 1 : -1]
        self.layers = [one[0, row.num_prompt - 1 : -1] for one in out.hidden_states]


def batches_of(rows: StoredRows, options: TrainingOptions) -> list[list[Row]]:
    batches = Batches(rows, options)
    steps = batches.steps()
    return [[rows[int(number)] for number in next(steps)] for _ in range(batches.num_steps)]


@pytest.mark.parametrize(
    "width", ["packed", pytest.param("one row a pass", marks=pytest.mark.slow), "padded"]
)
def test_the_soft_loss_is_that_of_each_row_alone(
    tmp_path, student, teacher, rows_for, teacher_chat, width, monkeypatch
) -> None:
    options = OPTIONS
    if width == "one row a pass":
        monkeypatch.setattr("distillpipe.training.passes.MIN_TOKENS", 1)
        options = msgspec.structs.replace(OPTIONS, max_length=100)
    if width == "padded":
        monkeypatch.setattr("distillpipe.training.rows.attention.FAMILIES", ())
    kd = msgspec.structs.replace(KD, feature_weight=0.0, relation_weight=0.0)
    options = msgspec.structs.replace(options, distillation=kd)
    rows = rows_for(teacher)
    loop.train(student, rows, tmp_path, options, 100, Setup(teachers=(teacher,)))
    for step, batch in zip(states.steps_in(tmp_path), batches_of(rows, options), strict=True):
        hard = soft = 0.0
        for row in batch:
            ours, theirs = (Outputs(one, row).logits for one in (student, teacher))
            targets = torch.tensor(row.ids[row.num_prompt :])
            hard += torch.nn.functional.cross_entropy(ours, targets, reduction="sum").item()
            common = len(teacher_chat.tokenizer)  # without the padding of either
            loss = dense_loss(
                ours[:, :common], theirs[:, :common], divergence="reverse", temperature=2.0
            )
            soft += loss.sum().item()
        number = sum(row.num_supervised for row in batch)
        assert step.hard_loss == pytest.approx(hard / number, rel=1e-4)
        assert step.soft_loss == pytest.approx(soft / number, rel=1e-3)
        assert step.loss == pytest.approx((0.3 * hard + 0.7 * soft) / number, rel=1e-3)
        assert (step.feature_loss, step.relation_loss) == (None, None)


def test_a_student_that_is_its_own_teacher_has_nothing_to_learn_from_it(
    tmp_path, student, rows_for
) -> None:
    loop.train(student, rows_for(student), tmp_path, OPTIONS, 100, Setup(teachers=(student,)))
    for step in states.steps_in(tmp_path):
        assert step.soft_loss == pytest.approx(0, abs=1e-5)
        assert step.feature_loss == pytest.approx(0, abs=1e-8)
        assert step.relation_loss == pytest.approx(0, abs=1e-8)
        assert step.loss == pytest.approx(0.3 * step.hard_loss, rel=1e-4)


@pytest.mark.slow
def test_several_teachers_are_learnt_from_by_their_weights(
    tmp_path, student, teacher, padded, rows_for
) -> None:
    found = []
    for number, (some, weights) in enumerate(
        [([teacher], ()), ([padded], ()), ([teacher, padded], (3.0, 1.0))]
    ):
        kd = msgspec.structs.replace(KD, teacher_weight=weights, feature_weight=0.0)
        options = msgspec.structs.replace(OPTIONS, distillation=kd, max_steps=1)
        (tmp_path / str(number)).mkdir()
        loop.train(
            student,
            rows_for(*some),
            tmp_path / str(number),
            options,
            100,
            Setup(teachers=tuple(some)),
        )
        found += states.steps_in(tmp_path / str(number))
    for name in ("soft_loss", "relation_loss"):
        one, other, both = (getattr(step, name) for step in found)
        assert both == pytest.approx(0.75 * one + 0.25 * other, rel=1e-4)


def test_layers_and_relations_are_those_of_each_row_alone(
    tmp_path, student, padded, rows_for, monkeypatch
) -> None:
    monkeypatch.setattr("distillpipe.training.passes.MIN_TOKENS", 1)
    options = msgspec.structs.replace(OPTIONS, max_length=60, max_steps=1)  # one row a pass
    rows = rows_for(padded)
    loop.train(student, rows, tmp_path, options, 100, Setup(teachers=(padded,)))
    (step,) = states.steps_in(tmp_path)
    (batch,) = batches_of(rows, options)
    feature = relation = 0.0
    for row in batch:
        ours, theirs = (Outputs(one, row).layers[1] for one in (student, padded))
        every = torch.ones(len(ours), dtype=torch.bool)
        feature += feature_loss_sum(ours, theirs, every, "mse").item()
        relation += relation_loss(ours, theirs).item()
    number = sum(row.num_supervised for row in batch)
    assert step.feature_loss == pytest.approx(feature / number, rel=1e-4)
    assert step.relation_loss == pytest.approx(relation / len(batch), rel=1e-4)
    parts = 0.3 * step.hard_loss + 0.7 * step.soft_loss
    parts += 0.5 * step.feature_loss + 2.0 * step.relation_loss
    assert step.loss == pytest.approx(parts, rel=1e-4)


@pytest.mark.slow
def test_a_learnt_projection_is_trained_and_a_resumed_run_ends_with_the_same_losses(
    tmp_path, student, teacher, rows_for
) -> None:
    options = msgspec.structs.replace(OPTIONS, learning_rate=1e-2, epochs=5, max_steps=None)
    rows = rows_for(teacher)
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    whole.mkdir()
    parted.mkdir()
    loop.train(student, rows, whole, options, 100, Setup(teachers=(teacher,)))
    wanted = [_line(step) for step in states.steps_in(whole)]
    assert wanted[-1]["feature_loss"] < wanted[0]["feature_loss"]

    in_two_parts(student, rows, parted, options, 100, Setup(teachers=(teacher,)))
    assert [_line(step) for step in states.steps_in(parted)] == wanted
    assert not [name for name in _weights(whole) if "projection" in name]


def in_two_parts(*given: Any) -> None:
    """`loop.train`, stopped once after four steps or more of ten."""
    folder = given[2]
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupts.install()
    watcher = threading.Thread(target=_interrupt_after, args=(folder / states.LOSSES, 4))
    watcher.start()
    try:
        with pytest.raises(Interrupted):
            loop.train(*given)
    finally:
        watcher.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    assert 4 <= len(states.steps_in(folder)) < 10
    loop.train(*given)


def _line(step: states.Step) -> dict[str, Any]:
    kept = ("step", "loss", "grad_norm", "hard_loss", "soft_loss", "feature_loss", "relation_loss")
    return {name: getattr(step, name) for name in kept}


def _weights(folder: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        return list(file.keys())


def _interrupt_after(losses: Path, num_steps: int) -> None:
    while not losses.is_file() or len(losses.read_bytes().splitlines()) < num_steps:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)


# the stage


@pytest.fixture
def dataset(tmp_path: Path, traces, write_dataset) -> str:
    write_dataset(tmp_path / "t", traces)
    return str(tmp_path / "t")


def test_a_teacher_is_part_of_the_fingerprint_and_of_the_manifest(
    tmp_path, dataset, student, teacher, padded
) -> None:
    kd = msgspec.structs.replace(KD, feature_weight=0.0, relation_weight=0.0)
    options = msgspec.structs.replace(OPTIONS, distillation=kd, max_steps=1)
    training = TrainingRun(teacher=(teacher.name,))
    first = sft([dataset], student.name, tmp_path / "s", options, Run(), training)
    used = [(one.role, one.identity) for one in first.manifest.models]
    assert used == [("student", student.identity), ("teacher", teacher.identity)]
    counts = first.manifest.counts
    assert (counts.rows_kept, counts.rows_taught) == (8, 8)
    assert sft([dataset], student.name, tmp_path / "s", options, Run(), training).up_to_date
    other = msgspec.structs.replace(training, teacher=(padded.name,))
    assert not sft([dataset], student.name, tmp_path / "s", options, Run(), other).up_to_date


def test_a_teacher_wider_than_memory_is_refused_before_any_step(
    tmp_path, dataset, student, teacher, monkeypatch
) -> None:
    monkeypatch.setattr("distillpipe.training.teachers.live_teacher.free_memory", lambda: 4_000_000)
    training = TrainingRun(teacher=(teacher.name,))
    with pytest.raises(UsageError, match=r"the weights take .* GB are free on cpu: give a smaller"):
        sft([dataset], student.name, tmp_path / "s", OPTIONS, Run(), training)
    assert not list((tmp_path / "s").glob("*/losses.jsonl"))


def test_a_layer_that_is_not_there_is_refused_before_anything_is_written(
    tmp_path, dataset, student, teacher
) -> None:
    kd = msgspec.structs.replace(KD, feature_layers=("1:1", "9:1"))
    options = msgspec.structs.replace(OPTIONS, distillation=kd)
    training, out = TrainingRun(teacher=(teacher.name,)), tmp_path / "s"
    said = "--feature-layers 9:1: the student has"
    with pytest.raises(UsageError, match=said):
        sft([dataset], student.name, out, options, Run(), training)
    with pytest.raises(UsageError, match=said):
        preview_sft([dataset], student.name, options, Run(), training, 1)
    assert any(
        said in note
        for note in forecast_sft([dataset], student.name, out, options, Run(), training).notes
    )
    assert not out.exists()


def test_a_teacher_of_another_vocabulary_is_refused(
    tmp_path, dataset, student, family_chat, padded
) -> None:
    folder = Path(shutil.copytree(padded.folder, tmp_path / "other"))
    for path in folder.glob("tokenizer*"):
        path.unlink()
    family_chat("tagged").tokenizer.save_pretrained(folder)
    training = TrainingRun(teacher=(str(folder),))
    with pytest.raises(
        UsageError, match=r"--teacher .*/other: another vocabulary than the student's"
    ):
        sft([dataset], student.name, tmp_path / "s", OPTIONS, Run(), training)


@pytest.mark.slow
def test_the_weight_follows_the_held_out_loss_also_in_a_resumed_run(
    tmp_path, student, teacher, rows_for
) -> None:
    kd = msgspec.structs.replace(KD, feature_weight=0.0, relation_weight=0.0, kd_adaptive=2)
    options = msgspec.structs.replace(
        OPTIONS, distillation=kd, learning_rate=1e-2, batch_size=1, epochs=4, max_steps=10,
        eval_split=0.3,
    )  # fmt: skip
    rows, setup = rows_for(teacher), Setup(teachers=(teacher,))
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    whole.mkdir()
    parted.mkdir()
    loop.train(student, rows, whole, options, 2, setup)
    steps = states.steps_in(whole)
    measured = [step.eval_loss for step in steps]
    assert [loss is not None for loss in measured] == [False, True] * 5
    wanted = [0.7] * 3 + [
        0.7 * min(1.0, measured[at - at % 2 - 1] / measured[1]) for at in range(3, 10)
    ]
    assert [step.kd_weight for step in steps] == pytest.approx(wanted)
    assert steps[-1].kd_weight < 0.6
    in_two_parts(student, rows, parted, options, 2, setup)
    assert [_line(step) for step in states.steps_in(parted)] == [_line(step) for step in steps]


@pytest.mark.parametrize(
    ("teacher_family", "teacher_size", "student_family", "student_size", "num_ordinary"),
    [
        ("opened", 576, "spelt", 512, 474),
        pytest.param(
            "r1-distill-qwen", 152_064, "qwen2.5", 151_936, 151_643,
            marks=pytest.mark.reference,  # heads of 152,000 tokens
        ),
    ],
    ids=["own", "real"],
)  # fmt: skip
def test_a_teacher_of_another_family_teaches_by_its_own_template(
    tmp_path, family_chat, make_trace, write_dataset, teacher_family, teacher_size,
    student_family, student_size, num_ordinary,
) -> None:  # fmt: skip
    """Other special tokens, another template, and embeddings that are padded to different sizes."""

    def model(name: str, vocab_size: int) -> lookup.Model:
        family_chat(name).tokenizer.save_pretrained(tmp_path / name)
        config = Qwen2Config(
            vocab_size=vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=1,
            num_key_value_heads=1, intermediate_size=32, tie_word_embeddings=True,
        )  # fmt: skip
        torch.manual_seed(vocab_size)
        made = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        made.save_pretrained(tmp_path / name)
        return lookup.find(str(tmp_path / name), "--student")

    teacher = model(teacher_family, teacher_size)
    student = model(student_family, student_size)
    trace = make_trace()
    write_dataset(tmp_path / "t", [trace])
    kd = msgspec.structs.replace(KD, kd_divergence="forward", kd_temperature=1.0)
    options = msgspec.structs.replace(OPTIONS, distillation=kd, max_steps=1)
    training = TrainingRun(teacher=(teacher.name,))
    made = sft([str(tmp_path / "t")], student.name, tmp_path / "s", options, Run(), training)
    (step,) = states.steps_in(made.path)

    theirs = row_of(trace, family_chat(teacher_family))
    ours = row_of(trace, family_chat(student_family))
    by_teacher, by_student = Outputs(teacher, theirs), Outputs(student, ours)
    # the reasoning and the answer are the same tokens on both sides: "14+6=20." and "\\boxed{20}"
    texts = [
        [chat.decode([token]) for token in row.ids[row.num_prompt :]]
        for chat, row in (
            (family_chat(teacher_family), theirs),
            (family_chat(student_family), ours),
        )
    ]
    first, second = texts[0].index("1"), texts[1].index("1")
    p = by_teacher.logits[first, :num_ordinary].log_softmax(-1)
    q = by_student.logits[second, :num_ordinary].log_softmax(-1)
    at_one = (p.exp() * (p - q)).sum().item()
    assert at_one > 0
    counts = made.manifest.counts
    assert ours.num_supervised - 9 <= counts.tokens_taught < ours.num_supervised
    # random models of one shape: every position is about as far off as this one
    assert step.soft_loss == pytest.approx(at_one, rel=0.5)
    assert step.loss == pytest.approx(
        _mixed(step, counts.tokens_taught / ours.num_supervised), rel=0.05
    )


def _mixed(step: states.Step, share: float) -> float:
    """The loss of a step whose tokens have all about the same hard loss."""
    mixed = step.hard_loss + 0.7 * share * (step.soft_loss - step.hard_loss)
    return mixed + 0.5 * step.feature_loss + 2.0 * step.relation_loss


@pytest.mark.parametrize(
    ("losses", "progress"),
    [([], 1.0), ([2.0], 1.0), ([2.0, 1.5], 0.75), ([2.0, 1.5, 1.0], 0.5), ([2.0, 3.0], 1.0)],
)
def test_the_adaptive_weight_follows_what_is_left_of_the_first_held_out_loss(
    losses, progress
) -> None:
    assert held_out_progress(losses) == progress


def test_a_forecast_counts_weights_states_and_logits_of_the_teacher(
    tmp_path, dataset, student, teacher
) -> None:
    def memory(options: TrainingOptions, *teachers: str) -> int:
        training = TrainingRun(teacher=teachers)
        return forecast_sft(
            [dataset], student.name, tmp_path / "s", options, Run(), training
        ).estimate.memory_bytes

    lengths, _ = training_forecast.add_rows(Forecast("sft", "s", {}, []), [find(dataset)], OPTIONS)
    supervised = training_forecast.largest_pass(lengths, OPTIONS)[0].supervised
    held = 4 * (
        lookup.count_weights(teacher.folder) + supervised * lookup.width_and_kind(teacher)[0]
    )
    distillation = msgspec.structs.replace(OPTIONS.distillation, kd_weight=0.0, feature_weight=1.0)
    hidden_only = msgspec.structs.replace(OPTIONS, distillation=distillation)

    assert memory(hidden_only, teacher.name) - memory(hidden_only) == held
    assert memory(OPTIONS, teacher.name) - memory(OPTIONS) > held
