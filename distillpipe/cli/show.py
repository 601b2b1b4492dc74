"""`distill show`."""

from typing import Annotated

from distillpipe.cli.parameters import Json, OptionValues, argument, command
from distillpipe.reports.rows import RowQuery


@command(RowQuery)
def show(
    values: OptionValues,
    datasets: Annotated[
        list[str], argument("Datasets, checkpoints, or the OUT folder of an eval.")
    ],
    *,
    as_json: Json = False,
) -> None:
    """Show what datasets hold.

    Rows, tokens and time of each stage, and scores where there are predictions.
    Of one dataset also: where it came from, how long its rows are, why rows were
    dropped, what is unfinished and what lies on disk.

    \b
    Example:
      distill show runs/example/clean --reason wrong_answer --sample 3
    """
    from distillpipe.stages.show import show as stage

    stage(datasets, values[RowQuery], as_json=as_json)
