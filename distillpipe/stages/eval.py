"""`eval`: Pass@1 of a model on a benchmark, with its standard error; predictions are kept as traces."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

from distillpipe import dataset, forecast, metrics, sources, verify, versions
from distillpipe.chat import check_prompt_template
from distillpipe.dataset import Writer
from distillpipe.engines import find_model, open_engine
from distillpipe.errors import DataError, UsageError
from distillpipe.forecast import Forecast
from distillpipe.formats import hub
from distillpipe.manifest import ModelUsed
from distillpipe.models import AnyModel
from distillpipe.progress import say
from distillpipe.records import Problem, Trace
from distillpipe.sampling import Sampler, SamplingOptions, forecast_rows, load_model_chat
from distillpipe.stages.run import Result, Run, content_of, say_finished, say_up_to_date
from distillpipe.versions import Header


def evaluate(model: str, benchmark: str, out: Path, options: SamplingOptions, run: Run) -> Result:
    """Score `model` on the file `benchmark`, whose stem names it: predictions in OUT/NAME/vN.

    Every completion is judged as it ends. metrics.json stands in the version and in its manifest.
    """
    check_prompt_template(options.prompting.prompt_template)
    name = benchmark_name(benchmark)
    out = out / name
    found = find_model(model, "MODEL", options.engine)
    header = _header(benchmark, found, out, options, run)
    if (finished := versions.up_to_date(out, header)) is not None:
        return say_up_to_date(finished)

    with versions.draft(out, header) as draft, Writer(draft) as writer:
        chat = load_model_chat(found, options)
        sampler = Sampler(found, chat, options, draft.path)
        sampler.plan(sources.read_problems(benchmark, options.prompting, options.plan.limit))
        verify.check_runnable({one.verifier for one in sampler.problems()}, unsafe=run.unsafe)
        if not any(map(verify.can_judge, sampler.problems())):
            raise DataError(
                f"{benchmark}: no problem has a reference answer (or tests) to score against: "
                "name its field with --answer-field"
            )
        writer.counts.rows_read = len(sampler.wanted)

        def judged(trace: Trace, problem: Problem) -> Trace:
            form = options.prompting.answer_form
            return verify.verified(trace, extra=problem.extra, answer_form=form, unsafe=run.unsafe)

        sampler.take_over(writer, out, judged)
        sampler.sample(writer, lambda: open_engine(found, chat, options.engine, draft), judged)
        writer.sync()
        draft.manifest.metrics = measure(name, draft.path)
        content = msgspec.json.format(msgspec.json.encode(draft.manifest.metrics), indent=1)
        (draft.path / "metrics.json").write_bytes(content + b"\n")
        manifest = writer.finish(sampler.problems())
    say(describe(draft.manifest.metrics))
    return say_finished(manifest, out)


def forecast_eval(
    model: str, benchmark: str, out: Path, options: SamplingOptions, run: Run
) -> Forecast:
    """What `evaluate` would do."""
    check_prompt_template(options.prompting.prompt_template)
    out = out / benchmark_name(benchmark)
    forecasted = forecast.begin("eval", out, run.options, [sources.place_of(benchmark)])
    found = None
    with forecast.noting(forecasted):
        found = find_model(model, "MODEL", options.engine, weights=False)
        forecast.add_output(forecasted, out, _header(benchmark, found, out, options, run))
    with forecast.noting(forecasted):
        forecast_rows(forecasted, benchmark, found, out, options, run.fresh)
    return forecasted


def _header(
    benchmark: str, model: AnyModel, out: Path, options: SamplingOptions, run: Run
) -> Header:
    return Header(
        kind="predictions",
        stage="eval",
        content=content_of(**options.content(), rules=[verify.CODE_VERSION]),
        inputs=[sources.describe(benchmark, out)],
        models=[ModelUsed("model", model.name, model.identity)],
        options=run.options,
        fresh=run.fresh,
        accept_errors=options.accept_errors,
    )


def benchmark_name(benchmark: str) -> str:
    """A name of the table, a file's stem, the name of a hub dataset; a UsageError where it could be
    taken for a version.
    """
    if benchmark.startswith(hub.PREFIX):
        return benchmark.rpartition("/")[2].replace(":", "-")
    name = versions.split_reference(benchmark)[0].stem
    if versions.FINISHED.fullmatch(name) or name == "latest":
        raise UsageError(f"--benchmark {benchmark}: {name!r} cannot name a benchmark: rename it")
    return name


def measure(benchmark: str, version: Path) -> dict[str, Any]:
    """The content of metrics.json, from the predictions in a version's folder.

    correct + wrong + truncated + unverifiable = completions; only the first count for pass@1.
    """
    verdicts: dict[str, list[bool]] = defaultdict(list)
    counts = {"correct": 0, "wrong": 0, "truncated": 0, "unverifiable": 0}
    reasoning_tokens = 0
    for trace in dataset.read_rows(version, "part", Trace):
        outcome = _outcome(trace)
        counts[outcome] += 1
        verdicts[trace.problem_id].append(outcome == "correct")
        reasoning_tokens += trace.num_tokens.reasoning if trace.num_tokens else 0
    num_completions = sum(counts.values())
    scored = metrics.score([sum(found) / len(found) for found in verdicts.values()])
    return {
        "benchmark": benchmark,
        "pass@1": scored.mean,
        "standard_error": scored.standard_error,
        "interval": [scored.low, scored.high],
        "num_problems": len(verdicts),
        "num_samples": max(map(len, verdicts.values()), default=0),
        "num_correct": counts["correct"],
        "num_wrong": counts["wrong"],
        "num_truncated": counts["truncated"],
        "num_unverifiable": counts["unverifiable"],
        "mean_reasoning_tokens": reasoning_tokens / num_completions if num_completions else None,
    }


def describe(found: dict[str, Any]) -> str:
    """The score in one line."""
    low, high = found["interval"]
    unverifiable = (
        f", {found['num_unverifiable']:,} unverifiable" if found["num_unverifiable"] else ""
    )
    return (
        f"{found['benchmark']}: Pass@1 {found['pass@1']:.3f} "
        f"[{low:.3f}, {high:.3f}], standard error {found['standard_error']:.4f}, "
        f"{found['num_problems']:,} problems x {found['num_samples']}{unverifiable}"
    )


def _outcome(trace: Trace) -> str:
    if trace.verdict == "unverifiable":
        return "unverifiable"
    return "truncated" if trace.is_truncated else str(trace.verdict)
