"""`distill import`."""

from typing import Annotated

import typer

from distillpipe.cli import options as shared
from distillpipe.data.formats.incoming import Format


def import_traces(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="REF", help="A .jsonl, .json, .gz or .parquet file, or hub:ORG/NAME[:SPLIT]."
        ),
    ],
    out: shared.Out,
    format: Annotated[
        Format,
        shared.option(help="How the rows are laid out; auto tells it from the first ones."),
    ] = "auto",
    problem_field: shared.ProblemField = None,
    answer_field: shared.AnswerField = None,
    verifier: shared.Verifier = None,
    limit: Annotated[int | None, shared.option(min=1, help="Only the first so many rows.")] = None,
    tokenizer: Annotated[
        str | None, shared.option(help="Count tokens with that of this model; else none are known.")
    ] = None,
    teacher_licence: Annotated[
        str | None, shared.option(help="Licence of the traces, for the manifest.")
    ] = None,
    accept_errors: shared.AcceptErrors = False,
    dry_run: shared.DryRun = False,
    as_json: shared.Json = False,
    fresh: shared.Fresh = False,
) -> None:
    """Take in traces that others made.

    Reads what open-r1, s1, OpenThoughts, TRL, LLaMA-Factory and APIs write, and
    worked solutions. What does not fit stands in rejected-*.jsonl, with the reason.

    \b
    Example:
      distill import runs/example/sharegpt.jsonl --format sharegpt \\
        --out runs/example/imported
    """
    from distillpipe.data.formats.traces import Choices
    from distillpipe.stages.import_traces import ImportOptions, forecast_import
    from distillpipe.stages.import_traces import import_traces as stage

    choices = Choices(format, problem_field, answer_field, verifier)
    options = ImportOptions(choices, limit, tokenizer, teacher_licence)
    given = (source, out, options, shared.run_of(ctx))
    if dry_run:
        shared.put_forecasts([forecast_import(*given)], as_json=as_json)
    else:
        shared.put_results([stage(*given)], as_json=as_json)
