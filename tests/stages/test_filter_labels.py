"""`filter` and soft labels: every row that is kept has its own afterwards, whatever became of the files."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from distillpipe.base.errors import DataError
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.records import RejectedTrace, Trace
from distillpipe.data.store import versions
from distillpipe.data.store.dataset import read_traces, scan
from distillpipe.data.store.labels import (
    SAMPLED,
    Labels,
    LabelSource,
    Vocabulary,
    files_of,
    label_bytes,
    read_labels,
)
from distillpipe.data.store.manifest import Manifest
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.stages.filter import filter_traces
from distillpipe.stages.run import Run

K, LENGTH, NUM_ROWS = 3, 6, 10
VOCABULARY = Vocabulary("hash", 9, {8: "<|im_end|>"}, (8,), None, None)
SOURCE = LabelSource(K, "teacher", "identity", VOCABULARY)
OPTIONS = FilterOptions(
    verdicts=("correct",), verifier=None, min_reasoning_tokens=0, max_reasoning_tokens=None,
    dedup="exact", per_problem=None, seed=0, max_repetition=1.0, max_foreign_letters=None,
)  # fmt: skip

Labelled = Callable[..., Path]


def labels_of(row_key: str, k: int, first: int) -> Labels:
    """Labels that are those of one row alone, by its key and the `first` token of its dataset."""
    ids = np.arange(LENGTH, dtype=np.uint32) + first + int(row_key[:4], 16)
    top = np.stack([ids + number for number in range(k)], axis=1)
    logprobs = (top / -(2.0**16)).astype(np.float16)
    return Labels(ids, np.full(LENGTH, SAMPLED, np.uint8), top, logprobs, logprobs[:, 0])


@pytest.fixture
def labelled(
    tmp_path: Path, make_header: Callable[..., Header], make_traces: Callable[..., list[Trace]]
) -> Labelled:
    """`labelled("a")` is a dataset of rows with labels; of one name all have label files of the same names."""

    def factory(
        name: str, source: LabelSource = SOURCE, first: int = 0, rows: slice = slice(None)
    ) -> Path:
        out = tmp_path / f"{name}-{first}"
        with (
            versions.draft(out, make_header(name)) as draft,
            Writer(draft, soft_labels=source) as writer,
        ):
            for trace in make_traces(NUM_ROWS)[rows]:
                writer.append(trace, labels_of(trace.row_key, source.k, first))
            writer.finish([])
        return out

    return factory


def run(inputs: list[Path], out: Path, **changes: Any) -> Manifest:
    options = msgspec.structs.replace(OPTIONS, **changes)
    return filter_traces([str(path) for path in inputs], out, options, Run()).manifest


def check(out: Path, num_rows: int, k: int = K, first: dict[str, int] | None = None) -> list[Trace]:
    """The kept rows, each with its own labels."""
    folder = versions.resolve(str(out))
    rows = list(read_traces(str(out)))
    assert len(rows) == num_rows
    for row in rows:
        assert row.soft_labels is not None
        expected = labels_of(row.row_key, k, (first or {}).get(row.id, 0))
        for one, other in zip(read_labels(folder, row.soft_labels), expected, strict=True):
            assert np.array_equal(one, other)
    return rows


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in files_of(folder)}


def test_label_files_are_linked_and_the_rejected_rows_keep_theirs(
    tmp_path: Path, labelled: Labelled
) -> None:
    source = labelled("a")
    manifest = run([source], tmp_path / "clean", select=7)
    check(tmp_path / "clean", 7)
    assert inodes(tmp_path / "clean" / "v1") == inodes(source / "v1")
    assert {entry.name for entry in manifest.files} > set(inodes(source / "v1"))
    rejected = list(scan(tmp_path / "clean" / "v1", RejectedTrace, "rejected"))
    before = {row.id: row.soft_labels for row in read_traces(str(source))}
    assert {row.id: before[row.id] for row in rejected} == {
        row.id: row.soft_labels for row in rejected
    }


def test_only_the_labels_of_few_rows_are_copied(tmp_path: Path, labelled: Labelled) -> None:
    source = labelled("a")
    manifest = run([source], tmp_path / "clean", select=2)
    rows = check(tmp_path / "clean", 2)
    folder = tmp_path / "clean" / "v1"
    assert not inodes(folder).keys() & inodes(source / "v1").keys()
    sizes = [path.stat().st_size for path in files_of(folder) if path.suffix != ".json"]
    assert sum(sizes) == label_bytes(2 * LENGTH, K)
    rejected = list(scan(folder, RejectedTrace, "rejected"))
    assert [row.soft_labels for row in rejected] == [None] * 8
    before = {row.id: row for row in read_traces(str(source))}
    for row in rows:  # nothing else of it is new
        assert msgspec.structs.replace(row, soft_labels=None, answer=None, verdict=None) == (
            msgspec.structs.replace(before[row.id], soft_labels=None)
        )
    assert manifest.counts.rows_kept == 2


def test_a_quarter_of_the_labels_is_linked(tmp_path: Path, labelled: Labelled) -> None:
    source = labelled("a", rows=slice(8))
    run([source], tmp_path / "clean", select=2)
    assert inodes(tmp_path / "clean" / "v1") == inodes(source / "v1")


def test_other_files_of_the_same_name_are_copied(tmp_path: Path, labelled: Labelled) -> None:
    one, other = labelled("a", rows=slice(0, 6)), labelled("a", first=500, rows=slice(6, 10))
    assert inodes(one / "v1").keys() == inodes(other / "v1").keys()
    run([one, other], tmp_path / "clean")
    ids = {row.id: 500 for row in read_traces(str(other))}
    check(tmp_path / "clean", 10, first=ids)
    found = inodes(tmp_path / "clean" / "v1")
    assert inodes(one / "v1").items() <= found.items()
    assert len(found) == 6


def test_versions_of_one_dataset_share_its_files(tmp_path: Path, labelled: Labelled) -> None:
    source = labelled("a")
    run([source], tmp_path / "one", select=4)
    run([source], tmp_path / "other", select=6, seed=1)
    run([tmp_path / "one", tmp_path / "other", source], tmp_path / "all")
    check(tmp_path / "all", 10)
    assert inodes(tmp_path / "all" / "v1") == inodes(source / "v1")


def test_labels_of_different_widths_go_side_by_side_linked_or_copied(
    tmp_path: Path, labelled: Labelled
) -> None:
    narrow = labelled("a", rows=slice(0, 5))
    wide = labelled("b", LabelSource(5, "other", "identity 2", VOCABULARY), rows=slice(5, 10))
    for select in (None, 2):
        out = tmp_path / f"clean-{select}"
        run([narrow, wide], out, select=select)
        for row in read_traces(str(out)):
            assert row.soft_labels is not None
            expected = labels_of(row.row_key, row.soft_labels.k, 0)
            found = read_labels(out / "v1", row.soft_labels)
            assert all(map(np.array_equal, found, expected))


def test_a_row_that_stands_twice_is_one_row_wherever_its_labels_are(
    tmp_path: Path, labelled: Labelled
) -> None:
    source = labelled("a")
    run([source], tmp_path / "few", select=2)
    run([source, tmp_path / "few"], tmp_path / "all")
    check(tmp_path / "all", 10)


def test_across_devices_label_files_are_copied(
    tmp_path: Path, labelled: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(target))

    source = labelled("a")
    monkeypatch.setattr(Path, "hardlink_to", refused)
    run([source], tmp_path / "clean")
    check(tmp_path / "clean", 10)
    found = inodes(tmp_path / "clean" / "v1")
    assert found.keys() == inodes(source / "v1").keys()
    assert not set(found.values()) & set(inodes(source / "v1").values())


@pytest.mark.parametrize("select", [8, 2])
def test_a_draft_with_labels_is_gone_on_with(
    tmp_path: Path, labelled: Labelled, select: int
) -> None:
    source, out = labelled("a"), tmp_path / "clean"
    before = run([source], out, select=select)
    (out / "latest").unlink()
    draft = (out / "v1").rename(out / "v1.partial")
    part = draft / "part-00000.jsonl"
    part.write_bytes(part.read_bytes()[:1000])  # of the second row
    files_of(draft)[0].unlink()
    again = run([source], out, select=select)
    assert (again.id, again.version) == (before.id, "v1")
    check(out, select)


def test_a_plain_file_beside_its_labels_keeps_them(tmp_path: Path, labelled: Labelled) -> None:
    run([labelled("a") / "v1" / "part-00000.jsonl"], tmp_path / "clean")
    check(tmp_path / "clean", 10)


def test_a_row_that_says_another_k_than_its_labels_have_is_refused(
    tmp_path: Path, labelled: Labelled
) -> None:
    path = labelled("a") / "v1" / "part-00000.jsonl"
    content = path.read_bytes()
    for wrong, said in ((b'"k":2', "3 labels per token, but a row .* says 2"), (b'"k":0', ">= 1")):
        (path.parent / "edited.jsonl").write_bytes(content.replace(b'"k":3', wrong, 1))
        with pytest.raises(DataError, match=said):
            run([path.parent / "edited.jsonl"], tmp_path / "out")


def test_rows_of_a_plain_file_without_their_labels_go_on_without_and_are_counted(
    tmp_path: Path, labelled: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    source = labelled("a")
    plain = tmp_path / "plain.jsonl"
    plain.write_bytes((source / "v1" / "part-00000.jsonl").read_bytes())
    run([plain], tmp_path / "clean")
    assert [row.soft_labels for row in read_traces(str(tmp_path / "clean"))] == [None] * 10
    assert "10 rows name soft labels that are not beside their file" in capsys.readouterr().err
    assert files_of(tmp_path / "clean" / "v1") == []
