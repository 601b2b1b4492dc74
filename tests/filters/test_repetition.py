"""Repetition: loops of every kind on labelled real traces, and silence on tables, code and honest lists."""

import hashlib
import inspect
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.data import forecast
from distillpipe.data.store import jsonl
from distillpipe.filters.repetition import RUN, SAID, STRETCH, repeated_share
from distillpipe.filters.rules import Drop, repetitive
from distillpipe.reports import metrics

LIMIT = 0.3
PROSE = (
    "First we look at the triangle on the left, whose sides are 3, 4 and 5, so it has a right angle. "
    "The area is half of the product of its legs, that is 6 square units. Now the other one: it shares the "
    "long side, and its height over that side is twice as much, which gives 12 by the same formula. "
)


@pytest.fixture(scope="module")
def labels() -> list[dict[str, str]]:
    path = Path(__file__).parent.parent / "labels" / "loops.json"
    rows: list[dict[str, str]] = json.loads(path.read_bytes())["rows"]
    return rows


@pytest.fixture(scope="module")
def shares(real_traces, labels) -> dict[str, float]:
    texts = {
        row["id"]: "\n".join(
            [real_traces[row["id"]][1].reasoning, real_traces[row["id"]][1].response]
        )
        for row in labels
    }
    for row in labels:
        digest = hashlib.sha256(texts[row["id"]].encode("utf-8", "surrogatepass")).hexdigest()
        assert digest[:16] == row["text"], f"{row['id']} is not the text that was labelled"
    return {number: repeated_share(text) for number, text in texts.items()}


def flagged(labels: list[dict[str, str]], shares: dict[str, float], **wanted: Any) -> list[str]:
    return [
        row["id"]
        for row in labels
        if row["half"] in wanted["halves"]
        and row["kind"] in wanted["kinds"]
        and shares[row["id"]] > LIMIT
    ]


@pytest.mark.reference
@pytest.mark.parametrize(("halves", "loops", "others"), [(["tune"], 19, 50), (["test"], 32, 46)])
def test_labelled_loops_are_found_and_nothing_else(labels, shares, halves, loops, others) -> None:
    counts = {
        kinds: sum(row["half"] in halves and row["kind"] in kinds for row in labels)
        for kinds in (("exact", "drifting"), ("enumeration", "none"))
    }
    assert counts == {("exact", "drifting"): loops, ("enumeration", "none"): others}
    found = flagged(labels, shares, halves=halves, kinds=("exact", "drifting"))
    assert len(found) == loops
    assert flagged(labels, shares, halves=halves, kinds=("enumeration", "none")) == []


def test_the_halves_are_drawn_by_the_hash_of_the_id(labels) -> None:
    for row in labels:
        is_even = hashlib.sha256(row["id"].encode()).digest()[0] % 2 == 0
        assert row["half"] == ("tune" if is_even else "test")


@pytest.mark.reference
def test_of_the_real_traces_without_a_label_one_is_called_a_loop(labels, real_traces) -> None:
    labelled = {row["id"] for row in labels}
    others = {number: trace for number, (_, trace) in real_traces.items() if number not in labelled}
    assert len(others) == 1836
    found = [
        number
        for number, trace in others.items()
        if repeated_share(f"{trace.reasoning}\n{trace.response}") > LIMIT
    ]
    assert found == [
        "rl3b_think_greedy-0608"
    ]  # a loop, read since: a number that ends in 1,400 zeros


@pytest.mark.parametrize(
    "unit",
    [
        "has, ", "= 43 \\times \\frac{10}{86} ", "        *   Bring (ok)\n", "0", "0, ", "很抱歉我再想一想。",
        "Wait, let me check that again. ", PROSE, "=", "\U0001f600",
    ],
)  # fmt: skip
def test_exact_loops_of_every_length_are_found_behind_any_text(unit) -> None:
    loop = unit * (1 + max(STRETCH, 12 * len(unit)) // len(unit))
    assert repeated_share(loop) > 0.5
    assert repeated_share(PROSE + loop) > 0.5
    assert repeated_share(loop + PROSE * 2) > 0.5


@pytest.mark.parametrize(
    "line",
    [
        "*Idea {}:* Vast deep blue waters stretch endlessly under the sky. (10 words) - Too long.\n",
        "Wait, I'll check if I should mention the runner who was in place {}.\n    *   No need.\n    *   Okay.\n",
    ],
)
def test_loops_that_count_up_are_found(line) -> None:
    assert repeated_share("".join(line.format(number) for number in range(1, 60))) > LIMIT


def rows_of(line: str, count: int = 80) -> str:
    return "".join(line.format(n, n * n, n**3, 7 * n % 13) for n in range(1, count))


@pytest.mark.parametrize(
    "text",
    [
        rows_of("| {} | {} | {} | {} |\n"),
        rows_of(
            "- \\( n = {} \\): \\( n^2 = {} \\) and \\( n^3 = {} \\), which leaves {} modulo 13.\n"
        ),
        rows_of("For n = {} the left side is {} and the right side is {}, so they differ by {}.\n"),
        "\n".join(" ".join(f"{a * b:4d}" for b in range(1, 16)) for a in range(1, 40)),
        "\n".join(" | ".join("TF"[n >> bit & 1] for bit in range(5)) for n in range(32)),
        "| name | value |\n" + "|------|-------|\n" * 4 + rows_of("| x{} | {} |\n", 12),
    ],
)
def test_tables_and_lists_of_cases_are_no_loops(text) -> None:
    assert repeated_share(text) < 0.1


@pytest.mark.parametrize("module", [forecast, jsonl, metrics, statistics, json, inspect])
def test_code_is_no_loop(module) -> None:
    assert repeated_share(inspect.getsource(module)) < LIMIT


@pytest.mark.parametrize(
    "text", ["", " ", "x", "\\boxed{20}", PROSE, "\ud800\udc00 \ud800", "\x00 " * 3]
)
def test_short_texts_have_no_repetition(text) -> None:
    assert repeated_share(text) == 0


def test_a_run_counts_from_its_fifth_time_on() -> None:
    unit = "".join(f"w{number:02d} " for number in range(RUN // 4 * 2))
    assert repeated_share(unit * (SAID - 1)) == 0
    assert repeated_share(unit * (SAID + 1)) > 0


def test_what_comes_back_after_long_is_no_loop() -> None:
    far = [
        PROSE + "".join(f"{n * n + part * 7919} is number {n}, " for n in range(900))
        for part in range(8)
    ]
    assert repeated_share("".join(far)) == 0


@given(st.text(max_size=3000))
def test_the_share_is_a_share_for_any_text(text: str) -> None:
    assert 0 <= repeated_share(text) <= 1
    assert 0 <= repeated_share(text * 40) <= 1


def test_the_rule_says_the_share_and_keeps_what_is_at_the_limit(make_trace, make_options) -> None:
    looping = make_trace(reasoning="has, " * 2000)
    assert repetitive(looping, make_options(max_repetition=LIMIT)) == Drop("repetitive", "1.00")
    assert repetitive(looping, make_options(max_repetition=1)) is None
    assert repetitive(make_trace(reasoning=PROSE), make_options(max_repetition=0)) is None


def test_a_loop_in_the_response_is_found_too(make_trace, make_options) -> None:
    trace = make_trace(response="and it is used in coins, and it is used in wiring, " * 90)
    assert repetitive(trace, make_options(max_repetition=LIMIT)) == Drop("repetitive", "1.00")
