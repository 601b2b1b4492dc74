"""Single rows: found by id and by reason, drawn by hash."""

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.hashing import uniform
from distillpipe.base.records import RejectedTrace, Trace
from distillpipe.data.store import dataset, jsonl, versions
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.manifest import Manifest
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.reports import rows
from distillpipe.reports.rows import RowQuery, RowSelection

Make = Callable[..., Manifest]


@pytest.fixture
def version(tmp_path: Path, make: Make) -> Path:
    """A version of 5 kept rows and 12 + 1 rejected ones."""
    make(tmp_path / "clean", 5, {"wrong_answer": 12, "unfinished": 1}, stage="filter")
    return tmp_path / "clean/v1"


def choose(folder: Path, **wanted: object) -> RowSelection:
    return rows.choose(folder, manifests.read(folder), RowQuery(**wanted))  # type: ignore[arg-type]


def problems_of(found: RowSelection) -> list[int]:
    """Of "What is 3+1?" the 3."""
    return [int(re.findall(r"\d+", row.problem)[0]) for row in found.rows]


@pytest.mark.parametrize(("number", "kind"), [(0, Trace), (4, Trace), (5, RejectedTrace)])
def test_a_row_is_found_by_its_id_among_kept_and_rejected(
    version: Path, make_traces: Callable[..., list[Trace]], number: int, kind: type[Trace]
) -> None:
    row_id = make_traces(number + 1)[number].id

    found = choose(version, row=row_id)
    assert problems_of(found) == [number]
    assert (type(found.rows[0]), found.note) == (kind, None)
    assert problems_of(choose(version, row=row_id[:12])) == [number]


def test_an_id_is_not_looked_for_in_the_text(
    tmp_path: Path, make_trace: Callable[..., Trace], write_dataset: Callable[..., Manifest]
) -> None:
    tricky = make_trace(problem='{"id":"feed"}', id="beef/1", problem_id="feed", extra='"id":"feed')
    write_dataset(tmp_path, [tricky])

    assert [row.id for row in choose(tmp_path / "v1", row="be").rows] == ["beef/1"]
    with pytest.raises(UsageError, match="no row whose id starts with 'feed'"):
        choose(tmp_path / "v1", row="feed")


def test_a_search_ends_with_the_row_whose_whole_id_was_given(
    version: Path, make_traces: Callable[..., list[Trace]]
) -> None:
    part = version / "part-00000.jsonl"
    size = part.stat().st_size
    first, *_, last = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(
        first.ljust(size - len(last) - 1, b" ") + b"\n" + b"?" * (len(last) - 1) + b"\n"
    )

    assert problems_of(choose(version, row=make_traces(1)[0].id)) == [0]


def test_many_rows_that_begin_alike_are_cut_at_ten_and_it_is_said(
    tmp_path: Path, make_traces: Callable[..., list[Trace]], write_dataset: Callable[..., Manifest]
) -> None:
    write_dataset(
        tmp_path,
        [msgspec.structs.replace(trace, id=f"beef/{n}") for n, trace in enumerate(make_traces(12))],
    )

    found = choose(tmp_path / "v1", row="beef")
    assert len(found.rows) == 10
    assert (
        found.note == "more than 10 ids start with 'beef'; these are the first 10: give a longer id"
    )


def test_rows_of_a_reason_are_the_first_ten_and_it_is_said_of_how_many(version: Path) -> None:
    found = choose(version, reason="wrong_answer")

    assert problems_of(found) == list(range(5, 15))
    assert {row.reason for row in found.rows if isinstance(row, RejectedTrace)} == {"wrong_answer"}
    assert found.note == (
        "the first 10 of 12 rows rejected for wrong_answer; --sample N draws among them"
    )
    assert choose(version, reason="unfinished").note is None
    assert problems_of(choose(version, reason="unfinished")) == [17]


def test_an_unknown_reason_is_an_error_that_names_the_nearest(version: Path) -> None:
    with pytest.raises(UsageError) as caught:
        choose(version, reason="wrong_anwser")
    assert str(caught.value) == (
        f"{version} has no row rejected for 'wrong_anwser': did you mean 'wrong_answer'? "
        "its reasons are wrong_answer 12, unfinished 1"
    )


def test_a_reason_where_nothing_was_rejected_is_an_error(tmp_path: Path, make: Make) -> None:
    make(tmp_path, 1)
    with pytest.raises(UsageError, match=r"v1 has no rejected rows: leave --reason out$"):
        choose(tmp_path / "v1", reason="wrong_answer")


