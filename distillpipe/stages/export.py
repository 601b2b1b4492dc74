"""`export`: the kept rows of a dataset as one file that other tools train on."""

import filecmp
from pathlib import Path

import msgspec

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.filesystem import sync_file, sync_folder
from distillpipe.base.progress import say
from distillpipe.base.records import Trace
from distillpipe.base.rowguard import InternalError, check_share, guarded
from distillpipe.data.formats.outgoing import FORMATS, Format, ReasoningAs, turns_of
from distillpipe.data.store import dataset
from distillpipe.data.store.dataset import Dataset
from distillpipe.data.store.jsonl import encoder


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
    source = dataset.find(reference)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.new")
    try:
        num_rows, num_unfinished, num_labelled = _write(
            temporary, source, layout, reasoning, allow_benchmark
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
    path: Path, source: Dataset, layout: Format, reasoning: ReasoningAs, allow_benchmark: bool
) -> tuple[int, int, int]:
    """Write all rows, durably: how many, how many of them were cut off, and how many have soft labels."""
    num_rows = num_unfinished = num_labelled = 0
    failed: list[str] = []
    path.unlink(missing_ok=True)  # what a killed run left, or a link that somebody laid there
    with path.open("xb") as file:
        for trace in dataset.read_training_traces([source], allow_benchmark=allow_benchmark):
            line = guarded(_line, trace, layout, reasoning)
            if isinstance(line, InternalError):
                if not failed:
                    say(f"warning: row {trace.id} is left out for {line.reason}")
                failed.append(trace.id)
                continue
            file.write(line)
            num_rows += 1
            num_unfinished += trace.is_truncated
            num_labelled += trace.soft_labels is not None
        check_share(
            len(failed), num_rows + len(failed), accepted=False,
            show=f"distill show {source.name} --row {next(iter(failed), '')}",
            way_out="nothing is written: leave these rows out, `distill filter` may tell them",
        )  # fmt: skip
        if not num_rows:
            raise DataError(f"{source.name}: no rows to export")
        file.flush()
        sync_file(file.fileno(), path)
    return num_rows, num_unfinished, num_labelled


def _line(trace: Trace, layout: Format, reasoning: ReasoningAs) -> bytes:
    return encoder.encode(FORMATS[layout](turns_of(trace, reasoning))) + b"\n"
