"""`generate`: sample reasoning traces of a teacher for problems."""

from pathlib import Path

from distillpipe import models, sources, versions
from distillpipe.chat import check_prompt_template, load_chat
from distillpipe.dataset import Writer
from distillpipe.engines import open_engine
from distillpipe.manifest import Manifest, ModelUsed
from distillpipe.records import Trace
from distillpipe.sampling import Sampler, SamplingOptions
from distillpipe.stages.run import Run, content_of, say_finished, say_up_to_date
from distillpipe.versions import Header


def generate(
    problems: str, teacher: str, out: Path, options: SamplingOptions, run: Run
) -> Manifest:
    """Sample `num_samples` traces of each problem into a new version under `out`.

    Rows that any version under `out` holds already are taken over, not sampled again. Returns the
    manifest of the version, which may be an older one that is up to date.
    """
    check_prompt_template(options.prompting.prompt_template)
    model = models.find(teacher, "--teacher")
    header = Header(
        kind="traces",
        stage="generate",
        content=content_of(**options.content()),
        inputs=[versions.describe_input(problems)],
        models=[ModelUsed("teacher", teacher, model.identity)],
        options=run.options,
        fresh=run.fresh,
    )
    if (finished := versions.up_to_date(out, header)) is not None:
        return say_up_to_date(finished)

    with versions.draft(out, header) as draft, Writer(draft) as writer:
        chat = load_chat(model.folder, teacher)
        sampler = Sampler(model, chat, options)
        sampler.plan(sources.read_problems(problems, options.prompting, options.plan.limit))
        writer.counts.rows_read = len(sampler.wanted)
        sampler.take_over(writer, out, _unjudged)
        sampler.sample(writer, lambda: open_engine(model, chat, options.engine), _unjudged)
        return say_finished(writer.finish(sampler.problems()), out)


def _unjudged(trace: Trace) -> Trace:
    """Traces are judged by `filter`."""
    return trace
