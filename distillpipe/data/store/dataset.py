"""Read the rows of a dataset: kept rows, rejected rows and problems, one at a time.

A reference is `PATH` (the latest version), `PATH@v1`, the folder of a version, or a .jsonl file. Rows of a
finished version are read only after its files were compared with the manifest. `writer` writes rows.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.records import Problem, RejectedTrace, Trace
from distillpipe.data.store import integrity, versions
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.jsonl import R, decoded, lines


def read_traces(reference: str) -> Iterator[Trace]:
    """Yield the kept rows of a dataset, or the rows of a .jsonl file.

    Raises DataError for a row that is not a trace (with file and line), and for a finished version whose
    files differ from its manifest.
    """
    for path in trace_files(reference):
        yield from decoded(path, Trace)


def read_rejected(reference: str) -> Iterator[RejectedTrace]:
    """Yield the rejected rows of a dataset, none for a .jsonl file. Raises as `read_traces` does."""
    if not Path(reference).is_file():
        folder = _traces_folder(reference)
        integrity.check_content(folder)
        yield from read_rows(folder, "rejected", RejectedTrace)


def trace_files(reference: str) -> list[Path]:
    """The files with the kept rows of a dataset, in order. Those of a finished version are checked."""
    if (path := versions.plain_file(reference)) is not None:
        return [path]
    folder = _traces_folder(reference)
    integrity.check_content(folder)
    return sorted(folder.glob("part-*.jsonl"))


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
    return sum(
        path.stat().st_size
        for reference in references
        for path in (
            [Path(reference)]
            if versions.plain_file(reference) is not None
            else versions.resolve(reference).glob("part-*.jsonl")
        )
    )


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


def read_rows(folder: Path, prefix: str, record: type[R]) -> Iterator[R]:
    """Yield the rows of one folder from its files `PREFIX-*.jsonl`, in order. Files are not checked."""
    for path in sorted(folder.glob(f"{prefix}-*.jsonl")):
        yield from decoded(path, record)
