"""The text of `show`: exact lines from values."""

from collections.abc import Callable

import pytest

from distillpipe.base.records import Message, RejectedTrace, Trace
from distillpipe.data.store.counts import Counts, Dropped, distribution
from distillpipe.data.store.manifest import InputDataset, Manifest, ModelUsed
from distillpipe.reports import dataset_text
from distillpipe.reports.disk import Folder, Partial
from distillpipe.reports.lineage import FunnelStep


def manifest(**changes: object) -> Manifest:
    """Of a filter that kept 3 of 6 rows."""
    found = Manifest(
        kind="traces",
        stage="filter",
        version="v2",
        fingerprint="",
        takes_over=True,
        options={},
        inputs=[InputDataset("runs/traces", "v1", "0123456789abcdef0123456789abcdef")],
        models=[ModelUsed("teacher", "Qwen/QwQ-32B", "hub:Qwen/QwQ-32B@976055f")],
        created="2026-11-21T10:00:58+00:00",
        finished="2026-11-21T10:02:00+00:00",
        licences=["apache-2.0"],
        counts=Counts(
            rows_read=6,
            rows_kept=3,
            rows_rejected=3,
            rows_reused=2,
            seconds=61.96,
            dropped={"unfinished": Dropped(1, 256), "wrong_answer": Dropped(2, 1234)},
            verdicts={"wrong": 1, "correct": 2},
            reasoning_tokens=distribution([10, 11, 30]),
            completion_tokens=distribution([1015, 1016, 1035]),
        ),
    )
    for name, value in changes.items():
        setattr(found, name, value)
    return found


FUNNEL = [FunnelStep("traces", "v1", "runs/traces/v1", "gone", "traces")]
PARTIALS = [Partial("v3.partial", 1200, 3, 4, 2_000_000), Partial("v4.partial", None, None, 0, 0)]
FOLDER = Folder(
    "v2", {"v1": 999, "v2": 1500, "v3.partial": 2_000_000, "v4.partial": 0}, 2_002_499, PARTIALS
)


def test_the_details_of_a_version() -> None:
    assert "\n".join(dataset_text.details("clean", manifest(), FUNNEL, FOLDER)) == (
        """\
clean v2: traces, made by filter; latest
  begun 2026-11-21 10:00:58, finished 2026-11-21 10:02:00, 62.0 s of work
  6 rows read: 3 kept (2 of them taken over), 3 rejected
  licence of the teachers: apache-2.0

funnel
    traces v1  traces (gone)

inputs
  runs/traces  v1  0123456789abcdef

models
  teacher  Qwen/QwQ-32B  hub:Qwen/QwQ-32B@976055f

dropped
  2  rows  1,234  tokens  wrong_answer
  1  rows    256  tokens  unfinished

verdicts of the rows kept
  correct 2, wrong 1

tokens of the rows kept
                 mean    min     p5    p25    p50    p75    p95    p99    max
  reasoning      17.0     10     10     10     11     30     30     30     30
  completion  1,022.0  1,015  1,015  1,015  1,016  1,035  1,035  1,035  1,035

reasoning tokens
  10 - 11  2  ########################################
  12 - 13  0
  14 - 15  0
  16 - 17  0
  18 - 19  0
  20 - 21  0
  22 - 23  0
  24 - 25  0
  26 - 27  0
  28 - 29  0
  30       1  ####################

on disk
  v1          999 bytes
  v2             1.5 KB  latest
  v3.partial     2.0 MB  unfinished: 1,200 rows, 3 rejected, 4 failed
  v4.partial    0 bytes  unfinished, without a readable manifest
  all            2.0 MB"""
    )


def test_what_is_not_known_is_not_mentioned() -> None:
    bare = manifest(
        counts=Counts(), inputs=[], models=[], licences=[], finished=None, kind="predictions"
    )
    folder = Folder(None, {"v2.partial": 5}, 5, [Partial("v2.partial", 0, 0, 0, 5)])

    assert list(dataset_text.details("sums", bare, [], folder)) == [
        "sums v2.partial: predictions, made by filter; latest is none yet",
        "  begun 2026-11-21 10:00:58, unfinished, 0.0 s of work",
        "  0 rows read: 0 kept, 0 rejected",
        "",
        "on disk",
        "  v2.partial  5 bytes  unfinished: 0 rows",
    ]


