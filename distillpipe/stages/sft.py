"""`sft`: fine-tune a student on traces; the version that it writes is a checkpoint that loads as it is."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from distillpipe import dataset, forecast, licences, models, versions
from distillpipe.cards import model_card
from distillpipe.chat import Chat, load_chat, with_template_text
from distillpipe.errors import DataError, UsageError
from distillpipe.estimates import TEXT_BYTES_PER_TOKEN
from distillpipe.forecast import Forecast
from distillpipe.interrupts import shielded
from distillpipe.manifest import ModelUsed
from distillpipe.models import MERGED, Model
from distillpipe.progress import progress, say
from distillpipe.records import Trace, TrainingOptions
from distillpipe.stages.run import Result, Run, content_of, say_finished, say_up_to_date
from distillpipe.training import preview
from distillpipe.training.context import Limits, limits_of, student_config
from distillpipe.training.preflight import Preflight
from distillpipe.training.preview import Preview
from distillpipe.training.rows import Row
from distillpipe.versions import Draft, Header

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from distillpipe.training.batches import Batches
    from distillpipe.training.prediction import Length
    from distillpipe.training.soft_rows import SoftRows

FORECAST_ROWS = 1000  # of each input, whose lengths stand for the others
ROWS = "rows"  # folder of the tokenized rows in a draft


def sft(
    inputs: list[str], student: str, out: Path, options: TrainingOptions, run: Run, save_every: int
) -> Result:
    """Train `student` on all rows of `inputs`; a new version under `out` holds the checkpoint.

    Raises DataError before any training where a row would have to be cut or has nothing to learn from.
    """
    if run.merge and options.method == "full":
        raise UsageError("--merge is for adapters, and --method full trains none: leave it out")
    _check_weights(inputs, options)
    model = _find_student(student)
    header = _header(inputs, model, out, options, run)
    finished = versions.up_to_date(out, header)
    if finished is not None and (not run.merge or (finished / MERGED).is_dir()):
        return say_up_to_date(finished)

    licences.warn(header.licences)
    with versions.draft(out, header) as draft:
        chat = load_chat(model.folder, student, options.chat_template)
        limits = limits_of(student_config(model, options))
        soft_rows = _soft_rows(chat, options, limits)
        check = Preflight(chat, options, limits, soft_rows=soft_rows)

        from distillpipe.training import stored_rows  # numpy, as torch below: only with work to do
        from distillpipe.training.batches import Batches

        try:
            checked = _checked_rows(inputs, check, run.allow_benchmark_training, draft)
            rows = stored_rows.store(draft.path / ROWS, checked)
            by_input = tuple(draft.manifest.counts.rows_by_input)
            _say_batches(Batches(rows, options, by_input), inputs, by_input, options)
        except (UsageError, DataError):
            stored_rows.remove(draft.path / ROWS)  # a draft without anything goes with the error
            raise
        counts = draft.manifest.counts

        from distillpipe.training import checkpoint, loop, states

        with checkpoint.full_disk_named(draft.path):
            if finished is None:
                trained = loop.train(
                    model, rows, draft.path, options, save_every, by_input, soft_rows
                )
                counts.tokens_kept = trained.supervised_tokens
                counts.seconds_working = trained.seconds
                draft.manifest.metrics = trained.summary
            else:
                checkpoint.take_over(finished, draft)
            checkpoint.complete(draft.path, model, chat, limits)
            merge = checkpoint.merge(draft.path, model, chat, rows[0]) if run.merge else None
            if merge is not None:
                say(f"sft: merged: {merge}")
        checkpoint.list_files(draft)  # takes a while for a large model: the states go only after it
        with shielded():
            states.remove_states(draft.path)
            stored_rows.remove(draft.path / ROWS)
            manifest = draft.finish(
                model_card(
                    draft.manifest,
                    checkpoint.facts(draft.path, chat, merge, draft.manifest.metrics or {}),
                )
            )
    return say_finished(manifest, out)


def preview_sft(
    inputs: list[str], student: str, options: TrainingOptions, run: Run, num_rows: int
) -> Preview:
    """The first rows as they would be trained on, once all rows were checked; nothing is written."""
    _check_weights(inputs, options)
    model = _find_student(student, weights=False)
    chat = load_chat(model.folder, student, options.chat_template)
    limits = limits_of(student_config(model, options))
    soft_rows = _soft_rows(chat, options, limits)
    check = Preflight(chat, options, limits, num_rows, soft_rows)
    for _ in _rows(inputs, check, run.allow_benchmark_training):
        pass
    found = preview.preview_of(check)
    check.check()
    return found


def forecast_sft(
    inputs: list[str], student: str, out: Path, options: TrainingOptions, run: Run
) -> Forecast:
    """What `sft` would do, and what it would take on this machine."""
    _check_weights(inputs, options)
    found = forecast.begin("sft", out, run.options, inputs)
    model, lengths, num_rows = None, [], 0.0
    with forecast.noting(found):
        model = _find_student(student, weights=False)
        forecast.add_output(found, out, _header(inputs, model, out, options, run))
    with forecast.noting(found):
        an_epoch = _rows_an_epoch(inputs, options)
        steps = math.ceil(an_epoch / options.batch_size) * options.epochs
        steps = min(steps, options.max_steps or steps)
        num_rows = min(steps * options.batch_size, an_epoch * options.epochs)
        found.rows = {"to train on": dataset.count_rows(inputs), "steps": steps}
        lengths = _first_lengths(inputs)
    if model is not None:
        with forecast.noting(found):
            _estimate(found, student_config(model, options), options, lengths, num_rows)
    return found


def _estimate(
    found: Forecast,
    config: "PretrainedConfig",
    options: TrainingOptions,
    lengths: "Sequence[Length]",
    num_rows: float,
) -> None:
    """Predict memory, time and disk; without rows the memory is that of the longest that the options allow."""
    import torch  # here, and only where a model is looked at

    from distillpipe.training.prediction import Length, predict

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    longest = [Length(options.max_length, options.max_length)]
    predicted = predict(config, options, lengths or longest, num_rows, device)
    estimate = found.estimate
    estimate.memory_bytes, estimate.disk_bytes = predicted.memory_bytes, predicted.disk_bytes
    estimate.basis = f"{device.type}, --max-length"
    if lengths:
        estimate.tokens = round(num_rows * sum(one.tokens for one in lengths) / len(lengths))
        estimate.seconds = predicted.seconds
        estimate.basis = f"{device.type}, the lengths of {len(lengths):,} rows"


def _first_lengths(inputs: list[str]) -> "list[Length]":
    """Tokens of the first rows of each input as its teacher counted them, else by the length of their text."""
    from distillpipe.training.prediction import Length

    found = []
    for reference in inputs:
        for trace in islice(dataset.read_traces(reference), FORECAST_ROWS):
            if (counted := trace.num_tokens) is not None:
                tokens, prompt = counted.total, counted.prompt
            else:
                tokens, prompt = (
                    len("".join(texts).encode()) // TEXT_BYTES_PER_TOKEN
                    for texts in ([trace.problem, trace.reasoning, trace.response], [trace.problem])
                )
            found.append(Length(tokens, tokens - prompt))
    return found


def _find_student(student: str, *, weights: bool = True) -> Model:
    model = models.find(student, "--student", weights=weights)
    if (model.folder / "adapter_config.json").is_file():
        raise UsageError(
            f"--student {student} is an adapter: give the model that it belongs to, "
            "or merge the two and give the merged model"
        )
    return model


def _header(
    inputs: list[str], model: Model, out: Path, options: TrainingOptions, run: Run
) -> Header:
    return Header(
        kind="checkpoint",
        stage="sft",
        content=content_of(options=with_template_text(options)),
        inputs=[versions.describe_input(reference, out) for reference in inputs],
        models=[ModelUsed("student", model.name, model.identity)],
        options=run.options,
        fresh=run.fresh,
        licences=licences.of_inputs(inputs),
    )


def _checked_rows(
    inputs: list[str], check: Preflight, allow_benchmark: bool, draft: Draft
) -> Iterator[Row]:
    """Every row of the inputs; behind the last one they are checked, and counted in the draft, or refused."""
    yield from _rows(inputs, check, allow_benchmark)
    check.check()
    preview.say_preview(preview.preview_of(check))
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


def _soft_rows(chat: Chat, options: TrainingOptions, limits: Limits) -> "SoftRows | None":
    """What finds the soft labels of rows, where they are to be trained on."""
    if options.distillation is None:
        return None
    from distillpipe.training.soft_rows import SoftRows

    return SoftRows(chat, limits.vocabulary_size)


def _rows_an_epoch(inputs: list[str], options: TrainingOptions) -> float:
    """How many rows an epoch has, before they were read: which problems are held out is not known yet."""
    weights = options.weight or (1.0,) * len(inputs)
    rows = [dataset.count_rows([reference]) for reference in inputs]
    weighted = sum(round(one * number) for one, number in zip(weights, rows, strict=True))
    return weighted * (1 - options.eval_split)


def _check_weights(inputs: list[str], options: TrainingOptions) -> None:
    if options.weight and len(options.weight) != len(inputs):
        raise UsageError(
            f"--weight is given {len(options.weight)} times for {len(inputs)} inputs: give one for each, in "
            "their order, or none"
        )


def _say_batches(
    batches: "Batches", inputs: list[str], by_input: tuple[int, ...], options: TrainingOptions
) -> None:
    """Say which rows are trained on, where that is not simply all of them."""
    if options.eval_split:
        say(f"sft: {len(batches.held_out):,} of {sum(by_input):,} rows are held out")
    if options.weight:
        for reference, rows in zip(inputs, batches.rows_by_input, strict=True):
            say(f"sft: an epoch has {rows:,} rows of {reference}")
