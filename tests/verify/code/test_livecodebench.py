"""The rules `livecodebench`: the verdicts of its harness, the names that it imports, how it extracts a program.

livecodebench_programs.jsonl holds programs of ours, each with the verdict of `run_test` in
lcb_runner/evaluation/testing_util.py of LiveCodeBench/LiveCodeBench at 28fef95, run on Python 3.11 with
numpy 2.3, sympy 1.14 and sortedcontainers 2.4.
"""

import builtins
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.records import Trace
from distillpipe.data.store.dataset import read_traces
from distillpipe.verify import Programs, verified
from distillpipe.verify.code.extract import extract_code, extract_last_fenced
from distillpipe.verify.code.imports import imports_for
from distillpipe.verify.code.inside.livecodebench import PREAMBLE
from distillpipe.verify.code.kinds import Call, CallTests, CodeTests, InputTests
from distillpipe.verify.code.sandbox import Sandbox, find_sandbox
from distillpipe.verify.code.verifier import judge_code

Row = dict[str, Any]

ROWS: dict[str, Row] = {
    row["name"]: row
    for row in map(
        json.loads,
        Path(__file__).with_name("livecodebench_programs.jsonl").read_text("utf-8").splitlines(),
    )
}
OTHER_VERDICT = {
    "buffer_readline_rest",
    "buffer_readline_square", "buffer_readline_pair", "buffer_readline_first", "open0_split", "inner_stdin_iter", "global_counter",
    "guard_only_not_last", "os_exit_after", "resource_limit", "exit_1_after", "from_sys_stdin_iter",
    "bare_stdout", "stdout_buffer", "string_class_solution", "atexit", "environ_set",
}  # fmt: skip
"Programs on which plain good sense says the opposite."
SAME_VERDICT = {
    "buffer_read_n", "star_readline_nl", "eof_loop", "main_guard_imports", "two_tests", "state_global",
    "quit_try", "dec3", "ret_list_namedtuple", "ret_fraction", "filterfalse_f", "add_f",
}  # fmt: skip
"Some of the others, each of another kind."


@pytest.fixture(scope="module")
def with_packages(sandbox: Sandbox) -> Sandbox:
    return find_sandbox(code_packages=("numpy", "sympy", "sortedcontainers"))


def cases_of(row: Row) -> CodeTests:
    pairs = list(zip(row["inputs"], row["outputs"], strict=True))
    if row["function"] is None:
        return InputTests(tuple(pairs))
    calls = [
        Call(tuple(map(json.loads, given.split("\n"))), {}, json.loads(wanted))
        for given, wanted in pairs
    ]
    return CallTests(f"Solution().{row['function']}", tuple(calls), tuple_is_list=True)


def is_correct(sandbox: Sandbox, row: Row, rules: Any = "livecodebench") -> bool:
    result = judge_code(row["program"], cases_of(row), sandbox=sandbox, rules=rules)
    return result.verdict == "correct"


@pytest.mark.parametrize("name", sorted(SAME_VERDICT | OTHER_VERDICT))
def test_a_program_is_judged_as_its_harness_judges_it(sandbox: Sandbox, name: str) -> None:
    assert is_correct(sandbox, ROWS[name]) == ROWS[name]["correct"]


@pytest.mark.parametrize("name", sorted(OTHER_VERDICT))
def test_without_the_rules_good_sense_says_the_opposite(sandbox: Sandbox, name: str) -> None:
    assert is_correct(sandbox, ROWS[name], "plain") != ROWS[name]["correct"]


@pytest.mark.long
def test_all_programs_are_judged_as_its_harness_judges_them(sandbox: Sandbox) -> None:
    differs = [
        name
        for name, row in ROWS.items()
        if not row["packages"] and is_correct(sandbox, row) != row["correct"]
    ]
    assert (len(ROWS), differs) == (279, [])


