"""Verdicts on programs: correct ones pass, wrong ones fail with a reason, broken tests are unverifiable."""

import json
from typing import Any

import pytest

from distillpipe.verify import verified
from distillpipe.verify.code.extract import extract_code
from distillpipe.verify.code.kinds import (
    BesideTests,
    Call,
    CallTests,
    CheckTests,
    ExpressionTests,
    InputTests,
)
from distillpipe.verify.code.sandbox import Sandbox
from distillpipe.verify.code.verifier import CodeResult, judge_code

SECONDS = 3.0
DOUBLE = CallTests("double", (Call((2,), {}, 4), Call((), {"x": [1]}, [1, 1])))
METHOD = CallTests("Solution().double", (Call((2,), {}, 4), Call((3,), {}, 6)))
LINES = InputTests((("1 2\n", "3\n"), ("4 5\n", "9.0\n"), ("0 0\n", "0")))
CLOSE = CheckTests(
    {"half": "half"},
    (
        "assert abs(half(3) - 1.5) < 1e-6",
        "for x in range(50):\n    assert half(half(4 * x)) == x",
        "try:\n    half(None)\nexcept TypeError:\n    pass\nelse:\n    raise AssertionError",
    ),
)
PAIRS = ExpressionTests((("total(pairs)", 3), ("total([Pair(4, 5)])", 9)), "pairs = [Pair(1, 2)]")
FUNCTIONS = BesideTests(("assert apply(lambda x: x + 1, 2) == 3", "assert apply(len, 'ab') == 2"))


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("def double(x):\n    return x + x", DOUBLE),
        ("import sys\ndef double(x):\n    print('noise')\n    return 2 * x", DOUBLE),
        ("class Solution:\n    def double(self, x: List[int]):\n        return 2 * x", METHOD),
        ("def double(x):\n    return 2 * x", METHOD),
        ("class Solution:\n    n = 0\n    def double(self, x):\n        return 2 * x", METHOD),
        ("print(sum(map(int, input().split())))", LINES),
        ("import os\nprint(sum(map(int, input().split())), flush=True)\nos._exit(0)", LINES),
        ("a, b = map(int, stdin.readline().split())\nprint(a + b)", LINES),
        ("from __future__ import annotations\nprint(sum(map(int, input().split())))", LINES),
        ("def half(x):\n    return x / 2", CLOSE),
        ("Pair = namedtuple('Pair', 'a b')\ndef total(p):\n    return sum(a + b for a, b in p)", PAIRS),
        ("def apply(f, x):\n    return f(x)", FUNCTIONS),
    ],
)  # fmt: skip
def test_a_right_program_passes(sandbox: Sandbox, program: str, tests) -> None:
    result = judge_code(program, tests, sandbox=sandbox, test_seconds=SECONDS)

    assert result == CodeResult(
        verdict="correct",
        reason="all_tests_passed",
        num_passed=len(tests.cases),
        num_tests=len(tests.cases),
        beside_candidate=tests is FUNCTIONS,
    )


@pytest.mark.parametrize(
    ("program", "tests", "reason", "num_passed"),
    [
        ("\0", DOUBLE, "no_python", 0),
        ("#" * 1_000_001, DOUBLE, "no_python", 0),
        ("def double(x)", DOUBLE, "raised", 0),
        ("1 / 0", DOUBLE, "raised", 0),
        ("", DOUBLE, "raised", 0),
        ("def double(x):\n    pass", DOUBLE, "wrong_value", 0),
        ("def double(x):\n    return 4", DOUBLE, "wrong_value", 1),
        ("def double(x):\n    return 4 if x == 2 else object()", DOUBLE, "raised", 1),
        ("def double(x):\n    return 4 if x == 2 else x[9]", DOUBLE, "raised", 1),
        ("def double(x):\n    return 4 if x == 2 else 1 / 0", DOUBLE, "raised", 1),
        ("def double(x):\n    return 4 if x == 2 else exit()", DOUBLE, "raised", 1),
        ("import os\ndef double(x):\n    return 4 if x == 2 else os._exit(0)", DOUBLE, "ended_early", 1),
        ("def double(x):\n    while x != 2: pass\n    return 4", DOUBLE, "time_limit", 1),
        ("while True: pass", DOUBLE, "time_limit", 0),
        ("def double(x):\n    return 4 if x == 2 else 'x' * 20_000_000", DOUBLE, "output_limit", 1),
        ("def double(x):\n    return bytearray(10 ** 11)", DOUBLE, "raised", 0),
        ("print(3)", LINES, "wrong_output", 1),
        ("input()", LINES, "wrong_output", 0),
        ("print(sum(map(int, input().split())))\n1 / 0", LINES, "raised", 0),
        ("print(sum(map(int, input().split())))\nexit(1)", LINES, "raised", 0),
        ("import os\nprint(3, flush=True)\nos._exit(1)", LINES, "ended_early", 0),
        ("import os\nos._exit(0)", LINES, "wrong_output", 0),
        ("while True: print('x' * 10 ** 6)", LINES, "output_limit", 0),
        ("def half(x):\n    return 1.5", CLOSE, "failed_check", 1),
        ("def half(x):\n    return None", CLOSE, "failed_check", 0),
        ("def half(x):\n    while True: pass", CLOSE, "time_limit", 0),
        ("import os\ndef half(x):\n    os._exit(0)", CLOSE, "ended_early", 0),
        ("def other(x):\n    return x / 2", CLOSE, "failed_check", 0),
        ("def half(x):\n    return x / 2 if x is not None else 0", CLOSE, "failed_check", 2),
        ("def total(p):\n    return 3", PAIRS, "raised", 0),
        ("def apply(f, x):\n    return 3", FUNCTIONS, "raised", 1),
        ("import os\ndef apply(f, x):\n    os._exit(0)", FUNCTIONS, "ended_early", 0),
        ("def apply(f, x):\n    raise SystemExit(0)", FUNCTIONS, "raised", 0),
    ],
)  # fmt: skip
def test_a_wrong_program_fails_with_a_reason(sandbox, program, tests, reason, num_passed) -> None:
    result = judge_code(program, tests, sandbox=sandbox, test_seconds=SECONDS)

    assert (result.verdict, result.reason, result.num_passed) == ("wrong", reason, num_passed), (
        result
    )
    assert result.num_tests == len(tests.cases)
    assert len(result.detail) < 250


