"""`eval`: Pass@1 of a model on a benchmark, with its standard error; predictions are kept as traces."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from distillpipe import verify
from distillpipe.base.encoding import document
from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.markdown import inline
from distillpipe.base.options import SamplingOptions
from distillpipe.base.progress import say
from distillpipe.base.records import Problem, RejectedTrace, Trace
from distillpipe.data import forecast, sources
from distillpipe.data.forecast import Forecast
from distillpipe.data.formats import hub
from distillpipe.data.sources import Problems
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


@dataclass
class EvalPlan:
    """What `eval` is asked for: a run executes it, a dry run reports it.

    A reference is looked up once, when it is first used: a run stops at one that names nothing, a dry run goes on.
    """

    model_reference: str
    benchmark_reference: str
    out: Path
    options: SamplingOptions
    run: Run
    adapter: str | None
    weights: bool = True
    "whether the weights of a hub model are downloaded"

    def __post_init__(self) -> None:
        check_prompt_template(self.options.prompting.prompt_template)
        self.options, self.verifier = with_verifier(self.options)
        self.name = benchmark_name(self.benchmark_reference)
        self.out = self.out / self.name

    @cached_property
    def model(self) -> AnyModel:
        """The model, with the adapter on it if there is one."""
        model = find_model(self.model_reference, "MODEL", self.options.engine, weights=self.weights)
        if self.adapter is None:
            return model
        if isinstance(model, Served):
            raise UsageError(
                "--adapter is for a model on this machine: give the name that the server has for it as "
                "MODEL"
            )
        return with_adapter(model, self.adapter)

    @cached_property
    def problems(self) -> Problems:
        return sources.find(self.benchmark_reference)

    @cached_property
    def header(self) -> Header:
        options, model = self.options, self.model
        protocol = self.run.options.get("protocol")
        # without a protocol there is no key, so that fingerprints of older versions stay the same
        named = {} if protocol is None or protocol.value is None else {"protocol": protocol.value}
        return Header(
            kind="predictions",
            stage="eval",
            content=content_of(
                **content_of_sampling(options),
                rules=[verify.CODE_VERSION],
                **code_packages(options.prompting.code_packages, self.run.options),
                **user_code(self.verifier),
                **named,
            ),
            inputs=[sources.describe(self.problems, self.out)],
            models=[lookup.used("model", model, self.out)],
            options=self.run.options,
            fresh=self.run.fresh,
            accept_errors=options.accept_errors,
            licences=licences.of_teacher(model, None),
        )


def evaluate(
    model: str,
    benchmark: str,
    out: Path,
    options: SamplingOptions,
    run: Run,
    adapter: str | None = None,
) -> Result:
    """Score `model`, with `adapter` on it if one is given, on `benchmark`: predictions in OUT/NAME/vN.

    Completions are judged during sampling. metrics.json is in the version and in its manifest.
    """
    plan = EvalPlan(model, benchmark, out, options, run, adapter)
    if (finished := versions.up_to_date(plan.out, plan.header)) is not None:
        return say_up_to_date(finished)
    if plan.verifier is not None:
        plan.verifier.check()

    options, packages = plan.options, plan.options.prompting.code_packages
    programs = verify.Programs(options.prompting.code_rules, packages, options.judging.unsafe)

    def judged(trace: Trace, problem: Problem) -> Trace:
        return verify.verified(
            trace,
            extra=problem.extra,
            answer_form=options.prompting.answer_form,
            programs=programs,
            own=plan.verifier,
        )

    with (
        versions.draft(plan.out, plan.header) as draft,
        verify.Judge(options.judging.num_workers) as judge,
        ExitStack() as opened,
    ):
        # Plan all rows, and refuse problems that cannot be judged before anything is sampled.
        chat = load_model_chat(plan.model, options)
        clock.set_clock(chat, draft)
        sampler = Sampler(plan.model, chat, options, draft.path, judge)
        sampler.read(plan.problems)
        verifiers = {problem.verifier for problem in sampler.problems()}
        verify.check_runnable(verifiers, programs, plan.verifier)
        if not any(map(verify.can_judge, sampler.problems())):
            raise DataError(
                f"{benchmark}: no problem has a reference answer (or tests) to score against: "
                "name its field with --answer-field"
            )

        # Take over what other versions hold, and sample the rest.
        sampler.rejudge_errors(draft, judged)
        writer = opened.enter_context(Writer(draft))
        writer.counts.rows_read = len(sampler.rows)
        sampled_before = writer.counts.tokens_sampled
        sampler.take_over(writer, plan.out, judged)
        template = options.prompting.template
        sampler.sample(
            writer,
            lambda: open_engine(plan.model, chat, options.engine, draft, template=template),
            judged,
        )
        check_internal_errors(writer, accepted=options.accept_errors)

        # Score.
        draft.manifest.libraries |= versions_of(packages)
        draft.manifest.user_code = user_code(plan.verifier).get("user_code", {})
        facts = {
            "num_duplicates": sampler.num_duplicates,
            **protocols.report(run.options, options, plan.model.name, plan.name),
            "budget": scoring.budget_metrics(writer.counts),
            **code_packages(packages),
            **user_code(plan.verifier),
            "resources": scoring.resources_used(writer.counts, sampled_before, plan.model),
        }
        return finish_scored(writer, plan.model.name, plan.name, sampler.problems, facts)


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
    metrics = scoring.measure(benchmark, predictions, scoring.choice_options(problems())) | facts
    draft.manifest.metrics = metrics
    table = tables.score_table([(model, metrics)])
    (draft.path / "metrics.json").write_bytes(document(metrics))
    lines = [f"# {inline(metrics['benchmark'])}", "", *tables.markdown(table), ""]
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
    plan = EvalPlan(model, benchmark, out, options, run, adapter, weights=False)
    if plan.verifier is not None:
        plan.verifier.check()
    result = forecast.begin("eval", plan.out, run.options, [sources.place_of(benchmark)])
    model_found, chat, header = None, None, None
    with forecast.noting(result):
        model_found = plan.model
        header = plan.header
        forecast.add_output(result, plan.out, header)
    with forecast.noting(result):
        if model_found is not None:
            chat = load_model_chat(model_found, plan.options)
        forecast_rows(result, plan.problems, model_found, chat, plan.options, header)
    return result


def benchmark_name(benchmark: str) -> str:
    """The name of a benchmark's folder under --out: its name in the table, or that of its file, folder or hub dataset.

    Raises UsageError for a name that could be taken for a version, or that leads out of the folder.
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
