"""Soft labels in the stage sft: counted, part of the fingerprint, refused where they do not fit."""

from collections.abc import Callable

import msgspec
import pytest

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.training_options import Distillation, TrainingOptions, TrainingRun
from distillpipe.data.store.labels import (
    Labels,
)
from distillpipe.models.vocabulary import vocabulary_of
from distillpipe.stages.run import Run, content_of
from distillpipe.stages.sft import forecast_sft, preview_sft, sft
from distillpipe.training import states

KD = Distillation(
    kd_weight=1.0, kd_divergence="forward", kd_beta=0.5, kd_temperature=1.0, kd_schedule="linear"
)
OPTIONS = TrainingOptions(
    method="full", rank=4, alpha=4, learning_rate=0.0, scheduler="constant", warmup=0.0,
    weight_decay=0.0, max_grad_norm=1.0, epochs=2, max_steps=None, batch_size=4, max_length=512,
    dtype="fp32", chat_template=None, seed=1, distillation=KD,
)  # fmt: skip


@pytest.fixture
def short() -> TrainingOptions:
    return msgspec.structs.replace(OPTIONS, max_steps=2)


def test_sft_says_how_many_rows_are_labelled_and_trains_the_others_too(
    tmp_path, student, dataset, short, given, completions, capsys
) -> None:
    manifest = sft([str(dataset)], student.name, tmp_path / "s", short, Run()).manifest
    assert (manifest.counts.rows_kept, manifest.counts.rows_taught) == (9, 6)
    labelled = sum(len(completions[name]) for name in given)
    assert manifest.counts.tokens_taught == labelled
    share = labelled / sum(map(len, completions.values()))
    said = f"with teacher targets: 6 of 9 rows, {share:.1%} of the supervised tokens"
    assert said in capsys.readouterr().err


def test_soft_labels_are_part_of_the_fingerprint_and_without_them_nothing_changes(
    tmp_path, student, dataset, short
) -> None:
    plain = msgspec.structs.replace(short, distillation=None)
    assert "distillation" not in content_of(options=plain)["options"]
    out = tmp_path / "s"
    first = sft([str(dataset)], student.name, out, short, Run())
    assert not sft([str(dataset)], student.name, out, plain, Run()).up_to_date
    assert sft([str(dataset)], student.name, out, short, Run()).path == first.path
    assert {step.soft_loss for step in states.steps_in(out / "v2")} == {None}


def test_labels_of_another_text_are_refused_before_any_training(
    tmp_path,
    student,
    traces,
    completions,
    teacher_chat,
    write_labelled,
    short,
    labels_of: Callable[..., Labels],
) -> None:
    rows = [(trace, labels_of(completions[trace.id], trace.id, 400)) for trace in traces[:3]]
    edited = msgspec.structs.replace(
        traces[1],
        messages=[
            traces[1].messages[0],
            msgspec.structs.replace(traces[1].messages[1], reasoning_content="3+3=7."),
        ],
    )
    rows[1] = (edited, rows[1][1])
    write_labelled(tmp_path / "t", rows, vocabulary_of(teacher_chat))
    with pytest.raises(
        DataError, match=f"row {edited.id}: its soft labels in .* belong to another text"
    ):
        sft([str(tmp_path / "t")], student.name, tmp_path / "s", short, Run())
    assert not list((tmp_path / "s").glob("v*"))


def test_rows_without_any_label_are_refused(tmp_path, student, traces, write_dataset, short):
    write_dataset(tmp_path / "t", traces[:3])
    with pytest.raises(DataError, match="none of the 3 rows has soft labels: make them with"):
        sft([str(tmp_path / "t")], student.name, tmp_path / "s", short, Run())


def test_labels_whose_files_are_gone_are_refused_with_their_path(
    tmp_path,
    student,
    traces,
    completions,
    teacher_chat,
    write_labelled,
    short,
    labels_of: Callable[..., Labels],
) -> None:
    labels = labels_of(completions[traces[0].id], traces[0].id, 400)
    write_labelled(tmp_path / "t", [(traces[0], labels)], vocabulary_of(teacher_chat))
    (path,) = (tmp_path / "t" / "v1").glob("*.labels")
    copied = tmp_path / "copy" / "rows.jsonl"
    copied.parent.mkdir()
    copied.write_bytes((path.parent / "part-00000.jsonl").read_bytes())
    with pytest.raises(DataError, match=r"copy/labels-.* copy the version again, with its label"):
        sft([str(copied)], student.name, tmp_path / "s", short, Run())


def test_another_ordinary_vocabulary_is_refused_with_an_explanation(
    tmp_path,
    student,
    traces,
    completions,
    teacher_chat,
    write_labelled,
    short,
    labels_of: Callable[..., Labels],
) -> None:
    other = msgspec.structs.replace(
        vocabulary_of(teacher_chat), ordinary="of other tokens", num_ordinary=128_000
    )
    labels = labels_of(completions[traces[0].id], traces[0].id, 400)
    write_labelled(tmp_path / "t", [(traces[0], labels)], other)
    with pytest.raises(
        UsageError,
        match=r"labels-.*, given by teacher: another vocabulary than .* \(128,000 ordinary tokens",
    ):
        preview_sft([str(tmp_path / "t")], student.name, short, Run(), TrainingRun(), 1)
    with pytest.raises(UsageError, match="choose a student of the teacher's family"):
        sft([str(tmp_path / "t")], student.name, tmp_path / "s", short, Run())
    found = forecast_sft([str(tmp_path / "t")], student.name, tmp_path / "s", short, Run())
    assert any("another vocabulary than the student's" in note for note in found.notes)


def test_a_dry_run_says_how_many_rows_have_soft_labels(
    tmp_path, student, dataset, traces, given, short
) -> None:
    found = forecast_sft([str(dataset.parent)], student.name, tmp_path / "s", short, Run())
    assert f"{len(given)} of the first {len(traces)} rows have soft labels" in found.notes
