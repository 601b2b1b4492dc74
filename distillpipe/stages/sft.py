"""`sft`: fine-tune a student on traces. The version that it writes is a checkpoint that AutoModel can load."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
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
from distillpipe.data.store.dataset import Dataset
from distillpipe.data.store.manifest import ResolvedOption
from distillpipe.data.store.versions import Draft, Header
from distillpipe.models import clock, licences, lookup
from distillpipe.models.chat import Chat, load_chat, with_template_text
from distillpipe.models.lookup import MERGED, Model
from distillpipe.stages.run import Result, Run, content_of, say_finished, say_up_to_date
from distillpipe.training import forecast as training_forecast
from distillpipe.training import preview, trackers
from distillpipe.training.preflight import Preflight
from distillpipe.training.preview import Preview
from distillpipe.training.rows.rows import Row
from distillpipe.training.student_config import (
    LearningRate,
    StudentLimits,
    check_layers,
    default_learning_rate,
    limits_of,
    student_config,
)

if TYPE_CHECKING:
    from distillpipe.training.rows.batches import Batches
    from distillpipe.training.rows.stored_rows import StoredRows
    from distillpipe.training.teachers.soft_rows import SoftRows

ROWS = "rows"  # the folder of the tokenized rows in a draft


@dataclass
class TrainingPlan:
    """What `sft` is asked for: a run executes it, a dry run and a preview report it.

    A reference is looked up once, when it is first used: a run stops at one that names nothing, a dry run goes on.
    """

    references: list[str]
    student_reference: str
    given_options: TrainingOptions
    "as the user gave them; `options` always has a learning rate"
    run: Run
    training: TrainingRun
    weights: bool = True
    "whether the weights of hub models are downloaded"

    def __post_init__(self) -> None:
        _check_options(self.references, self.given_options, self.training)

    @cached_property
    def inputs(self) -> list[Dataset]:
        return [dataset.find(reference) for reference in self.references]

    @cached_property
    def student(self) -> Model:
        student = lookup.find(self.student_reference, "--student", weights=self.weights)
        if (student.folder / lookup.ADAPTER).is_file():
            raise UsageError(
                f"--student {student.name} is an adapter: give the model that it belongs to, "
                "or merge the two and give the merged model"
            )
        return student

    @cached_property
    def teachers(self) -> list[Model]:
        """The live teachers."""
        references = self.training.teacher
        return [lookup.find(name, "--teacher", weights=self.weights) for name in references]

    @cached_property
    def learning_rate(self) -> LearningRate:
        """The learning rate, the student's default if none is given, and why."""
        rate, lowest = self.given_options.learning_rate, self.given_options.min_learning_rate
        if rate is not None:
            learning_rate = LearningRate(rate, "")
        else:
            learning_rate = default_learning_rate(self.student, self.given_options)
        if not lowest <= learning_rate.rate:  # also false for nan
            raise UsageError(
                f"--min-learning-rate {lowest:g} is above the learning rate, {learning_rate.rate:g}: give a "
                "smaller one; OpenR1-Distill-7B ends at a tenth"
            )
        return learning_rate

    @property
    def options(self) -> TrainingOptions:
        return msgspec.structs.replace(self.given_options, learning_rate=self.learning_rate.rate)

    @property
    def resolved_options(self) -> dict[str, ResolvedOption]:
        """All options of the command, as the manifest stores them."""
        if self.given_options.learning_rate is not None:
            return self.run.options
        derived = ResolvedOption(self.learning_rate.rate, "derived")
        return {**self.run.options, "learning_rate": derived}

    def header(self, out: Path) -> Header:
        """The header of a version under `out`."""
        student, teachers = self.student, self.teachers
        options = self.options
        known = list(licences.of_inputs(self.inputs))
        for teacher in teachers:
            known += licences.of_teacher(teacher, None)
        return Header(
            kind="checkpoint",
            stage="sft",
            content=content_of(options=with_template_text(options)),
            inputs=[dataset.describe(source, out) for source in self.inputs],
            models=[
                lookup.used("student", student, out),
                *(lookup.used("teacher", teacher, out) for teacher in teachers),
            ],
            options=self.resolved_options,
            fresh=self.run.fresh,
            licences=tuple(dict.fromkeys(known)),
        )

    def chat_and_limits(self) -> tuple[Chat, StudentLimits]:
        """The student's chat template, and the lengths that its config allows."""
        options, student = self.given_options, self.student
        chat = load_chat(student.folder, student.name, options.chat_template, options.template)
        return chat, limits_of(student_config(student, options))


