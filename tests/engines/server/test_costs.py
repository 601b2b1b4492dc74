"""What a run with a server costs: the cap, bills, estimates and pilots."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.dataset import read_traces

PRICES = ("--price-input", 0.55, "--price-output", 2.19)
Distill = Callable[..., Any]


def test_where_all_was_refused_no_longer_context_is_advised(
    serve: Any, sent: Any, generate: Distill
) -> None:
    flagged = json.dumps({"error": {"message": "content_filter: flagged"}}).encode()
    ended = generate(serve(lambda *_: sent(400, flagged)))
    assert ended.code == 1
    assert "was sampled: refused_by_server; give it other prompts: rejected-" in ended.err


def test_a_cap_ends_with_3_and_a_higher_one_goes_on(
    serve: Any, sent: Any, generate: Distill, tmp_path: Path
) -> None:
    server = serve(lambda *_: sent())
    done = generate(server, *PRICES, "--max-cost", 0.001)
    assert done.code == 3
    assert ", of --max-cost $0.001, and the next request may cost $" in done.err
    assert " in all" in done.err
    assert 0 < server.bill(0.55, 2.19) <= 0.001

    done = generate(server, *PRICES, "--max-cost", 1)
    assert done.code == 0, done.err
    counts = manifests.read(tmp_path / "out" / "v1").counts
    assert counts.cost_dollars == pytest.approx(server.bill(0.55, 2.19), abs=1e-12)
    assert len(server.bodies) == 20


def test_what_is_billed_and_what_is_reserved_are_told_apart(
    serve: Any, sent: Any, generate: Distill, tmp_path: Path
) -> None:
    lost = {"What is 3+1?", "What is 7+1?"}

    def react(body: Any, attempt: int) -> Any:
        asked = body["messages"][-1]["content"]
        is_lost = attempt == 1 and any(one in asked for one in lost)
        return sent(cut=40) if is_lost else sent()

    server = serve(react)
    done = generate(server, *PRICES, "--json")
    billed = 20 * (20 * 0.55 + 60 * 2.19) / 1e6

    assert done.code == 0, done.err
    counts = json.loads(done.out)["versions"][0]["manifest"]["counts"]
    assert counts["billed_dollars"] == pytest.approx(billed, abs=1e-12)
    assert counts["unknown_bills"] == 2
    assert counts["reserved_dollars"] > 2 * 64 * 2.19e-6
    assert counts["cost_dollars"] == pytest.approx(billed + counts["reserved_dollars"], abs=1e-12)
    told = f"${billed:.2g} billed, ${counts['reserved_dollars']:.2g} reserved for 2 requests with unknown bills"
    assert done.err.splitlines()[-1].startswith("generate: 20 rows, 1,200 tokens, ")
    assert told in done.err.splitlines()[-1]


USAGES: list[tuple[Any, bool, int]] = [
    (None, False, 0), ({}, False, 0), ([], False, 0), ({"total_tokens": 5}, False, 0),
    ({"prompt_tokens": 20}, False, 0), ({"prompt_tokens": None, "completion_tokens": 60}, False, 0),
    ({"prompt_tokens": 20.0, "completion_tokens": 60.0}, False, 1),
    ({"prompt_tokens": "20", "completion_tokens": "60"}, False, 1),
    ({"prompt_tokens": -1000, "completion_tokens": 60}, False, 1),
    ({"prompt_tokens": 20, "completion_tokens": -60}, False, 1),
    ({"prompt_tokens": 10**26, "completion_tokens": 60}, False, 1),
    ({"prompt_tokens": 20, "completion_tokens": 10**26}, False, 1),
    ({"prompt_tokens": 20, "completion_tokens": 65}, False, 2),
    ({"prompt_tokens": 20, "completion_tokens": 0}, False, 1),
    ({"prompt_tokens": 20, "completion_tokens": 60, "completion_tokens_details": []}, True, 0),
    ({"prompt_tokens": 20, "completion_tokens": 60, "reasoning_tokens": -100}, True, 1),
    ({"prompt_tokens": 20, "completion_tokens": 0, "reasoning_tokens": 60}, True, 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("usage", "is_counted", "num_warnings"), USAGES, ids=lambda one: str(one)[:60]
)
def test_no_usage_costs_an_answer_or_moves_the_cap(
    serve: Any,
    sent: Any,
    generate: Distill,
    tmp_path: Path,
    usage: Any,
    is_counted: bool,
    num_warnings: int,
) -> None:
    server = serve(lambda *_: sent(extra={"usage": usage}))
    done = generate(server, *PRICES, "--max-cost", 1)
    counts = manifests.read(tmp_path / "out" / "v1").counts
    worst = (512 + 200) * 0.55e-6 + 65 * 2.19e-6

    assert (done.code, len(server.bodies), counts.rows_kept) == (0, 20, 20)
    for row in read_traces(str(tmp_path / "out")):
        assert (row.num_tokens is not None) == is_counted
        assert row.num_tokens is None or min(row.num_tokens.reasoning, row.num_tokens.response) >= 0
    assert done.err.count("warning: the server") == num_warnings
    assert counts.unknown_bills == (0 if is_counted else 20)
    assert 0 < counts.cost_dollars <= 20 * worst
    billed = 20 * (20 * 0.55 + 60 * 2.19) / 1e6 if is_counted else 0.0
    assert counts.billed_dollars == pytest.approx(billed, abs=1e-12)


def test_a_dry_run_says_what_it_would_cost(serve: Any, sent: Any, generate: Distill) -> None:
    server = serve(lambda *_: sent())
    most = 20 * ((512 + 96) * 0.55 + 64 * 2.19) / 1e6
    dry = json.loads(generate(server, *PRICES, "--dry-run", "--json").out)["dry_run"][0]
    assert dry["estimate"]["max_dollars"] == pytest.approx(most, rel=0.05)
    assert server.bodies == []

    generate(server, "--limit", 5)
    dry = json.loads(generate(server, *PRICES, "--dry-run", "--json").out)["dry_run"][0]
    assert dry["rows"] == {"wanted": 20, "there already": 5, "to sample": 15}
    assert dry["estimate"]["dollars"] == pytest.approx(15 * (20 * 0.55 + 60 * 2.19) / 1e6)


def test_a_pilot_buys_rows_that_the_whole_run_keeps_and_estimates_from_them(
    serve: Any, sent: Any, generate: Distill, tmp_path: Path
) -> None:
    lengths = {f"What is {at}+1?": 10 + at for at in range(20)}

    def react(body: Any, _attempt: int) -> Any:
        asked = next(one for one in lengths if one in body["messages"][-1]["content"])
        return sent(usage={"completion_tokens": lengths[asked]})

    server = serve(react)
    options = (*PRICES, "--num-samples", 2)
    done = generate(server, *options, "--dry-run", "--pilot", 8, "--json")
    found = json.loads(done.out)["dry_run"][0]
    estimate = found["estimate"]
    paid = {body["messages"][-1]["content"] for body in server.bodies}
    mean = sum(lengths[one] for one in lengths if any(one in text for text in paid)) / 8

    assert (done.code, len(server.bodies), len(paid), len(found["pilot"])) == (0, 8, 8, 8)
    assert found["writes"] == f"{tmp_path}/out/v1.partial, which it resumes"
    assert found["rows"] == {"wanted": 40, "there already": 8, "to sample": 32}
    assert estimate["basis"] == "from a pilot of 8 rows"
    assert estimate["tokens"] == round(32 * mean)
    assert estimate["dollars"] == pytest.approx(32 * (20 * 0.55 + mean * 2.19) / 1e6)
    low, high = estimate["tokens_range"]
    assert low < 32 * (10 + 9.5) < high <= 32 * 64
    assert estimate["dollars_range"][0] < estimate["dollars"] < estimate["dollars_range"][1]

    again = generate(server, *options, "--dry-run", "--pilot", 8)
    assert len(server.bodies) == 8
    assert "(from a pilot of 8 rows)" in again.out
    assert "the rows of the pilot are kept, nothing else is written" in again.out
    assert f"{again.out} ".count("(90%: ") == 2
    done = generate(server, *options)
    assert (done.code, len(server.bodies)) == (0, 40)
    counts = manifests.read(tmp_path / "out" / "v1").counts
    assert (counts.rows_kept, counts.rows_reused) == (40, 0)
    assert counts.cost_dollars == pytest.approx(server.bill(0.55, 2.19), abs=1e-12)
    assert "pilot" not in manifests.read(tmp_path / "out" / "v1").options


def test_a_pilot_is_paid_for_under_the_same_cap(serve: Any, sent: Any, generate: Distill) -> None:
    server = serve(lambda *_: sent())
    done = generate(server, *PRICES, "--max-cost", 0.0001, "--dry-run", "--pilot", 5)

    assert (done.code, server.bodies) == (3, [])
    assert "error: $0.00 billed, of --max-cost $0.0001, and the next request may cost $" in done.err


def test_rows_of_other_sampling_options_tell_nothing(
    serve: Any, sent: Any, generate: Distill, tmp_path: Path
) -> None:
    server = serve(lambda *_: sent())
    generate(server, "--limit", 5, "--extra-body", '{"reasoning_effort": "low"}')
    more = ("--dry-run", "--json", "--extra-body", '{"reasoning_effort": "high"}')
    dry = json.loads(generate(server, *more).out)["dry_run"][0]

    assert dry["rows"] == {"wanted": 20, "there already": 0, "to sample": 20}
    assert dry["estimate"]["basis"] == "from the options: the limit --max-tokens"
    same = ("--dry-run", "--json", "--extra-body", '{"reasoning_effort":"low"}')
    dry = json.loads(generate(server, *same).out)["dry_run"][0]
    assert dry["rows"] == {"wanted": 20, "there already": 5, "to sample": 15}
    assert dry["estimate"]["basis"] == f"from the 5 rows under {tmp_path}/out"


def test_a_fresh_pilot_is_taken_up_by_the_fresh_run(
    serve: Any, sent: Any, generate: Distill, tmp_path: Path
) -> None:
    server = serve(lambda *_: sent())
    generate(server)
    done = generate(server, "--fresh", "--dry-run", "--pilot", 5)

    assert len(server.bodies) == 25
    assert "rows    20 wanted, 5 there already, 15 to sample" in done.out
    assert generate(server, "--fresh").code == 0
    assert len(server.bodies) == 40
    assert (tmp_path / "out" / "latest").readlink() == Path("v2")
