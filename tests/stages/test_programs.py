"""Programs from end to end: imported, judged in the sandbox by `filter` and `eval`, refused without one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.errors import MissingDependencyError, UsageError
from distillpipe.base.records import RejectedTrace
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.dataset import find, read_problems, read_traces, scan
from distillpipe.data.store.manifest import ResolvedOption
from distillpipe.stages.run import code_packages
from distillpipe.verify.code.packages import find_packages
from distillpipe.verify.code.sandbox import find_sandbox

Distill = Callable[..., Any]
PROGRAMS = {
    "right": "def double(x): return 2 * x",
    "wrong": "def double(x): return x",
    "leaving": "import os; os._exit(0)",
}
TESTS = ["assert double(2) == 4", "assert double(0) == 0"]
NO_TESTS = (
    "no_tests: the tests cannot be read: SyntaxError(\"'(' was never closed\", "
    "('<unknown>', 1, 8, 'assert (\\n', 1, 0))"
)
UNSAFE = "--unsafe-run-model-code-without-sandbox"


@pytest.fixture
def sandbox() -> None:
    try:
        find_sandbox()
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.fixture
def no_sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without bubblewrap."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("distillpipe.verify.code.sandbox._try_out", _uncached())


def _uncached() -> Callable[..., None]:
    from distillpipe.verify.code import sandbox as sandboxes

    return sandboxes._try_out.__wrapped__


@pytest.fixture
def traces(distill: Distill, tmp_path: Path) -> Path:
    rows = [
        {
            "problem": f"Write double(x), {name}.",
            "raw": f"<think>\nEasy.\n</think>\nSo:\n```python\n{program}\n```\n",
            "test_list": TESTS,
        }
        for name, program in PROGRAMS.items()
    ]
    rows.append({**rows[0], "problem": "No tests that can be read.", "test_list": ["assert ("]})
    path = tmp_path / "programs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert distill("import", path, "--out", tmp_path / "traces").code == 0
    return tmp_path / "traces"


def test_rows_with_tests_are_programs_and_the_tests_stand_once_with_the_problem(
    traces: Path,
) -> None:
    assert {row.verifier for row in read_traces(str(traces))} == {"code"}
    assert {row.extra for row in read_traces(str(traces))} == {None}
    first = next(iter(read_problems(find(str(traces)))))
    assert json.loads(first.extra or "") == {"test_list": TESTS}


@pytest.mark.usefixtures("sandbox")
def test_filter_keeps_the_program_that_passes_and_says_why_the_others_do_not(
    distill: Distill, traces: Path, tmp_path: Path
) -> None:
    done = distill("filter", traces, "--out", tmp_path / "clean", "--num-workers", 2)

    assert done.code == 0, done.err
    kept = list(read_traces(str(tmp_path / "clean")))
    assert [(row.answer, row.verdict, row.verdict_reason) for row in kept] == [
        (PROGRAMS["right"] + "\n", "correct", "all_tests_passed")
    ]
    rejected = scan(tmp_path / "clean" / "v1", RejectedTrace, "rejected")
    assert [(row.reason, row.verdict_reason, row.measured) for row in rejected] == [
        ("wrong_answer", "wrong_value: test 1: said 2", "wrong_value: test 1: said 2"),
        ("wrong_answer", "ended_early: test 1: exit code 0", "ended_early: test 1: exit code 0"),
        ("unverifiable_answer", NO_TESTS, NO_TESTS),
    ]


@pytest.mark.usefixtures("no_sandbox")
def test_without_a_sandbox_filter_and_eval_refuse_before_any_work(
    distill: Distill, traces: Path, shipped: Path, tmp_path: Path
) -> None:
    benchmark = tmp_path / "programs.jsonl"
    commands = (
        ("eval", shipped / "teacher", "--benchmark", benchmark, "--out", tmp_path / "out"),
        ("filter", traces, "--out", tmp_path / "clean"),
    )
    for command in commands:
        done = distill(*command)
        assert done.code == 1
        assert "model-written code runs only in a sandbox, which does not work here" in done.err
        assert "bubblewrap is not installed" in done.err
        assert UNSAFE in done.err
        assert "sampling" not in done.err


@pytest.mark.usefixtures("no_sandbox")
def test_the_flag_with_the_frightening_name_lets_programs_run_without_one(
    distill: Distill, traces: Path, tmp_path: Path
) -> None:
    done = distill("filter", traces, "--out", tmp_path / "clean", UNSAFE)

    assert done.code == 0, done.err
    assert [row.answer for row in read_traces(str(tmp_path / "clean"))] == [
        PROGRAMS["right"] + "\n"
    ]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs the package `doubling`, of a version, in a folder on the path."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))

    def install(version: str) -> None:
        find_packages.cache_clear()
        shutil.rmtree(site, ignore_errors=True)
        info = f"doubling-{version}.dist-info"
        files = {
            "doubling.py": "def double(x): return 2 * x\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: doubling\nVersion: {version}\n",
            f"{info}/RECORD": "doubling.py,,\n",
        }
        for name, text in files.items():
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_text(text)

    return install


@pytest.mark.slow
@pytest.mark.usefixtures("sandbox")
def test_filter_lets_programs_import_packages_and_notes_their_versions(
    distill: Distill, package: Callable[[str], None], tmp_path: Path
) -> None:
    row = {
        "problem": "Write double(x).",
        "raw": "<think>\nEasy.\n</think>\n```python\nfrom doubling import double\n```\n",
        "test_list": TESTS,
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert distill("import", tmp_path / "rows.jsonl", "--out", tmp_path / "traces").code == 0
    package("1.0")
    command = ("filter", tmp_path / "traces", "--out", tmp_path / "clean")

    without = distill(*command)
    assert without.code == 1
    assert "1 programs import a module that the sandbox does not have (doubling 1)" in without.err
    assert "--code-packages" in without.err

    done = distill(*command, "--code-packages", "doubling")
    assert done.code == 0, done.err
    (kept,) = read_traces(str(tmp_path / "clean"))
    assert kept.verdict_reason == "all_tests_passed"
    assert manifests.read(tmp_path / "clean" / "latest").libraries["doubling"] == "1.0"
    again = distill(*command, "--code-packages", "doubling,doubling", "--code-packages", "doubling")
    assert "up to date" in again.err

    package("1.1")
    anew = distill(*command, "--code-packages", "doubling")
    assert anew.code == 0, anew.err
    assert "up to date" not in anew.err
    assert manifests.read(tmp_path / "clean" / "latest").libraries["doubling"] == "1.1"

    unknown = distill(*command, "--code-packages", "doubling,not-here")
    assert unknown.code == 2
    (line,) = unknown.err.strip().splitlines()
    assert "--code-packages not-here: the package 'not-here' is not installed here" in line


@pytest.mark.slow
def test_a_package_that_a_protocol_asks_for_names_the_protocol() -> None:
    packages = ("not-here",)
    options = {
        "protocol": ResolvedOption("r1", "flag"),
        "code_packages": ResolvedOption(packages, "protocol"),
    }

    with pytest.raises(
        UsageError, match=r"^--protocol r1 .*: .*pip install not-here; or name others"
    ):
        code_packages(packages, options)
    options["code_packages"] = ResolvedOption(packages, "flag")
    with pytest.raises(UsageError, match=r"^--code-packages not-here"):
        code_packages(packages, options)
