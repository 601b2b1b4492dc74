"""`distill show`."""

from typing import Annotated

import typer

from distillpipe.cli import options as shared

ROWS = "Rows"


def show(
    ctx: typer.Context,
    datasets: Annotated[
        list[str], typer.Argument(help="Datasets, checkpoints, or the OUT folder of an eval.")
    ],
    row: Annotated[
        str | None,
        shared.option(
            help="The row with this id, or with an id that begins so; whole.", rich_help_panel=ROWS
        ),
    ] = None,
    reason: Annotated[
        str | None,
        shared.option(help="Rows rejected for this reason: the first 10.", rich_help_panel=ROWS),
    ] = None,
    sample: Annotated[
        int | None,
        shared.option(
            min=1,
            help="So many rows, drawn; with --reason of the rejected, else of the kept.",
            rich_help_panel=ROWS,
        ),
    ] = None,
    seed: Annotated[int, shared.option(min=0, help="Seed of --sample.", rich_help_panel=ROWS)] = 0,
    as_json: Annotated[
        bool, shared.option("--json", help="The same as one JSON object on stdout.")
    ] = False,
) -> None:
    r"""Show what datasets hold.

    Rows, tokens and time of each stage, and scores where there are predictions.
    Of one dataset also: where it came from, how long its rows are, why rows were
    dropped, what is unfinished and what lies on disk.

    Example:
      distill show runs/example/clean --reason wrong_answer --sample 3
    """
    from distillpipe.reports.rows import RowQuery
    from distillpipe.stages.show import show as stage

    stage(datasets, shared.struct_of(RowQuery, ctx), as_json=as_json)
