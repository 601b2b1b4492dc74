"""`label`: the log-probabilities that a teacher gives to text that is there, whoever wrote it."""

from pathlib import Path
from typing import Any

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.options import NO_TEMPLATE_OPTIONS, LabelOptions
from distillpipe.data import forecast
from distillpipe.data.forecast import Forecast
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.engines import check_soft_labels, find_model, open_engine
from distillpipe.filters.problems import problems_of
from distillpipe.models import clock, licences, lookup
from distillpipe.models.chat import load_chat
from distillpipe.models.lookup import Model
from distillpipe.sampling.labeller import Labeller, forecast_labels, label_source, template_text
from distillpipe.stages.run import (
    Result,
    Run,
    check_internal_errors,
    content_of,
    say_finished,
    say_up_to_date,
)


def label(inputs: list[str], teacher: str, out: Path, options: LabelOptions, run: Run) -> Result:
    """Write the rows of `inputs` with the labels of `teacher` as a new version under `out`.

    Labels that any version under `out` holds already are taken over. Rows that are longer than the teacher's
    context are rejected.
    """
    model = _find(teacher, options)
    header = _header(inputs, model, out, options, run)
    if (finished := versions.up_to_date(out, header)) is not None:
        return say_up_to_date(finished)
    if not dataset.count_rows(inputs):
        raise DataError(f"{', '.join(inputs)}: no rows to label")

    licences.warn(header.licences)
    chat = load_chat(model.tokenizer_folder, model.name, options.chat_template, options.template)
    source = label_source(model, chat, options.soft_labels)
    with versions.draft(out, header) as draft, Writer(draft, soft_labels=source) as writer:
        clock.set_clock(chat, draft)
        labeller = Labeller(inputs, model, chat, options, writer)
        labeller.take_over(out)
        labeller.label(lambda: open_engine(model, chat, options.engine, draft, options.soft_labels))
        check_internal_errors(writer, accepted=options.accept_errors)
        return say_finished(writer.finish(problems_of(inputs, draft.path)), out)


def forecast_label(
    inputs: list[str], teacher: str, out: Path, options: LabelOptions, run: Run
) -> Forecast:
    """What `label` would do."""
    found = forecast.begin("label", out, run.options, inputs)
    model = None
    with forecast.noting(found):
        model = _find(teacher, options, weights=False)
        forecast.add_output(found, out, _header(inputs, model, out, options, run))
    with forecast.noting(found):
        forecast_labels(found, inputs, model, out, options, fresh=run.fresh)
    return found


def _find(teacher: str, options: LabelOptions, *, weights: bool = True) -> Model:
    """The teacher; raises UsageError for one behind a server, and for more labels than its vocabulary has tokens."""
    if options.engine.engine == "openai":
        raise UsageError(
            "--engine openai: a server does not say what its model gives to a text that is there: label with "
            "the model's files, --engine transformers or vllm"
        )
    model = find_model(teacher, "--teacher", options.engine, weights=weights)
    assert isinstance(model, Model)  # or a server had been asked for
    check_soft_labels(model, options.soft_labels)
    return model


def _header(inputs: list[str], model: Model, out: Path, options: LabelOptions, run: Run) -> Header:
    given: dict[str, Any] = {}
    if options.teacher_licence is not None:
        given["teacher_licence"] = options.teacher_licence
    if options.template != NO_TEMPLATE_OPTIONS:
        given["template"] = options.template
    found = (*licences.of_inputs(inputs), *licences.of_teacher(model, options.teacher_licence))
    return Header(
        kind="traces",
        stage="label",
        content=content_of(
            soft_labels=options.soft_labels,
            chat_template=template_text(options),
            max_model_len=options.engine.max_model_len,
            **given,
        ),
        inputs=[versions.describe_input(reference, out) for reference in inputs],
        models=[lookup.used("teacher", model, out)],
        options=run.options,
        fresh=run.fresh,
        accept_errors=options.accept_errors,
        licences=tuple(dict.fromkeys(found)),
    )
