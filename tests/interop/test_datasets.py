"""Versions read by the real `datasets`: by their card, and as JSON with the features of the card.

30 MB, so that the reader infers types from many pieces; each optional value first appears in the last row.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.records import Message, SoftLabels, TokenCounts, Trace
from distillpipe.data.store import dataset
from distillpipe.data.store.versions import Header, draft
from distillpipe.data.store.writer import Writer

datasets: Any = pytest.importorskip("datasets", reason="no datasets: pip install datasets")
pytestmark = pytest.mark.slow

NUM_ROWS = 15_000
EVERY_VALUE: dict[str, Any] = {
    "benchmark": "math500", "reference_answer": "20", "domain": "algebra", "teacher": "QwQ",
    "served_by": "vllm", "seed": 123, "verdict": "correct", "answer": "20",
    "num_tokens": TokenCounts(prompt=1, reasoning=2, response=3, total=9),
    "soft_labels": SoftLabels(file="labels-0-00000", offset=5, length=9, k=20),
    "extra": '{"path":"p"}', "num_waits": 2, "forced_end": True, "sample": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def version(
    tmp_path_factory: pytest.TempPathFactory,
    make_trace: Callable[..., Trace],
    make_header: Callable[..., Header],
) -> Path:
    """A version of 30 MB whose last row is the only one that has everything."""
    out = tmp_path_factory.mktemp("runs") / "traces"
    nulls = {
        name: None for name in EVERY_VALUE if name not in ("num_waits", "forced_end", "sample")
    }
    bare = [Message(role="user", content="x" * 1500), Message(role="assistant", content="é")]
    with draft(out, make_header()) as opened, Writer(opened) as writer:
        for number in range(NUM_ROWS - 1):
            writer.append(make_trace(row_key=f"{number:032x}", messages=bare, **nulls))
        writer.append(make_trace(row_key=f"{NUM_ROWS:032x}", **EVERY_VALUE))
        writer.finish([])
    assert sum(path.stat().st_size for path in out.glob("v1/part-*")) > 29_000_000
    return out


@pytest.fixture
def rows(version: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows at both ends, as we read them."""
    found = [msgspec.to_builtins(trace) for trace in dataset.read_traces(str(version))]
    assert len(found) == NUM_ROWS
    yield [*found[:3], *found[-3:]]


def ends(loaded: Any) -> list[dict[str, Any]]:
    count = len(loaded)
    return [loaded[number] for number in (0, 1, 2, count - 3, count - 2, count - 1)]


def test_a_version_is_loaded_by_its_card(
    version: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    loaded = datasets.load_dataset(str(version / "latest"), cache_dir=str(tmp_path))

    assert list(loaded) == ["train"]
    assert ends(loaded["train"]) == rows
    assert loaded["train"].column_names == list(Trace.__struct_fields__)


def test_parts_are_loaded_as_json_with_the_features_of_the_card(
    version: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    card = datasets.load_dataset_builder(str(version / "latest"), cache_dir=str(tmp_path))
    parts = sorted(map(str, (version / "latest").glob("part-*.jsonl")))
    loaded = datasets.load_dataset(
        "json",
        data_files=parts,
        features=card.info.features,
        split="train",
        cache_dir=str(tmp_path),
    )

    assert ends(loaded) == rows


def test_a_version_is_streamed_by_its_card(version: Path, rows: list[dict[str, Any]]) -> None:
    streamed = datasets.load_dataset(str(version / "latest"), split="train", streaming=True)

    assert list(streamed.take(3)) == rows[:3]


def test_an_export_needs_no_features(version: Path, tmp_path: Path, distill: Any) -> None:
    for layout in ("trl", "sharegpt", "openai"):
        for reasoning in ("inline", "field"):
            out = tmp_path / f"{layout}-{reasoning}.jsonl"
            done = distill(
                "export", version, "--format", layout, "--reasoning", reasoning, "--out", out,
                "--allow-benchmark-training",
            )  # fmt: skip
            assert done.code == 0, done.err
            loaded = datasets.load_dataset(
                "json", data_files=str(out), split="train", cache_dir=str(tmp_path)
            )
            assert len(loaded) == NUM_ROWS
            assert "14+6=20." in str(loaded[NUM_ROWS - 1])
