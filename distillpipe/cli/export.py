"""`distill export`."""

from pathlib import Path
from typing import Annotated

import msgspec

from distillpipe.base.option import Option
from distillpipe.base.terminal import put_json
from distillpipe.cli.parameters import Json, OptionValues, argument, command
from distillpipe.data.formats.outgoing import Format, ReasoningAs
from distillpipe.stages.run import Run


@command(Run, without={"fresh", "accept_errors"})
def export(
    values: OptionValues,
    dataset: Annotated[str, argument("A dataset (PATH, PATH@v1) or a .jsonl file of traces.")],
    *,
    format: Annotated[
        Format, Option("trl: prompt and completion; sharegpt: conversations; openai: messages.")
    ],
    out: Annotated[Path, Option("The .jsonl file; never overwritten.")],
    reasoning: Annotated[
        ReasoningAs,
        Option(
            "inline: <think> tags in the content, which every template keeps; "
            "field: reasoning_content beside it."
        ),
    ] = "inline",
    as_json: Json = False,
) -> None:
    """Write a dataset for other tools to train on.

    For TRL, for LLaMA-Factory and axolotl (sharegpt), and for whatever reads
    messages (openai). One file, whole or not there.

    \b
    Example:
      distill export runs/example/clean --format sharegpt \\
        --out runs/example/sharegpt.jsonl
    """
    from distillpipe.stages.export import export as stage

    allow = values.run.allow_benchmark_training
    done = stage(dataset, out, format, reasoning, allow_benchmark=allow)
    if as_json:
        put_json(msgspec.structs.asdict(done))
