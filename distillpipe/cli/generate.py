"""`distill generate`."""

from typing import Annotated

from distillpipe.base.errors import UsageError
from distillpipe.base.option import Option
from distillpipe.base.options import RUN, SamplingOptions
from distillpipe.cli.parameters import DryRun, Json, OptionValues, Out, argument, command
from distillpipe.data.forecast import Forecast
from distillpipe.engines.budget import policy
from distillpipe.stages.run import Result, Run

JUDGED_BY_FILTER = {
    "code_rules", "code_packages", "answer_form", "min_date", "max_date", "num_workers",
    "unsafe_run_model_code_without_sandbox",
}  # fmt: skip


@command(
    SamplingOptions,
    Run,
    without={*JUDGED_BY_FILTER, "allow_benchmark_training"},
    allow_no_reasoning=False,
)
def generate(
    values: OptionValues,
    problems: Annotated[
        str, argument("A .jsonl, .json or .parquet file, a dataset, or hub:ORG/NAME.")
    ],
    *,
    teacher: Annotated[
        str,
        Option("Model folder, checkpoint of ours, ORG/NAME on the hub, or a served model's name."),
    ],
    out: Out,
    dry_run: DryRun = False,
    pilot: Annotated[
        int | None,
        Option(
            "With --dry-run: sample N of the rows, which are kept, and estimate from them.",
            RUN,
            min=1,
        ),
    ] = None,
    as_json: Json = False,
) -> list[Result] | list[Forecast]:
    """Sample reasoning traces of a teacher.

    Safe to interrupt: the same command goes on, and a row that was ever sampled
    with the same model, prompt and options is taken over, not sampled again.

    \b
    Example:
      distill generate data/quickstart/problems-train.jsonl \\
        --teacher data/quickstart/teacher --prompt-template '{problem}' \\
        --max-tokens 256 --limit 100 --out runs/example/traces
    """
    from distillpipe.stages.generate import forecast_generate
    from distillpipe.stages.generate import generate as stage

    if pilot is not None and not dry_run:
        raise UsageError(
            "--pilot samples rows for the estimate of --dry-run: give both; "
            "the same command without the two goes on with these rows"
        )
    arguments = (problems, teacher, out, policy.checked(values[SamplingOptions]), values.run)
    return [forecast_generate(*arguments, pilot)] if dry_run else [stage(*arguments)]
