"""`distill compare`."""

from pathlib import Path
from typing import Annotated

from distillpipe.base.option import Option
from distillpipe.base.terminal import put, put_json
from distillpipe.cli.parameters import Json, OptionValues, argument, command


@command()
def compare(
    _values: OptionValues,
    predictions: Annotated[
        list[str], argument("Two or more datasets of predictions, or OUT folders of eval.")
    ],
    *,
    pass_at: Annotated[
        list[int] | None,
        Option("k of pass@k; repeat for several. Default: powers of two.", min=1),
    ] = None,
    out: Annotated[
        Path | None, Option("Write the same as markdown to this file; never overwritten.")
    ] = None,
    as_json: Json = False,
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
    from distillpipe.reports.comparison_text import terminal_lines
    from distillpipe.stages.compare import compare as stage
    from distillpipe.stages.compare import write

    comparisons = stage(predictions, pass_at or [])
    if out is not None:
        write(out, comparisons)
    if as_json:
        put_json({"comparisons": comparisons})
    else:
        put(line for comparison in comparisons for line in terminal_lines(comparison))
