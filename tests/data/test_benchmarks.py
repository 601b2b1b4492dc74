"""The table of benchmarks, on the real files and on rows written after the sources' descriptions."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from distillpipe import verify
from distillpipe.base.errors import DataError
from distillpipe.base.records import Problem
from distillpipe.data.benchmarks import BENCHMARKS
from distillpipe.data.formats import hub
from distillpipe.data.sources import find, read_problems
from distillpipe.filters.problems import AS_THEY_ARE
from distillpipe.reports.protocols import PROTOCOLS
from distillpipe.verify import VERIFIERS

REAL = {
    # file in the folder of real data: problems, answer of the first and of the last, domains
    "math500": ("math/math500.jsonl", 500, "\\left( 3, \\frac{\\pi}{2} \\right)", "106^\\circ", 7),
    "aime24": ("math/aime24_deepscaler.json", 30, "204", "315", 1),
    "gsm8k": ("math/gsm8k_test.jsonl", 1319, "18", "14", 1),
    "humaneval": ("code/HumanEval.jsonl.gz", 164, None, None, 1),
    "mbpp": ("code/mbpp.jsonl", 500, None, None, 1),
    "livecodebench": ("code/lcb_1row_with_private_1873_A.jsonl", 1, None, None, 1),
}


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`read("gpqa_diamond", row, ...)`: the problems of a benchmark file with these rows."""
    monkeypatch.setenv("DISTILL_DATA", str(tmp_path))

    def run(name: str, *rows: dict[str, Any]) -> list[Problem]:
        path = tmp_path / BENCHMARKS[name].file
        if path.suffix == ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        else:
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return list(read_problems(find(name), AS_THEY_ARE, None))

    return run


@pytest.mark.reference
@pytest.mark.parametrize("name", REAL)
def test_a_real_benchmark_file_is_read_and_can_be_verified(
    reference_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file, number, first, last, num_domains = REAL[name]
    (tmp_path / BENCHMARKS[name].file).symlink_to(reference_data(f"data/{file}"))
    monkeypatch.setenv("DISTILL_DATA", str(tmp_path))
    problems = list(read_problems(find(name), AS_THEY_ARE, None))

    assert len({problem.problem_id for problem in problems}) == len(problems) == number
    assert number == BENCHMARKS[name].num_problems or BENCHMARKS[name].tried == "part"
    assert (problems[0].reference_answer, problems[-1].reference_answer) == (first, last)
    assert len({problem.domain for problem in problems}) == num_domains
    assert {problem.benchmark for problem in problems} == {name}
    assert all(map(verify.can_judge, problems))


def test_every_benchmark_has_a_verifier_a_source_and_a_prompt() -> None:
    assert len({one.file for one in BENCHMARKS.values()}) == len(BENCHMARKS) == 12
    for name, one in BENCHMARKS.items():
        assert (one.name, "{problem}" in one.prompt) == (name, True)
        assert one.verifier in VERIFIERS
        assert hub.parse(one.reference).name.count("/") == 1
        assert len(one.public_since) == len("2024-02")


def test_columns_of_gpqa_become_options_with_the_correct_one_first(read: Any) -> None:
    row = {
        "Question": "Which?", "Correct Answer": " an eel\n", "Incorrect Answer 1": "a rat",
        "Incorrect Answer 2": "a bat", "Incorrect Answer 3": "a cat", "High-level domain": "Biology",
    }  # fmt: skip
    (found,) = read("gpqa_diamond", row)

    assert (found.problem, found.reference_answer, found.domain) == ("Which?", "A", "Biology")
    assert json.loads(found.extra)["options"] == ["an eel", "a rat", "a bat", "a cat"]
    assert verify.judge("an eel", "A", "choice", found.extra) == "correct"


def test_equal_questions_with_other_options_are_other_problems(read: Any) -> None:
    rows = [
        {"question": "Which is true?", "options": options, "answer": "A", "category": "law"}
        for options in (["1 < 2", "2 < 1"], ["3 < 4", "4 < 3"])
    ]
    first, second = read("mmlu_pro", *rows)

    assert first.problem_id != second.problem_id
    assert (first.domain, first.reference_answer) == ("law", "A")


def test_answers_of_olympiadbench_and_minerva_can_be_verified(
    read: Any,
) -> None:
    olympiad = {"question": "p", "final_answer": ["$69$,$84$"], "subfield": "Algebra"}
    minerva = {"problem": "p", "solution": "= \\boxed{4.5e33} erg", "type": "Astronomy"}
    (several,), (power,) = read("olympiadbench", olympiad), read("minerva", minerva)

    assert (several.reference_answer, several.domain) == ("$69$,$84$", "Algebra")
    assert verify.judge("84, 69", several.reference_answer, "math") == "correct"
    assert power.reference_answer == "4.5 \\times 10^{33}"


def test_mbpp_is_what_its_readme_tests_on(read: Any) -> None:
    rows = [
        {"text": str(task), "task_id": task, "test_list": ["assert f(1)"]}
        for task in (10, 11, 510, 511)
    ]
    assert [problem.problem for problem in read("mbpp", *rows)] == ["11", "510"]


def test_the_file_of_another_benchmark_names_the_missing_column(read: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        read("mbpp", {"text": "p"})
    assert str(raised.value) == (
        f"{tmp_path}/mbpp.jsonl:1: this row has no 'task_id', but rows of mbpp have: is this the right file?"
    )


def test_the_documentation_has_a_row_for_each_benchmark_and_protocol(
    load_script: Callable[[str], ModuleType],
) -> None:
    first = [
        row.split(" | ")[0] for row in load_script("benchmarks_table.py").tables().splitlines()
    ]
    benchmarks, protocols = first[: first.index("")], first[first.index("") + 1 :]
    assert benchmarks[2:] == [f"| {name}" for name in BENCHMARKS]
    assert protocols[2:] == [f"| `{name}`" for name in PROTOCOLS]
