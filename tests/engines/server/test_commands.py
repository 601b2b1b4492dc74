"""`generate` and `eval` with a server, as a user calls them: money, options, signals, kills."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.dataset import read_traces

KEY = "sk-canary-5cc5e9d8b1f04a7e"
PRICES = ("--price-input", 0.55, "--price-output", 2.19)
Distill = Callable[..., Any]


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return write_problems(tmp_path / "problems.jsonl", 20)


def write_problems(path: Path, number: int) -> Path:
    rows = ({"problem": f"What is {at}+1?", "answer": str(at + 1)} for at in range(number))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def generate(distill: Distill, problems: Path, tmp_path: Path) -> Distill:
    """`generate(server, *options)` runs the command on twenty problems."""

    def run(server: Any, *options: object) -> Any:
        return distill(*arguments(server, problems, tmp_path / "out"), *options)

    return run


def arguments(server: Any, problems: Path, out: Path) -> list[str]:
    return [
        "generate", str(problems), "--teacher", "teacher", "--base-url", server.url, "--out", str(out),
        "--max-tokens", "64", "--concurrency", "8",
    ]  # fmt: skip


# ---------------------------------------------------------------- rows and versions


def test_generate_asks_the_server_once_and_is_up_to_date_then(
    serve: Any, sent: Any, generate: Distill, tmp_path: Path
) -> None:
    server = serve(lambda *_: sent())
    done = generate(server)

    assert (done.code, done.out) == (0, "")
    assert f"sampling 20 of 20 rows, teacher at {server.url}" in done.err
    assert "up to date" in generate(server).err
    assert len(server.bodies) == 20
    assert {row.teacher for row in read_traces(str(tmp_path / "out"))} == {"teacher"}


def test_another_address_of_the_same_model_buys_no_row_twice(
    serve: Any, sent: Any, generate: Distill
) -> None:
    first, second = serve(lambda *_: sent()), serve(lambda *_: sent())
    generate(first, "--limit", 12)
    done = generate(second, "--num-samples", 2)

    assert "reused 12 rows" in done.err
    assert (len(first.bodies), len(second.bodies)) == (12, 28)
    assert len({body["seed"] for body in first.bodies + second.bodies}) == 40


def test_eval_scores_a_served_model_and_never_raises_the_alarm(
    serve: Any, sent: Any, distill: Distill, problems: Path, tmp_path: Path
) -> None:
    server = serve(
        lambda body, _: sent(message={"content": "\\boxed{2}" if body["seed"] % 2 else "2?"})
    )
    done = distill(
        "eval", "teacher", "--base-url", server.url, "--benchmark", problems, "--out", tmp_path / "out",
        *PRICES,
    )  # fmt: skip

    assert done.code == 0, done.err
    assert "Pass@1" in done.err
    assert f"{server.bill(0.55, 2.19):.2g} billed: " in done.err


def test_generate_raises_the_alarm_and_keeps_nothing_of_it(
    serve: Any, sent: Any, generate: Distill, tmp_path: Path
) -> None:
    server = serve(lambda *_: sent(message={"content": "2"}))
    done = generate(server)

    assert done.code == 1
    assert "error: the first 5 answers hold no reasoning" in done.err
    assert generate(server, "--allow-no-reasoning").code == 0
    assert sum(1 for _ in read_traces(str(tmp_path / "out"))) == 20


# ---------------------------------------------------------------- money


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
    assert found["writes"] == f"{tmp_path}/out/v1.partial, which it goes on with"
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


# ---------------------------------------------------------------- licences


def test_terms_that_forbid_training_are_a_warning_and_the_user_knows_better(
    serve: Any, sent: Any, distill: Distill, problems: Path, tmp_path: Path
) -> None:
    server, out = serve(lambda *_: sent()), tmp_path / "out"
    given = ("generate", problems, "--teacher", "gpt-4o", "--base-url", server.url, "--out", out)
    dry, done = distill(*given, "--dry-run"), distill(*given)

    for one in (dry, done):
        assert "warning: licence openai-terms: no models that compete with OpenAI" in one.err
    assert manifests.read(out / "v1").licences == ["openai-terms"]
    done = distill(*given, "--teacher-licence", "our contract of 2026")
    assert "warning" not in done.err
    assert manifests.read(out / "v2").licences == ["our contract of 2026"]
    assert len(server.bodies) == 20


# ---------------------------------------------------------------- options and errors


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--max-cost", 1], "--max-cost needs --price-input and --price-output"),
        (["--price-input", 1], "--price-input and --price-output go together"),
        (["--engine", "transformers"], "--base-url cannot be used with --engine transformers"),
        (["--chat-template", "chatml"], "--chat-template: a server uses its own setting"),
        (["--base-url", "localhost:8000"], "--base-url should look like http://localhost:8000/v1"),
        (["--base-url", f"http://u:{KEY}@h/v1"], "must not hold a user, password or query"),
        (["--base-url", f"http://h/v1?key={KEY}"], "must not hold a user, password or query"),
        (["--api-key-env", KEY], "takes the name of an environment variable"),
        (["--extra-body", "{"], "--extra-body takes a JSON object, like '{"),
        (["--extra-body", "[1]"], "--extra-body takes a JSON object, like '{"),
        (["--extra-body", '{"max_tokens": 1}'], "--extra-body: distillpipe sets max_tokens itself"),
        (["--extra-body", '{"top_p": 0.5}'], "--extra-body: distillpipe sets top_p itself"),
    ],
)
def test_options_that_do_not_fit_are_a_usage_error(
    serve: Any, sent: Any, generate: Distill, tmp_path: Path, options: list[Any], expected: str
) -> None:
    server = serve(lambda *_: sent())
    for extra in ([], ["--dry-run"]):
        done = generate(server, *options, *extra)
        assert KEY not in done.err + done.out
        if not extra:
            assert (done.code, expected in done.err) == (2, True), done.err
    assert server.bodies == []
    assert not list((tmp_path / "out").glob("v*"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--engine", "openai"], "--engine openai needs --base-url"),
        (["--max-cost", 1], "need a server: give --base-url"),
    ],
)
def test_options_of_a_server_need_its_address(
    distill: Distill, problems: Path, tmp_path: Path, options: list[Any], expected: str
) -> None:
    done = distill("generate", problems, "--teacher", "m", "--out", tmp_path / "out", *options)
    assert (done.code, expected in done.err) == (2, True), done.err


def test_other_fields_of_a_request_are_for_a_server(
    distill: Distill, problems: Path, tmp_path: Path, repository: Path
) -> None:
    teacher = repository / "data" / "quickstart" / "teacher"
    given = ("generate", problems, "--teacher", teacher, "--out", tmp_path / "out")
    done = distill(*given, "--extra-body", "{}")

    assert (done.code, done.err) == (
        2, "error: --extra-body needs a server: give --base-url, or leave it out\n"
    )  # fmt: skip


def test_a_pilot_without_a_dry_run_is_a_usage_error(
    serve: Any, sent: Any, generate: Distill, tmp_path: Path
) -> None:
    server = serve(lambda *_: sent())
    done = generate(server, "--pilot", 3)

    assert (done.code, server.bodies) == (2, [])
    assert "--pilot samples rows for the estimate of --dry-run: give both" in done.err
    assert not (tmp_path / "out").exists()


def test_a_wrong_address_is_one_line_with_the_remedy(
    serve: Any, sent: Any, generate: Distill
) -> None:
    server = serve(lambda *_: sent())
    server.stop()
    done = generate(server)

    assert done.code == 1
    assert done.err.splitlines()[-1].startswith(f"error: {server.url}: no connection (")
    assert done.err.endswith("is it running, and is --base-url right? (most end in /v1)\n")


# ---------------------------------------------------------------- signals and kills


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[str]]:
    """Run `distill` in a process of its own."""

    def run(*given: object) -> subprocess.Popen[str]:
        program = "from distillpipe.cli.app import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, given)], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip

    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_and_the_same_command_goes_on(
    serve: Any, sent: Any, start: Distill, problems: Path, tmp_path: Path, number: signal.Signals
) -> None:
    server = serve(lambda *_: sent() if sum(server.answered.values()) < 9 else sent(stall=600.0))
    out = tmp_path / "out"
    running = start(*arguments(server, problems, out))
    wait_for(lambda: sum(server.answered.values()) == 9 and server.under_way == 8)
    running.send_signal(number)

    assert running.communicate()[1].endswith(
        "stopped: what was done is safe; the same command goes on from here\n"
    )
    assert running.returncode == 128 + number
    wait_for(lambda: server.under_way == 0)
    server.react = lambda *_: sent()
    again = start(*arguments(server, problems, out))
    assert "sampling 11 of 20 rows" in again.communicate()[1]
    assert sum(server.answered.values()) == 20


@pytest.mark.slow
def test_kills_cost_no_more_than_the_cap_and_lose_no_row(
    serve: Any, sent: Any, start: Distill, tmp_path: Path
) -> None:
    problems, out = write_problems(tmp_path / "problems.jsonl", 400), tmp_path / "out"
    server = serve(lambda *_: sent(stall=0.005))
    cap = 0.02
    given = [*arguments(server, problems, out), *PRICES, "--max-cost"]
    for kill in range(1, 9):
        running = start(*given, cap)
        wait_for(lambda: running.poll() is not None or len(server.bodies) >= 30 * kill)  # noqa: B023
        running.kill()
        running.communicate()
        assert server.bill(0.55, 2.19) <= cap
    running = start(*given, cap)
    running.communicate()
    assert running.returncode == 3
    assert server.bill(0.55, 2.19) <= cap
    spent = manifests.read(out / "v1.partial").counts.cost_dollars
    assert server.bill(0.55, 2.19) <= spent <= cap

    running = start(*given, 1.0)
    running.communicate()
    assert running.returncode == 0
    assert server.bill(0.55, 2.19) <= manifests.read(out / "v1").counts.cost_dollars
    assert len({row.row_key for row in read_traces(str(out))}) == 400


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.005)