def test_a_sample_is_of_the_kept_in_the_order_of_a_hash_of_seed_and_id(
    version: Path, make_traces: Callable[..., list[Trace]]
) -> None:
    ids = [trace.id for trace in make_traces(5)]
    by_hash = sorted(range(5), key=lambda number: uniform(0, ids[number]))

    assert problems_of(choose(version, sample=2)) == by_hash[:2]
    assert problems_of(choose(version, sample=3)) == by_hash[:3]
    other = sorted(range(5), key=lambda number: uniform(1, ids[number]))
    assert problems_of(choose(version, sample=5, seed=1)) == other
    assert choose(version, sample=2).note == "2 of 5 rows kept, drawn with seed 0"


def test_a_sample_larger_than_the_dataset_is_all_of_it(version: Path) -> None:
    found = choose(version, sample=100)

    assert sorted(problems_of(found)) == [0, 1, 2, 3, 4]
    assert found.note == "5 of 5 rows kept, drawn with seed 0"


def test_a_sample_of_a_reason_is_drawn_among_its_rows(version: Path) -> None:
    found = choose(version, reason="wrong_answer", sample=12)

    assert sorted(problems_of(found)) == list(range(5, 17))
    assert problems_of(choose(version, reason="wrong_answer", sample=1)) == problems_of(found)[:1]
    assert found.note == "12 of 12 rows rejected for wrong_answer, drawn with seed 0"


def test_the_sample_does_not_depend_on_the_order_of_the_rows(
    tmp_path: Path, make_traces: Callable[..., list[Trace]], write_dataset: Callable[..., Manifest]
) -> None:
    traces = make_traces(9)
    write_dataset(tmp_path / "one", traces)
    write_dataset(tmp_path / "two", traces[::-1])

    one, two = (choose(tmp_path / name / "v1", sample=4).rows for name in ("one", "two"))
    assert one == two


def test_a_sample_of_nothing_is_an_error(tmp_path: Path, make: Make) -> None:
    make(tmp_path, 0, {"wrong_answer": 1})
    with pytest.raises(UsageError, match="v1 has no kept rows: --reason R shows rejected ones"):
        choose(tmp_path / "v1", sample=1)


def test_only_lines_that_hold_what_is_looked_for_are_decoded(
    version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []

    def counting(line: bytes, decoder: object, where: str) -> object:
        decoded.append(where)
        return jsonl.decode(line, decoder, where)  # type: ignore[arg-type]

    monkeypatch.setattr(rows, "decode", counting)
    choose(version, reason="unfinished")
    choose(version, sample=2)
    assert len(decoded) == 1 + 2


def test_rows_of_a_draft_are_shown_but_for_a_torn_line(
    tmp_path: Path, make_header: Callable[..., Header], make_traces: Callable[..., list[Trace]]
) -> None:
    one, two = make_traces(2)
    with versions.draft(tmp_path, make_header()) as draft, Writer(draft) as writer:
        writer.append(one)
        writer.reject(two, "unfinished", None)
    folder = tmp_path / "v1.partial"
    with (folder / "part-00000.jsonl").open("ab") as file:
        file.write(b'{"schema":"trace/1","id":"torn')

    assert choose(folder, sample=5).rows == [one]
    assert problems_of(choose(folder, reason="unfinished")) == [1]
    with pytest.raises(UsageError, match="no row whose id starts with 'torn'"):
        choose(folder, row="torn")


def test_a_file_that_was_cut_short_is_an_error(version: Path) -> None:
    with (version / "part-00000.jsonl").open("rb+") as file:
        file.truncate(100)
    with pytest.raises(DataError, match=r"part-00000\.jsonl has 100 bytes"):
        choose(version, sample=1)


@pytest.mark.parametrize(
    ("wanted", "flag"),
    [
        (RowQuery(), None),
        (RowQuery(seed=3), None),
        (RowQuery(row="a"), "--row"),
        (RowQuery(reason="a", sample=1), "--reason"),
        (RowQuery(sample=1), "--sample"),
    ],
)
def test_an_option_asks_for_rows(wanted: RowQuery, flag: str | None) -> None:
    assert wanted.flag == flag


@pytest.mark.parametrize(
    ("wanted", "other"), [(RowQuery("a", "b"), "--reason"), (RowQuery("a", sample=1), "--sample")]
)
def test_a_row_by_its_id_goes_with_no_other_choice(wanted: RowQuery, other: str) -> None:
    with pytest.raises(UsageError, match=f"--row selects a single row: leave {other} out"):
        _ = wanted.flag


def test_rows_are_read_back_as_they_were_written(version: Path) -> None:
    kept = list(dataset.scan(version, Trace))
    assert sorted(choose(version, sample=5).rows, key=lambda row: row.problem) == kept
