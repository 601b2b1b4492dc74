"""`distill label`."""

from typing import Annotated

from distillpipe.base.option import Option
from distillpipe.base.options import LabelOptions
from distillpipe.cli.parameters import DryRun, Json, OptionValues, Out, argument, command
from distillpipe.data.forecast import Forecast
from distillpipe.stages.run import Result, Run

OF_SERVERS = {
    "base_url",
    "api_key_env",
    "price_input",
    "price_output",
    "max_cost",
    "allow_no_reasoning",
}


@command(LabelOptions, Run, without={*OF_SERVERS, "allow_benchmark_training", "no_thinking"})
def label(
    values: OptionValues,
    traces: Annotated[list[str], argument("Datasets (PATH, PATH@v1) or .jsonl files of traces.")],
    *,
    teacher: Annotated[str, Option("Model folder, checkpoint of ours, or ORG/NAME on the hub.")],
    out: Out,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> list[Result] | list[Forecast]:
    """Give existing traces a teacher's soft labels.

    The teacher reads each trace once; who wrote it does not matter. Safe to interrupt, and
    nothing is labelled twice.

    \b
    Example:
      distill label runs/example/clean --teacher data/quickstart/teacher \\
        --soft-labels 20 --out runs/example/labelled
    """
    from distillpipe.stages.label import forecast_label
    from distillpipe.stages.label import label as stage

    arguments = (traces, teacher, out, values[LabelOptions], values.run)
    return [forecast_label(*arguments)] if dry_run else [stage(*arguments)]
