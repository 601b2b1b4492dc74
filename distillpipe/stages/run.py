"""How a command was called, and what a stage says when it ends."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from distillpipe import manifest as manifests
from distillpipe.manifest import Manifest, ResolvedOption
from distillpipe.progress import say
from distillpipe.spending import say_dollars
from distillpipe.terminal import printable
from distillpipe.views.text import teacher_lines


class Run(msgspec.Struct, frozen=True):
    """The call of a command: all options with where each came from, and whether to start anew."""

    options: dict[str, ResolvedOption] = {}
    fresh: bool = False
    allow_benchmark_training: bool = False
    unsafe: bool = False
    "whether programs may run without a sandbox"
    num_workers: int | None = None
    "threads, or processes, that judge; null: one a core"
    pilot: int | None = None
    "rows that generate samples for the estimate of --dry-run"
    teacher_licence: str | None = None
    "what the user says of it"
    merge: bool = False
    "whether sft writes the merged model of an adapter too"
    teachers: tuple[str, ...] = ()
    "models that sft learns from while it trains"
    report_to: tuple[str, ...] = ()
    "trackers of sft"
    num_processes: int = 1
    "that sft trains in"
    sharding: Literal["ddp", "fsdp"] = "ddp"
    "what each of them holds: all weights, or its share"


class Result(NamedTuple):
    """What came of a stage: the version that now is what was asked for."""

    path: Path
    manifest: Manifest
    up_to_date: bool
    "whether it was there before"


def content_of(**parts: Any) -> dict[str, Any]:
    """Structs and values as plain data, as they enter a fingerprint."""
    return {name: msgspec.to_builtins(part) for name, part in parts.items()}


def say_up_to_date(path: Path) -> Result:
    """Say that a finished version already is what was asked for."""
    found = manifests.read(path)
    say(f"{found.stage}: up to date: {path}")
    return Result(path, found, up_to_date=True)


def say_finished(manifest: Manifest, out: Path) -> Result:
    """Say what a stage has written, and how fast."""
    counts = manifest.counts
    parts = [f"{counts.rows_kept:,} rows"]
    if counts.rows_rejected:
        parts.append(f"{counts.rows_rejected:,} rejected")
    parts.append(f"{counts.tokens_kept:,} tokens")
    parts.append(f"{counts.seconds:.1f} s")
    tokens = counts.tokens_sampled or counts.tokens_scored
    if manifest.kind == "checkpoint":
        tokens = counts.tokens_kept
    if counts.seconds_working and tokens:
        parts.append(f"{tokens / counts.seconds_working:,.0f} tokens/s")
    if counts.cost_dollars is not None:
        parts.append(f"{say_dollars(counts.cost_dollars)} spent")
    path = out / manifest.version
    say(f"{manifest.stage}: {', '.join(parts)}: {path}")
    return Result(path, manifest, up_to_date=False)


def funnel(manifest: Manifest) -> list[str]:
    """Lines that say what each reason cost, most rows first, then what each of several teachers gave."""
    by_rows = sorted(manifest.counts.dropped.items(), key=lambda item: -item[1].rows)
    reasons = [
        printable(f"  {dropped.rows:>8,} rows  {dropped.tokens:>10,} tokens  {reason}")
        for reason, dropped in by_rows
    ]
    return reasons + [f"  {line}" for line in teacher_lines(manifest.counts)]


def overlap(reasons: Iterable[list[str]]) -> list[str]:
    """Lines that say of how many rows each reason is true, and of how many no other is; `reasons` by row."""
    rows, alone = Counter[str](), Counter[str]()
    for found in reasons:
        rows.update(found)
        if len(found) == 1:
            alone.update(found)
    return [
        printable(f"  {number:>8,} rows  {alone[reason]:>10,} by it alone  {reason}")
        for reason, number in rows.most_common()
    ]
