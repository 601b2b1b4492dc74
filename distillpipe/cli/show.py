"""`distill show`."""

from typing import Annotated

import typer

from distillpipe.cli import options as shared


def show(
    datasets: Annotated[
        list[str], typer.Argument(help="Datasets, checkpoints, or the OUT folder of an eval.")
    ],
    as_json: Annotated[
        bool, shared.option("--json", help="The manifests as one JSON list on stdout.")
    ] = False,
) -> None:
    r"""Show what datasets hold.

    Rows, tokens and time of each stage, and scores where there are predictions.

    Example:
      distill show runs/example/traces runs/example/clean
    """
    from distillpipe.stages.show import show as stage

    stage(datasets, as_json=as_json)
