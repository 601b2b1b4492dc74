"""`distill compare`."""

from pathlib import Path
from typing import Annotated

import typer

from distillpipe.cli import options as shared


def compare(
    predictions: Annotated[
        list[str],
        typer.Argument(help="Two or more datasets of predictions, or OUT folders of eval."),
    ],
    pass_at: Annotated[
        list[int] | None,
        shared.option(min=1, help="k of pass@k; repeat for several; else powers of two."),
    ] = None,
    out: Annotated[
        Path | None, shared.option(help="Write the same as markdown; never overwritten.")
    ] = None,
    as_json: shared.Json = False,
) -> None:
    """Compare models problem by problem, each with the first.

    Scores side by side, paired differences with intervals and an exact test,
    problems won and lost by domain and difficulty. Warns where protocols differ
    or a model was trained on the benchmark.

    \b
    Example:
      distill eval runs/example/student \\
        --benchmark data/quickstart/problems-test.jsonl \\
        --prompt-template '{problem}' --max-tokens 256 --limit 100 \\
        --out runs/example/eval-student
      distill compare runs/example/eval-teacher runs/example/eval-student
    """
    from distillpipe.base.terminal import put
    from distillpipe.reports.comparison_text import terminal_lines
    from distillpipe.stages.compare import compare as stage
    from distillpipe.stages.compare import write

    found = stage(predictions, pass_at or [])
    if out is not None:
        write(out, found)
    if as_json:
        shared.put_json({"comparisons": found})
    else:
        put(line for one in found for line in terminal_lines(one))
