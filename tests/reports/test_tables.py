"""Scores as a table: exact cells from the content of metrics.json."""

from typing import Any

from distillpipe.reports.tables import aligned, markdown, score_table


def metrics(**changes: Any) -> dict[str, Any]:
    """Of 200 problems with 2 samples each."""
    found = {
        "benchmark": "math500",
        "pass@1": 0.75,
        "standard_error": 0.02,
        "interval": [0.7, 0.79],
        "upper_bound": 0.75,
        "standard_error_parts": {"sampling": 0.012, "problems": 0.016},
        "minimum_detectable_effect": {"unpaired": 0.0792, "paired": 0.0475},
        "pass@k": {"2": {"mean": 0.8, "standard_error": 0.02, "interval": [0.74, 0.85]}},
        "maj@k": {},
        "num_problems": 200,
        "num_samples": 2,
        "num_correct": 300,
        "num_wrong": 80,
        "num_truncated": 20,
        "num_unverifiable": 0,
        "mean_reasoning_tokens": 1234.5,
        "reasoning_tokens": {"p5": 300, "p25": 600, "p50": 1000, "p75": 1500, "p95": 3000, "max": 4096},
        "verifier_version": 3,
        "budget": {"control": 0.995, "num_within": 398, "num_waits": 1200, "num_forced_ends": 7},
        "resources": {
            "tokens_sampled": 500_000, "seconds_sampling": 100.0, "tokens_per_second": 5000.0,
            "peak_memory_bytes": 900_000_000, "peak_gpu_memory_bytes": None, "model_bytes": 3_000_000,
        },
    }  # fmt: skip
    return found | changes


SINGLE = {
    "num_samples": 1,
    "standard_error_parts": None,
    "minimum_detectable_effect": {"unpaired": 0.0792, "paired": None},
    "pass@k": {},
    "num_unverifiable": 4,
    "num_truncated": 16,
    "upper_bound": 0.76,
    "training_overlap": "12 of 200 problems",
    "budget": None,
    "resources": None,
}


def test_a_line_a_figure_and_a_column_a_model() -> None:
    assert markdown(score_table([("teacher", metrics()), ("student", metrics(**SINGLE))])) == [
        "| math500 | teacher | student |",
        "| --- | --- | --- |",
        "| Pass@1 | 0.750 [0.700, 0.790] | 0.750 [0.700, 0.790] |",
        "| in its training data | - | 12 of 200 problems |",
        "| standard error | 0.0200 | 0.0200 |",
        "|   sampling's part | 0.0120 | - |",
        "|   the problems' part | 0.0160 | - |",
        "| detectable, unpaired | 0.079 | 0.079 |",
        "| detectable, paired | 0.048 | - |",
        "| pass@2 | 0.800 [0.740, 0.850] | - |",
        "| problems x samples | 200 x 2 | 200 x 1 |",
        "| correct | 300 (75.0%) | 300 (75.0%) |",
        "| wrong | 80 (20.0%) | 80 (20.0%) |",
        "| truncated | 20 (5.0%) | 16 (4.0%) |",
        "| unverifiable | 0 (0.0%) | 4 (1.0%), Pass@1 at most 0.760 |",
        "| reasoning tokens, mean | 1,234.5 | 1,234.5 |",
        "|   p5, p50, p95, max | 300, 1,000, 3,000, 4,096 | 300, 1,000, 3,000, 4,096 |",
        "| control | 99.5% | - |",
        "|   waits, ends forced | 1,200, 7 | - |",
        "| tokens/s | 5,000 | - |",
        "| seconds sampling | 100.0 | - |",
        "| peak memory | 900.0 MB | - |",
        "| weights | 3.0 MB | - |",
    ]


def test_a_score_of_nothing_is_shown_as_unknown() -> None:
    nothing = metrics(
        **{
            "pass@1": None, "interval": [None, None], "standard_error": None, "pass@k": {},
            "standard_error_parts": None, "num_problems": 0, "num_samples": 0,
            "minimum_detectable_effect": {"unpaired": None, "paired": None},
            "num_correct": 0, "num_wrong": 0, "num_truncated": 0, "reasoning_tokens": None,
            "mean_reasoning_tokens": None, "resources": None, "budget": None,
        }
    )  # fmt: skip
    assert markdown(score_table([("model", nothing)]))[2:] == [
        "| Pass@1 | - [-, -] |",
        "| problems x samples | 0 x 0 |",
    ]


def test_columns_are_aligned_under_a_rule_and_a_bar_in_a_name_is_escaped() -> None:
    table = [["", "a|b"], ["Pass@1", "0.5"]]
    assert aligned(table) == ["        a|b", "------  ---", "Pass@1  0.5"]
    assert markdown(table)[0] == "|  | a\\|b |"
