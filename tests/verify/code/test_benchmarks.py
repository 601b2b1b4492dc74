"""Whole benchmarks: their authors' solutions pass, programs without a body fail."""

import ast
import gzip
import json
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from distillpipe.verify.code import problem_tests
from distillpipe.verify.code.kinds import BesideTests, InputTests
from distillpipe.verify.code.sandbox import Sandbox
from distillpipe.verify.code.verifier import CodeResult, judge_code

Rows = list[dict[str, Any]]
# tests whose own solution cannot pass here, by their place among the 200, with the reason
LEETCODE_FAILURES = {"No module named 'sortedcontainers'": 1}

pytestmark = [pytest.mark.reference, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(reference_data: Callable[[str], Path]) -> Path:
    return reference_data("data/code")


@pytest.fixture(scope="module")
def human_eval(folder: Path) -> Rows:
    with gzip.open(folder / "HumanEval.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def mbpp(folder: Path) -> Rows:
    return [json.loads(line) for line in (folder / "mbpp.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def leetcode(folder: Path) -> Rows:
    rows: Rows = json.loads((folder / "leetcode_test.json").read_text())
    return rows


PATIENT_SECONDS = 60  # some solutions take seconds, and a busy machine is no failure of theirs


def judged(
    rows: Rows, program: Callable[[dict[str, Any]], str], sandbox: Sandbox
) -> list[CodeResult]:
    def judge(row: dict[str, Any], source: str) -> CodeResult:
        tests = problem_tests.tests_of(row)
        return judge_code(source, tests, sandbox=sandbox, test_seconds=PATIENT_SECONDS)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(judge, rows, [program(row) for row in rows]))


def failures(results: list[CodeResult], verdict: str) -> list[tuple[int, CodeResult]]:
    return [(place, result) for place, result in enumerate(results) if result.verdict != verdict]


def emptied(source: str) -> str:
    """The program with `pass` as the body of every function."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = [ast.Pass()]
    return ast.unparse(tree)


def test_all_solutions_of_human_eval_pass(human_eval: Rows, sandbox: Sandbox) -> None:
    results = judged(human_eval, lambda row: row["prompt"] + row["canonical_solution"], sandbox)

    assert len(results) == 164
    assert failures(results, "correct") == []


def test_no_empty_body_passes_human_eval(human_eval: Rows, sandbox: Sandbox) -> None:
    results = judged(human_eval, lambda row: row["prompt"] + "    pass\n", sandbox)

    assert failures(results, "wrong") == []


def test_all_solutions_of_mbpp_pass(mbpp: Rows, sandbox: Sandbox) -> None:
    results = judged(mbpp, lambda row: row["code"], sandbox)

    assert len(results) == 974
    assert failures(results, "correct") == []


def test_no_empty_body_passes_mbpp(mbpp: Rows, sandbox: Sandbox) -> None:
    assert failures(judged(mbpp, lambda row: emptied(row["code"]), sandbox), "wrong") == []


def test_the_solutions_of_leetcode_pass_but_for_those_listed(leetcode: Rows, sandbox) -> None:
    failed = failures(judged(leetcode, lambda row: row["solutions"], sandbox), "correct")

    assert len(leetcode) == 200
    for reason, count in LEETCODE_FAILURES.items():
        assert sum(reason in result.detail for _, result in failed) == count
    assert len(failed) == sum(LEETCODE_FAILURES.values())


def test_no_empty_body_passes_leetcode(leetcode: Rows, sandbox: Sandbox) -> None:
    assert failures(judged(leetcode, lambda row: emptied(row["solutions"]), sandbox), "wrong") == []


def test_no_test_of_the_benchmarks_runs_beside_a_program(human_eval, mbpp, leetcode) -> None:
    for row in human_eval + mbpp + leetcode:
        assert not isinstance(problem_tests.tests_of(row), BesideTests)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("'YES' if sum(a != b for a, b in zip(s, 'abc')) <= 2 else 'NO'", "correct"),
        ("'yes' if sum(a != b for a, b in zip(s, 'abc')) <= 2 else 'no'", "wrong"),
        ("'YES'", "wrong"),
    ],
)
def test_the_row_of_live_code_bench_is_judged(reference_rows, sandbox, answer, verdict) -> None:
    (row,) = reference_rows("code/lcb_1row_with_private_1873_A.jsonl")[:1]
    tests = problem_tests.tests_of(row)
    program = textwrap.dedent(f"""
        for _ in range(int(input())):
            s = input().strip()
            print({answer})
        """)

    assert isinstance(tests, InputTests)
    assert judge_code(program, tests, sandbox=sandbox).verdict == verdict
