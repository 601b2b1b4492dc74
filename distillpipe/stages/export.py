"""`export`: the kept rows of a dataset as one file that other tools train on."""

import filecmp
import os
from pathlib import Path

import msgspec

from distillpipe import dataset
from distillpipe.errors import DataError, UsageError
from distillpipe.formats.outgoing import FORMATS, Format, ReasoningAs, turns_of
from distillpipe.jsonl import encoder, sync_folder
from distillpipe.progress import say


class Exported(msgspec.Struct, frozen=True):
    """What came of an export."""

    path: str
    rows: int
    rows_unfinished: int
    "cut off, so their last turn breaks off too"
    rows_labelled: int
    "with soft labels, which are left out"
    bytes: int
    up_to_date: bool
    "whether the file was there before"


def export(
    reference: str, out: Path, layout: Format, reasoning: ReasoningAs, *, allow_benchmark: bool
) -> Exported:
    """Write the kept rows of a dataset to the file `out`, all or nothing.

    Raises UsageError where the file is there with other content, DataError where there is no row.
    """
    if out.is_dir() or out.suffix != ".jsonl":
        raise UsageError(f"--out {out}: name a .jsonl file")
    for place in out.parents:
        if place.exists() and not place.is_dir():
            raise UsageError(f"--out {out}: {place} is a file: name a .jsonl file in a folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.new")
    try:
        num_rows, num_unfinished, num_labelled = _write(
            temporary, reference, layout, reasoning, allow_benchmark
        )
        there = out.exists()
        if there and not filecmp.cmp(temporary, out, shallow=False):
            raise UsageError(
                f"--out {out} holds something else: name another file, or move that one away"
            )
        if not there:
            temporary.replace(out)
            sync_folder(out.parent)
    finally:
        temporary.unlink(missing_ok=True)
    if num_unfinished:
        say(
            f"export: {num_unfinished:,} of {num_rows:,} rows were cut off: `distill filter` drops them"
        )
    if num_labelled:
        say(
            f"export: the soft labels of {num_labelled:,} rows are left out: no other format holds them"
        )
    say(f"export: {'up to date' if there else f'{num_rows:,} rows'}: {out}")
    return Exported(str(out), num_rows, num_unfinished, num_labelled, out.stat().st_size, there)


def _write(
    path: Path, reference: str, layout: Format, reasoning: ReasoningAs, allow_benchmark: bool
) -> tuple[int, int, int]:
    """Write all rows, durably: how many, how many of them were cut off, and how many have soft labels."""
    num_rows = num_unfinished = num_labelled = 0
    row_of = FORMATS[layout]
    path.unlink(missing_ok=True)  # what a killed run left, or a link that somebody laid there
    with path.open("xb") as file:
        for trace in dataset.read_training_traces([reference], allow_benchmark=allow_benchmark):
            file.write(encoder.encode(row_of(turns_of(trace, reasoning))) + b"\n")
            num_rows += 1
            num_unfinished += trace.is_truncated
            num_labelled += trace.soft_labels is not None
        if not num_rows:
            raise DataError(f"{reference}: no rows to export")
        file.flush()
        os.fsync(file.fileno())
    return num_rows, num_unfinished, num_labelled
