"""Read the rows of a dataset: kept rows, rejected rows and problems, one at a time.

A reference is `PATH` (the latest version), `PATH@v1`, the folder of a version, or a .jsonl file. Rows of a
finished version are read only after its files were compared with the manifest. `writer` writes rows.

    scan(source, Struct)     all rows of a dataset, with only the fields that `Struct` has
    read_traces(reference)   all kept rows, whole
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.records import Problem, RejectedTrace, SoftLabels, Trace
from distillpipe.data.store import integrity, versions
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.jsonl import R, decode, decoded, lines


class RowKeys(msgspec.Struct, frozen=True):
    """The fields of a row that say which row it is and where its labels are."""

    id: str
    row_key: str
    soft_labels: SoftLabels | None = None


def scan(
    source: str | Path, record: type[R], prefix: str = "part", *, skip_torn: bool = False
) -> Iterator[R]:
    """Yield the rows of a dataset as `record`, a struct with the fields that the caller needs.

    A `source` that is a str is a reference: it is resolved, and a finished version is checked. A Path is the
    folder of a version or draft, or a .jsonl file, read as it is. `prefix` chooses the files of a folder:
    "part" for kept rows, "rejected" for rejected ones. `skip_torn` skips a last line without a line feed: in
    a draft, another process may be writing it. Raises DataError with file and line for a row that does not
    decode.
    """
    decoder = msgspec.json.Decoder(record)
    for where, line in scan_lines(source, prefix, skip_torn=skip_torn):
        yield decode(line, decoder, where)


def scan_lines(
    source: str | Path, prefix: str = "part", *, skip_torn: bool = False
) -> Iterator[tuple[str, bytes]]:
    """As `scan`, but yield "FILE:LINE" and the bytes of each row, for callers that decode few rows."""
    for path in row_files(source, prefix):
        for number, line in lines(path, whole_only=skip_torn):
            yield f"{path}:{number}", line


def row_files(source: str | Path, prefix: str = "part") -> list[Path]:
    """The files that `scan` reads, in order. A plain file holds kept rows only."""
    path = source
    if isinstance(path, str):
        if (file := versions.plain_file(path)) is not None:
            return [file] if prefix == "part" else []
        path = _traces_folder(path)
        integrity.check_content(path)
    return [path] if path.is_file() else sorted(path.glob(f"{prefix}-*.jsonl"))


def read_traces(reference: str) -> Iterator[Trace]:
    """Yield the kept rows of a dataset, or the rows of a .jsonl file.

    Raises DataError for a row that is not a trace (with file and line), and for a finished version whose
    files differ from its manifest.
    """
    return scan(reference, Trace)


def read_rejected(reference: str) -> Iterator[RejectedTrace]:
    """Yield the rejected rows of a dataset, none for a .jsonl file. Raises as `read_traces` does."""
    return scan(reference, RejectedTrace, "rejected")


def _traces_folder(reference: str) -> Path:
    """The folder of a dataset's version. Raises UsageError for a checkpoint."""
    folder = versions.resolve(reference)
    if manifests.read(folder).kind == "checkpoint":
        raise UsageError(f"{folder} is a checkpoint: give a dataset of traces, or a .jsonl file")
    return folder


def folder_of(reference: str) -> Path:
    """The folder of a dataset's files, where the label files that its rows name are too."""
    path = versions.plain_file(reference)
    return (versions.resolve(reference) if path is None else path.parent).absolute()


def read_training_traces(references: Iterable[str], *, allow_benchmark: bool) -> Iterator[Trace]:
    """Yield the rows of several datasets. A benchmark row raises UsageError, unless it is allowed."""
    for reference in references:
        for trace in read_traces(reference):
            yield trace if allow_benchmark else for_training(trace, reference)


def for_training(trace: Trace, reference: str) -> Trace:
    """Return the row. Raises UsageError if it belongs to a benchmark."""
    if trace.benchmark is None:
        return trace
    raise UsageError(
        f"{reference}: row {trace.id} belongs to the benchmark {trace.benchmark}, which is for evaluation, "
        "not for training (--allow-benchmark-training allows it)"
    )


def count_rows(references: Iterable[str]) -> int:
    """Number of kept rows in several datasets: from the manifest, or the lines of a .jsonl file."""
    total = 0
    for reference in references:
        if (path := versions.plain_file(reference)) is not None:
            total += sum(1 for _ in lines(path))
        else:
            total += manifests.read(_traces_folder(reference)).counts.rows_kept
    return total


def count_bytes(references: Iterable[str]) -> int:
    """Bytes on disk of the kept rows of several datasets."""
    paths = (versions.plain_file(name) or versions.resolve(name) for name in references)
    return sum(file.stat().st_size for path in paths for file in row_files(path))


def conflict(row_id: str) -> DataError:
    """The error for two rows with one id and different content: we cannot know which one is meant."""
    return DataError(
        f"row {row_id} is in the input twice with different content: "
        "an edited copy needs a new row_key and id"
    )


def read_problems(reference: str) -> Iterator[Problem]:
    """Yield the problems of a dataset, none for a .jsonl file of traces: only versions list problems."""
    if versions.plain_file(reference) is None:
        folder = versions.resolve(reference)
        path = folder / "problems.jsonl"
        if not path.is_file():
            raise UsageError(f"{reference} holds no problems: it is not a dataset of traces")
        integrity.check_content(folder)
        yield from decoded(path, Problem)
