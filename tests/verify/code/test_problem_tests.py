"""Reading tests from the rows of benchmarks: which become calls, and which pickles are refused."""

import base64
import json
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.errors import DataError
from distillpipe.verify.code import problem_tests
from distillpipe.verify.code.kinds import (
    BesideTests,
    Call,
    CallTests,
    CheckTests,
    ExpressionTests,
    InputTests,
)

CASES = [{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]


def packed(value: object, protocol: int = 4) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value, protocol))).decode()


def live(**changes: Any) -> dict[str, Any]:
    return {"public_test_cases": json.dumps(CASES), "private_test_cases": "", **changes}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_private_tests_are_read_whatever_the_protocol(protocol: int) -> None:
    private = packed(json.dumps(CASES), protocol)

    assert problem_tests.private_cases(private) == CASES
    assert problem_tests.tests_of(live(private_test_cases=private)) == InputTests(
        (("1 2\n", "3\n"), ("1 2\n", "3\n"))
    )


def test_private_tests_may_be_plain_json() -> None:
    assert problem_tests.private_cases(json.dumps(CASES)) == CASES


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_acts_is_refused_and_not_run(tmp_path: Path) -> None:
    private = packed(_Bomb(tmp_path / "harm"))

    with pytest.raises(DataError, match="a pickle that does more than hold text"):
        problem_tests.tests_of(live(private_test_cases=private))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("private", "complaint"),
    [
        (packed(["a"]), "does more than hold text"),
        (packed(7), "does more than hold text"),
        (base64.b64encode(zlib.compress(b"\x80\x04.")).decode(), "a pickle of 0 strings"),
        (base64.b64encode(zlib.compress(b"\x80\x04\x8c\x01a\x8c\x01b.")).decode(), "of 2 strings"),
        (base64.b64encode(zlib.compress(b"\xff\xff")).decode(), "cannot be read"),
        (packed("[]")[:-12] + "AAAA", "base64 of zlib|cut short"),
        ("%%%", "base64 of zlib"),
        (packed("no json"), "cannot be read"),
        (packed("[]"), None),
    ],
)
def test_broken_private_tests_are_refused(private: str, complaint: str | None) -> None:
    row = live(private_test_cases=private)
    if complaint is None:
        assert problem_tests.tests_of(row) == InputTests((("1 2\n", "3\n"),))
        return
    with pytest.raises(DataError, match=complaint):
        problem_tests.tests_of(row)


def test_a_zip_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem_tests, "MAX_TESTS_BYTES", 1000)

    with pytest.raises(DataError, match="over 1,000 bytes"):
        problem_tests.private_cases(packed("x" * 2000))


def test_a_livecodebench_function_takes_one_json_argument_a_line() -> None:
    cases = [{"input": '[1, 2]\n"a"', "output": "[3]", "testtype": "functional"}]
    row = live(public_test_cases=json.dumps(cases), metadata='{"func_name": "f"}')

    assert problem_tests.tests_of(json.dumps(row)) == CallTests(
        "Solution().f", (Call(([1, 2], "a"), {}, [3]),), tuple_is_list=True
    )


def test_tests_of_apps_are_inputs_or_arguments() -> None:
    script = {"input_output": json.dumps({"inputs": ["1\n", ["2", "3"]], "outputs": ["1", ["2"]]})}
    function = {"input_output": {"fn_name": "f", "inputs": [[1, 2]], "outputs": [3]}}

    assert problem_tests.tests_of(script) == InputTests(
        (("1\n", "1"), ("2\n3", "2")), is_lenient=True
    )
    assert problem_tests.tests_of(function) == CallTests(
        "Solution().f", (Call((1, 2), {}, 3),), tuple_is_list=True, inner_tuple_is_list=True
    )


