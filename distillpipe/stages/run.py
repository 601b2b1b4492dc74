"""How a command was called, and what a stage says when it ends."""

from pathlib import Path
from typing import Any

import msgspec

from distillpipe import manifest as manifests
from distillpipe.manifest import Manifest, ResolvedOption
from distillpipe.progress import say


class Run(msgspec.Struct, frozen=True):
    """The call of a command: all options with where each came from, and whether to start anew."""

    options: dict[str, ResolvedOption] = {}
    fresh: bool = False


def content_of(**parts: Any) -> dict[str, Any]:
    """Structs and values as plain data, as they enter a fingerprint."""
    return {name: msgspec.to_builtins(part) for name, part in parts.items()}


def say_up_to_date(path: Path) -> Manifest:
    """Say that a finished version already is what was asked for; its manifest."""
    found = manifests.read(path)
    say(f"{found.stage}: up to date: {path}")
    return found


def say_finished(manifest: Manifest, out: Path) -> Manifest:
    """Say what a stage has written, and how fast."""
    counts = manifest.counts
    parts = [f"{counts.rows_kept:,} rows"]
    if counts.rows_rejected:
        parts.append(f"{counts.rows_rejected:,} rejected")
    parts.append(f"{counts.tokens_kept:,} tokens")
    parts.append(f"{counts.seconds:.1f} s")
    if counts.seconds_working and counts.tokens_sampled:
        parts.append(f"{counts.tokens_sampled / counts.seconds_working:,.0f} tokens/s")
    say(f"{manifest.stage}: {', '.join(parts)}: {out / manifest.version}")
    return manifest


def funnel(manifest: Manifest) -> list[str]:
    """Lines that say what each reason cost, most rows first."""
    by_rows = sorted(manifest.counts.dropped.items(), key=lambda item: -item[1].rows)
    return [
        f"  {dropped.rows:>8,} rows  {dropped.tokens:>10,} tokens  {reason}"
        for reason, dropped in by_rows
    ]
