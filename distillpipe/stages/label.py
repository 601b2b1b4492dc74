"""`label`: a teacher's soft labels for existing text, whoever wrote it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.options import NO_TEMPLATE_OPTIONS, LabelOptions
from distillpipe.data import forecast
from distillpipe.data.forecast import Forecast
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.dataset import Dataset
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


@dataclass
class LabelPlan:
    """What `label` is asked for: a run executes it, a dry run reports it.

    A reference is looked up once, when it is first used: a run stops at one that names nothing, a dry run goes on.
    """

    references: list[str]
    teacher_reference: str
    out: Path
    options: LabelOptions
    run: Run
    weights: bool = True
    "whether the weights of a hub model are downloaded"

    @cached_property
    def teacher(self) -> Model:
        """The teacher. Raises UsageError for one behind a server, and for more labels than its vocabulary has tokens."""
        options = self.options
        if options.engine.engine == "openai":
            raise UsageError(
                "--engine openai: a server gives no log-probabilities for existing text: label with the "
                "model's files, --engine transformers or vllm"
            )
        teacher = find_model(
            self.teacher_reference, "--teacher", options.engine, weights=self.weights
        )
        assert isinstance(teacher, Model)  # servers are refused above
        check_soft_labels(teacher, options.soft_labels)
        return teacher

    @cached_property
    def inputs(self) -> list[Dataset]:
        return [dataset.find(reference) for reference in self.references]

    @cached_property
    def header(self) -> Header:
        options, teacher = self.options, self.teacher
        licence = options.teacher_licence
        # absent options leave no key, so that fingerprints of older versions stay the same
        optional: dict[str, Any] = {} if licence is None else {"teacher_licence": licence}
        if options.template != NO_TEMPLATE_OPTIONS:
            optional["template"] = options.template
        known = (*licences.of_inputs(self.inputs), *licences.of_teacher(teacher, licence))
        return Header(
            kind="traces",
            stage="label",
            content=content_of(
                soft_labels=options.soft_labels,
                chat_template=template_text(options),
                max_model_len=options.engine.max_model_len,
                **optional,
            ),
            inputs=[dataset.describe(source, self.out) for source in self.inputs],
            models=[lookup.used("teacher", teacher, self.out)],
            options=self.run.options,
            fresh=self.run.fresh,
            accept_errors=options.accept_errors,
            licences=tuple(dict.fromkeys(known)),
        )


def label(inputs: list[str], teacher: str, out: Path, options: LabelOptions, run: Run) -> Result:
    """Write the rows of `inputs` with the labels of `teacher` as a new version under `out`.

    Labels that any version under `out` holds already are taken over. Rows that are longer than the teacher's
    context are rejected.
    """
    plan = LabelPlan(inputs, teacher, out, options, run)
    if (finished := versions.up_to_date(out, plan.header)) is not None:
        return say_up_to_date(finished)
    if not dataset.count_rows(plan.inputs):
        raise DataError(f"{', '.join(inputs)}: no rows to label")

    licences.warn(plan.header.licences)
    model = plan.teacher
    chat = load_chat(model.tokenizer_folder, model.name, options.chat_template, options.template)
    source = label_source(model, chat, options.soft_labels)
    with versions.draft(out, plan.header) as draft, Writer(draft, soft_labels=source) as writer:
        clock.set_clock(chat, draft)
        labeller = Labeller(plan.inputs, model, chat, options, writer)
        labeller.take_over(out)
        labeller.label(lambda: open_engine(model, chat, options.engine, draft, options.soft_labels))
        check_internal_errors(writer, accepted=options.accept_errors)
        return say_finished(writer.finish(problems_of(plan.inputs, draft.path)), out)


def forecast_label(
    inputs: list[str], teacher: str, out: Path, options: LabelOptions, run: Run
) -> Forecast:
    """What `label` would do."""
    plan = LabelPlan(inputs, teacher, out, options, run, weights=False)
    result = forecast.begin("label", out, run.options, inputs)
    model = None
    with forecast.noting(result):
        model = plan.teacher
        forecast.add_output(result, out, plan.header)
    with forecast.noting(result):
        forecast_labels(result, plan.inputs, model, out, options, fresh=run.fresh)
    return result