@pytest.mark.slow
def test_programs_with_packages_are_judged_as_there(with_packages: Sandbox) -> None:
    rows = [row for row in ROWS.values() if row["packages"]]
    differs = [row["name"] for row in rows if is_correct(with_packages, row) != row["correct"]]
    assert (len(rows), differs) == (14, [])


@pytest.mark.parametrize(
    ("imports", "name"),
    [
        ("import sys, numpy as np", "np"),
        ("import sys\nnp = __import__('numpy')", "np"),
        ("import os as o, sys, sympy", "sympy"),
        ("import sys; import sympy.ntheory as nt", "nt"),
    ],
)
def test_a_package_is_loaded_before_functions_are_taken_away(
    with_packages: Sandbox, imports: str, name: str
) -> None:
    program = f"{imports}\nprint(len({name}.__name__) > 0)"

    result = judge_code(
        program, InputTests((("", "True\n"),)), sandbox=with_packages, rules="livecodebench"
    )

    assert result.verdict == "correct", result


@pytest.mark.reference
@pytest.mark.slow
def test_the_54_probes_have_its_verdicts(
    with_packages: Sandbox, reference_data: Callable[[str], Path]
) -> None:
    path = reference_data("cases/faults/livecodebench_rules")
    rows = [json.loads(line) for line in (path / "probes.jsonl").read_text().splitlines()]
    found = {
        row["name"]: is_correct(with_packages, {**row, "function": row["func_name"]})
        for row in rows
    }
    assert found == {row["name"]: row["livecodebench"] for row in rows}
    assert len(found) == 54


# ---------------------------------------------------------------- names that need no import

STARS = [
    "string",
    "re",
    "datetime",
    "collections",
    "heapq",
    "bisect",
    "copy",
    "math",
    "random",
    "statistics",
    "itertools",
    "functools",
    "operator",
    "io",
    "sys",
    "json",
    "builtins",
    "typing",
]
MODULES = [name for name in STARS if name not in ("builtins", "typing")]


def names_of_star_imports() -> list[str]:
    """The names that the star imports give in a new process of this Python."""
    source = "\n".join(
        [
            *(f"from {name} import *" for name in STARS),
            *(f"import {name}" for name in MODULES),
            "print(*sorted(name for name in globals() if not name.startswith('__')))",
        ]
    )
    found = subprocess.run(
        [sys.executable, "-I", "-c", source], capture_output=True, text=True, check=True
    )
    return found.stdout.split()


def test_a_program_has_all_names_of_the_star_imports(sandbox: Sandbox) -> None:
    none_there = "'f', 'quit', 'help'"  # the last two are None there
    program = (
        f"def f(): return sorted(n for n in globals() if n not in ({none_there}) and n[:2] != '__')"
    )
    wanted = [name for name in names_of_star_imports() if name not in ("quit", "help")]
    given = CallTests("Solution().f", (Call((), {}, wanted),), tuple_is_list=True)

    result = judge_code(program, given, sandbox=sandbox, rules="livecodebench")

    assert result.reason == "all_tests_passed", result
    assert len(names_of_star_imports()) > 460


def test_without_the_rules_the_same_names_are_imported_if_named() -> None:
    wanted = [name for name in names_of_star_imports() if not hasattr(builtins, name)]
    space: dict[str, Any] = {}
    exec(imports_for(" ".join(wanted)), space)

    assert set(wanted) <= space.keys()
    assert imports_for("nothing of these, print(pow(2, 3))") == ""


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("pow(2, 3, 5)", "3"),  # math's has two arguments
        ("copy.copy(1)", "1"),
        ("datetime.date(2024, 8, 1).year", "2024"),
        ("random.__name__", "random"),
        ("open.__module__", "io"),
        ("sub(5, 2)", "3"),  # operator's, not re's
        ("count.__module__", "itertools"),
        ("e < 3", "True"),
    ],
)
def test_of_one_name_in_several_modules_the_last_counts(expression: str, value: str) -> None:
    source = f"{PREAMBLE}\nprint({expression})"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.stdout.strip() == value, done.stderr


