"""Old runs stay "up to date": the fingerprint of a command is what it was when the golden file was written.

A fingerprint that changes makes users sample, train and judge again; a row key that changes makes them sample a
row again. Filters and evaluations are judged anew on purpose when `CODE_VERSION` of the verifiers or of the filters
changes: the golden file is then written again.
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
def inputs(
    tmp_path: Path,
    repository: Path,
    distill: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """Files whose content is fixed, and an imported dataset, by the names that the golden file uses.

    They lie in the working folder, since the fingerprint of `import` holds the path of its tokenizer.
    """
    monkeypatch.chdir(tmp_path)
    Path("problems.jsonl").write_text(lines(PROBLEMS), encoding="utf-8")
    Path("traces.jsonl").write_text(lines(TRACES), encoding="utf-8")
    for name in ("teacher", "student-qwen"):
        Path(name).symlink_to(repository / "data" / "quickstart" / name)
    outcome = distill("import", "traces.jsonl", "--tokenizer", "teacher", "--out", "imported")
    assert outcome.code == 0, outcome
    return {
        "PROBLEMS": "problems.jsonl",
        "TRACES": "traces.jsonl",
        "TEACHER": "teacher",
        "STUDENT": "student-qwen",
        "IMPORTED": "imported",
    }


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def row_keys(version: Path) -> set[str]:
    """Of the rows that the version keeps, has rejected and has sampled."""
    return {
        json.loads(line)["row_key"]
        for kind in ("part", "rejected", "forced")
        for path in version.glob(f"{kind}-*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_fingerprint_and_row_keys_are_those_of_old_runs(
    name: str, inputs: dict[str, str], distill: Callable[..., Any]
) -> None:
    command = [inputs.get(word, word) for word in CASES[name]["command"].split()]

    distill(*command, "--out", "out")

    [manifest] = Path().glob("out/**/manifest.json")
    found = json.loads(manifest.read_text(encoding="utf-8"))
    assert found["fingerprint"] == CASES[name]["fingerprint"]
    assert row_keys(manifest.parent) == set(CASES[name]["row_keys"])
