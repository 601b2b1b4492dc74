"""Progress on stderr: a bar with rate and time left, only if stderr is a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from distillpipe.base import streams
from distillpipe.base.redaction import redact
from distillpipe.base.terminal import printable


class Advance(Protocol):
    """Called with the number of new rows and tokens, and a note such as their cost."""

    def __call__(self, rows: int, tokens: int = 0, note: str = "") -> None: ...


def say(*lines: str) -> None:
    """Print lines on stderr, with control characters escaped and keys redacted.

    Does nothing if stderr is closed or its disk is full.
    """
    try:
        print(*(printable(redact(line)) for line in lines), sep="\n", file=sys.stderr, flush=True)  # noqa: T201 - the one place that prints messages
    except OSError:  # the terminal or pipe is closed, or the disk is full
        streams.silence(sys.stderr)


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Advance]:
    """A progress bar from `done` to `total`, with rows, tokens per second and time left."""
    if not sys.stderr.isatty():
        yield lambda rows, tokens=0, note="": None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(printable(label), total=total, completed=done, rate="", note="")
        num_tokens = 0

        def advance(rows: int, tokens: int = 0, note: str = "") -> None:
            nonlocal num_tokens
            num_tokens += tokens
            elapsed = bar.tasks[0].elapsed or 0.0
            rate = f"{num_tokens / elapsed:,.0f} tokens/s" if elapsed > 0 and num_tokens else ""
            bar.update(task, advance=rows, rate=rate, note=printable(note))

        yield advance
