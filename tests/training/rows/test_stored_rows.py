"""Tokenized rows on disk: what was written comes back, and only a whole set counts."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillpipe.training.rows.rows import Row
from distillpipe.training.rows.stored_rows import StoredRows, remove, store

ROWS = [
    Row("3f9a12c07be2a1d4/7c41d2e80b6f3a55", [151644, 8, 0, 2**32 - 1], 2),
    Row("é/ü", [7], 0),  # an id that is no ASCII
    Row("all prompt", [5, 6], 2),
]


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows = store(tmp_path / "rows", ROWS)
    assert len(rows) == 3
    assert list(rows) == ROWS
    assert rows[-1] == ROWS[-1]
    assert rows[1:] == ROWS[1:]
    assert list(rows.names()) == [row.id for row in ROWS]
    assert rows.num_supervised == 2 + 1 + 0


def test_no_rows_are_an_empty_set(tmp_path: Path) -> None:
    rows = store(tmp_path / "rows", [])
    assert list(rows) == []
    assert rows.num_supervised == 0


@settings(max_examples=25)  # each makes durable files
@given(
    st.lists(
        st.tuples(st.text(max_size=5), st.lists(st.integers(0, 2**32 - 1), max_size=9)),
        unique_by=lambda pair: pair[0],
    )
)
def test_any_rows_come_back(stored: Callable[..., StoredRows], pairs) -> None:
    rows = [Row(name, ids, len(ids) // 2) for name, ids in pairs]
    assert list(stored(rows)) == rows


def unexpected() -> Iterator[Row]:
    raise AssertionError("the rows are there: nothing is to be read again")
    yield


def test_a_whole_set_is_opened_and_not_made_again(tmp_path: Path) -> None:
    store(tmp_path / "rows", ROWS)
    assert list(store(tmp_path / "rows", unexpected())) == ROWS


def breaking_off() -> Iterator[Row]:
    yield ROWS[0]
    raise KeyboardInterrupt


def test_a_set_that_broke_off_is_made_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path / "rows", breaking_off())
    assert [path.name for path in tmp_path.iterdir()] == ["rows.writing"]
    assert list(store(tmp_path / "rows", ROWS)) == ROWS
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]


@pytest.mark.parametrize("rows", [ROWS, breaking_off()], ids=["whole", "broken off"])
def test_nothing_is_left_of_rows_that_are_removed(tmp_path: Path, rows) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        store(tmp_path / "rows", rows)
    remove(tmp_path / "rows")
    assert list(tmp_path.iterdir()) == []


def test_a_row_takes_40_bytes_beside_its_tokens_and_its_id(tmp_path: Path) -> None:
    store(tmp_path / "rows", ROWS)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "rows").iterdir()}
    names = sum(len(row.id.encode()) for row in ROWS)
    assert sizes == {
        "index.bin": 3 * 40, "names.bin": names, "tokens.bin": 4 * 7, "labels.bin": 0, "files.json": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["index.bin", "names.bin", "tokens.bin", "labels.bin", "files.json"]
)
@pytest.mark.parametrize(
    "damage",
    [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1] + b"12")],
)
def test_a_set_that_is_not_as_it_was_written_is_made_anew(
    tmp_path: Path, name: str, damage: Callable[[Path], object]
) -> None:
    store(tmp_path / "rows", ROWS)
    damage(tmp_path / "rows" / name)
    assert list(store(tmp_path / "rows", ROWS)) == ROWS
    assert list(store(tmp_path / "rows", unexpected())) == ROWS  # whole again
