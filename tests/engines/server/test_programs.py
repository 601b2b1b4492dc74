"""Programs of a served model, scored by `eval` in the sandbox."""

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.errors import MissingDependencyError
from distillpipe.data.store.dataset import read_traces
from distillpipe.verify.code.sandbox import find_sandbox

PROGRAMS = {"right": "def double(x): return 2 * x", "wrong": "def double(x): return x"}
TESTS = ["assert double(2) == 4", "assert double(0) == 0"]


def test_eval_scores_programs_of_a_served_model(
    serve: Any, sent: Any, distill: Callable[..., Any], tmp_path: Path
) -> None:
    try:
        find_sandbox()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    problems = tmp_path / "double.jsonl"
    rows = [{"problem": f"{name}?", "test_list": TESTS} for name in ("right", "wrong")]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def answer(body: Any, _: int) -> Any:
        program = PROGRAMS[body["messages"][-1]["content"].partition("?")[0]]
        return sent(message={"content": f"```python\n{program}\n```", "reasoning": "Hm."})

    done = distill(
        "eval", "teacher", "--base-url", serve(answer).url, "--benchmark", problems,
        "--prompt-template", "{problem}", "--out", tmp_path / "out", "--code-packages", "mpmath",
    )  # fmt: skip

    assert done.code == 0, done.err
    metrics = json.loads((tmp_path / "out/double/v1/metrics.json").read_text())
    assert metrics["pass@1"] == 0.5
    assert metrics["code_packages"] == {"mpmath": version("mpmath")}
    found = {row.problem: row.verdict_reason for row in read_traces(str(tmp_path / "out/double"))}
    assert found == {"right?": "all_tests_passed", "wrong?": "wrong_value: test 1: said 2"}
