"""`generate`: sample reasoning traces of a teacher for problems."""

from pathlib import Path

from distillpipe import forecast, sources, versions
from distillpipe.chat import check_prompt_template
from distillpipe.dataset import Writer
from distillpipe.engines import find_model, open_engine
from distillpipe.forecast import Forecast
from distillpipe.manifest import ModelUsed
from distillpipe.models import AnyModel
from distillpipe.records import Problem, Trace
from distillpipe.sampling import Sampler, SamplingOptions, forecast_rows, load_model_chat
from distillpipe.stages.run import Result, Run, content_of, say_finished, say_up_to_date
from distillpipe.versions import Header


def generate(problems: str, teacher: str, out: Path, options: SamplingOptions, run: Run) -> Result:
    """Sample `num_samples` traces of each problem into a new version under `out`.

    Rows that any version under `out` holds already are taken over, not sampled again. The version
    that comes back may be an older one that is up to date.
    """
    check_prompt_template(options.prompting.prompt_template)
    model = find_model(teacher, "--teacher", options.engine)
    header = _header(problems, model, out, options, run)
    if (finished := versions.up_to_date(out, header)) is not None:
        return say_up_to_date(finished)

    with versions.draft(out, header) as draft, Writer(draft) as writer:
        chat = load_model_chat(model, options)
        sampler = Sampler(model, chat, options, draft.path)
        sampler.plan(sources.read_problems(problems, options.prompting, options.plan.limit))
        writer.counts.rows_read = len(sampler.wanted)
        sampler.take_over(writer, out, _unjudged)
        sampler.sample(writer, lambda: open_engine(model, chat, options.engine, draft), _unjudged)
        return say_finished(writer.finish(sampler.problems()), out)


def forecast_generate(
    problems: str, teacher: str, out: Path, options: SamplingOptions, run: Run
) -> Forecast:
    """What `generate` would do."""
    check_prompt_template(options.prompting.prompt_template)
    found = forecast.begin("generate", out, run.options, [sources.place_of(problems)])
    model = None
    with forecast.noting(found):
        model = find_model(teacher, "--teacher", options.engine, weights=False)
        forecast.add_output(found, out, _header(problems, model, out, options, run))
    with forecast.noting(found):
        forecast_rows(found, problems, model, out, options, run.fresh)
    return found


def _header(
    problems: str, model: AnyModel, out: Path, options: SamplingOptions, run: Run
) -> Header:
    return Header(
        kind="traces",
        stage="generate",
        content=content_of(**options.content()),
        inputs=[sources.describe(problems, out)],
        models=[ModelUsed("teacher", model.name, model.identity)],
        options=run.options,
        fresh=run.fresh,
        accept_errors=options.accept_errors,
    )


def _unjudged(trace: Trace, _problem: Problem) -> Trace:
    """Traces are judged by `filter`."""
    return trace
