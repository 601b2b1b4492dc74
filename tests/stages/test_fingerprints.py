"""Old runs stay "up to date": the fingerprint of a command is what it was when the golden file was written.

A fingerprint that changes makes users sample, train and judge again. Filters and evaluations are judged anew on
purpose when `CODE_VERSION` of the verifiers or of the filters changes: the golden file is then written again.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "fingerprints.json"
CASES = json.loads(GOLDEN.read_text(encoding="utf-8"))
PROBLEMS = [
    {"problem": "What is 3 + 4?", "answer": "7", "verifier": "math", "id": "a"},
    {"problem": "What is 6 * 7?", "answer": "42", "verifier": "math", "id": "b"},
]
TRACES = [
    {"messages": [
        {"role": "user", "content": row["problem"]},
        {"role": "assistant", "reasoning_content": f"I add it up: {row['answer']}.",
         "content": f"The answer is \\boxed{{{row['answer']}}}."},
    ], "answer": row["answer"]}
    for row in PROBLEMS
]  # fmt: skip


@pytest.fixture
def inputs(tmp_path: Path, repository: Path, distill: Callable[..., Any]) -> dict[str, str]:
    """Files whose content is fixed, and an imported dataset, by the names that the golden file uses."""
    (tmp_path / "problems.jsonl").write_text(lines(PROBLEMS), encoding="utf-8")
    (tmp_path / "traces.jsonl").write_text(lines(TRACES), encoding="utf-8")
    quickstart = repository / "data" / "quickstart"
    names = {
        "PROBLEMS": tmp_path / "problems.jsonl",
        "TRACES": tmp_path / "traces.jsonl",
        "TEACHER": quickstart / "teacher",
        "STUDENT": quickstart / "student-qwen",
        "IMPORTED": tmp_path / "imported",
    }
    outcome = distill(
        "import", names["TRACES"], "--tokenizer", names["TEACHER"], "--out", names["IMPORTED"]
    )
    assert outcome.code == 0, outcome
    return {name: str(path) for name, path in names.items()}


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_fingerprint_is_that_of_old_runs(
    name: str, inputs: dict[str, str], distill: Callable[..., Any], tmp_path: Path
) -> None:
    command = [inputs.get(word, word) for word in CASES[name]["command"].split()]

    distill(*command, "--out", tmp_path / "out")

    [manifest] = tmp_path.glob("out/**/manifest.json")
    assert (
        json.loads(manifest.read_text(encoding="utf-8"))["fingerprint"]
        == CASES[name]["fingerprint"]
    )
