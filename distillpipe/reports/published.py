"""Scores that teams published for their models, with their sources; the data is in published.toml.

The scores of a table were measured with its protocol (protocols.py). Notes tell where a source differs in problems or
completions, or leaves them open. Models are matched by the last part of their names. `cons64` is the majority vote
over 64 completions, our maj@64; the sources do not say how ties were broken.
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
    "date of the source"
    note: str | None = None
    "how problems, completions or judging differ from our protocol, or what the source leaves open"
    num_problems: int | None = None
    "null if the source does not say"
    majority: tuple[int, float] | None = None
    "cons@64: number of completions, and the score, 0 to 1"


class PublishedTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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
    "other scores of the same models in another table of the same source"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    table: tuple[PublishedTable, ...]


@functools.cache
def tables() -> tuple[PublishedTable, ...]:
    """All tables of the file."""
    return msgspec.toml.decode(FILE.read_bytes(), type=_File).table


def published_score(protocol: str, model: str, benchmark: str) -> Published | None:
    """The published score of a model with this name; None if there is none."""
    name = model.rstrip("/").rpartition("/")[2].partition("@")[0].casefold()
    for table in tables():
        names = {key.casefold(): key for key in table.rows}
        if table.protocol == protocol and benchmark in table.columns and name in names:
            return _published(table, names[name], benchmark)
    return None


def _published(table: PublishedTable, model: str, benchmark: str) -> Published:
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