def sft(
    inputs: list[str],
    student: str,
    out: Path,
    options: TrainingOptions,
    run: Run,
    training: TrainingRun = TrainingRun(),
) -> Result:
    """Train `student` on all rows of `inputs`; a new version under `out` holds the checkpoint.

    Raises DataError before any training if a row would have to be cut or has nothing to learn from.
    """
    plan = TrainingPlan(inputs, student, options, run, training)
    _check_out(out)
    header = plan.header(out)
    finished = versions.up_to_date(out, header)
    if finished is not None and (not training.merge or (finished / MERGED).is_dir()):
        return say_up_to_date(finished)

    check_layers(plan.student, plan.teachers, plan.options)
    licences.warn(header.licences)
    with versions.draft(out, header) as draft:
        # numpy and torch are loaded only if there is work to do
        from distillpipe.training.rows import stored_rows
        from distillpipe.training.rows.batches import Batches

        # Tokenize and check all rows before the first step.
        chat, limits = plan.chat_and_limits()
        clock.set_clock(chat, draft)
        soft_rows = _soft_rows(plan.student, plan.options, plan.teachers)
        check = Preflight(chat, plan.options, limits, soft_rows=soft_rows)
        try:
            rows = stored_rows.store(draft.path / ROWS, _checked_rows(plan, check, draft))
            batches = Batches(rows, plan.options, draft.manifest.counts.rows_by_input)
            _check_batches(batches, plan)
        except (UsageError, DataError):
            stored_rows.remove(draft.path / ROWS)  # so that a draft without anything is removed
            raise

        from distillpipe.training import checkpoint, states

        with checkpoint.explain_full_disk(draft.path):
            # Train, or take the weights of the finished version, which only lacks the merged model.
            if finished is None:
                rate, why = plan.learning_rate
                say(f"sft: learning rate {rate:g}{', ' if why else ''}{why}")
                _train(plan, rows, draft)
            else:
                checkpoint.copy_weights(finished, draft)
            checkpoint.save_tokenizer_and_config(draft.path, plan.student, chat, limits)
            merge = None
            if training.merge:
                merge = checkpoint.merge(draft.path, plan.student, chat, rows[0])
                say(f"sft: merged: {merge}")

        # Finish. Hashing a large model takes a while: the states go only after it.
        checkpoint.list_files(draft)
        with shielded():
            states.remove_states(draft.path)
            stored_rows.remove(draft.path / ROWS)
            metrics = draft.manifest.metrics or {}
            card_lines = [
                *licences.notices(draft.manifest.licences),
                *checkpoint.card_lines(draft.path, chat, merge, metrics),
            ]
            manifest = draft.finish(model_card(draft.manifest, card_lines))
    return say_finished(manifest, out)


def _train(plan: TrainingPlan, rows: "StoredRows", draft: Draft) -> None:
    """Train the student, here or in several processes, and store counts and metrics in the draft's manifest."""
    from distillpipe.training import loop, processes
    from distillpipe.training.setup import Setup

    training, counts = plan.training, draft.manifest.counts
    options, every = plan.options, training.save_every
    setup = Setup(
        tuple(counts.rows_by_input), training.report_to, training.sharding, tuple(plan.teachers)
    )
    if training.num_processes == 1:
        loop.train(plan.student, rows, draft.path, options, every, setup)
    else:
        job = processes.Job(plan.student, draft.path / ROWS, draft.path, options, every, setup)
        processes.train(job, training.num_processes)
    trained = loop.trained(draft.path)
    counts.tokens_kept, counts.seconds_working = trained.supervised_tokens, trained.seconds
    draft.manifest.metrics = trained.summary


def preview_sft(
    inputs: list[str],
    student: str,
    options: TrainingOptions,
    run: Run,
    training: TrainingRun,
    num_rows: int,
) -> Preview:
    """The first rows as they would be trained on, after all rows were checked; nothing is written."""
    plan = TrainingPlan(inputs, student, options, run, training, weights=False)
    chat, limits = plan.chat_and_limits()
    check_layers(plan.student, plan.teachers, options)
    soft_rows = _soft_rows(plan.student, options, plan.teachers)
    check = Preflight(chat, options, limits, num_rows, soft_rows)
    for _ in _rows(plan, check):
        pass
    result = preview.preview_of(check)
    check.check()
    return result