@pytest.mark.parametrize("source", ["1 / 0", "assert (", "import nothing_known", "assert False"])
def test_tests_that_fail_before_they_ask_are_unverifiable(sandbox: Sandbox, source: str) -> None:
    tests = CheckTests({"half": "half"}, (source,))

    result = judge_code("def half(x):\n    return x / 2", tests, sandbox=sandbox)

    assert (result.verdict, result.reason) == ("unverifiable", "broken_tests")


def test_a_response_is_verified_by_the_tests_of_its_row(sandbox: Sandbox, make_trace: Any) -> None:
    extra = json.dumps({"test_list": ["assert double(2) == 4"]})

    def judged(response: str) -> tuple[Any, ...]:
        trace = verified(make_trace(response=response, verifier="code"), extra=extra)
        return trace.verdict, trace.verdict_reason, trace.answer

    program = "def double(x): return 2 * x\n"
    assert judged(f"So:\n```python\n{program}```\n") == ("correct", "all_tests_passed", program)
    wrong = judged("```\ndef double(x): return x\n```")
    assert wrong[:2] == ("wrong", "wrong_value: test 1: said 2")
    assert judged("I cannot.") == ("wrong", "no_answer", None)


def test_tests_that_ran_beside_the_candidate_say_so(sandbox: Sandbox) -> None:
    tests = BesideTests(("assert f is f",))

    assert judge_code("def f(): pass", tests, sandbox=sandbox).summary == (
        "all_tests_passed, beside the candidate"
    )


def test_a_tuple_counts_as_a_list_for_results_in_json(sandbox: Sandbox) -> None:
    case = (Call((), {}, [1, 2]),)
    program = "def f():\n    return 1, 2"

    assert judge_code(program, CallTests("f", case), sandbox=sandbox).verdict == "wrong"
    tests = CallTests("f", case, tuple_is_list=True)
    assert judge_code(program, tests, sandbox=sandbox).verdict == "correct"


def test_names_of_the_prompt_are_there_for_program_and_tests(sandbox: Sandbox) -> None:
    prompt = "def helper(x):\n    return x + 1\n\ndef f(x):\n    '''Add two.'''\n"
    tests = CheckTests({"f": "f"}, ("assert f(1) == helper(helper(1))",), prompt)

    assert (
        judge_code("def f(x):\n    return helper(x) + 1", tests, sandbox=sandbox).verdict
        == "correct"
    )


@pytest.mark.parametrize(
    ("response", "program"),
    [
        ("```python\na = 1\n```", "a = 1\n"),
        ("text\n```\na = 1\n```\ntext", "a = 1\n"),
        ("```python\na = 1\n```\nthen\n```python\na = 2\n```", "a = 2\n"),
        ("```python\na = 1\n```\nprints\n```\n5\n```", "a = 1\n"),
        ("```py\na = 1\n```\n```bash\nls\n```", "a = 1\n"),
        ("```Python3\na = 1\n```", "a = 1\n"),
        ("1. so\n   ```python\n   if a:\n       b\n   ```", "if a:\n    b\n"),
        ("````python\na = '''\n```\n'''\n````", "a = '''\n```\n'''\n"),
        ("```python title=x.py\na = 1\n```", "a = 1\n"),
        ("```python\n```", ""),
        ("```python\na = 1", None),
        ("```bash\nls\n```", None),
        ("a = 1", None),
        ("`a = 1`", None),
        ("", None),
    ],
)
def test_the_program_is_the_last_block_of_python(response: str, program: str | None) -> None:
    assert extract_code(response) == program


@pytest.mark.parametrize("text", ["```x\n", "```\n", "`" * 9, " ", "```x y", "````\n```\n"])
def test_a_response_of_many_fences_is_read_to_its_end(text: str) -> None:
    program = extract_code(text * 200_000)  # in quadratic time this would be hours
    assert program is None or set(program) <= set(text)
