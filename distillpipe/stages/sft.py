"""`sft`: fine-tune a student on traces; the version that it writes is a checkpoint that loads as it is."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from distillpipe.base.encoding import is_utf8
from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.interrupts import shielded
from distillpipe.base.progress import progress, say
from distillpipe.base.records import Trace
from distillpipe.base.training_options import TrainingOptions, TrainingRun
from distillpipe.data import forecast
from distillpipe.data.forecast import Forecast
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.cards import model_card
from distillpipe.data.store.manifest import ResolvedOption
from distillpipe.data.store.versions import Draft, Header
from distillpipe.models import licences, lookup
from distillpipe.models.chat import load_chat, with_template_text
from distillpipe.models.lookup import MERGED, Model
from distillpipe.stages.run import Result, Run, content_of, say_finished, say_up_to_date
from distillpipe.training import forecast as training_forecast
from distillpipe.training import preview, trackers
from distillpipe.training.preflight import Preflight
from distillpipe.training.preview import Preview
from distillpipe.training.rows.rows import Row
from distillpipe.training.student_config import (
    check_layers,
    default_learning_rate,
    limits_of,
    student_config,
)

if TYPE_CHECKING:
    from distillpipe.training.rows.batches import Batches
    from distillpipe.training.rows.stored_rows import StoredRows
    from distillpipe.training.teachers.soft_rows import SoftRows

ROWS = "rows"  # folder of the tokenized rows in a draft


def sft(
    inputs: list[str],
    student: str,
    out: Path,
    options: TrainingOptions,
    run: Run,
    training: TrainingRun = TrainingRun(),
) -> Result:
    """Train `student` on all rows of `inputs`; a new version under `out` holds the checkpoint.

    Raises DataError before any training where a row would have to be cut or has nothing to learn from.
    """
    _check_options(inputs, options, training)
    _check_out(out)
    model, teachers = _find_student(student), _find_teachers(training)
    options, run, why = _with_rate(options, run, model)
    header = _header(inputs, model, teachers, out, options, run)
    finished = versions.up_to_date(out, header)
    if finished is not None and (not training.merge or (finished / MERGED).is_dir()):
        return say_up_to_date(finished)

    check_layers(model, teachers, options)
    licences.warn(header.licences)
    with versions.draft(out, header) as draft:
        chat = load_chat(model.folder, student, options.chat_template)
        limits = limits_of(student_config(model, options))
        soft_rows = _soft_rows(model, options, teachers)
        check = Preflight(chat, options, limits, soft_rows=soft_rows)

        from distillpipe.training.rows import (
            stored_rows,  # numpy, as torch below: only with work to do
        )
        from distillpipe.training.rows.batches import Batches

        try:
            checked = _checked_rows(inputs, check, run.allow_benchmark_training, draft)
            rows = stored_rows.store(draft.path / ROWS, checked)
            batches = Batches(rows, options, draft.manifest.counts.rows_by_input)
            _check_batches(batches, inputs, options, training)
        except (UsageError, DataError):
            stored_rows.remove(draft.path / ROWS)  # a draft without anything goes with the error
            raise

        from distillpipe.training import checkpoint, states

        with checkpoint.explain_full_disk(draft.path):
            if finished is None:
                say(why)
                _train([model, *teachers], rows, draft, options, training)
            else:
                checkpoint.copy_weights(finished, draft)
            checkpoint.save_tokenizer_and_config(draft.path, model, chat, limits)
            merge = checkpoint.merge(draft.path, model, chat, rows[0]) if training.merge else None
            if merge is not None:
                say(f"sft: merged: {merge}")
        checkpoint.list_files(draft)  # takes a while for a large model: the states go only after it
        with shielded():
            states.remove_states(draft.path)
            stored_rows.remove(draft.path / ROWS)
            measured = draft.manifest.metrics or {}
            manifest = draft.finish(
                model_card(
                    draft.manifest,
                    [
                        *licences.notices(draft.manifest.licences),
                        *checkpoint.card_lines(draft.path, chat, merge, measured),
                    ],
                )
            )
    return say_finished(manifest, out)


def _train(
    models_used: list[Model],
    rows: "StoredRows",
    draft: Draft,
    options: TrainingOptions,
    training: TrainingRun,
) -> None:
    """Train the first model, here or in several processes, and enter what was done; the others are teachers."""
    from distillpipe.training import loop, processes
    from distillpipe.training.setup import Setup

    model, *teachers = models_used
    counts = draft.manifest.counts
    every = training.save_every
    setup = Setup(
        tuple(counts.rows_by_input), training.report_to, training.sharding, tuple(teachers)
    )
    if training.num_processes == 1:
        loop.train(model, rows, draft.path, options, every, setup)
    else:
        job = processes.Job(model, draft.path / ROWS, draft.path, options, every, setup)
        processes.train(job, training.num_processes)
    done = loop.trained(draft.path)
    counts.tokens_kept, counts.seconds_working = done.supervised_tokens, done.seconds
    draft.manifest.metrics = done.summary


def preview_sft(
    inputs: list[str],
    student: str,
    options: TrainingOptions,
    run: Run,
    training: TrainingRun,
    num_rows: int,
) -> Preview:
    """The first rows as they would be trained on, once all rows were checked; nothing is written."""
    _check_options(inputs, options, training)
    model = _find_student(student, weights=False)
    chat = load_chat(model.folder, student, options.chat_template)
    limits = limits_of(student_config(model, options))
    teachers = _find_teachers(training, weights=False)
    check_layers(model, teachers, options)
    soft_rows = _soft_rows(model, options, teachers)
    check = Preflight(chat, options, limits, num_rows, soft_rows)
    for _ in _rows(inputs, check, run.allow_benchmark_training):
        pass
    found = preview.preview_of(check)
    check.check()
    return found


def forecast_sft(
    inputs: list[str],
    student: str,
    out: Path,
    options: TrainingOptions,
    run: Run,
    training: TrainingRun = TrainingRun(),
) -> Forecast:
    """What `sft` would do, and what it would take on this machine."""
    _check_options(inputs, options, training)
    _check_out(out)
    found = forecast.begin("sft", out, run.options, inputs)
    model, teachers, lengths, num_rows = None, list[Model](), list[training_forecast.Length](), 0.0
    with forecast.noting(found):
        model = _find_student(student, weights=False)
        options, run, _ = _with_rate(options, run, model)
        found.options = run.options
        teachers = _find_teachers(training, weights=False)
        header = _header(inputs, model, teachers, out, options, run)
        forecast.add_output(found, out, header)
    with forecast.noting(found):
        lengths, num_rows = training_forecast.add_rows(found, inputs, options)
    if model is not None:
        with forecast.noting(found):
            check_layers(model, teachers, options)
            if (soft_rows := _soft_rows(model, options, teachers)) and not teachers:
                given = (_traces(one, run.allow_benchmark_training) for one in inputs)
                training_forecast.add_soft_labels(found, given, soft_rows)
        with forecast.noting(found):
            machine = training_forecast.detect_machine(training.num_processes, training.sharding)
            training_forecast.add_estimate(
                found, model, teachers, options, lengths, num_rows, machine
            )
    return found


def _find_student(student: str, *, weights: bool = True) -> Model:
    model = lookup.find(student, "--student", weights=weights)
    if (model.folder / "adapter_config.json").is_file():
        raise UsageError(
            f"--student {student} is an adapter: give the model that it belongs to, "
            "or merge the two and give the merged model"
        )
    return model


def _find_teachers(training: TrainingRun, *, weights: bool = True) -> list[Model]:
    return [lookup.find(one, "--teacher", weights=weights) for one in training.teacher]


def _header(
    inputs: list[str],
    model: Model,
    teachers: list[Model],
    out: Path,
    options: TrainingOptions,
    run: Run,
) -> Header:
    carried = list(licences.of_inputs(inputs))
    for teacher in teachers:
        carried += licences.of_teacher(teacher, None)
    return Header(
        kind="checkpoint",
        stage="sft",
        content=content_of(options=with_template_text(options)),
        inputs=[versions.describe_input(reference, out) for reference in inputs],
        models=[
            lookup.used("student", model, out),
            *(lookup.used("teacher", one, out) for one in teachers),
        ],
        options=run.options,
        fresh=run.fresh,
        licences=tuple(dict.fromkeys(carried)),
    )


def _checked_rows(
    inputs: list[str], check: Preflight, allow_benchmark: bool, draft: Draft
) -> Iterator[Row]:
    """Every row of the inputs; behind the last one they are checked, and counted in the draft, or refused."""
    yield from _rows(inputs, check, allow_benchmark)
    check.check()
    preview.log_preview(preview.preview_of(check))
    check.enter(draft.manifest.counts)
    draft.save()


def _rows(inputs: list[str], check: Preflight, allow_benchmark: bool) -> Iterator[Row]:
    """Every row of the inputs once, as the student sees it, looked at; those of each input are counted."""
    with progress("reading", dataset.count_rows(inputs)) as advance:
        for reference in inputs:
            before = check.counts.rows_kept
            traces = _traces(reference, allow_benchmark)
            yield from check.rows(traces, advance)
            check.counts.rows_by_input.append(check.counts.rows_kept - before)


def _traces(reference: str, allow_benchmark: bool) -> Iterator[Trace]:
    """The rows of an input; the file of their soft labels is named with its folder."""
    folder = dataset.folder_of(reference)
    for trace in dataset.read_training_traces([reference], allow_benchmark=allow_benchmark):
        found = trace.soft_labels
        if found is not None:
            found = msgspec.structs.replace(found, file=str(folder / found.file))
        yield msgspec.structs.replace(trace, soft_labels=found)


def _soft_rows(
    student: Model, options: TrainingOptions, teachers: list[Model]
) -> "SoftRows | None":
    """What finds the soft labels of rows, where they are to be trained on."""
    if options.distillation is None:
        return None
    from distillpipe.training.teachers.teaching import soft_rows_of

    return soft_rows_of(student, options, teachers)


def _check_out(out: Path) -> None:
    """Refuse a folder before anything is trained that no weights can be written to."""
    if not is_utf8(str(out)):
        raise UsageError(
            f"--out {out}: safetensors writes to no path that is not UTF-8: give another one"
        )


def _check_options(inputs: list[str], options: TrainingOptions, training: TrainingRun) -> None:
    """What can be said before anything is read."""
    if training.merge and options.method == "full":
        raise UsageError("--merge is for adapters, and --method full trains none: leave it out")
    if options.weight and len(options.weight) != len(inputs):
        raise UsageError(
            f"--weight is given {len(options.weight)} times for {len(inputs)} inputs: give one for each, in "
            "their order, or none"
        )
    if training.num_processes > options.batch_size:
        raise UsageError(
            f"--num-processes {training.num_processes}: a step has {options.batch_size} rows (--batch-size), so some "
            "processes would have none: give fewer processes or more rows a step"
        )
    if training.sharding == "fsdp" and training.num_processes == 1:
        raise UsageError("--sharding fsdp is for several processes: give --num-processes, too")
    if training.sharding == "fsdp" and options.method == "qlora":
        raise UsageError(
            "--sharding fsdp cannot split weights of 4 bits: give --method lora, or --sharding ddp"
        )
    if options.min_learning_rate and options.scheduler == "constant":
        raise UsageError(
            "--min-learning-rate is where the learning rate ends, and with --scheduler constant it stays: give "
            "--scheduler cosine or linear, or leave it out"
        )
    trackers.check(training.report_to)


def _with_rate(
    options: TrainingOptions, run: Run, model: Model
) -> tuple[TrainingOptions, Run, str]:
    """Options, and how they are stored, with a learning rate; and what is said of it."""
    if options.learning_rate is not None:
        _check_floor(options, options.learning_rate)
        return options, run, f"sft: learning rate {options.learning_rate:g}"
    rate, why = default_learning_rate(model, options)
    _check_floor(options, rate)
    resolved = {**run.options, "learning_rate": ResolvedOption(rate, "derived")}
    return (
        msgspec.structs.replace(options, learning_rate=rate),
        msgspec.structs.replace(run, options=resolved),
        f"sft: learning rate {rate:g}, {why}",
    )


def _check_floor(options: TrainingOptions, rate: float) -> None:
    """Refuse a learning rate that would have to rise to its end."""
    if not options.min_learning_rate <= rate:  # not a number is not either
        raise UsageError(
            f"--min-learning-rate {options.min_learning_rate:g} is above the learning rate, {rate:g}: give a "
            "smaller one; OpenR1-Distill-7B ends at a tenth"
        )


def _check_batches(
    batches: "Batches", inputs: list[str], options: TrainingOptions, training: TrainingRun
) -> None:
    """Say which rows are trained on, where that is not simply all of them; refuse more processes than rows."""
    if options.eval_split:
        held_out = len(batches.held_out)
        say(f"sft: {held_out:,} rows are held out, {batches.num_rows:,} an epoch are trained on")
    if options.weight:
        for reference, rows in zip(inputs, batches.rows_by_input, strict=True):
            say(f"sft: an epoch has {rows:,} rows of {reference}")
    if training.num_processes > batches.num_rows:
        raise UsageError(
            f"--num-processes {training.num_processes}: there are {batches.num_rows:,} rows to train on: give fewer"
        )
