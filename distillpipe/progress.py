"""Progress on stderr: rate and time left on a terminal, nothing where there is none."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from distillpipe.redaction import redact


class Advance(Protocol):
    """Called with the rows and the tokens that are newly done, and a note on what they cost."""

    def __call__(self, rows: int, tokens: int = 0, note: str = "") -> None: ...


def say(text: str) -> None:
    """A line for the person who watches, keys left out."""
    print(redact(text), file=sys.stderr, flush=True)  # noqa: T201 - the one place that talks


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Advance]:
    """A bar from `done` to `total`, with rows done, tokens a second and time left."""
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
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, completed=done, rate="", note="")
        num_tokens = 0

        def advance(rows: int, tokens: int = 0, note: str = "") -> None:
            nonlocal num_tokens
            num_tokens += tokens
            elapsed = bar.tasks[0].elapsed or 0.0
            rate = f"{num_tokens / elapsed:,.0f} tokens/s" if elapsed > 0 and num_tokens else ""
            bar.update(task, advance=rows, rate=rate, note=note)

        yield advance
