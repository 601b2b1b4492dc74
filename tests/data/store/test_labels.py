"""Label files: labels are read back, torn files are repaired, missing labels are an error."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillpipe.base.errors import DataError
from distillpipe.base.records import SoftLabels
from distillpipe.data.store import label_writer, labels
from distillpipe.data.store.label_writer import LabelWriter
from distillpipe.data.store.labels import (
    INSERTED,
    SAMPLED,
    Labels,
    LabelSource,
    Vocabulary,
    label_bytes,
    read_labels,
    read_source,
)

K = 3
VOCABULARY = Vocabulary("a hash", 400, {400: "<end>"}, (400,), None, None)
SOURCE = LabelSource(K, "teacher", "identity", VOCABULARY)


def made(length: int, seed: int = 0, k: int = K) -> Labels:
    random = np.random.default_rng(seed)
    logprobs = -np.sort(random.exponential(size=(length, k))).astype(np.float16)
    return Labels(
        tokens=random.integers(0, 151_936, length, dtype=np.uint32),
        flags=random.choice(np.array([SAMPLED, INSERTED], np.uint8), length),
        top_tokens=random.integers(0, 151_936, (length, k), dtype=np.uint32),
        top_logprobs=logprobs,
        own_logprobs=logprobs[:, 0],
    )


def assert_equal(one: Labels, other: Labels) -> None:
    for name, expected, found in zip(Labels._fields, one, other, strict=True):
        assert np.array_equal(expected, found), name


def written(folder: Path, lengths: list[int], producer: str = "run") -> list[SoftLabels]:
    writer = LabelWriter(folder, producer, SOURCE, [])
    found = [writer.append(made(length, seed)) for seed, length in enumerate(lengths)]
    writer.close()
    return found


def pairs_of(folder: Path) -> list[Path]:
    return [path for path in labels.files_of(folder) if path.suffix != ".json"]


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 40), max_size=8), k=st.integers(1, 20))
def test_what_is_written_is_read(tmp_path_factory, lengths: list[int], k: int) -> None:
    folder = tmp_path_factory.mktemp("labels")
    writer = LabelWriter(folder, "run", LabelSource(k, "teacher", "identity", VOCABULARY), [])
    slices = [writer.append(made(length, seed, k)) for seed, length in enumerate(lengths)]
    writer.close()
    for seed, (length, found) in enumerate(zip(lengths, slices, strict=True)):
        assert_equal(made(length, seed, k), read_labels(folder, found))


def test_a_token_takes_6k_and_7_bytes(tmp_path: Path) -> None:
    written(tmp_path, [10, 5])
    sizes = [path.stat().st_size for path in pairs_of(tmp_path)]
    assert sum(sizes) == 15 * (6 * K + 7) == label_bytes(15, K)


def test_a_row_knows_its_slice(tmp_path: Path) -> None:
    assert written(tmp_path, [10, 5]) == [
        SoftLabels(file="labels-run-00000", offset=0, length=10, k=K),
        SoftLabels(file="labels-run-00000", offset=10, length=5, k=K),
    ]


def test_a_full_file_is_followed_by_the_next(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(label_writer, "FILE_BYTES", 10 * labels.label_type(K).itemsize)
    slices = written(tmp_path, [6, 6, 6, 1])
    assert [(one.file[-5:], one.offset) for one in slices] == [
        ("00000", 0), ("00000", 6), ("00001", 0), ("00001", 6),
    ]  # fmt: skip
    writer = LabelWriter(tmp_path, "run", SOURCE, slices)
    assert writer.append(made(2)).offset == 7


def test_what_a_torn_run_left_behind_the_last_row_is_cut_off(tmp_path: Path) -> None:
    slices = written(tmp_path, [6, 4])
    with (tmp_path / "labels-run-00000.tokens").open("ab") as file:
        file.write(b"torn")
    writer = LabelWriter(tmp_path, "run", SOURCE, slices[:1])  # the second row never became durable
    again = writer.append(made(4, 1))
    writer.close()
    assert again == slices[1]
    assert_equal(made(6, 0), read_labels(tmp_path, slices[0]))
    assert_equal(made(4, 1), read_labels(tmp_path, again))


def test_files_without_any_row_are_begun_anew_and_others_stay(tmp_path: Path) -> None:
    written(tmp_path, [6])
    other = written(tmp_path, [5], producer="other")
    writer = LabelWriter(tmp_path, "run", SOURCE, other)
    assert writer.append(made(2)).offset == 0
    writer.close()
    assert_equal(made(5, 0), read_labels(tmp_path, other[0]))


@pytest.mark.parametrize("ending", ["tokens", "labels"])
def test_lost_labels_are_an_error_that_names_the_file(tmp_path: Path, ending: str) -> None:
    slices = written(tmp_path, [6, 4])
    path = tmp_path / f"labels-run-00000.{ending}"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(DataError, match=rf"{path}: a row names its labels 6 to 10"):
        read_labels(tmp_path, slices[1])
    with pytest.raises(DataError, match=rf"{path}: the rows of this draft name 10 labels"):
        LabelWriter(tmp_path, "run", SOURCE, slices)
    path.unlink()
    with pytest.raises(DataError, match="the file has 0"):
        read_labels(tmp_path, slices[0])


def test_labels_of_different_lengths_are_refused(tmp_path: Path) -> None:
    writer = LabelWriter(tmp_path, "run", SOURCE, [])
    with pytest.raises(ValueError, match="different lengths"):
        writer.append(made(4)._replace(flags=np.zeros(3, np.uint8)))
    with pytest.raises(ValueError, match="K is 2, but the files have 3 labels per token"):
        writer.append(made(4, k=2))
    assert labels.files_of(tmp_path) == []


def test_a_reader_learns_the_teacher_and_vocabulary_of_labels(tmp_path: Path) -> None:
    (found,) = written(tmp_path, [4], producer="3f9a")
    assert read_source(tmp_path, found) == SOURCE
    wider = msgspec.structs.replace(found, k=K + 1)
    with pytest.raises(
        DataError, match=f"{K} labels per token, but a row that names them says {K + 1}"
    ):
        read_source(tmp_path, wider)
    assert read_source(tmp_path, found).vocabulary == VOCABULARY
    path = tmp_path / "labels-3f9a.json"
    assert path in labels.files_of(tmp_path)
    path.write_text("{}")
    with pytest.raises(
        DataError, match=rf"{path} should describe the teacher of the labels.*copy the ver"
    ):
        read_source(tmp_path, found)
    path.unlink()
    with pytest.raises(DataError, match=rf"{path} should describe the teacher of the labels"):
        read_source(tmp_path, found)


WRITES_UNTIL_KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_labels import SOURCE, made
from distillpipe.data.store.label_writer import LabelWriter
writer = LabelWriter(Path(sys.argv[1]), "run", SOURCE, [])
for seed in range(10**6):
    found = writer.append(made(50, seed))
    writer.sync()
    print(found.offset, flush=True)
"""


