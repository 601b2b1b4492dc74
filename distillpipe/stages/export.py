"""`export`: write the kept rows of a dataset to one file in the format of another training tool."""

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
    """The result of an export."""

    path: str
    rows: int
    rows_unfinished: int
    "truncated rows, whose last turn is incomplete"
    rows_labelled: int
    "rows with soft labels, which are left out"
    bytes: int
    up_to_date: bool
    "whether the file existed before"


def export(
    reference: str, out: Path, layout: Format, reasoning: ReasoningAs, *, allow_benchmark: bool
) -> Exported:
    """Write the kept rows of a dataset to the file `out`, all or nothing.

    Raises UsageError if the file exists with other content, DataError if there is no row.
    """
    if out.is_dir() or out.suffix != ".jsonl":
        raise UsageError(f"--out {out}: name a .jsonl file")
    for parent in out.parents:
        if parent.exists() and not parent.is_dir():
            raise UsageError(f"--out {out}: {parent} is a file: name a .jsonl file in a folder")
    source = dataset.find(reference)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.new")
    try:
        num_rows, num_unfinished, num_labelled = _write(
            temporary, source, layout, reasoning, allow_benchmark
        )
        exists = out.exists()
        if exists and not filecmp.cmp(temporary, out, shallow=False):
            raise UsageError(
                f"--out {out} holds something else: name another file, or move that one away"
            )
        if not exists:
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
    say(f"export: {'up to date' if exists else f'{num_rows:,} rows'}: {out}")
    return Exported(str(out), num_rows, num_unfinished, num_labelled, out.stat().st_size, exists)


def _write(
    path: Path, source: Dataset, layout: Format, reasoning: ReasoningAs, allow_benchmark: bool
) -> tuple[int, int, int]:
    """Write all rows, durably. Returns the numbers of rows, of truncated rows, and of rows with soft labels."""
    num_rows = num_unfinished = num_labelled = 0
    failed: list[str] = []
    path.unlink(missing_ok=True)  # of a killed run, or a link: we do not write through links
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