@pytest.mark.parametrize(
    ("asserts", "setup", "kind"),
    [
        (["assert f([1], x=(2,)) == {3: 'a'}", "assert f(-1) == -2.5, 'text'"], "", CallTests),
        (["assert abs(f(1) - 2.0) < 1e-6"], "", CheckTests),
        (["import math\nassert math.isclose(f(1), 2.0)"], "", CheckTests),
        (["assert math.isclose(f(1), 2.0)"], "", CheckTests),
        (["assert set(f(1)) == set((1, 2))"], "", CheckTests),
        (["assert f(Pair(1, 2)) == 3"], "", ExpressionTests),
        (["assert f(root) == 3"], "root = Node(1)", ExpressionTests),
        (["assert f((1, 'a'), int) == ['a']"], "", ExpressionTests),
        (["assert sum(1, 2) == 3"], "", ExpressionTests),
        (["assert f(lambda x: x)"], "", BesideTests),
        (["assert Node(1) != Node(2)"], "", CheckTests),
        (["assert Node(1).value > Pair(2).value"], "", BesideTests),
    ],
)
def test_asserts_are_taken_apart_as_far_as_they_can_be(asserts, setup, kind) -> None:
    tests = problem_tests.tests_of({"test_list": asserts, "test_setup_code": setup})

    assert type(tests) is kind
    assert len(tests.cases) == len(asserts)


def test_a_check_of_plain_asserts_becomes_calls() -> None:
    source = "def check(candidate):\n    assert candidate(1) == 2\n    assert True, 'text'\n"
    row = {"prompt": "def f(x):\n    '''Add one.'''\n", "entry_point": "f", "test": source}

    assert problem_tests.tests_of(row) == CallTests("f", (Call((1,), {}, 2),), row["prompt"])
    moved = {key: row[key] for key in ("entry_point", "test")}
    assert problem_tests.tests_of(moved, row["prompt"]) == problem_tests.tests_of(row)


def test_a_check_with_a_loop_stays_a_program() -> None:
    source = "def check(candidate):\n    for i in range(3):\n        assert candidate(i) == i + 1\n"

    tests = problem_tests.tests_of({"entry_point": "f", "test": source})

    assert isinstance(tests, CheckTests)
    assert tests.names == {"f": "f"}
    assert tests.cases[0].rstrip().endswith("check(f)")


def test_a_functional_check_names_the_method_at_its_end() -> None:
    plain = "def check(candidate):\n    assert candidate(n = 3) == 4\n\ncheck(Solution().f)"
    loop = "def check(candidate):\n    for i in (1, 2):\n        assert candidate(i)\n\ncheck(Solution().f)"

    assert problem_tests.tests_of({"tests": {"functional": plain}}) == CallTests(
        "Solution().f", (Call((), {"n": 3}, 4),)
    )
    tests = problem_tests.tests_of({"tests": {"functional": loop}})
    assert isinstance(tests, CheckTests)
    assert tests.names == {"f": "Solution().f"}


@pytest.mark.parametrize(
    "row",
    [
        {}, {"answer": "42"}, "{}", "no json", "[]", "7", {"test_list": []}, {"test_list": ["assert ("]},
        {"test_list": [7]}, {"entry_point": "f", "test": "pass"}, {"tests": {"functional": "x = 1"}},
        {"input_output": "{}"}, {"input_output": {"inputs": ["1"], "outputs": []}},
        {"public_test_cases": "[]"}, {"public_test_cases": "[{}]"}, {"tests": {"functional": ""}},
    ],
)  # fmt: skip
def test_a_row_without_tests_that_can_be_read_is_an_error(row: Any) -> None:
    with pytest.raises(DataError, match="tests"):
        problem_tests.tests_of(row)


@pytest.mark.reference
def test_the_real_row_of_live_code_bench_is_read(reference_rows) -> None:
    (row,) = reference_rows("code/lcb_1row_with_private_1873_A.jsonl")[:1]

    tests = problem_tests.tests_of(row)

    assert isinstance(tests, InputTests)
    assert len(tests.cases) > len(json.loads(row["public_test_cases"]))
    assert all(set(wanted.split()) <= {"YES", "NO"} for _, wanted in tests.cases)