# ---------------------------------------------------------------- which program is meant


@pytest.mark.parametrize(
    ("response", "theirs", "ours"),
    [
        ("```python\nx\n```", "x", "x\n"),
        ("```\nx\n```", "x", "x\n"),
        ("```python\nx\n```\nIt prints\n```\n6\n```", "6", "x\n"),
        ("```python\nx\n```\nor\n```python\ny\n```", "y", "y\n"),
        ("say ``` here\n```python\nx\n```", "x", "x\n"),
        ("a\n```python\nx\n``` and so\nb", "x", None),
        ("`````python\nx\n```\ny\n`````", "y", "x\n```\ny\n"),
        ("```python\nx\n```\n```", "", "x\n"),
        ("    ```python\n    x\n    ```", "    x", "x\n"),
        ("```python x```\ny\n```", "y", None),
        ("```python\nx", None, None),
        ("no program", None, None),
        ("", None, None),
        ("```\n```", "", ""),
        ("x```\r\ny\r\n```z", "y\r", None),
    ],
)
def test_its_program_is_between_the_last_two_lines_with_fences(
    response: str, theirs: str | None, ours: str | None
) -> None:
    assert extract_last_fenced(response) == theirs
    assert extract_code(response) == ours


@pytest.mark.parametrize(
    ("rules", "verdict", "answer"),
    [("plain", "correct", "print(6)\n"), ("livecodebench", "wrong", "6")],
)
def test_a_row_with_an_example_of_output_behind_the_program(
    make_trace: Any, sandbox: Sandbox, rules: Any, verdict: str, answer: str
) -> None:
    extra = json.dumps({"input_output": {"inputs": [""], "outputs": ["6"]}})
    response = "```python\nprint(6)\n```\nIt prints:\n```\n6\n```"
    trace: Trace = make_trace(response=response, reference_answer="", extra=extra)

    found = verified(trace, "code", programs=Programs(rules))

    assert (found.verdict, found.answer) == (verdict, answer)


def test_filter_keeps_what_its_rules_call_right(
    distill: Any, make_trace: Any, sandbox: Sandbox, tmp_path: Path
) -> None:
    programs = {name: ROWS[name]["program"] for name in ("exit_1_after", "global_counter")}
    rows = [
        make_trace(
            problem=name, response=f"```python\n{program}\n```", verifier="code", reference_answer="",
            extra=json.dumps({"input_output": {"inputs": ["3"], "outputs": ["6"]}}),
        )
        for name, program in programs.items()
    ]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    kept = {}
    for rules in ("plain", "livecodebench"):
        done = distill("filter", path, "--code-rules", rules, "--out", tmp_path / "clean")
        assert done.code == 0, done.err
        kept[rules] = [trace.problem for trace in read_traces(str(tmp_path / "clean"))]

    assert kept == {"plain": ["global_counter"], "livecodebench": ["exit_1_after"]}


def test_a_program_never_sees_what_is_expected(sandbox: Sandbox) -> None:
    program = (
        "import gc, sys\n"
        "seen = [o for o in gc.get_objects() if isinstance(o, (list, tuple, dict, set))]\n"
        "print(any('the secret' in map(str, list(o)[:99]) for o in seen))"
    )
    row = {"program": program, "inputs": [""], "outputs": ["the secret"], "function": None}
    assert not is_correct(sandbox, row)
    assert is_correct(sandbox, row | {"outputs": ["False"]})


def test_importing_the_harness_changes_nothing_in_the_process() -> None:
    source = (
        "import os, builtins, sys; before = (os.kill, sys.stdin, builtins.open, dict(os.environ))\n"
        "import distillpipe.verify.code.inside.livecodebench\n"
        "print(before == (os.kill, sys.stdin, builtins.open, dict(os.environ)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, env={**os.environ}
    )
    assert found.stdout == "True\n"
