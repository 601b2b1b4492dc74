"""Drafts that were left, and rows as they stand in a file."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from distillpipe.base.records import Trace
from distillpipe.data.store import versions
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer


@pytest.fixture(scope="session")
def append_and_stop() -> Callable[[Path, Header, list[Trace]], Path]:
    """`append_and_stop(out, header, rows)` leaves a draft with these rows: its folder."""

    def append(out: Path, header: Header, rows: list[Trace]) -> Path:
        with versions.draft(out, header) as draft, Writer(draft) as writer:
            for row in rows:
                writer.append(row)
            return draft.path

    return append


@pytest.fixture(scope="session")
def as_line() -> Callable[[msgspec.Struct], bytes]:
    """`as_line(row)`: the row's line in a file."""
    return lambda row: msgspec.json.encode(row) + b"\n"
