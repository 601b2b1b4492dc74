"""Help, `show` and "up to date" answer at once: in a fresh process they load nothing heavy."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.records import Trace
from distillpipe.cli.app import COMMANDS

HEAVY = {
    "torch", "transformers", "datasets", "peft", "accelerate", "math_verify", "vllm",
    "huggingface_hub", "numpy", "safetensors", "tokenizers",
}  # fmt: skip
PROBE = """
import json, sys
from distillpipe.cli.app import main

codes = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["distill", *arguments]
    try:
        main()
        codes.append(0)
    except SystemExit as stop:
        codes.append(stop.code or 0)
print(json.dumps({"codes": codes, "modules": sorted(sys.modules)}), file=sys.stderr)
"""


def probe(*calls: list[str]) -> tuple[list[int], str, set[str]]:
    """Run the calls one after the other in a fresh process: exit codes, stderr, what was loaded."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(calls)], capture_output=True, text=True, check=True
    )
    said, _, found = done.stderr.rstrip("\n").rpartition("\n")
    answer = json.loads(found)
    return answer["codes"], said, {name.partition(".")[0] for name in answer["modules"]}


def test_the_probe_sees_what_is_loaded() -> None:
    _, _, modules = probe(["--version"])

    assert {"distillpipe", "typer", "msgspec"} <= modules


def test_help_of_the_program_loads_nothing_heavy() -> None:
    codes, said, modules = probe(["--help"], ["-h"], ["--version"])

    assert (codes, said) == ([0, 0, 0], "")
    assert modules & HEAVY == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_loads_nothing_heavy(name: str) -> None:
    codes, said, modules = probe([name, "--help"], [name, "-h"])

    assert (codes, said) == ([0, 0], "")
    assert modules & HEAVY == set()


@pytest.fixture
def calls(
    tmp_path: Path, tiny_model: Path, make_traces: Callable[..., list[Trace]]
) -> dict[str, list[str]]:
    """A call of each stage that is done in a moment."""
    traces, problems = tmp_path / "traces.jsonl", tmp_path / "problems.jsonl"
    traces.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in make_traces(2)))
    problems.write_text('{"problem": "1+1?", "answer": "2"}\n')
    few = ["--max-tokens", "2", "--out", str(tmp_path / "out")]
    training = ["--max-steps", "1", "--dtype", "fp32", "--max-length", "256"]
    return {
        "generate": ["generate", str(problems), "--teacher", str(tiny_model), *few],
        "filter": ["filter", str(traces), "--out", str(tmp_path / "out")],
        "sft": [
            "sft", str(traces), "--student", str(tiny_model), *training,
            "--out", str(tmp_path / "out"),
        ],
        "eval": ["eval", str(tiny_model), "--benchmark", str(problems), *few],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["generate", "filter", "sft", "eval"])
def test_up_to_date_and_show_load_nothing_heavy(
    tmp_path: Path, distill: Callable[..., Any], calls: dict[str, list[str]], name: str
) -> None:
    done = distill(*calls[name])
    assert done.code == 0, done.err

    out = tmp_path / "out"
    version = out / "problems" / "v1" if name == "eval" else out / "v1"
    codes, said, modules = probe(calls[name], ["show", str(out)], ["show", str(out), "--json"])
    assert (codes, said) == ([0, 0, 0], f"{name}: up to date: {version}")
    assert modules & HEAVY == set()