def test_a_killed_run_leaves_every_row_it_named_with_its_labels(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES_UNTIL_KILLED, str(tmp_path), here],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    named = [int(process.stdout.readline()) for _ in range(40)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    slices = [
        SoftLabels(file="labels-run-00000", offset=offset, length=50, k=K) for offset in named
    ]
    LabelWriter(tmp_path, "run", SOURCE, slices)
    assert {path.stat().st_size for path in pairs_of(tmp_path)} == {
        2000 * 5,
        2000 * (6 * K + 2),
    }
    for seed, found in enumerate(slices):
        assert_equal(made(50, seed), read_labels(tmp_path, found))


def test_a_full_disk_leaves_both_files_at_the_last_whole_row(tmp_path: Path) -> None:
    script = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_labels import SOURCE, made
from distillpipe.data.store.label_writer import LabelWriter
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3500, 3500))
writer = LabelWriter(Path(sys.argv[1]), "run", SOURCE, [])
try:
    for seed in range(100):
        print(writer.append(made(50, seed)).offset, flush=True)
except OSError as error:
    print(error.filename)
"""
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), here], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    *offsets, name = done.stdout.split()
    assert (offsets, name) == (["0", "50", "100"], str(tmp_path / "labels-run-00000"))
    assert [path.stat().st_size for path in pairs_of(tmp_path)] == [150 * 20, 150 * 5]
