"""Rows of APPS, TACO and of verl's and rllm's versions: outputs are compared as by their graders.

The rows have the real formats (`input_output` is JSON in a text, `fn_name` names a function); the verdicts
are those of hendrycks/apps eval/testing_util.py, FlagOpen/TACO metrics/testing_util.py and verl's
prime_code, except where a case says so.
"""

import json
from typing import Any

import pytest

from distillpipe.verify.code import problem_tests
from distillpipe.verify.code.kinds import CodeTests, InputTests
from distillpipe.verify.code.sandbox import Sandbox
from distillpipe.verify.code.values import equal_output
from distillpipe.verify.code.verifier import judge_code


def verdicts(sandbox: Sandbox, inputs: list[Any], outputs: list[Any], *bodies: str) -> list[str]:
    """The verdicts on programs `f(*a)` with these bodies."""
    row = {"input_output": json.dumps({"fn_name": "f", "inputs": inputs, "outputs": outputs})}
    programs = [f"def f(*a):\n    return {body}\n" for body in bodies]
    tests = problem_tests.tests_of(row)
    return [judge_code(program, tests, sandbox=sandbox).verdict[0] for program in programs]


def test_livecodebench_rules_leave_outputs_to_their_own_grader(sandbox: Sandbox) -> None:
    calls = {"fn_name": "f", "inputs": [[1], [2]], "outputs": [[[1, 1]], [[2, 2]]]}
    function = problem_tests.tests_of({"input_output": json.dumps(calls)})
    script = problem_tests.tests_of({"input_output": {"inputs": ["3"], "outputs": ["1.5"]}})

    def verdict(program: str, tests: CodeTests) -> str:
        return judge_code(program, tests, sandbox=sandbox, rules="livecodebench").verdict

    for body in ("[a, a]", "[[a, a]]", "((a, a),)"):
        assert verdict(f"def f(a): return {body}", function) == "correct"
    assert verdict("def f(a): return [a]", function) == "wrong"
    assert verdict("print(int(input()) / 2 + 1e-9)", script) == "correct"
    assert verdict("print(2)", script) == "wrong"


@pytest.mark.parametrize(
    ("inputs", "outputs", "right", "wrong"),
    [
        ([[1, 2], [3, 4]], [3, 7], ["a[0] + a[1]"], ["3", "[a[0] + a[1]] * 2"]),
        ([[1, 2], [3, 4]], [[3], [7]], ["a[0] + a[1]", "[a[0] + a[1]]", "(a[0] + a[1],)"], ["a[0] - a[1]", "[[a[0] + a[1]]]"]),
        ([[[1, 2]]], [[[2, 1]]], ["a[0][::-1]", "[a[0][::-1]]", "tuple(a[0][::-1])"], ["a[0]", "2"]),
        # a list of one among longer ones is a list: their graders would take its first element too
        ([[3], [1]], [[0, 1, 2], [0]], ["list(range(a[0]))", "tuple(range(a[0]))"], ["0", "[0]"]),
        ([[2], [0]], [[[0, 1]], [[]]], ["list(range(a[0]))"], ["[]"]),
        ([["ab"]], ["AB"], ["a[0].upper()"], ["a[0]"]),
        ([["ab"]], [["AB"]], ["a[0].upper()"], ["a[0]", "list(a[0].upper())"]),
        ([["a1"]], ["1"], ["a[0][1]", "int(a[0][1])"], ["2"]),  # a text that is JSON: its value is accepted too
        ([["a"]], ['"a"'], ["a[0]", "repr(a[0]).replace(chr(39), chr(34))"], ["a[0] + a[0]"]),
        ([[2]], [[[[1, 2], [3, 4]]]], ["[(1, 2), (3, 4)]", "((1, 2), (3, 4))", "[[1, 2], [3, 4]]"], ["[{1, 2}, {3, 4}]"]),
        ([[2]], [[[1, 2], [3, 4]]], ["[(1, 2), (3, 4)]"], ["[(1, 2)]"]),
        ([[1]], [True], ["True"], ["False", "None"]),
        ([[1], [2]], [None, None], ["None"], ["0"]),
        ([[1]], [[None]], ["None", "[None]"], ["[]"]),
        ([[1]], [[0.5]], ["0.5", "[0.5]"], ["0.50001"]),
        ([[]], [[7]], ["7"], ["8"]),
        ([[{"1": 2, "3": 4}]], [[4]], ["a[0][1] + 2", "max(a[0].values())"], ["a[0].get('1')"]),
        ([[{"a": 2, "3": 4}]], [4], ["a[0]['3']"], ["a[0].get(3)"]),
        ([["1"]], [[{"1": 2}]], ["{1: 2}", "[{1: 2}]", "{a[0]: 2}"], ["{2: 1}"]),  # texts: theirs says no
        ([["1"]], [{"1": 2}], ["{1: 2}", "{a[0]: 2}"], ["{1: 3}"]),
        (["[1, 2]\n3"], ["[1, 2, 3]"], ["a[0] + [a[1]]"], ["a[0]", "1"]),  # of verl: one argument a line
        (["[1, 2]\n3", "[]\n4"], ["[6]", "[4]"], ["sum(a[0]) + a[1]"], ["sum(a[0])"]),
        (['"ab"'], ['"AB"'], ["a[0].upper()"], ["a[0]"]),
    ],
)  # fmt: skip
def test_results_are_read_as_their_graders_do(sandbox, inputs, outputs, right, wrong) -> None:
    results = verdicts(sandbox, inputs, outputs, *right, *wrong)

    assert results == ["c"] * len(right) + ["w"] * len(wrong)


