"""`eval`: Pass@1 of a model on a benchmark, with its standard error; predictions are kept as traces."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from distillpipe import verify
from distillpipe.base.encoding import document
from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.markdown import inline
from distillpipe.base.options import SamplingOptions
from distillpipe.base.progress import say
from distillpipe.base.records import Problem, RejectedTrace, Trace
from distillpipe.base.user_code.functions import UserFunction
from distillpipe.data import forecast, sources
from distillpipe.data.forecast import Forecast
from distillpipe.data.formats import hub
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.engines import find_model, open_engine
from distillpipe.models import clock, licences, lookup
from distillpipe.models.lookup import AnyModel, Served, with_adapter
from distillpipe.reports import protocols, scoring, tables
from distillpipe.sampling.estimate import forecast_rows
from distillpipe.sampling.plan import content_of_sampling, load_model_chat
from distillpipe.sampling.prompts import check_prompt_template
from distillpipe.sampling.sampler import Sampler
from distillpipe.stages.run import (
    Result,
    Run,
    check_internal_errors,
    code_packages,
    content_of,
    say_finished,
    say_up_to_date,
    user_code,
    with_verifier,
)
from distillpipe.verify.code.packages import versions_of


def evaluate(
    model: str,
    benchmark: str,
    out: Path,
    options: SamplingOptions,
    run: Run,
    adapter: str | None = None,
) -> Result:
    """Score `model`, with `adapter` on it if one is given, on `benchmark`: predictions in OUT/NAME/vN.

    Completions are judged beside the sampling. metrics.json stands in the version and in its manifest.
    """
    check_prompt_template(options.prompting.prompt_template)
    options, own = with_verifier(options)
    name = benchmark_name(benchmark)
    out = out / name
    found = _model(model, adapter, options)
    header = _header(benchmark, found, out, options, own, run)
    if (finished := versions.up_to_date(out, header)) is not None:
        return say_up_to_date(finished)
    if own is not None:
        own.check()

    with (
        versions.draft(out, header) as draft,
        verify.Judge(options.judging.num_workers) as judge,
        ExitStack() as opened,
    ):
        chat = load_model_chat(found, options)
        clock.set_clock(chat, draft)
        sampler = Sampler(found, chat, options, draft.path, judge)
        sampler.read(benchmark)
        packages = options.prompting.code_packages
        programs = verify.Programs(options.prompting.code_rules, packages, options.judging.unsafe)
        verify.check_runnable({one.verifier for one in sampler.problems()}, programs, own)
        if not any(map(verify.can_judge, sampler.problems())):
            raise DataError(
                f"{benchmark}: no problem has a reference answer (or tests) to score against: "
                "name its field with --answer-field"
            )

        def judged(trace: Trace, problem: Problem) -> Trace:
            return verify.verified(
                trace,
                extra=problem.extra,
                answer_form=options.prompting.answer_form,
                programs=programs,
                own=own,
            )

        sampler.rejudge_errors(draft, judged)
        writer = opened.enter_context(Writer(draft))
        writer.counts.rows_read = len(sampler.rows)
        sampled_before = writer.counts.tokens_sampled
        sampler.take_over(writer, out, judged)
        template = options.prompting.template
        sampler.sample(
            writer,
            lambda: open_engine(found, chat, options.engine, draft, template=template),
            judged,
        )
        check_internal_errors(writer, accepted=options.accept_errors)
        draft.manifest.libraries |= versions_of(packages)
        draft.manifest.user_code = user_code(own).get("user_code", {})
        facts = {
            "num_duplicates": sampler.num_duplicates,
            **protocols.report(run.options, options, found.name, name),
            "budget": scoring.budget_metrics(writer.counts),
            **code_packages(packages),
            **user_code(own),
            "resources": scoring.resources_used(writer.counts, sampled_before, found),
        }
        return finish_scored(writer, found.name, name, sampler.problems, facts)


def finish_scored(
    writer: Writer,
    model: str,
    benchmark: str,
    problems: Callable[[], Iterator[Problem]],
    facts: dict[str, Any],
) -> Result:
    """Score the rows of a draft, write metrics.json with `facts` behind the figures, and finish the version.

    All rows are durable before a figure is made of them: whatever goes wrong here, they are taken over.
    """
    writer.sync()
    draft = writer.draft
    predictions = scoring.collect(
        dataset.scan(draft.path, Trace),
        dataset.scan(draft.path, RejectedTrace, "rejected"),
    )
    found = scoring.measure(benchmark, predictions, scoring.choice_options(problems())) | facts
    draft.manifest.metrics = found
    table = tables.score_table([(model, found)])
    (draft.path / "metrics.json").write_bytes(document(found))
    lines = [f"# {inline(found['benchmark'])}", "", *tables.markdown(table), ""]
    (draft.path / "metrics.md").write_text("\n".join(lines), encoding="utf-8")
    manifest = writer.finish(problems())
    say(*tables.aligned(table))
    return say_finished(manifest, draft.out)


def forecast_eval(
    model: str,
    benchmark: str,
    out: Path,
    options: SamplingOptions,
    run: Run,
    adapter: str | None = None,
) -> Forecast:
    """What `evaluate` would do."""
    check_prompt_template(options.prompting.prompt_template)
    options, own = with_verifier(options)
    if own is not None:
        own.check()
    out = out / benchmark_name(benchmark)
    forecasted = forecast.begin("eval", out, run.options, [sources.place_of(benchmark)])
    found = header = None
    with forecast.noting(forecasted):
        found = _model(model, adapter, options, weights=False)
        header = _header(benchmark, found, out, options, own, run)
        forecast.add_output(forecasted, out, header)
    with forecast.noting(forecasted):
        forecast_rows(forecasted, benchmark, found, out, options, header)
    return forecasted


def _model(
    reference: str, adapter: str | None, options: SamplingOptions, *, weights: bool = True
) -> AnyModel:
    found = find_model(reference, "MODEL", options.engine, weights=weights)
    if adapter is None:
        return found
    if isinstance(found, Served):
        raise UsageError(
            "--adapter is for a model on this machine: give the name that the server has for it as MODEL"
        )
    return with_adapter(found, adapter)


def _header(
    benchmark: str,
    model: AnyModel,
    out: Path,
    options: SamplingOptions,
    own: UserFunction | None,
    run: Run,
) -> Header:
    return Header(
        kind="predictions",
        stage="eval",
        content=content_of(
            **content_of_sampling(options),
            rules=[verify.CODE_VERSION],
            **code_packages(options.prompting.code_packages, run.options),
            **user_code(own),
            **_protocol(run),
        ),
        inputs=[sources.describe(benchmark, out)],
        models=[lookup.used("model", model, out)],
        options=run.options,
        fresh=run.fresh,
        accept_errors=options.accept_errors,
        licences=licences.of_teacher(model, None),
    )


def _protocol(run: Run) -> dict[str, str]:
    """The name of the protocol, which metrics.json bears; nothing where there is none."""
    given = run.options.get("protocol")
    return {} if given is None or given.value is None else {"protocol": given.value}


def benchmark_name(benchmark: str) -> str:
    """A name of the table, the name of a file, of a dataset's folder, or of a hub dataset.

    It is the name of a folder under --out: a UsageError where it could be taken for a version, or leads elsewhere.
    """
    if benchmark.startswith(hub.PREFIX):
        dataset_name, parts, file = hub.parse(benchmark)
        if file is None:
            name = "-".join([dataset_name.rpartition("/")[2], *parts])
        else:
            name = Path(file.replace("*", "")).stem
    else:
        path = versions.split_reference(benchmark)[0]
        if path.is_dir():  # its own name, where it was called `.`, `..`, or by one of its versions
            path = path.resolve()
            path = path.parent if (path / "manifest.json").is_file() else path
            name = path.name
        else:
            name = path.stem
    is_version = versions.FINISHED.fullmatch(name) or versions.PARTIAL.fullmatch(name)
    if is_version or name in ("", "latest") or name.startswith(".") or "/" in name:
        raise UsageError(f"--benchmark {benchmark}: {name!r} cannot name a benchmark: rename it")
    return name
