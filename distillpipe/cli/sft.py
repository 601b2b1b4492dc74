"""`distill sft`."""

from typing import Annotated

import msgspec

from distillpipe.base.option import Option
from distillpipe.base.options import RUN
from distillpipe.base.training_options import TrainingOptions, TrainingRun
from distillpipe.cli.parameters import DryRun, Json, OptionValues, Out, argument, command
from distillpipe.data.forecast import Forecast
from distillpipe.stages.run import Result, Run
from distillpipe.training import distillation
from distillpipe.training.preview import Preview


@command(TrainingOptions, TrainingRun, Run, without={"accept_errors", "no_thinking"})
def sft(
    values: OptionValues,
    traces: Annotated[list[str], argument("Datasets (PATH, PATH@v1) or .jsonl files of traces.")],
    *,
    student: Annotated[str, Option("Model folder, checkpoint of ours, or ORG/NAME on the hub.")],
    out: Out,
    dry_run: DryRun = False,
    preview: Annotated[
        int | None,
        Option("Check all rows, print N of them as they are trained on, and stop.", RUN, min=1),
    ] = None,
    as_json: Json = False,
) -> list[Result] | list[Forecast] | Preview:
    """Fine-tune a student on traces.

    The loss is on reasoning, response and end token. The version that it
    writes loads with AutoModelForCausalLM and AutoTokenizer. Killed and started
    again, it goes on from the last state saved and ends with the same weights.
    Defaults are s1's.

    \b
    Example:
      distill sft runs/example/clean --student data/quickstart/student-qwen \\
        --learning-rate 2e-3 --epochs 1 --out runs/example/student
    """
    from distillpipe.stages.sft import forecast_sft, preview_sft
    from distillpipe.stages.sft import sft as stage

    options, run, training = values[TrainingOptions], values.run, values[TrainingRun]
    assert options.distillation is not None  # every command line has it
    every = training.save_every if options.distillation.kd_adaptive else None
    soft_options = msgspec.structs.replace(options.distillation, kd_adaptive=every)
    distillation.check_unused(soft_options, run.options)
    checked = distillation.check(soft_options, len(training.teacher), options.eval_split)
    options = msgspec.structs.replace(options, distillation=checked)
    if preview is not None:
        return preview_sft(traces, student, options, run, training, preview)
    arguments = (traces, student, out, options, run, training)
    return [forecast_sft(*arguments)] if dry_run else [stage(*arguments)]