def forecast_sft(
    inputs: list[str],
    student: str,
    out: Path,
    options: TrainingOptions,
    run: Run,
    training: TrainingRun = TrainingRun(),
) -> Forecast:
    """What `sft` would do, and what it would take on this machine."""
    plan = TrainingPlan(inputs, student, options, run, training, weights=False)
    _check_out(out)
    result = forecast.begin("sft", out, run.options, inputs)
    model, teachers = None, list[Model]()
    lengths, num_rows = list[training_forecast.Length](), 0.0
    with forecast.noting(result):
        model = plan.student
        options, result.options = plan.options, plan.resolved_options
        teachers = plan.teachers
        forecast.add_output(result, out, plan.header(out))
    with forecast.noting(result):
        lengths, num_rows = training_forecast.add_rows(result, plan.inputs, options)
    if model is not None:
        with forecast.noting(result):
            check_layers(model, teachers, options)
            if (soft_rows := _soft_rows(model, options, teachers)) and not teachers:
                traces = (
                    _traces(source, plan.run.allow_benchmark_training) for source in plan.inputs
                )
                training_forecast.add_soft_labels(result, traces, soft_rows)
        with forecast.noting(result):
            machine = training_forecast.detect_machine(training.num_processes, training.sharding)
            training_forecast.add_estimate(
                result, model, teachers, options, lengths, num_rows, machine
            )
    return result


def _checked_rows(plan: TrainingPlan, check: Preflight, draft: Draft) -> Iterator[Row]:
    """Every row of the inputs. After the last one, all are checked and counted in the draft, or refused."""
    yield from _rows(plan, check)
    check.check()
    preview.log_preview(preview.preview_of(check))
    check.enter(draft.manifest.counts)
    draft.save()


def _rows(plan: TrainingPlan, check: Preflight) -> Iterator[Row]:
    """Every row of the inputs once, as the student sees it, checked; the rows of each input are counted."""
    with progress("reading", dataset.count_rows(plan.inputs)) as advance:
        for source in plan.inputs:
            rows_before = check.counts.rows_kept
            yield from check.rows(_traces(source, plan.run.allow_benchmark_training), advance)
            check.counts.rows_by_input.append(check.counts.rows_kept - rows_before)


def _soft_rows(
    student: Model, options: TrainingOptions, teachers: list[Model]
) -> "SoftRows | None":
    """The reader of the rows' soft labels; None if they are not trained on."""
    if options.distillation is None:
        return None
    from distillpipe.training.teachers.teaching import soft_rows_of

    return soft_rows_of(student, options, teachers)


def _traces(source: Dataset, allow_benchmark: bool) -> Iterator[Trace]:
    """The rows of an input, with the absolute path of their soft labels."""
    for trace in dataset.read_training_traces([source], allow_benchmark=allow_benchmark):
        labels = trace.soft_labels
        if labels is not None:
            file = str(source.labels_folder / labels.file)
            labels = msgspec.structs.replace(labels, file=file)
        yield msgspec.structs.replace(trace, soft_labels=labels)


def _check_out(out: Path) -> None:
    """Raise UsageError for a folder that no weights can be written to."""
    if not is_utf8(str(out)):
        raise UsageError(
            f"--out {out}: safetensors writes to no path that is not UTF-8: give another one"
        )


def _check_options(inputs: list[str], options: TrainingOptions, training: TrainingRun) -> None:
    """Raise UsageError for options that exclude each other, or need another option."""
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


def _check_batches(batches: "Batches", plan: TrainingPlan) -> None:
    """Print which rows are trained on if it is not simply all of them. Refuse more processes than rows."""
    if plan.options.eval_split:
        held_out = len(batches.held_out)
        say(f"sft: {held_out:,} rows are held out, {batches.num_rows:,} an epoch are trained on")
    if plan.options.weight:
        for source, rows in zip(plan.inputs, batches.rows_by_input, strict=True):
            say(f"sft: an epoch has {rows:,} rows of {source.name}")
    if plan.training.num_processes > batches.num_rows:
        raise UsageError(
            f"--num-processes {plan.training.num_processes}: there are {batches.num_rows:,} rows to train on: give fewer"
        )
