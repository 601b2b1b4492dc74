"""Rows with soft labels in drafts and other versions: rows and labels match after any kill or loss."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from distillpipe.base import filesystem
from distillpipe.base.errors import DataError
from distillpipe.base.hashing import file_sha256
from distillpipe.base.records import Trace
from distillpipe.data.store import label_writer, versions
from distillpipe.data.store.dataset import scan
from distillpipe.data.store.labels import (
    INSERTED,
    SAMPLED,
    Labels,
    LabelSource,
    Vocabulary,
    files_of,
    label_bytes,
    read_labels,
    unlabelled,
)
from distillpipe.data.store.reuse import labelled_before
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer

K = 3
LENGTH = 6
SOURCE = LabelSource(K, "teacher", "identity", Vocabulary("hash", 9, {}, (8,), None, None))
MakeTraces = Callable[..., list[Trace]]
MakeHeader = Callable[..., Header]


def labels_of(trace: Trace, k: int = K) -> Labels:
    """Labels that differ for each row."""
    first = int(trace.row_key[:4], 16)
    ids = np.arange(first, first + LENGTH, dtype=np.uint32)
    top = np.stack([ids + number for number in range(k)], axis=1)
    logprobs = (top / -(2.0**16)).astype(np.float16)
    return Labels(ids, np.full(LENGTH, SAMPLED, np.uint8), top, logprobs, logprobs[:, 0])


@contextmanager
def opened(out: Path, header: Header, source: LabelSource = SOURCE) -> Iterator[Writer]:
    with (
        versions.draft(out, header) as draft,
        Writer(draft, soft_labels=source) as writer,
    ):
        yield writer


def append(writer: Writer, *traces: Trace) -> None:
    for trace in traces:
        writer.append(trace, labels_of(trace))


def check(folder: Path, traces: list[Trace], k: int = K) -> None:
    """Check that a version has exactly these rows, each with its labels, and no other labels."""
    rows = list(scan(folder, Trace))
    assert sorted(row.id for row in rows) == sorted(trace.id for trace in traces)
    for row in rows:
        assert row.soft_labels is not None
        for found, expected in zip(
            read_labels(folder, row.soft_labels), labels_of(row, k), strict=True
        ):
            assert np.array_equal(found, expected)
    sizes = [path.stat().st_size for path in files_of(folder) if path.suffix != ".json"]
    assert sum(sizes) == label_bytes(len(traces) * LENGTH, k)


def test_a_version_lists_label_files_and_its_rows_name_slices(
    tmp_path: Path, make_traces: MakeTraces, make_header: MakeHeader
) -> None:
    traces = make_traces(3)
    header = make_header()
    with opened(tmp_path, header) as writer:
        append(writer, *traces)
        manifest = writer.finish([])
    check(tmp_path / "v1", traces)
    prefix = f"labels-{header.fingerprint[:16]}"
    listed = {entry.name: entry for entry in manifest.files}
    names = [f"{prefix}-00000.labels", f"{prefix}-00000.tokens", f"{prefix}.json"]
    assert sorted(listed) == [*names, "part-00000.jsonl", "problems.jsonl"]
    for name in names:
        path = tmp_path / "v1" / name
        assert (listed[name].bytes, listed[name].sha256) == (path.stat().st_size, file_sha256(path))


def test_the_id_of_a_version_does_not_depend_on_the_order_of_its_rows(
    tmp_path: Path, make_traces: MakeTraces, make_header: MakeHeader
) -> None:
    traces = make_traces(3)
    ids = []
    for name, order in (("one", traces), ("other", traces[::-1])):
        with opened(tmp_path / name, make_header()) as writer:
            append(writer, *order[:2])
        with opened(tmp_path / name, make_header()) as writer:  # hashed when read again, too
            append(writer, *order[2:])
            ids.append(writer.finish([]).id)
    assert ids[0] == ids[1]


def test_rows_without_labels_and_rejected_rows_mix_with_others(
    tmp_path: Path, make_traces: MakeTraces, make_header: MakeHeader
) -> None:
    one, two, three = make_traces(3)
    with opened(tmp_path, make_header()) as writer:
        append(writer, one)
        writer.append(two)
        writer.reject(three, "prompt_too_long", 9)
        writer.finish([])
    rows = scan(tmp_path / "v1", Trace)
    assert [row.soft_labels is None for row in rows] == [False, True]


def test_labels_are_synced_before_the_rows_that_name_them(
    tmp_path: Path,
    make_traces: MakeTraces,
    make_header: MakeHeader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    synced: list[str] = []

    def sync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().suffix)
        os.fdatasync(descriptor)

    monkeypatch.setattr(filesystem, "_sync_content", sync)
    traces = make_traces(4)
    with (
        versions.draft(tmp_path, make_header()) as draft,
        Writer(draft, sync_rows=2, soft_labels=SOURCE) as writer,
    ):
        append(writer, *traces)
    assert synced == [".tokens", ".labels", ".jsonl"] * 2


def left_behind(out: Path, header: Header, traces: list[Trace]) -> tuple[Path, Path]:
    """The part and the `.labels` file of a draft with these rows."""
    with opened(out, header) as writer:
        append(writer, *traces)
        folder = writer.draft.path
    return folder / "part-00000.jsonl", next(folder.glob("labels-*.labels"))


@pytest.mark.parametrize("torn", ["row", "whole row"])
def test_labels_of_a_row_that_was_torn_off_are_cut_off_and_made_anew(
    tmp_path: Path, make_traces: MakeTraces, make_header: MakeHeader, torn: str
) -> None:
    traces = make_traces(3)
    part, _ = left_behind(tmp_path, make_header(), traces)
    *whole, last = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(whole) + (last[:-1] if torn == "row" else b""))
    with opened(tmp_path, make_header()) as writer:
        assert writer.done == {trace.id for trace in traces[:2]}
        append(writer, traces[2])
        writer.finish([])
    check(tmp_path / "v1", traces)


@pytest.mark.parametrize("num_bytes", [1, 2 * LENGTH * (6 * K + 2)])
def test_last_rows_that_lost_their_labels_are_cut_and_made_again(
    tmp_path: Path, make_traces: MakeTraces, make_header: MakeHeader, num_bytes: int
) -> None:
    traces = make_traces(4)
    _, labels = left_behind(tmp_path, make_header(), traces)
    os.truncate(labels, labels.stat().st_size - num_bytes)
    num_left = 3 if num_bytes == 1 else 2
    with opened(tmp_path, make_header()) as writer:
        assert writer.done == {trace.id for trace in traces[:num_left]}
        append(writer, *traces[num_left:])
        writer.finish([])
    check(tmp_path / "v1", traces)


def test_too_many_rows_without_labels_are_an_error_and_stay(
    tmp_path: Path, make_traces: MakeTraces, make_header: MakeHeader
) -> None:
    part, labels = left_behind(tmp_path, make_header(), make_traces(4))
    before = part.read_bytes()
    os.truncate(labels, 1)
    with (
        versions.draft(tmp_path, make_header()) as draft,
        pytest.raises(DataError, match=rf"{labels}: the rows of this draft name 24 labels, but"),
    ):
        Writer(draft, sync_rows=3, soft_labels=SOURCE)
    assert part.read_bytes() == before


def test_at_most_max_rows_without_labels_are_cut_off(
    tmp_path: Path, make_traces: MakeTraces, make_header: MakeHeader
) -> None:
    part, labels = left_behind(tmp_path, make_header(), make_traces(3))
    os.truncate(labels, 1)
    label_writer.cut_rows_without_labels(part.parent, max_rows=3)
    assert part.read_bytes() == b""


def test_rows_with_enough_labels_of_the_model_are_reused(
    tmp_path: Path, make_traces: MakeTraces, make_header: MakeHeader
) -> None:
    one, two, three, four = make_traces(4)
    with opened(tmp_path, make_header("plain")) as writer:
        writer.append(one)
        writer.finish([])
    other = msgspec.structs.replace(SOURCE, identity="another model")
    with opened(tmp_path, make_header("other"), other) as writer:
        append(writer, one, two)
        writer.finish([])
    with opened(tmp_path, make_header()) as writer:
        append(writer, one, three, four)
    wanted = {one.row_key, two.row_key, three.row_key}
    found = list(labelled_before(tmp_path, wanted, 2, "identity"))
    assert [trace.row_key for trace, _ in found] == [one.row_key, three.row_key]
    for trace, labels in found:
        for got, expected in zip(labels, labels_of(trace, 2), strict=True):
            assert np.array_equal(got, expected)
    assert list(labelled_before(tmp_path, wanted, K + 1, "identity")) == []


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)


@pytest.mark.parametrize("ending", [".labels", ".tokens", ".json"])
def test_labels_of_a_version_that_were_changed_are_not_taken_over(
    tmp_path: Path, make_traces: MakeTraces, make_header: MakeHeader, ending: str
) -> None:
    traces = make_traces(2)
    for name in ("one", "other"):
        with opened(tmp_path, make_header(name)) as writer:
            append(writer, *traces[: 1 if name == "other" else 2])
            writer.finish([])
    flipped(next((tmp_path / "v1").glob(f"labels-*{ending}")))
    found = list(labelled_before(tmp_path, {trace.row_key for trace in traces}, K, "identity"))
    assert [trace.row_key for trace, _ in found] == [traces[0].row_key]  # those of v2


@pytest.mark.parametrize("ending", [".labels", ".tokens"])
def test_a_draft_made_of_a_version_with_changed_labels_is_refused(
    tmp_path: Path, make_traces: MakeTraces, make_header: MakeHeader, ending: str
) -> None:
    with opened(tmp_path, make_header()) as writer:
        append(writer, *make_traces(2))
        writer.finish([])
    draft = (tmp_path / "v1").rename(tmp_path / "v1.partial")
    changed = next(draft.glob(f"labels-*{ending}"))
    flipped(changed)
    before = {path: path.read_bytes() for path in draft.iterdir()}
    said = rf"{changed} was changed after .*: restore the original file, or label the rows again, .*distill label"
    with pytest.raises(DataError, match=said), opened(tmp_path, make_header()):
        pass
    assert {path: path.read_bytes() for path in draft.iterdir()} == before


def test_a_draft_made_of_a_version_repairs_its_source_file(
    tmp_path: Path, make_traces: MakeTraces, make_header: MakeHeader
) -> None:
    traces = make_traces(2)
    with opened(tmp_path, make_header()) as writer:
        append(writer, *traces)
        writer.finish([])
    draft = (tmp_path / "v1").rename(tmp_path / "v1.partial")
    source = next(draft.glob("labels-*.json"))
    before = source.read_bytes()
    source.write_bytes(b"{")
    with opened(tmp_path, make_header()) as writer:
        writer.finish([])
    check(tmp_path / "v1", traces)
    assert (tmp_path / "v1" / source.name).read_bytes() == before


def test_tokens_without_a_label_say_so() -> None:
    found = unlabelled([5, 7], K, INSERTED)
    found.check()
    assert found.tokens.tolist() == [5, 7]
    assert found.flags.tolist() == [INSERTED, INSERTED]
    assert np.isneginf(found.top_logprobs).all()
