"""`sft`: fine-tune a student on traces; the version that it writes is a checkpoint that loads as it is."""

import math
from collections.abc import Iterator
from pathlib import Path

from distillpipe import dataset, forecast, licences, models, versions
from distillpipe.cards import model_card
from distillpipe.chat import Chat, load_chat, with_template_text
from distillpipe.errors import DataError, UsageError
from distillpipe.forecast import Forecast
from distillpipe.hashing import content_hash, file_sha256
from distillpipe.interrupts import shielded
from distillpipe.manifest import FileEntry, ModelUsed
from distillpipe.models import Model
from distillpipe.progress import progress, say
from distillpipe.records import TrainingOptions
from distillpipe.stages.run import Result, Run, content_of, say_finished, say_up_to_date
from distillpipe.training import preflight
from distillpipe.training.rows import Row, row_of
from distillpipe.versions import Draft, Header

FP32_BYTES = 4
ROWS = "rows"  # folder of the tokenized rows in a draft


def sft(
    inputs: list[str], student: str, out: Path, options: TrainingOptions, run: Run, save_every: int
) -> Result:
    """Train `student` on all rows of `inputs`; a new version under `out` holds the checkpoint.

    Raises DataError before any training where a row would have to be cut or has nothing to learn from.
    """
    model = _find_student(student)
    header = _header(inputs, model, out, options, run)
    if (finished := versions.up_to_date(out, header)) is not None:
        return say_up_to_date(finished)

    licences.warn(header.licences)
    with versions.draft(out, header) as draft:
        chat = load_chat(model.folder, student, options.chat_template)
        from distillpipe.training import stored_rows  # numpy, as torch below: only with work to do

        try:
            read = _rows(inputs, chat, run.allow_benchmark_training)
            rows = stored_rows.store(draft.path / ROWS, read)
            preflight.check(rows, options.max_length)
        except (UsageError, DataError):
            stored_rows.remove(draft.path / ROWS)  # a draft without anything goes with the error
            raise
        counts = draft.manifest.counts
        counts.rows_read = counts.rows_kept = len(rows)
        say(f"sft: {len(rows):,} rows, {rows.num_supervised:,} supervised tokens an epoch")

        from distillpipe.training import loop

        trained = loop.train(model, rows, draft.path, options, save_every)
        counts.tokens_kept = trained.supervised_tokens
        counts.seconds_working = trained.seconds
        chat.tokenizer.save_pretrained(draft.path)
        loop.save_generation_config(draft.path, chat.end_ids)
        _list_files(draft)  # takes a while for a large model: the states go only after it
        with shielded():
            loop.remove_states(draft.path)
            stored_rows.remove(draft.path / ROWS)
            manifest = draft.finish(model_card(draft.manifest))
    return say_finished(manifest, out)


def forecast_sft(
    inputs: list[str], student: str, out: Path, options: TrainingOptions, run: Run
) -> Forecast:
    """What `sft` would do. The memory is that of weights, gradients and optimizer; activations, which
    grow with the length of the rows, come on top.
    """
    found = forecast.begin("sft", out, run.options, inputs)
    model = None
    with forecast.noting(found):
        model = _find_student(student, weights=False)
        forecast.add_output(found, out, _header(inputs, model, out, options, run))
    with forecast.noting(found):
        num_rows = dataset.count_rows(inputs)
        steps = math.ceil(num_rows / options.batch_size) * options.epochs
        found.rows = {"to train on": num_rows, "steps": min(steps, options.max_steps or steps)}
    if model is not None and (num_weights := models.count_weights(model.folder)):
        trained = num_weights if options.method == "full" else 0
        found.estimate.memory_bytes = FP32_BYTES * (num_weights + 3 * trained)
        found.estimate.disk_bytes = FP32_BYTES * (num_weights + 2 * 3 * trained)
        found.estimate.basis = (
            "weights, gradients and optimizer in fp32, and two states to resume from"
        )
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


def _rows(inputs: list[str], chat: Chat, allow_benchmark: bool) -> Iterator[Row]:
    """The rows of the inputs as the student sees them."""
    with progress("reading", dataset.count_rows(inputs)) as advance:
        for trace in dataset.read_training_traces(inputs, allow_benchmark=allow_benchmark):
            yield row_of(trace, chat)
            advance(1)


def _list_files(draft: Draft) -> None:
    """Enter the files of the checkpoint into its manifest, and the id that follows from them."""
    draft.manifest.files = [
        FileEntry(file.name, None, file.stat().st_size, file_sha256(file))
        for file in versions.content_files(draft.path)
        if file.is_file()  # the states to resume from are folders
    ]
    draft.manifest.id = content_hash(
        [(one.name, one.sha256) for one in draft.manifest.files if one.name != "losses.jsonl"]
    )
