"""`generate` and `eval` with a server, as a user calls them: rows, licences, options and errors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.dataset import read_traces

KEY = "sk-canary-5cc5e9d8b1f04a7e"
PRICES = ("--price-input", 0.55, "--price-output", 2.19)
Distill = Callable[..., Any]


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
