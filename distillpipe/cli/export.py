"""`distill export`."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from distillpipe.cli import options as shared
from distillpipe.data.formats.outgoing import Format, ReasoningAs


def export(
    dataset: Annotated[
        str, typer.Argument(help="A dataset (PATH, PATH@v1) or a .jsonl file of traces.")
    ],
    format: Annotated[
        Format,
        shared.option(
            help="trl: prompt and completion; sharegpt: conversations; openai: messages."
        ),
    ],
    out: Annotated[Path, shared.option(help="The .jsonl file; never overwritten.")],
    reasoning: Annotated[
        ReasoningAs,
        shared.option(
            help="inline: <think> tags in the content, which every template keeps; "
            "field: reasoning_content beside it."
        ),
    ] = "inline",
    allow_benchmark_training: shared.AllowBenchmarkTraining = False,
    as_json: shared.Json = False,
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

    done = stage(dataset, out, format, reasoning, allow_benchmark=allow_benchmark_training)
    if as_json:
        shared.put_json(msgspec.structs.asdict(done))
