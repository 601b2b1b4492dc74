"""`filter` with --difficulty, --select and domains: what is kept, what stands beside it, what is written."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.errors import UsageError
from distillpipe.base.filter_options import FilterOptions, StrategyOptions
from distillpipe.base.records import Problem, RejectedTrace, TokenCounts, Trace
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store import versions
from distillpipe.data.store.dataset import find, read_problems, read_traces, scan
from distillpipe.data.store.manifest import Manifest
from distillpipe.filters.problems import FilterInputs
from distillpipe.stages.filter import filter_traces, forecast_filter
from distillpipe.stages.run import Run

OPTIONS = FilterOptions(
    verdicts=("correct", "wrong", "unverifiable"), verifier=None, min_reasoning_tokens=1,
    max_reasoning_tokens=None, dedup="exact", per_problem=None, seed=0, max_repetition=1.0, max_foreign_letters=None,
)  # fmt: skip
NUM_PROBLEMS = 12


def run(
    inputs: list[Path], out: Path, difficulty: list[Path] | None = None, **changes: Any
) -> Manifest:
    options = msgspec.structs.replace(OPTIONS, **changes)
    others = FilterInputs([str(path) for path in difficulty or []], [])
    return filter_traces([str(path) for path in inputs], out, options, Run(), others).manifest


def kept(out: Path) -> list[Trace]:
    return list(read_traces(str(out)))


def rejected(out: Path) -> dict[str, tuple[str, str | None]]:
    rows = scan(versions.resolve(str(out)), RejectedTrace, "rejected")
    return {row.problem: (row.reason, row.measured) for row in rows}


def story(number: int) -> str:
    """The problem: even numbers are of a train, odd ones of a circle."""
    words = "A train runs to the station" if number % 2 == 0 else "The radius of a circle"
    return f"{words}: problem {number}?"


@pytest.fixture
def traces(tmp_path: Path, make_trace: Callable[..., Trace], write_dataset: Any) -> Path:
    """A trace of each of twelve problems; number 3 is wrong, number n has n + 1 reasoning tokens."""
    rows = [
        make_trace(
            problem=story(number), row_key=f"{number:032}",
            response="\\boxed{21}" if number == 3 else "\\boxed{20}",
            num_tokens=TokenCounts(prompt=30, reasoning=number + 1, response=5, total=40 + number),
        )
        for number in range(NUM_PROBLEMS)
    ]  # fmt: skip
    problems = [
        Problem(
            problem_id=row.problem_id, problem=row.problem, reference_answer="20", verifier="math",
            extra='{"source": "AIME"}' if number < 2 else None,
        )
        for number, row in enumerate(rows)
    ]  # fmt: skip
    write_dataset(tmp_path / "traces", rows, problems=problems)
    return tmp_path / "traces"


@pytest.fixture
def predict(
    tmp_path: Path, make_trace: Callable[..., Trace], write_dataset: Any
) -> Callable[..., Path]:
    """`predict("small", {0, 4})`: an eval of a model that solves these problems of the twelve."""

    def factory(model: str, solved: set[int], asked: range = range(NUM_PROBLEMS)) -> Path:
        out = tmp_path / f"eval-{model}"
        rows = [
            make_trace(
                problem=story(number), teacher=model, row_key=f"{model}{number}".ljust(32),
                verdict="correct" if number in solved else "wrong",
            )
            for number in asked
        ]  # fmt: skip
        write_dataset(out / "problems", rows, kind="predictions", stage="eval")
        return out

    return factory


def test_what_either_model_solves_is_too_easy_and_wrong_traces_stay(
    tmp_path, traces, predict
) -> None:
    models = [predict("small", {0, 4}), predict("large", {4, 5, 7})]
    manifest = run([traces], tmp_path / "clean", models, select=100, strategy="s1", per_problem=1)

    assert rejected(tmp_path / "clean") == dict.fromkeys(
        [story(number) for number in (0, 4, 5, 7)], ("too_easy", "1")
    )
    assert Counter(row.verdict for row in kept(tmp_path / "clean")) == {"correct": 7, "wrong": 1}
    assert (manifest.counts.rows_read, manifest.counts.rows_kept) == (12, 8)
    assert [Path(given.path).name for given in manifest.inputs] == [
        "traces",
        "problems",
        "problems",
    ]


def test_pass_rates_have_bounds_and_problems_nobody_asked_are_unknown(
    tmp_path, traces, predict
) -> None:
    models = [predict("small", {0, 4}, asked=range(6))]
    run([traces], tmp_path / "clean", models, min_pass_rate=0.5)

    reasons = Counter(rejected(tmp_path / "clean").values())
    assert reasons == {("too_hard", "0"): 4, ("unknown_difficulty", "small"): 6}
    assert [row.problem for row in kept(tmp_path / "clean")] == [story(0), story(4)]


def test_predictions_are_part_of_what_makes_a_version(tmp_path, traces, predict) -> None:
    first, other = predict("small", {0}), predict("large", {1})
    run([traces], tmp_path / "clean", [first], max_pass_rate=0.5)
    again = run([traces], tmp_path / "clean", [first / "problems"], max_pass_rate=0.5)
    assert again.version == "v1"
    assert run([traces], tmp_path / "clean", [other], max_pass_rate=0.5).version == "v2"
    assert run([traces], tmp_path / "clean", [first, other], max_pass_rate=0.5).version == "v3"


def test_predictions_for_other_problems_are_an_error_with_a_remedy(
    tmp_path, traces, make_trace, write_dataset
) -> None:
    other = make_trace(problem="of a benchmark", verdict="wrong", teacher="small")
    write_dataset(tmp_path / "eval" / "aime", [other], kind="predictions", stage="eval")
    with pytest.raises(
        UsageError, match=r"small answered 1 problems, none .* 12 of the traces: run"
    ):
        run([traces], tmp_path / "clean", [tmp_path / "eval"], max_pass_rate=0.5)
    assert versions.finished(tmp_path / "clean") == versions.partials(tmp_path / "clean") == []


def test_the_longest_are_selected_and_the_others_stand_beside_with_their_rank(
    tmp_path, traces
) -> None:
    run([traces], tmp_path / "clean", select=3, strategy="longest")
    assert [row.problem for row in kept(tmp_path / "clean")] == [story(9), story(10), story(11)]
    assert rejected(tmp_path / "clean") == {
        story(number): ("not_selected", str(11 - number)) for number in range(9)
    }


def test_rows_that_were_not_selected_can_be_selected_from(tmp_path, traces) -> None:
    run([traces], tmp_path / "first", select=3, strategy="longest")
    left = versions.resolve(str(tmp_path / "first")) / "rejected-00000.jsonl"
    run([left], tmp_path / "second", select=2, strategy="longest")
    assert [row.problem for row in kept(tmp_path / "second")] == [story(7), story(8)]


def test_more_rows_than_are_left_keeps_all_and_says_so(tmp_path, traces, capsys) -> None:
    manifest = run([traces], tmp_path / "clean", select=1000)
    assert manifest.counts.rows_kept == 12
    assert "filter: --select 1,000: only 12 rows are left, all are kept" in capsys.readouterr().err


def test_clusters_are_written_as_domains_into_rows_and_problems(tmp_path, traces) -> None:
    run([traces], tmp_path / "clean", num_clusters=2, select=6, strategy="diverse")
    folder = versions.resolve(str(tmp_path / "clean"))
    rows = kept(tmp_path / "clean") + list(scan(folder, RejectedTrace, "rejected"))
    of_trains = {row.domain for row in rows if "train" in row.problem}
    of_circles = {row.domain for row in rows if "circle" in row.problem}

    assert (len(rows), len(of_trains), len(of_circles)) == (12, 1, 1)
    assert of_trains != of_circles
    assert {row.domain.split(": ")[0] for row in rows if row.domain} == {"cluster 0", "cluster 1"}
    domains = {row.problem_id: row.domain for row in kept(tmp_path / "clean")}
    listed = {one.problem_id: one.domain for one in read_problems(find(str(tmp_path / "clean")))}
    assert listed == domains

    # a later selection goes by what was written
    run([tmp_path / "clean"], tmp_path / "again", select=2, strategy="diverse")
    assert {row.domain for row in kept(tmp_path / "again")} <= of_trains | of_circles


def test_s1_reads_sources_from_the_problems_and_drops_unclear_ones(
    tmp_path, traces, make_trace, write_dataset, capsys
) -> None:
    unclear = [
        make_trace(problem="[asy] draw((0,0)); [/asy] How long?", row_key="e" * 32),
        make_trace(problem="p1. How long? p2. How far?", row_key="f" * 32),
    ]
    write_dataset(tmp_path / "unclear", unclear)
    inputs = [traces, tmp_path / "unclear"]
    run(
        inputs,
        tmp_path / "clean",
        select=2,
        strategy="s1",
        per_problem=1,
        strategy_options=StrategyOptions(preselect=("AIME",)),
    )

    assert [row.problem for row in kept(tmp_path / "clean")] == [story(0), story(1)]
    found = rejected(tmp_path / "clean")
    assert found["[asy] draw((0,0)); [/asy] How long?"] == ("problem_needs_picture", "[asy]")
    assert found["p1. How long? p2. How far?"] == ("several_problems", "p1.")
    assert found[story(11)] == ("not_selected", "0")
    assert "12 of 12 rows have no domain and count as one domain" in capsys.readouterr().err


def test_a_dry_run_names_predictions_that_are_none(tmp_path, traces) -> None:
    options = msgspec.structs.replace(OPTIONS, max_pass_rate=0.5)
    found = forecast_filter(
        [str(traces)], tmp_path / "clean", options, Run(), FilterInputs([str(traces)], [])
    )
    assert any("traces holds traces, not predictions" in note for note in found.notes)
    assert not (tmp_path / "clean").exists()


def test_the_command_takes_lists_and_stores_what_was_asked(
    tmp_path, traces, predict, distill: Callable[..., Any]
) -> None:
    small = predict("small", {0, 4})
    out = str(tmp_path / "clean")
    ended = distill(
        "filter", str(traces), "--out", out, "--verdict", "correct", "--verdict", "wrong",
        "--difficulty", str(small), "--select", "4", "--strategy", "s1", "--per-problem", "1",
        "--strategy-option", "preselect=AIME", "--strategy-option", "preselect_min_tokens=2",
        "--strategy-option", "follow=AIME", "--strategy-option", "num_follow=1",
        "--num-clusters", "2",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert story(1) in {row.problem for row in kept(tmp_path / "clean")}
    assert len(kept(tmp_path / "clean")) == 4
    options = manifests.read(versions.resolve(out)).options
    assert options["strategy_option"].value[:2] == ["preselect=AIME", "preselect_min_tokens=2"]
    assert options["difficulty"].value == [str(small)]
    assert "too_easy" in ended.err and "not_selected" in ended.err
