"""`show`: what datasets hold, from their manifests."""

import sys
from pathlib import Path

import msgspec

from distillpipe import manifest as manifests
from distillpipe import versions
from distillpipe.manifest import Manifest
from distillpipe.progress import say


def show(references: list[str], *, as_json: bool) -> None:
    """Print a table of the stages and, where there are predictions, a table of the scores."""
    found = [
        (name, manifests.read(folder))
        for reference in references
        for name, folder in _folders(reference)
    ]
    if as_json:
        content = [{"name": name, "manifest": manifest} for name, manifest in found]
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
        return

    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 110)
    scored = [(name, manifest) for name, manifest in found if manifest.metrics]
    if scored:
        table = Table(
            "model", "Pass@1", "95% interval", "reasoning tokens", "truncated", "problems"
        )
        for column in table.columns[1:]:
            column.justify = "right"
        for name, manifest in scored:
            table.add_row(name, *_score_cells(manifest))
        console.print(table)
    table = Table("stage", "dataset", "rows in", "rows out", "tokens", "seconds", "tokens/s")
    for column in table.columns[2:]:
        column.justify = "right"
    for name, manifest in found:
        table.add_row(manifest.stage, f"{name} {manifest.version}", *_stage_cells(manifest))
    console.print(table)


def _folders(reference: str) -> list[tuple[str, Path]]:
    """Name and folder of each version that a reference stands for; eval's OUT stands for all in it."""
    path = Path(reference).absolute()
    if path.is_dir() and not versions.holds_versions(path):
        inside = sorted(child for child in path.iterdir() if versions.finished(child))
        if len(inside) == 1:
            return [(path.name, versions.resolve(str(inside[0])))]
        if inside:
            return [(f"{path.name}/{child.name}", versions.resolve(str(child))) for child in inside]
        if partials := versions.partials(path):
            say(f"{reference}: unfinished, the command that makes it goes on with it")
            return [(path.name, partials[-1])]
    folder = versions.resolve(reference)
    return [(folder.parent.name, folder)]


def _score_cells(manifest: Manifest) -> list[str]:
    found = manifest.metrics or {}
    low, high = found["interval"]
    completions = sum(
        found[f"num_{name}"] for name in ("correct", "wrong", "truncated", "unverifiable")
    )
    return [
        f"{found['pass@1']:.3f}",
        f"{low:.3f} - {high:.3f}",
        f"{found['mean_reasoning_tokens']:.1f}",
        f"{found['num_truncated'] / completions:.1%}",
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
