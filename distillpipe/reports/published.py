"""Scores that teams published for their models, as facts with their source: published.toml.

What stands in a table was measured as its protocol says (protocols.py); where a source says more or less
about the problems or the completions, the note says that. Models go by the last part of their names.
`cons64` is the majority vote over 64 completions, our maj@64; how a tie was settled is not stated.
"""

import datetime
import functools
from pathlib import Path
from typing import NamedTuple

import msgspec

NUM_MAJORITY = 64
FILE = Path(__file__).with_name("published.toml")


class Published(NamedTuple):
    """One published score."""

    score: float
    "0 to 1"
    source: str
    date: str
    "of the source"
    note: str | None = None
    "what of problems, completions or judging is not as our protocol has it, or is left open"
    num_problems: int | None = None
    "null where the source does not say it"
    majority: tuple[int, float] | None = None
    "of so many completions, and its score, 0 to 1: cons@64"


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of one source; scores in percent."""

    protocol: str
    source: str
    date: datetime.date
    columns: tuple[str, ...]
    "benchmarks"
    rows: dict[str, tuple[float, ...]]
    "by model"
    notes: dict[str, str] = {}
    num_problems: dict[str, int] = {}
    cons64: dict[str, dict[str, float]] = {}
    "by benchmark and model"
    again: dict[str, tuple[float, ...]] = {}
    "other scores of the same models in the same source"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    table: tuple[Table, ...]


@functools.cache
def tables() -> tuple[Table, ...]:
    """All tables of the file."""
    return msgspec.toml.decode(FILE.read_bytes(), type=_File).table


def published_score(protocol: str, model: str, benchmark: str) -> Published | None:
    """What was published for a model of this name; None where nothing is known."""
    name = model.rstrip("/").rpartition("/")[2].partition("@")[0].casefold()
    for table in tables():
        known = {key.casefold(): key for key in table.rows}
        if table.protocol == protocol and benchmark in table.columns and name in known:
            return _published(table, known[name], benchmark)
    return None


def _published(table: Table, model: str, benchmark: str) -> Published:
    column = table.columns.index(benchmark)
    percent, others = table.rows[model][column], table.again.get(model)
    notes = [f"{others[column] / 100:.3f} in its other table"] if others else []
    notes += [table.notes[benchmark]] if benchmark in table.notes else []
    votes = table.cons64.get(benchmark, {}).get(model)
    return Published(
        score=percent / 100,
        source=table.source,
        date=table.date.isoformat(),
        note="; ".join(notes) or None,
        num_problems=table.num_problems.get(benchmark),
        majority=None if votes is None else (NUM_MAJORITY, votes / 100),
    )
