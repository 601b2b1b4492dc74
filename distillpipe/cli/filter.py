"""`distill filter`."""

from typing import Annotated

from distillpipe.base.filter_options import RULES, SELECTION, FilterOptions, Forcing
from distillpipe.base.option import Option
from distillpipe.base.options import Judging
from distillpipe.cli.parameters import DryRun, Json, OptionValues, Out, argument, command
from distillpipe.data.forecast import Forecast
from distillpipe.stages.run import Result, Run


@command(
    FilterOptions, Judging, Run, Forcing, without={"stop_loops", "extra_body", "allow_no_reasoning"}
)
def filter_traces(
    values: OptionValues,
    traces: Annotated[list[str], argument("Datasets (PATH, PATH@v1) or .jsonl files of traces.")],
    *,
    out: Out,
    decontaminate: Annotated[
        list[str] | None,
        Option(
            "Drop problems of this benchmark (math500), file or dataset; repeat for several.", RULES
        ),
    ] = None,
    difficulty: Annotated[
        list[str] | None,
        Option(
            "Predictions of a model for the same problems, or the OUT of its eval; repeat for "
            "several models: the best counts.",
            SELECTION,
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> list[Result] | list[Forecast]:
    """Verify, bound and clean traces.

    What is dropped stands beside what is kept, in rejected-*.jsonl, with the
    reason and the measured value.

    \b
    Example:
      distill filter runs/example/traces --max-reasoning-tokens 120 \\
        --out runs/example/clean
    """
    from distillpipe.filters.problems import FilterInputs
    from distillpipe.stages.filter import filter_traces as stage
    from distillpipe.stages.filter import forecast_filter

    options, forcing = values[FilterOptions], values[Forcing]
    others = FilterInputs(
        predictions=difficulty or [],
        benchmarks=decontaminate or [],
        tokenizer=None if options.over_budget == "force" else forcing.tokenizer,
        forcing=None if forcing.teacher is None else forcing,
    )
    arguments = (traces, out, options, values.run, others)
    return [forecast_filter(*arguments)] if dry_run else [stage(*arguments, values[Judging])]