def test_a_result_of_any_length_is_read(sandbox: Sandbox) -> None:
    text = f'{{"fn_name": "f", "inputs": [[1]], "outputs": [1{"0" * 5000}]}}'
    tests = problem_tests.tests_of({"input_output": text})

    for end, verdict in (("", "correct"), (" + 1", "wrong")):
        program = f"def f(x):\n    return 10 ** 5000{end}\n"
        assert judge_code(program, tests, sandbox=sandbox).verdict == verdict


@pytest.mark.parametrize(
    ("inputs", "outputs", "cases"),
    [
        (["1 2\n"], ["3\n"], (("1 2\n", "3\n"),)),
        ([["1", "2"]], [["3", "4"]], (("1\n2", "3\n4"),)),
        ([["1 2"]], ["3"], (("1 2", "3"),)),
        ([5], [7], (("5", "7"),)),
        ([[1, 2]], [[3.5]], (("1\n2", "3.5"),)),
        ([[]], [[]], (("", ""),)),
    ],
)
def test_texts_are_lines_or_lists_of_lines(inputs, outputs, cases) -> None:
    for value in (
        {"inputs": inputs, "outputs": outputs, "fn_name": None},
        {"inputs": inputs, "outputs": outputs},
    ):
        assert problem_tests.tests_of({"input_output": json.dumps(value)}) == InputTests(cases, is_lenient=True)  # fmt: skip


@pytest.mark.parametrize(
    ("printed", "expected", "is_equal"),
    [
        ("1\n2\n", "1\n\n2\n\n", True),
        ("1\n\n2\n", "1\n2", True),
        ("1  2", "1 2", True),
        ("a  b ", "a b", True),
        ("0.333333", "0.33333333", True),
        ("x 0.333333", "x 0.33333333", True),
        ("1e-9", "0.0", True),
        ("0.34", "0.33", False),
        ("100000", "100001", False),  # numpy's allclose would take it
        ("1e5", "100000", True),
        ("100001", "1.0e5", True),
        ("100010", "1.0e5", False),
        ("nan", "0.5", False),
        ("2\n1", "1\n2", False),  # theirs compares sets of lines
        ("YES", "Yes", False),
        ("1\n2", "1 2", False),
        ("", "0.0", False),
    ],
)
def test_printed_numbers_may_be_a_little_off(printed: str, expected: str, is_equal: bool) -> None:
    assert equal_output(printed, expected, is_lenient=True) == is_equal


def test_what_is_printed_for_other_benchmarks_may_not() -> None:
    assert not equal_output("0.333333", "0.33333333")
    assert not equal_output("1\n\n2", "1\n2")
