"""The rows of a version: append them, take over those of other versions, read them back.

    with versions.draft(out, header) as draft, Writer(draft) as writer:
        writer.append(trace)                                  kept
        writer.reject(trace, "wrong_answer", trace.answer)    kept too, beside, with the reason
        writer.fail(trace, "connection lost")                 tried again by the same command
        writer.finish(problems)

Text is never held in memory, an index of ids is.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.records import Problem, RejectedTrace, Trace
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store import versions
from distillpipe.data.store.jsonl import R, decoded, lines

if TYPE_CHECKING:  # they load numpy, which most commands have no use for
    pass


def read_traces(reference: str) -> Iterator[Trace]:
    """The kept rows of a dataset (`PATH`, `PATH@v1`) or the rows of a .jsonl file.

    Raises DataError with file and line for a row that is not a trace, and where a file of a finished
    version is not what its manifest says.
    """
    for path in trace_files(reference):
        yield from decoded(path, Trace)


def read_rejected(reference: str) -> Iterator[RejectedTrace]:
    """The rows of a dataset that its stage rejected; none for a .jsonl file. Errors as of `read_traces`."""
    if not Path(reference).is_file():
        folder = _traces_folder(reference)
        versions.check_content(folder)
        yield from read_rows(folder, "rejected", RejectedTrace)


def trace_files(reference: str) -> list[Path]:
    """The files that hold the rows of a dataset in their order, those of a finished version checked."""
    if (path := versions.plain_file(reference)) is not None:
        return [path]
    folder = _traces_folder(reference)
    versions.check_content(folder)
    return sorted(folder.glob("part-*.jsonl"))


def _traces_folder(reference: str) -> Path:
    """The folder of a dataset; a UsageError for that of a checkpoint."""
    folder = versions.resolve(reference)
    if manifests.read(folder).kind == "checkpoint":
        raise UsageError(f"{folder} is a checkpoint: give a dataset of traces, or a .jsonl file")
    return folder


def folder_of(reference: str) -> Path:
    """The folder that the files of a dataset lie in, those that its rows name too."""
    path = versions.plain_file(reference)
    return (versions.resolve(reference) if path is None else path.parent).absolute()


def read_training_traces(references: Iterable[str], *, allow_benchmark: bool) -> Iterator[Trace]:
    """The rows of several datasets one after the other; a row of a benchmark is a UsageError."""
    for reference in references:
        for trace in read_traces(reference):
            yield trace if allow_benchmark else for_training(trace, reference)


def for_training(trace: Trace, reference: str) -> Trace:
    """The row; a UsageError where it is of a benchmark."""
    if trace.benchmark is None:
        return trace
    raise UsageError(
        f"{reference}: row {trace.id} is of the benchmark {trace.benchmark}, "
        "which is for evaluation, not for training (--allow-benchmark-training)"
    )


def count_rows(references: Iterable[str]) -> int:
    """How many rows several datasets have: as their manifests say, of a file counted by lines."""
    total = 0
    for reference in references:
        if (path := versions.plain_file(reference)) is not None:
            total += sum(1 for _ in lines(path))
        else:
            total += manifests.read(_traces_folder(reference)).counts.rows_kept
    return total


def count_bytes(references: Iterable[str]) -> int:
    """How many bytes the kept rows of several datasets take on disk."""
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
    """The error for one id with two contents: which of the two was meant cannot be known."""
    return DataError(
        f"row {row_id} stands twice in the input with different content: "
        "an edited copy needs a new row_key and id"
    )


def read_problems(reference: str) -> Iterator[Problem]:
    """The problems of a dataset; none for a .jsonl file of traces, which has no list of its own."""
    if versions.plain_file(reference) is None:
        folder = versions.resolve(reference)
        path = folder / "problems.jsonl"
        if not path.is_file():
            raise UsageError(f"{reference} holds no problems: it is no dataset of traces")
        versions.check_content(folder)
        yield from decoded(path, Problem)


def read_rows(folder: Path, prefix: str, record: type[R]) -> Iterator[R]:
    """Rows of the files of one version that begin with `prefix`, in their order."""
    for path in sorted(folder.glob(f"{prefix}-*.jsonl")):
        yield from decoded(path, record)
