"""Help, `show` and "up to date" answer at once: in a fresh process they load nothing heavy."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
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
Loaded = dict[str, str]
PROBE = """
import json, sys
from distillpipe.cli.app import main

calls, heavy = json.loads(sys.argv[1])
found = {"codes": [], "heavy": {}}
for arguments in calls:
    sys.argv = ["distill", *arguments]
    try:
        main()
        found["codes"].append(0)
    except SystemExit as stop:
        found["codes"].append(stop.code or 0)
    for name in {name.partition(".")[0] for name in sys.modules}.intersection(heavy):
        found["heavy"].setdefault(name, " ".join(arguments))
print(json.dumps(found), file=sys.stderr)
"""


def probe(calls: list[list[str]], heavy: Iterable[str] = HEAVY) -> tuple[list[int], str, Loaded]:
    """Run the calls one after the other in a fresh process: exit codes, stderr, and what was loaded by which."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps([calls, list(heavy)])],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said, _, found = done.stderr.rstrip("\n").rpartition("\n")
    answer = json.loads(found)
    return answer["codes"], said, answer["heavy"]


def test_the_probe_sees_what_is_loaded_and_by_which_call() -> None:
    _, _, loaded = probe([["--version"], ["-h"]], ["typer", "msgspec", "torch"])

    assert loaded == {"typer": "--version", "msgspec": "--version"}


def test_help_loads_nothing_heavy() -> None:
    calls = [["--help"], ["-h"], ["--version"], *([name, "--help"] for name in COMMANDS)]
    codes, said, loaded = probe([*calls, *([name, "-h"] for name in COMMANDS)])

    assert (set(codes), said, loaded) == ({0}, "", {})


@pytest.fixture
def calls(
    tmp_path: Path, tiny_model: Path, make_traces: Callable[..., list[Trace]]
) -> dict[str, list[str]]:
    """A call of each stage that is done in a moment."""
    traces, problems = tmp_path / "traces.jsonl", tmp_path / "problems.jsonl"
    traces.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in make_traces(2)))
    problems.write_text('{"problem": "1+1?", "answer": "2"}\n')
    few = ["--max-tokens", "2"]
    training = ["--max-steps", "1", "--dtype", "fp32", "--max-length", "256"]
    return {
        "generate": ["generate", str(problems), "--teacher", str(tiny_model), *few],
        "filter": ["filter", str(traces)],
        "sft": ["sft", str(traces), "--student", str(tiny_model), *training],
        "eval": ["eval", str(tiny_model), "--benchmark", str(problems), *few],
    }  # fmt: skip


def test_up_to_date_and_show_load_nothing_heavy(
    tmp_path: Path, distill: Callable[..., Any], calls: dict[str, list[str]]
) -> None:
    again, versions = [], []
    for name, call in calls.items():
        out = tmp_path / name
        again += [[*call, "--out", str(out)], ["show", str(out)], ["show", str(out), "--json"]]
        versions.append(out / "problems" / "v1" if name == "eval" else out / "v1")
        done = distill(*again[-3])
        assert done.code == 0, done.err

    codes, said, loaded = probe(again)
    lines = [f"{name}: up to date: {one}" for name, one in zip(calls, versions, strict=True)]
    assert (set(codes), said.splitlines(), loaded) == ({0}, lines, {})
