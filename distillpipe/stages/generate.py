"""`generate`: sample reasoning traces of a teacher for problems."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from distillpipe.base.options import SamplingOptions
from distillpipe.base.records import Problem, Trace
from distillpipe.data import forecast, sources
from distillpipe.data.forecast import Forecast
from distillpipe.data.sources import Problems
from distillpipe.data.store import versions
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.engines import check_soft_labels, find_model, open_engine
from distillpipe.models import clock, licences, lookup
from distillpipe.models.lookup import AnyModel, Model
from distillpipe.sampling.estimate import forecast_rows
from distillpipe.sampling.plan import content_of_sampling, load_model_chat
from distillpipe.sampling.prompts import check_prompt_template
from distillpipe.sampling.sampler import Sampler
from distillpipe.stages.run import (
    Result,
    Run,
    check_internal_errors,
    content_of,
    say_finished,
    say_up_to_date,
    with_verifier,
)


@dataclass
class GeneratePlan:
    """What `generate` is asked for: a run executes it, a dry run reports it.

    A reference is looked up once, when it is first used: a run stops at one that names nothing, a dry run goes on.
    """

    problems_reference: str
    teacher_reference: str
    out: Path
    options: SamplingOptions
    run: Run
    weights: bool = True
    "whether the weights of a hub model are downloaded"

    def __post_init__(self) -> None:
        check_prompt_template(self.options.prompting.prompt_template)
        self.options, self.verifier = with_verifier(self.options)

    @cached_property
    def teacher(self) -> AnyModel:
        """The teacher. Raises UsageError for one that cannot give the labels that are asked for."""
        options = self.options
        teacher = find_model(
            self.teacher_reference, "--teacher", options.engine, weights=self.weights
        )
        if options.soft_labels is not None:
            check_soft_labels(teacher, options.soft_labels)
        return teacher

    @cached_property
    def problems(self) -> Problems:
        return sources.find(self.problems_reference)

    @cached_property
    def header(self) -> Header:
        options, teacher = self.options, self.teacher
        licence = options.teacher_licence
        # absent options leave no key, so that fingerprints of older versions stay the same
        licence_content = {} if licence is None else {"teacher_licence": licence}
        return Header(
            kind="traces",
            stage="generate",
            content=content_of(**content_of_sampling(options), **licence_content),
            inputs=[sources.describe(self.problems, self.out)],
            models=[lookup.used("teacher", teacher, self.out)],
            options=self.run.options,
            fresh=self.run.fresh,
            accept_errors=options.accept_errors,
            licences=licences.of_teacher(teacher, licence),
        )


def generate(problems: str, teacher: str, out: Path, options: SamplingOptions, run: Run) -> Result:
    """Sample `num_samples` traces of each problem into a new version under `out`.

    Rows that any version under `out` holds already are taken over, not sampled again. The version
    that comes back may be an older one that is up to date.
    """
    plan = GeneratePlan(problems, teacher, out, options, run)
    if (finished := versions.up_to_date(out, plan.header)) is not None:
        return say_up_to_date(finished)
    # It judges nothing here, but traces that nobody can judge would be paid for.
    if plan.verifier is not None:
        plan.verifier.check()

    with _planned_rows(plan) as (sampler, writer):
        _sample(plan, sampler, writer)
        check_internal_errors(writer, accepted=options.accept_errors)
        return say_finished(writer.finish(sampler.problems()), out)


def forecast_generate(
    problems: str,
    teacher: str,
    out: Path,
    options: SamplingOptions,
    run: Run,
    pilot: int | None = None,
) -> Forecast:
    """What `generate` would do; first it samples `pilot` of the rows, which tell what the rest costs."""
    plan = GeneratePlan(problems, teacher, out, options, run, weights=pilot is not None)
    if plan.verifier is not None:
        plan.verifier.check()
    result = forecast.begin("generate", out, run.options, [sources.place_of(problems)])
    if pilot is not None:
        result.pilot = _sample_pilot(plan, pilot)
    model, chat, header = None, None, None
    with forecast.noting(result):
        model = plan.teacher
        header = plan.header
        forecast.add_output(result, out, header)
        if pilot is None:
            licences.warn(header.licences)
    with forecast.noting(result):
        if model is not None:
            chat = load_model_chat(model, plan.options)
        forecast_rows(result, plan.problems, model, chat, plan.options, header)
    return result


def _sample_pilot(plan: GeneratePlan, num_rows: int) -> list[str]:
    """Sample `num_rows` of the rows that `generate` wants into the draft that it goes on with.

    Returns their row keys; none where a finished version holds all rows already.
    """
    if versions.find_finished(plan.out, plan.header) is not None:
        return []
    with _planned_rows(plan) as (sampler, writer):
        keys = sampler.pilot_keys(num_rows)
        _sample(plan, sampler, writer, keys)
        writer.sync()
    return keys


@contextmanager
def _planned_rows(plan: GeneratePlan) -> Iterator[tuple[Sampler, Writer]]:
    """The draft of a version, open, with all rows planned and those of other versions taken over."""
    options, teacher = plan.options, plan.teacher
    licences.warn(plan.header.licences)
    chat = load_model_chat(teacher, options)
    source = None
    if options.soft_labels is not None:
        from distillpipe.sampling.labeller import label_source  # numpy

        assert isinstance(teacher, Model)  # otherwise `plan.teacher` has raised
        assert chat is not None
        source = label_source(teacher, chat, options.soft_labels)
    with (
        versions.draft(plan.out, plan.header) as draft,
        Writer(draft, soft_labels=source) as writer,
    ):
        clock.set_clock(chat, draft)
        sampler = Sampler(teacher, chat, options, draft.path)
        sampler.read(plan.problems)
        writer.counts.rows_read = len(sampler.rows)
        sampler.take_over(writer, plan.out, _unjudged)
        yield sampler, writer


def _sample(
    plan: GeneratePlan, sampler: Sampler, writer: Writer, only: list[str] | None = None
) -> None:
    options = plan.options
    sampler.sample(
        writer,
        lambda: open_engine(
            plan.teacher,
            sampler.chat,
            options.engine,
            writer.draft,
            options.soft_labels,
            options.prompting.template,
        ),
        _unjudged,
        only,
    )


def _unjudged(trace: Trace, _problem: Problem) -> Trace:
    """The trace as it is: `filter` judges it."""
    return trace
