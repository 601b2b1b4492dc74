"""The two tables of `show`: the stages, and the scores where there are predictions."""

import sys
from collections.abc import Sequence

from distillpipe.base.terminal import printable
from distillpipe.data.store.manifest import Manifest
from distillpipe.scoring import OUTCOMES
from distillpipe.views.scores import UNKNOWN, over, share

WIDTH = 110  # where the output is no terminal


def print_tables(found: Sequence[tuple[str, Manifest]]) -> None:
    """Print the scores of all that has some, then a line for each version."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else WIDTH, markup=False, emoji=False)
    scored = [(name, manifest) for name, manifest in found if "pass@1" in (manifest.metrics or {})]
    if scored:
        table = Table(
            "model", "Pass@1", "95% interval", "reasoning tokens", "truncated", "problems"
        )
        for column in table.columns[1:]:
            column.justify = "right"
        for name, manifest in scored:
            table.add_row(printable(name), *_score_cells(manifest))
        console.print(table)
    table = Table("stage", "dataset", "rows in", "rows out", "tokens", "seconds", "tokens/s")
    for column in table.columns[2:]:
        column.justify = "right"
    for name, manifest in found:
        labels = (printable(one) for one in (manifest.stage, f"{name} {manifest.version}"))
        table.add_row(*labels, *_stage_cells(manifest))
    console.print(table)


def _score_cells(manifest: Manifest) -> list[str]:
    """From the metrics of this version or an older one: what is not known, or not a number, is `-`."""
    found = manifest.metrics or {}
    low, high = found["interval"]
    completions = sum(found.get(f"num_{name}") or 0 for name in OUTCOMES)
    truncated, tokens = found["num_truncated"], found["mean_reasoning_tokens"]
    return [
        share(found["pass@1"]) + over(found),
        f"{share(low)} - {share(high)}",
        UNKNOWN if tokens is None else f"{tokens:.1f}",
        f"{truncated / completions:.1%}" if completions else UNKNOWN,
        f"{found['num_problems']:,} x {found['num_samples']}",
    ]


def _stage_cells(manifest: Manifest) -> list[str]:
    counts = manifest.counts
    tokens = counts.tokens_sampled or counts.tokens_kept
    rate = f"{tokens / counts.seconds_working:,.0f}" if counts.seconds_working else "-"
    return [
        f"{counts.rows_read:,}",
        f"{counts.rows_kept:,}",
        f"{tokens:,}",
        f"{counts.seconds:.1f}",
        rate,
    ]
