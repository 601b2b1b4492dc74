"""Read the rows of a dataset: kept rows, rejected rows and problems, one at a time.

A reference is `PATH` (the latest version), `PATH@v1`, the folder of a version, or a .jsonl file. `find` makes a
`Dataset` of it, once; everything else takes the `Dataset`. Rows of a finished version are read only after its files
were compared with the manifest. `writer` writes rows.

    scan(dataset, Struct)    all rows of a dataset, with only the fields that `Struct` has
    scan(dataset, Trace)     all kept rows, whole
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.hashing import cached_sha256
from distillpipe.base.records import Problem, SoftLabels, Trace
from distillpipe.data.store import integrity, versions
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.jsonl import R, decode, decoded, lines
from distillpipe.data.store.manifest import InputDataset, Manifest


class Dataset(msgspec.Struct, frozen=True):
    """A version of a dataset, or a plain file of rows."""

    name: str
    "the reference that the user gave"
    path: Path
    "the folder of the version, or the file"
    manifest: Manifest | None = None
    "null for a file"

    @property
    def is_file(self) -> bool:
        return self.manifest is None

    @property
    def labels_folder(self) -> Path:
        """The absolute path of the folder with the label files that its rows name."""
        return (self.path.parent if self.is_file else self.path).absolute()


def find(reference: str) -> Dataset:
    """The dataset that a reference names. Raises UsageError if there is none."""
    path = versions.follow_latest(Path(reference))
    if path.is_file():
        return Dataset(reference, path)
    return find_version(reference)


def find_version(reference: str) -> Dataset:
    """As `find`, but raise UsageError for a plain file."""
    folder = versions.resolve(reference)
    return Dataset(reference, folder, manifests.read(folder))


def find_versions(reference: str) -> dict[str, Dataset]:
    """The versions that a reference names, by name of the dataset; a folder of datasets, as of eval, names them all."""
    path = Path(reference)
    if path.is_dir() and not versions.holds_versions(path):
        datasets = [child for child in sorted(path.iterdir()) if versions.finished(child)]
        if datasets:
            return {child.name: find_version(str(child)) for child in datasets}
    version = find_version(reference)
    return {version.path.parent.name: version}


def describe(dataset: Dataset, out: Path) -> InputDataset:
    """The manifest entry for a dataset that a version under `out` reads: a version's id, or a file's sha256.

    Raises UsageError for an unfinished version, DataError if a file of a version has another size than written.
    """
    path, manifest = dataset.path, dataset.manifest
    if manifest is None:
        return InputDataset(str(path), None, cached_sha256(path), versions.relative_to(path, out))
    if manifest.id is None:
        raise UsageError(f"{path} is unfinished: run the command that makes it again to finish it")
    integrity.check_sizes(path, manifest)
    relative_path = versions.relative_to(path.parent, out)
    return InputDataset(str(path.parent), manifest.version, manifest.id, relative_path)


class RowKeys(msgspec.Struct, frozen=True):
    """The fields of a row that say which row it is and where its labels are."""

    id: str
    row_key: str
    soft_labels: SoftLabels | None = None


def scan(
    source: Dataset | Path, record: type[R], prefix: str = "part", *, skip_torn: bool = False
) -> Iterator[R]:
    """Yield the rows of a dataset as `record`, a struct with the fields that the caller needs.

    A finished version is checked. A Path is the folder of a version or draft, or a .jsonl file, read as it is.
    `prefix` chooses the files of a folder: "part" for kept rows, "rejected" for rejected ones. `skip_torn` skips a
    last line without a line feed: in a draft, another process may be writing it. Raises DataError with file and line
    for a row that does not decode, and for a finished version whose files differ from its manifest.
    """
    decoder = msgspec.json.Decoder(record)
    for where, line in scan_lines(source, prefix, skip_torn=skip_torn):
        yield decode(line, decoder, where)


def scan_lines(
    source: Dataset | Path, prefix: str = "part", *, skip_torn: bool = False
) -> Iterator[tuple[str, bytes]]:
    """As `scan`, but yield "FILE:LINE" and the bytes of each row, for callers that decode few rows."""
    for path in row_files(source, prefix):
        for number, line in lines(path, whole_only=skip_torn):
            yield f"{path}:{number}", line


def row_files(source: Dataset | Path, prefix: str = "part") -> list[Path]:
    """The files that `scan` reads, in order. A plain file holds kept rows only."""
    if isinstance(source, Path):
        return [source] if source.is_file() else sorted(source.glob(f"{prefix}-*.jsonl"))
    if source.is_file:
        return [source.path] if prefix == "part" else []
    _check_rows(source)
    integrity.check_content(source.path)
    return row_files(source.path, prefix)


def read_traces(reference: str) -> Iterator[Trace]:
    """Yield the kept rows of the dataset that a reference names, for the Python API and for scripts.

    Raises as `find` and `scan` do.
    """
    return scan(find(reference), Trace)


def _check_rows(dataset: Dataset) -> None:
    """Raise UsageError for a checkpoint, which holds no rows."""
    if dataset.manifest is not None and dataset.manifest.kind == "checkpoint":
        raise UsageError(
            f"{dataset.path} is a checkpoint: give a dataset of traces, or a .jsonl file"
        )


def read_training_traces(datasets: Iterable[Dataset], *, allow_benchmark: bool) -> Iterator[Trace]:
    """Yield the rows of several datasets. A benchmark row raises UsageError, unless it is allowed."""
    for dataset in datasets:
        for trace in scan(dataset, Trace):
            yield trace if allow_benchmark else for_training(trace, dataset.name)


def for_training(trace: Trace, dataset_name: str) -> Trace:
    """Return the row. Raises UsageError if it belongs to a benchmark."""
    if trace.benchmark is None:
        return trace
    raise UsageError(
        f"{dataset_name}: row {trace.id} belongs to the benchmark {trace.benchmark}, which is for evaluation, "
        "not for training (--allow-benchmark-training allows it)"
    )


def count_rows(datasets: Iterable[Dataset]) -> int:
    """Number of kept rows in several datasets: from the manifest, or the lines of a .jsonl file."""
    total = 0
    for dataset in datasets:
        _check_rows(dataset)
        if dataset.manifest is None:
            total += sum(1 for _ in lines(dataset.path))
        else:
            total += dataset.manifest.counts.rows_kept
    return total


def count_bytes(datasets: Iterable[Dataset]) -> int:
    """Bytes on disk of the kept rows of several datasets."""
    files = (file for dataset in datasets for file in row_files(dataset.path))
    return sum(file.stat().st_size for file in files)


def conflict(row_id: str) -> DataError:
    """The error for two rows with one id and different content: we cannot know which one is meant."""
    return DataError(
        f"row {row_id} is in the input twice with different content: "
        "an edited copy needs a new row_key and id"
    )


def read_problems(dataset: Dataset) -> Iterator[Problem]:
    """Yield the problems of a dataset, none for a .jsonl file of traces: only versions list problems."""
    if dataset.is_file:
        return
    path = dataset.path / "problems.jsonl"
    if not path.is_file():
        raise UsageError(f"{dataset.name} holds no problems: it is not a dataset of traces")
    integrity.check_content(dataset.path)
    yield from decoded(path, Problem)
