"""`distill rescore`."""

from typing import Annotated

import typer

from distillpipe.base.options import AnswerForm
from distillpipe.cli import options as shared


def rescore(
    ctx: typer.Context,
    predictions: Annotated[
        list[str],
        typer.Argument(help="Datasets of predictions (PATH, PATH@v1), or OUT folders of eval."),
    ],
    verifier: shared.Verifier = None,
    answer_form: Annotated[
        AnswerForm | None,
        shared.option(
            "--answer-form",
            help="Where the answer stands: boxed, or any; else as the version was judged.",
            rich_help_panel=shared.PROBLEMS,
        ),
    ] = None,
    num_workers: Annotated[
        int | None,
        shared.option(
            min=1,
            help="Answers judged at a time; else one for each core.",
            rich_help_panel=shared.RUN,
        ),
    ] = None,
    unsafe_run_model_code_without_sandbox: shared.UnsafeCode = False,
    as_json: shared.Json = False,
    fresh: shared.Fresh = False,
) -> None:
    """Judge and score the completions of a finished eval anew.

    Nothing is sampled, and neither the model nor the benchmark is looked for. The
    scores are a new version beside the old one.

    \b
    Example:
      distill rescore runs/example/eval-teacher --answer-form any
    """
    from distillpipe.stages.compare import folders_of
    from distillpipe.stages.rescore import rescore as stage

    run = shared.run_of(ctx)
    folders = [str(folder) for one in predictions for folder in folders_of(one).values()]
    results = [stage(one, run, answer_form, verifier) for one in folders]
    shared.put_results(results, as_json=as_json)
