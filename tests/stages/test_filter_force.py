"""`filter --over-budget force`: thoughts that are too long are ended at a step, and the shipped teacher answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.filter_options import FilterOptions, Forcing
from distillpipe.base.options import EngineOptions, Sampling
from distillpipe.base.records import RejectedTrace, Trace
from distillpipe.data.store import versions
from distillpipe.data.store.dataset import read_traces, scan
from distillpipe.data.store.manifest import Manifest
from distillpipe.filters.problems import FilterInputs
from distillpipe.models.chat import Chat
from distillpipe.models.tokens import counted
from distillpipe.stages.filter import filter_traces
from distillpipe.stages.run import Run

BUDGET = 24
OPTIONS = FilterOptions(
    verdicts=("correct",), verifier=None, min_reasoning_tokens=1, max_reasoning_tokens=BUDGET,
    over_budget="force", dedup="exact", per_problem=None, seed=0, max_repetition=1.0, max_foreign_letters=None,
)  # fmt: skip
SOLVED = "Tom starts with 14.\nFinds 6: 14+6=20."
CIRCLES = "\nWait, Tom starts with 14 coins and finds 6 more coins, so once more: 14+6=20." * 3
QUESTION = "Tom has 14 coins. Tom finds 6 coins. How many coins does Tom have now?"


@pytest.fixture
def rows(make_trace: Callable[..., Trace], teacher_chat: Chat) -> dict[str, Trace]:
    made = {
        "fits": make_trace(problem="Fits?", reasoning=SOLVED, row_key=f"{1:016}" * 2),
        "long": make_trace(problem=QUESTION, reasoning=SOLVED + CIRCLES, row_key=f"{2:016}" * 2),
        "cut off": make_trace(
            problem=QUESTION.replace("Tom", "Mia"), finish_reason="length", response="",
            reasoning=(SOLVED + CIRCLES).replace("Tom", "Mia"),
            row_key=f"{3:016}" * 2,
        ),
        "loop": make_trace(
            problem=QUESTION, reasoning=SOLVED + CIRCLES, response="", finish_reason="repetition",
            row_key=f"{4:016}" * 2,
        ),
    }  # fmt: skip
    return dict(zip(made, counted(made.values(), teacher_chat), strict=True))


@pytest.fixture
def traces(tmp_path: Path, rows: dict[str, Trace]) -> Path:
    path = tmp_path / "traces.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows.values()))
    return path


@pytest.fixture
def run(repository: Path, traces: Path) -> Callable[..., Manifest]:
    """`run(out, **options)` has the shipped teacher answer, greedily."""
    teacher = str(repository / "data" / "quickstart" / "teacher")
    engine = EngineOptions(engine="transformers", concurrency=4)

    def force(
        out: Path, others: FilterInputs | None = None, max_tokens: int = 128, **changes: Any
    ) -> Manifest:
        options = msgspec.structs.replace(OPTIONS, **changes)
        sampling = Sampling(temperature=0.0, top_p=1.0, max_tokens=max_tokens)
        forcing = Forcing(teacher, sampling, engine)
        others = others or FilterInputs([], [])
        return filter_traces(
            [str(traces)], out, options, Run(), others._replace(forcing=forcing)
        ).manifest

    return force


def rejected(out: Path) -> dict[str, str]:
    folder = versions.resolve(str(out))
    return {row.id: row.reason for row in scan(folder, RejectedTrace, "rejected")}


def test_long_thoughts_are_ended_at_a_step_and_answered_in_rows_of_their_own(
    tmp_path: Path, rows: dict[str, Trace], run: Callable[..., Manifest]
) -> None:
    manifest = run(tmp_path / "clean")
    fits, *forced = read_traces(str(tmp_path / "clean"))

    assert fits.id == rows["fits"].id
    assert {json.loads(row.extra or "")["forced_from"] for row in forced} == {
        rows["long"].id, rows["cut off"].id,
    }  # fmt: skip
    for row in forced:
        assert row.reasoning.replace("Mia", "Tom") == SOLVED
        assert (row.forced_end, row.finish_reason, row.verdict) == (True, "stop", "correct")
        assert row.num_tokens is not None
        assert row.num_tokens.reasoning <= BUDGET
        assert row.id == f"{row.problem_id}/{row.row_key[:16]}"
    assert rejected(tmp_path / "clean") == {
        rows["long"].id: "too_many_reasoning_tokens",
        rows["cut off"].id: "unfinished",
        rows["loop"].id: "unfinished",
    }
    counts = manifest.counts
    assert (counts.rows_read, counts.rows_kept, counts.rows_rejected) == (6, 3, 3)
    assert [(one.role, one.name.rpartition("/")[2]) for one in manifest.models] == [
        ("teacher", "teacher")
    ]


def test_forced_rows_are_sampled_once_whatever_the_filter_does_with_them(
    tmp_path: Path, run: Callable[..., Manifest]
) -> None:
    with pytest.raises(DataError, match="no row of 6 is left"):
        run(tmp_path / "clean", verdicts=("wrong",))
    second = run(tmp_path / "clean")
    third = run(tmp_path / "clean", dedup="none")

    assert (second.counts.tokens_sampled, third.counts.tokens_sampled) == (0, 0)
    assert second.counts.rows_kept == third.counts.rows_kept == 3
    draft = tmp_path / "clean" / "v1.partial" / "forced-00000.jsonl"
    assert draft.read_bytes() == (tmp_path / "clean" / "v3" / draft.name).read_bytes()


def test_an_unfinished_run_goes_on_behind_its_last_whole_row(
    tmp_path: Path, run: Callable[..., Manifest]
) -> None:
    with pytest.raises(DataError):
        run(tmp_path / "clean", verdicts=("wrong",))
    forced = tmp_path / "clean" / "v1.partial" / "forced-00000.jsonl"
    whole = forced.read_bytes()
    first, second = whole.splitlines(keepends=True)
    forced.write_bytes(first + second[:50])
    with pytest.raises(DataError, match="no row of 6 is left"):
        run(tmp_path / "clean", verdicts=("wrong",))
    assert forced.read_bytes() == whole


def test_a_problem_that_is_not_wanted_is_not_paid_for(
    tmp_path: Path, run: Callable[..., Manifest], rows: dict[str, Trace]
) -> None:
    benchmark = tmp_path / "benchmark.jsonl"
    problems = [
        {"problem": QUESTION.replace("Tom", name), "answer": "20"} for name in ("Tom", "Mia")
    ]
    benchmark.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    manifest = run(tmp_path / "clean", FilterInputs([], [str(benchmark)]))
    assert manifest.counts.tokens_sampled == 0
    assert [row.id for row in read_traces(str(tmp_path / "clean"))] == [rows["fits"].id]


def test_a_thought_without_room_for_a_response_is_refused(
    tmp_path: Path, run: Callable[..., Manifest]
) -> None:
    with pytest.raises(UsageError, match="--max-reasoning-tokens 24 leaves no room"):
        run(tmp_path / "clean", max_tokens=24)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--over-budget", "force"], "--over-budget force needs --max-reasoning-tokens N"),
        (
            ["--over-budget", "force", "--max-reasoning-tokens", "9"],
            "--over-budget force needs --teacher MODEL",
        ),
        (["--teacher", "nobody"], "--teacher needs --over-budget force"),
        (
            [
                "--over-budget", "force", "--max-reasoning-tokens", "9", "--teacher", "served",
                "--base-url", "http://localhost:9/v1",
            ],
            "--over-budget force on a server needs --tokenizer MODEL",
        ),
    ],
)  # fmt: skip
def test_what_is_missing_is_a_mistake_of_the_command(
    distill: Callable[..., Any], traces: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = distill("filter", traces, "--out", tmp_path / "clean", *arguments)
    assert done.code == 2
    assert message in done.err
    assert not list((tmp_path / "clean").glob("v*"))
