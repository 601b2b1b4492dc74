"""`distill label`."""

from typing import Annotated

import typer

from distillpipe.base.options import EngineOptions
from distillpipe.cli import options as shared


def label(
    ctx: typer.Context,
    traces: Annotated[
        list[str], typer.Argument(help="Datasets (PATH, PATH@v1) or .jsonl files of traces.")
    ],
    teacher: Annotated[
        str,
        shared.option(help="Model folder, checkpoint of ours, or ORG/NAME on the hub."),
    ],
    out: shared.Out,
    soft_labels: Annotated[
        int,
        shared.option(
            min=1, help="Labels a token: the most likely tokens, and how likely each is."
        ),
    ] = 20,
    chat_template: shared.ChatTemplate = None,
    engine: shared.EngineName = "auto",
    concurrency: shared.Concurrency = None,
    tensor_parallel_size: shared.TensorParallelSize = 1,
    replicas: shared.Replicas = 1,
    max_model_len: shared.MaxModelLen = None,
    teacher_licence: shared.TeacherLicence = None,
    accept_errors: shared.AcceptErrors = False,
    dry_run: shared.DryRun = False,
    as_json: shared.Json = False,
    fresh: shared.Fresh = False,
) -> None:
    """Give traces that are there a teacher's soft labels.

    The teacher reads each trace once; who wrote it does not matter. Safe to interrupt, and
    nothing is labelled twice.

    \b
    Example:
      distill label runs/example/clean --teacher data/quickstart/teacher \\
        --soft-labels 20 --out runs/example/labelled
    """
    from distillpipe.sampling.labeller import LabelOptions
    from distillpipe.stages.label import forecast_label
    from distillpipe.stages.label import label as stage

    server = shared.struct_of(EngineOptions, ctx)
    options = LabelOptions(soft_labels, chat_template, server, accept_errors)
    given = (traces, teacher, out, options, shared.run_of(ctx))
    if dry_run:
        shared.put_forecasts([forecast_label(*given)], as_json=as_json)
    else:
        shared.put_results([stage(*given)], as_json=as_json)
