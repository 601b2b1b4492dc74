"""Budgets on the shipped teacher, as a user asks for them: every thought has the length that was asked for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.records import Trace
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.dataset import read_traces

BUDGET = (
    "--num-waits",
    1,
    "--wait-text",
    "Wait, ",
    "--min-reasoning-tokens",
    50,
    "--max-reasoning-tokens",
    70,
)


@pytest.fixture
def sample(distill: Callable[..., Any], repository: Path, tmp_path: Path) -> Callable[..., Any]:
    """`sample("generate", limit, *options)` samples greedily from the shipped teacher into `out`."""
    shipped = repository / "data" / "quickstart"

    def run(command: str, limit: int, *options: object, out: str = "out") -> Any:
        teacher, problems = shipped / "teacher", shipped / "problems-test.jsonl"
        given = {
            "generate": (problems, "--teacher", teacher),
            "eval": (teacher, "--benchmark", problems),
        }[command]
        done = distill(
            command, *given, "--prompt-template", "{problem}", "--max-tokens", 160, "--temperature", 0,
            "--limit", limit, "--out", tmp_path / out, *options,
        )  # fmt: skip
        assert done.code == 0, done.err
        return done

    return run


def rows_of(out: Path) -> list[Trace]:
    return sorted(read_traces(str(out)), key=lambda row: row.id)


def test_control_is_100_percent(sample: Callable[..., Any], tmp_path: Path) -> None:
    done = sample("generate", 16, *BUDGET)
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 16
    assert all(50 <= row.num_tokens.reasoning <= 70 for row in rows)
    assert {row.finish_reason for row in rows} == {"stop"}
    counts = manifests.read(tmp_path / "out" / "v1").counts
    assert counts.rows_within_budget == 16
    assert counts.num_waits == sum(row.num_waits for row in rows) > 0
    assert counts.forced_ends == sum(row.forced_end for row in rows) > 0
    said = "control 100.0%: 16 of 16 completions have 50 to 70 reasoning tokens; "
    assert f"{said}{counts.num_waits} waits, {counts.forced_ends} ends forced" in done.err


@pytest.mark.slow
def test_a_pilot_s_rows_and_those_of_a_run_that_went_on_are_those_of_an_undisturbed_one(
    sample: Callable[..., Any], tmp_path: Path
) -> None:
    sample("generate", 12, *BUDGET, out="whole")
    sample("generate", 5, *BUDGET)
    done = sample("generate", 12, *BUDGET)
    assert "reused 5 rows" in done.err
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "whole")


@pytest.mark.slow
def test_another_budget_samples_other_rows_and_none_samples_those_that_there_were(
    sample: Callable[..., Any], tmp_path: Path
) -> None:
    sample("generate", 2, out="free")
    sample("generate", 2, "--wait-text", "Hmm", "--end-at", "token", out="free")  # ask for nothing
    assert [path.name for path in (tmp_path / "free").glob("v*")] == ["v1"]
    sample("generate", 2, *BUDGET, out="free")
    sample("generate", 2, "--num-waits", 1, out="free")
    keys = {
        row.row_key for number in (1, 2, 3) for row in rows_of(tmp_path / "free" / f"v{number}")
    }
    assert len(keys) == 6
    assert manifests.read(tmp_path / "free" / "v3").counts.rows_reused == 0


def test_a_thought_of_nothing_is_scored(sample: Callable[..., Any], tmp_path: Path) -> None:
    done = sample("eval", 4, "--max-reasoning-tokens", 0)
    assert "control 100.0%: 4 of 4 completions have 0 to 0 reasoning tokens" in done.err
    rows = rows_of(tmp_path / "out" / "problems-test")
    assert [(row.reasoning, row.forced_end) for row in rows] == [("", True)] * 4
    version = tmp_path / "out" / "problems-test" / "v1"
    metrics = json.loads((version / "metrics.json").read_bytes())
    assert metrics["mean_reasoning_tokens"] == 0
    assert metrics["budget"] == {
        "control": 1.0, "num_within": 4, "num_waits": 0, "num_forced_ends": 4,
    }  # fmt: skip
    lines = (version / "metrics.md").read_text().splitlines()
    assert "| control | 100.0% |" in lines
    assert "|   waits, ends forced | 0, 4 |" in lines


@pytest.mark.slow
def test_control_is_shown_and_compared_where_there_was_a_budget(
    sample: Callable[..., Any], distill: Callable[..., Any], tmp_path: Path
) -> None:
    sample("eval", 4, "--num-waits", 1, "--wait-text", "Wait, ", "--max-reasoning-tokens", 60)
    sample("eval", 4, out="free")
    shown = distill("show", tmp_path / "out" / "problems-test").out
    counts = manifests.read(tmp_path / "out" / "problems-test" / "v1").counts
    said = f"{counts.num_waits} waits, {counts.forced_ends} ends forced"
    assert counts.forced_ends > 0
    assert f"budget of the thought\n  control 100.0%: 4 of 4 rows within it; {said}\n" in shown
    assert "budget" not in distill("show", tmp_path / "free" / "problems-test").out
    compared = distill("compare", tmp_path / "out", tmp_path / "free").out
    (line,) = [line.split() for line in compared.splitlines() if line.strip().startswith("control")]
    assert line == ["control", "100.0%", "-"]


@pytest.mark.slow
def test_eval_ends_at_the_token_and_generate_at_the_step(
    sample: Callable[..., Any], tmp_path: Path
) -> None:
    sample("eval", 5, "--max-reasoning-tokens", 30)
    sample("generate", 5, "--max-reasoning-tokens", 30, out="steps")
    evaluated = [row for row in rows_of(tmp_path / "out" / "problems-test") if row.forced_end]
    generated = [row for row in rows_of(tmp_path / "steps") if row.forced_end]
    assert len(evaluated) == len(generated) == 5
    assert {row.num_tokens.reasoning for row in evaluated} == {
        29,
        30,
    }  # less where a line feed stands
    assert all(row.reasoning.endswith(".") for row in generated)
    assert not all(row.reasoning.endswith(".") for row in evaluated)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--min-reasoning-tokens", 9, "--max-reasoning-tokens", 8),
            "is more than --max-reasoning",
        ),
        (("--num-waits", 1, "--wait-text", " "), "--wait-text is empty"),
        (("--max-reasoning-tokens", 155), "leaves no room for a response"),
    ],
)
def test_a_budget_that_cannot_be_is_a_usage_error(
    distill: Callable[..., Any], repository: Path, tmp_path: Path, options, said
) -> None:
    shipped = repository / "data" / "quickstart"
    done = distill(
        "generate", shipped / "problems-test.jsonl", "--teacher", shipped / "teacher", "--limit", 2,
        "--max-tokens", 160, "--out", tmp_path / "out", *options,
    )  # fmt: skip
    assert done.code == 2
    assert said in done.err.splitlines()[-1]
