"""`filter` on traces of the shipped teacher."""

from pathlib import Path

import msgspec
import pytest

from distillpipe.base.errors import DataError
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.records import RejectedTrace
from distillpipe.data.store import dataset, versions
from distillpipe.stages.filter import filter_traces
from distillpipe.stages.run import Run


def test_filter_keeps_right_and_bounded_rows_and_says_why_it_drops(
    traces: Path, clean: Path
) -> None:
    kept = list(dataset.read_traces(str(clean)))
    rejected = list(dataset.scan(versions.resolve(str(clean)), RejectedTrace, "rejected"))
    assert len(kept) + len(rejected) == 24
    assert all(row.verdict == "correct" and row.answer == row.reference_answer for row in kept)
    assert len({row.problem_id for row in kept}) == len(kept)
    assert {"duplicate", "over_per_problem"} & {row.reason for row in rejected}
    assert len(list(dataset.read_problems(dataset.find(str(clean))))) == len(kept)


def test_rejected_rows_can_be_filtered_again(
    clean: Path, tmp_path: Path, filtering: FilterOptions
) -> None:
    rejected = versions.resolve(str(clean)) / "rejected-00000.jsonl"
    again = filter_traces([str(rejected)], tmp_path / "again", filtering, Run())
    assert again.manifest.counts.rows_kept > 0


def test_filter_that_keeps_nothing_fails_with_the_funnel_and_stays_unfinished(
    traces: Path, tmp_path: Path, filtering: FilterOptions
) -> None:
    options = msgspec.structs.replace(filtering, max_reasoning_tokens=1)
    with pytest.raises(
        DataError, match=r"no row of 24 is left:\n.*24 rows .*too_many_reasoning_tokens"
    ):
        filter_traces([str(traces)], tmp_path / "none", options, Run())
    assert versions.finished(tmp_path / "none") == []
    assert len(versions.partials(tmp_path / "none")) == 1
