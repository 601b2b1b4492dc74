"""`generate`: sample reasoning traces of a teacher for problems."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from distillpipe.base.options import SamplingOptions
from distillpipe.base.records import Problem, Trace
from distillpipe.data import forecast, sources
from distillpipe.data.forecast import Forecast
from distillpipe.data.store import versions
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.engines import check_soft_labels, find_model, open_engine
from distillpipe.models import clock, licences, lookup
from distillpipe.models.chat import Chat
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

if TYPE_CHECKING:  # it loads numpy, which an answer of "up to date" has no use for
    from distillpipe.data.store.labels import LabelSource


def generate(problems: str, teacher: str, out: Path, options: SamplingOptions, run: Run) -> Result:
    """Sample `num_samples` traces of each problem into a new version under `out`.

    Rows that any version under `out` holds already are taken over, not sampled again. The version
    that comes back may be an older one that is up to date.
    """
    check_prompt_template(options.prompting.prompt_template)
    options, own = with_verifier(options)
    model = _teacher(teacher, options)
    header = _header(problems, model, out, options, run)
    if (finished := versions.up_to_date(out, header)) is not None:
        return say_up_to_date(finished)
    if own is not None:
        own.check()  # it judges nothing here, but traces that nobody can judge would be paid for

    with _begun(problems, model, out, options, header) as (sampler, writer):
        _sample(sampler, writer)
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
    check_prompt_template(options.prompting.prompt_template)
    options, own = with_verifier(options)
    if own is not None:
        own.check()
    found = forecast.begin("generate", out, run.options, [sources.place_of(problems)])
    if pilot is not None:
        sampled = _teacher(teacher, options)
        wanted = _header(problems, sampled, out, options, run)
        found.pilot = _sample_pilot(problems, sampled, out, options, wanted, pilot)
    model = header = None
    with forecast.noting(found):
        model = _teacher(teacher, options, weights=False)
        header = _header(problems, model, out, options, run)
        forecast.add_output(found, out, header)
        if pilot is None:
            licences.warn(header.licences)
    with forecast.noting(found):
        forecast_rows(found, problems, model, out, options, header)
    return found


def _teacher(teacher: str, options: SamplingOptions, *, weights: bool = True) -> AnyModel:
    """The teacher; raises UsageError for one that cannot give the labels that are asked for."""
    model = find_model(teacher, "--teacher", options.engine, weights=weights)
    if options.soft_labels is not None:
        check_soft_labels(model, options.soft_labels)
    return model


def _sample_pilot(
    problems: str,
    model: AnyModel,
    out: Path,
    options: SamplingOptions,
    header: Header,
    num_rows: int,
) -> list[str]:
    """Sample `num_rows` of the rows that `generate` wants into the draft that it goes on with.

    Their row keys come back; none where a finished version holds all rows already.
    """
    if versions.find_finished(out, header) is not None:
        return []
    with _begun(problems, model, out, options, header) as (sampler, writer):
        keys = sampler.pilot_keys(num_rows)
        _sample(sampler, writer, keys)
        writer.sync()
    return keys


@contextmanager
def _begun(
    problems: str, model: AnyModel, out: Path, options: SamplingOptions, header: Header
) -> Iterator[tuple[Sampler, Writer]]:
    """The draft of a version, open: what is wanted is planned, what is there is taken over."""
    licences.warn(header.licences)
    chat = load_model_chat(model, options)
    source = _label_source(model, chat, options.soft_labels)
    with versions.draft(out, header) as draft, Writer(draft, soft_labels=source) as writer:
        clock.set_clock(chat, draft)
        sampler = Sampler(model, chat, options, draft.path)
        sampler.read(problems)
        writer.counts.rows_read = len(sampler.rows)
        sampler.take_over(writer, out, _unjudged)
        yield sampler, writer


def _label_source(
    model: AnyModel, chat: Chat | None, soft_labels: int | None
) -> "LabelSource | None":
    if soft_labels is None:
        return None
    from distillpipe.sampling.labeller import label_source

    assert isinstance(model, Model)  # or it has been refused
    assert chat is not None
    return label_source(model, chat, soft_labels)


def _sample(sampler: Sampler, writer: Writer, only: list[str] | None = None) -> None:
    model, chat, options = sampler.model, sampler.chat, sampler.options
    sampler.sample(
        writer,
        lambda: open_engine(
            model,
            chat,
            options.engine,
            writer.draft,
            options.soft_labels,
            options.prompting.template,
        ),
        _unjudged,
        only,
    )


def _header(
    problems: str, model: AnyModel, out: Path, options: SamplingOptions, run: Run
) -> Header:
    given = {} if options.teacher_licence is None else {"teacher_licence": options.teacher_licence}
    return Header(
        kind="traces",
        stage="generate",
        content=content_of(**content_of_sampling(options), **given),
        inputs=[sources.describe(problems, out)],
        models=[lookup.used("teacher", model, out)],
        options=run.options,
        fresh=run.fresh,
        accept_errors=options.accept_errors,
        licences=licences.of_teacher(model, options.teacher_licence),
    )


def _unjudged(trace: Trace, _problem: Problem) -> Trace:
    """Traces are judged by `filter`."""
    return trace