def test_a_checkpoint_says_what_it_was_trained_on() -> None:
    counts = Counts(rows_read=2106, rows_kept=2106, tokens_kept=1_487_270)
    found = manifest(kind="checkpoint", stage="sft", counts=counts)

    lines = list(dataset_text.details("student", found, [], FOLDER))
    assert lines[2] == "  2,106 rows, 1,487,270 supervised tokens trained on"


def test_another_version_than_the_latest_is_said_to_be_so() -> None:
    folder = Folder("v3", {}, 0, [])

    first = next(dataset_text.details("clean", manifest(), [], folder))
    assert first == "clean v2: traces, made by filter; latest is v3"


def test_without_reasoning_the_histogram_is_of_the_completions() -> None:
    counts = Counts(reasoning_tokens=distribution([0, 0]), completion_tokens=distribution([5, 6]))
    lines = list(dataset_text.details("clean", manifest(counts=counts), [], FOLDER))

    start = lines.index("completion tokens")
    assert lines[start + 1 : start + 3] == [f"  5  1  {'#' * 40}", f"  6  1  {'#' * 40}"]


def test_a_bin_that_holds_a_row_has_a_bar_and_the_last_reaches_to_the_maximum() -> None:
    found = distribution([0] * 980 + [250] * 14 + [2000] * 6)
    assert found is not None

    assert dataset_text.histogram_lines(found) == [
        f"  0 - 49     980  {'#' * 40}",
        " 50 - 99       0",
        "100 - 149      0",
        "150 - 199      0",
        "200 - 249      0",
        "250 - 2,000   20  #",
    ]


def test_long_texts_are_shortened_in_the_middle_by_the_number_that_is_said() -> None:
    assert dataset_text.shortened("a" * 10, limit=10) == "a" * 10
    assert dataset_text.shortened("abcdefghijk", limit=5) == (
        "abc\n[... 6 characters; --row ID shows all ...]\njk"
    )


def test_a_row_shows_facts_and_then_its_texts(make_trace: Callable[..., Trace]) -> None:
    row = make_trace(
        problem="14+6?", id="beef/1", verdict="correct", answer="20", num_waits=1, forced_end=True,
        served_by="deepseek-r1", benchmark="math500",
    )  # fmt: skip

    assert "\n".join(dataset_text.row_lines(row, whole=False)) == (
        """\
=== beef/1
verdict    correct (verifier math)
answer     20
reference  20
finish     stop, 1 waits, end of reasoning forced
tokens     prompt 30, reasoning 6, response 5, total 44
teacher    teacher (served by deepseek-r1)
sample     0
benchmark  math500
--- problem
14+6?
--- reasoning
14+6=20.
--- response
\\boxed{20}
"""
    )


def test_a_rejected_row_says_why_and_what_was_measured(make_trace: Callable[..., Trace]) -> None:
    trace = make_trace(reasoning=None, num_tokens=None, teacher=None, reference_answer=None)
    fields = {name: getattr(trace, name) for name in Trace.__struct_fields__}

    lines = list(
        dataset_text.row_lines(RejectedTrace(**fields, reason="a", measured="7"), whole=True)
    )
    assert lines[1:9] == [
        "verdict    not judged (verifier math)",
        "answer     none",
        "reference  none",
        "finish     stop",
        "tokens     not counted",
        "teacher    unknown",
        "sample     0",
        "dropped    a: 7",
    ]
    assert "--- reasoning" not in lines
    lines = list(
        dataset_text.row_lines(RejectedTrace(**fields, reason="a", measured=None), whole=True)
    )
    assert lines[8] == "dropped    a"


@pytest.mark.parametrize("whole", [True, False])
def test_only_a_row_that_was_asked_for_by_id_is_shown_whole(
    make_trace: Callable[..., Trace], whole: bool
) -> None:
    row = make_trace(reasoning="a" * 2500)

    lines = list(dataset_text.row_lines(row, whole=whole))
    shown = lines[lines.index("--- reasoning") + 1]
    short = f"{'a' * 1000}\n[... 500 characters; --row ID shows all ...]\n{'a' * 1000}"
    assert shown == ("a" * 2500 if whole else short)


def test_control_characters_are_shown_and_not_sent_to_the_terminal(
    make_trace: Callable[..., Trace],
) -> None:
    row = make_trace(
        answer="\x1b[2J",
        messages=[Message(role="assistant", content="a\x1b]0;title\x07\tb\nc\x9b1m")],
    )

    shown = "\n".join(dataset_text.row_lines(row, whole=True))
    assert "answer     \\x1b[2J" in shown
    assert "a\\x1b]0;title\\x07\tb\nc\\x9b1m" in shown
