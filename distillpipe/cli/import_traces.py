"""`distill import`."""

from typing import Annotated

from distillpipe.cli.parameters import DryRun, Json, OptionValues, Out, argument, command
from distillpipe.data.forecast import Forecast
from distillpipe.data.formats.traces import ImportOptions
from distillpipe.stages.run import Result, Run


@command(ImportOptions, Run, without={"allow_benchmark_training"})
def import_traces(
    values: OptionValues,
    source: Annotated[
        str, argument("A .jsonl, .json, .gz or .parquet file, or hub:ORG/NAME[:SPLIT].")
    ],
    *,
    out: Out,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> list[Result] | list[Forecast]:
    """Import traces that other tools wrote.

    Reads what open-r1, s1, OpenThoughts, TRL, LLaMA-Factory and APIs write, and
    worked solutions. What does not fit stands in rejected-*.jsonl, with the reason.

    \b
    Example:
      distill import runs/example/sharegpt.jsonl --format sharegpt \\
        --out runs/example/imported
    """
    from distillpipe.stages.import_traces import forecast_import
    from distillpipe.stages.import_traces import import_traces as stage

    arguments = (source, out, values[ImportOptions], values.run)
    return [forecast_import(*arguments)] if dry_run else [stage(*arguments)]
