"""`distill eval`."""

from typing import Annotated, Literal

import msgspec

from distillpipe.base.errors import UsageError
from distillpipe.base.option import Option
from distillpipe.base.options import ENGINE, SamplingOptions
from distillpipe.cli.parameters import DryRun, Json, OptionValues, Out, argument, command
from distillpipe.data.forecast import Forecast
from distillpipe.engines.budget import policy
from distillpipe.stages.run import Result, Run


@command(
    SamplingOptions,
    Run,
    without={
        "soft_labels",
        "teacher_licence",
        "allow_no_reasoning",
        "num_workers",
        "allow_benchmark_training",
    },
    end_at="token",
)
def evaluate(
    values: OptionValues,
    model: Annotated[
        str,
        argument(
            "Model folder, checkpoint of ours, ORG/NAME on the hub, or a served model's name."
        ),
    ],
    *,
    benchmark: Annotated[
        list[str],
        Option(
            "Name in the table (math500, gpqa_diamond, ...), a file or hub:ORG/NAME; repeat for several."
        ),
    ],
    out: Out,
    protocol: Annotated[
        Literal["r1", "openr1", "s1", "greedy"] | None,
        Option(
            "Use the published temperature, top_p, tokens, samples and prompt, where you give none."
        ),
    ] = None,
    adapter: Annotated[
        str | None,
        Option("LoRA adapter on MODEL; an adapter as MODEL finds its base by itself.", ENGINE),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> list[Result] | list[Forecast]:
    """Score a model: Pass@1 with its standard error and interval.

    Each benchmark is a dataset of its own, OUT/NAME, with metrics.json in the
    version; the predictions are traces.

    \b
    Example:
      distill eval data/quickstart/teacher \\
        --benchmark data/quickstart/problems-test.jsonl \\
        --prompt-template '{problem}' --max-tokens 256 --limit 100 \\
        --out runs/example/eval-teacher
    """
    from distillpipe.reports.protocols import apply_options, resolve_options
    from distillpipe.stages.eval import benchmark_name, forecast_eval
    from distillpipe.stages.eval import evaluate as stage

    names = [benchmark_name(name) for name in benchmark]
    if len(set(names)) < len(names):
        raise UsageError(f"--benchmark: two files have one name ({', '.join(names)}): rename one")
    options, run = policy.checked(values[SamplingOptions]), values.run
    results, forecasts = [], []
    # the options of all benchmarks first: a mistake is reported before the first one is run
    resolved = [(reference, resolve_options(run.options, reference)) for reference in benchmark]
    for reference, resolved_options in resolved:
        arguments = (
            model, reference, out, apply_options(options, resolved_options),
            msgspec.structs.replace(run, options=resolved_options), adapter,
        )  # fmt: skip
        if dry_run:
            forecasts.append(forecast_eval(*arguments))
        else:
            results.append(stage(*arguments))
    return forecasts if dry_run else results
