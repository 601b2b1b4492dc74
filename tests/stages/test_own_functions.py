"""Verifiers and rules of the user's own in the stages: what they decide, what they cost, what names them."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.errors import UsageError
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.options import Judging
from distillpipe.base.records import RejectedTrace, Trace
from distillpipe.base.rowguard import InternalErrors
from distillpipe.base.user_code import functions
from distillpipe.data.store import dataset, versions
from distillpipe.filters import decide
from distillpipe.filters.own_rules import OUR_REASONS
from distillpipe.stages.filter import filter_traces
from distillpipe.stages.run import Result, Run

VERIFIER = """
import os
def check(response, reference_answer, extra):
    if "BAD" in response:
        {bad}
    return response.endswith(reference_answer + "}}"), "compared"
"""
RULES = """
def short(trace):
    assert trace.verdict is None
    if "BAD" in trace.response:
        {bad}
    return ("short_thought", len(trace.reasoning)) if len(trace.reasoning) < 6 else None
def all_of_them(trace):
    return "not_wanted"
"""
NUM_ROWS = 100


@pytest.fixture
def rows(
    tmp_path: Path, make_traces: Callable[..., list[Trace]], write_dataset: Callable[..., Any]
) -> Callable[..., str]:
    """`rows(num_bad, num_rows)`: a dataset of right traces, the first of which say BAD.

    Each call of a function is a process of its own: as many rows as it takes, NUM_ROWS where shares count.
    """

    def write(num_bad: int, num_rows: int = NUM_ROWS, **changes: Any) -> str:
        out = tmp_path / f"rows-{num_bad}"
        found = []
        for number, trace in enumerate(make_traces(num_rows, **changes)):
            *asked, answered = trace.messages
            word = "BAD " if number < num_bad else ""
            answered = msgspec.structs.replace(answered, content=f"{word}{answered.content}")
            found.append(msgspec.structs.replace(trace, messages=[*asked, answered]))
        if not out.exists():
            write_dataset(out, found)
        return str(out)

    return write


@pytest.fixture
def own(filtering: FilterOptions, tmp_path: Path) -> Callable[..., FilterOptions]:
    """`own(verifier=SOURCE, bad="return 3")`: options of a filter that asks a function of such a file."""

    def options(verifier: str | None = None, rules: str | None = None, bad: str = "pass",
                names: tuple[str, ...] = ("short",)) -> FilterOptions:  # fmt: skip
        changes: dict[str, Any] = {"per_problem": None, "max_reasoning_tokens": None}
        if verifier is not None:
            (tmp_path / "checks.py").write_text(verifier.format(bad=bad), encoding="utf-8")
            changes["verifier"] = f"{tmp_path}/checks.py:check"
        if rules is not None:
            (tmp_path / "rules.py").write_text(rules.format(bad=bad), encoding="utf-8")
            changes["rules"] = tuple(f"{tmp_path}/rules.py:{name}" for name in names)
        return msgspec.structs.replace(filtering, **changes)

    return options


def kept(result: Result) -> list[Trace]:
    return list(dataset.scan(result.path, Trace))


def rejected(result: Result) -> list[RejectedTrace]:
    return list(dataset.scan(result.path, RejectedTrace, "rejected"))


# ---------------------------------------------------------------- what they decide and cost


FAULTS = {
    "raises": ("raise KeyError('unit')", "KeyError: 'unit'"),
    "nonsense": ("return 3.5", "returned 3.5, expected"),
    "exits": ("import os; os._exit(0)", "ended its process (exit status 0)"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "ended its process (SIGSEGV)"),
    "memory": ("x = bytearray(3 * 2**30)", "took more than 2048 MB of memory"),
    "sleeps": ("import time; time.sleep(1000)", "took more than 2 s"),
}


# each fault once, and each kind in a thread and in processes; what a fault says is the harness's own test
@pytest.mark.parametrize(
    ("kind", "fault", "in_processes"),
    [
        ("verifier", "raises", False), ("rule", "nonsense", False), ("verifier", "exits", True),
        ("rule", "crashes", True), ("verifier", "memory", False), ("rule", "sleeps", True),
    ],
)  # fmt: skip
def test_a_row_that_fails_costs_no_other(
    kind: str,
    fault: str,
    in_processes: bool,
    rows: Callable[..., str],
    own: Callable[..., FilterOptions],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(functions, "WALL_SECONDS", 2.0)
    if in_processes:
        monkeypatch.setattr(decide, "SMALL_BYTES", 0)
    bad, said = FAULTS[fault]
    options = own(**{"verifier": VERIFIER} if kind == "verifier" else {"rules": RULES}, bad=bad)
    name = "checks:check" if kind == "verifier" else "rules:short"
    result = filter_traces([rows(1)], tmp_path / "out", options, Run(), judging=Judging(2))

    assert len(kept(result)) == NUM_ROWS - 1
    (row,) = rejected(result)
    assert row.response.startswith("BAD")
    assert row.reason == "internal_error"
    assert str(row.measured).startswith(f"user code {name}: {said}")
    assert result.manifest.counts.num_internal_errors == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert f"warning: 1 of 100 rows met an error of user code {name} (internal_error): fix" in err
    assert "distillpipe itself" not in err


def test_too_many_failures_stop_the_run(
    rows: Callable[..., str], own: Callable[..., FilterOptions], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(
        InternalErrors, match="2 of 100 rows met an error of user code checks:check"
    ):
        filter_traces([rows(2)], out, own(VERIFIER, bad="return None"), Run())
    assert versions.finished(out) == []
    mended = filter_traces([rows(2)], out, own(VERIFIER, bad="return False"), Run())
    assert len(kept(mended)) == NUM_ROWS - 2
    assert [row.reason for row in rejected(mended)] == ["wrong_answer", "wrong_answer"]


def test_verdicts_and_reasons_stand_in_the_rows(
    rows: Callable[..., str], own: Callable[..., FilterOptions], tmp_path: Path
) -> None:
    options = own(VERIFIER, bad="return 'unverifiable', 'no unit'")
    result = filter_traces([rows(3, 10)], tmp_path / "out", options, Run())
    assert {(row.verifier, row.verdict, row.verdict_reason) for row in kept(result)} == {
        ("checks:check", "correct", "compared")
    }
    assert {(row.reason, row.measured) for row in rejected(result)} == {
        ("unverifiable_answer", "no unit")
    }


def test_a_completion_that_was_cut_off_is_wrong_unasked(
    rows: Callable[..., str], own: Callable[..., FilterOptions], tmp_path: Path
) -> None:
    options = msgspec.structs.replace(
        own("def check(response):\n    raise ValueError"),
        verdicts=("wrong",), ignored_rules=("unfinished",),
    )  # fmt: skip
    result = filter_traces([rows(0, 4, finish_reason="length")], tmp_path / "out", options, Run())
    assert {(row.verdict, row.verdict_reason) for row in kept(result)} == {("wrong", "truncated")}


def test_a_reason_of_a_rule_stands_in_the_funnel(
    rows: Callable[..., str], own: Callable[..., FilterOptions], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    rules = RULES.replace("< 6", "< 7")  # "0+1=1." has six characters, "9+1=10." seven
    traces = rows(0, 20, verdict="wrong", answer="3")  # of an earlier command: rules see none
    result = filter_traces([traces], tmp_path / "out", own(rules=rules), Run())
    assert [(row.reason, row.measured) for row in rejected(result)] == [("short_thought", "6")] * 9
    assert re.search(r"9 rows .* short_thought", capsys.readouterr().err)


def test_rules_are_asked_in_their_order_and_all_with_explain(
    rows: Callable[..., str], own: Callable[..., FilterOptions], tmp_path: Path
) -> None:
    options = own(rules=RULES.replace("< 6", "< 7"), names=("short", "all_of_them"))
    options = msgspec.structs.replace(options, explain=True, verdicts=("wrong",))
    with pytest.raises(Exception, match="no row of 20 is left"):
        filter_traces([rows(0, 20)], tmp_path / "out", options, Run())
    (partial,) = versions.partials(tmp_path / "out")
    found = [
        (row.reason, row.other_reasons) for row in dataset.scan(partial, RejectedTrace, "rejected")
    ]
    assert found.count(("short_thought", ["not_wanted", "correct_answer"])) == 9
    assert found.count(("not_wanted", ["correct_answer"])) == 11


@pytest.mark.parametrize("reason", ["duplicate", "wrong_answer", "internal_error", "refusal"])
def test_a_rule_may_not_give_a_reason_of_ours(
    reason: str, rows: Callable[..., str], own: Callable[..., FilterOptions], tmp_path: Path
) -> None:
    options = own(rules=RULES, bad=f"return '{reason}'")
    result = filter_traces([rows(1)], tmp_path / "out", options, Run())
    (row,) = [one for one in rejected(result) if one.response.startswith("BAD")]
    assert row.reason == "internal_error"
    assert f"returned '{reason}', a reason of distillpipe's own" in str(row.measured)


def test_all_reasons_of_ours_are_known(repository: Path) -> None:
    sources = [
        path.read_text(encoding="utf-8")
        for path in (repository / "distillpipe/filters").glob("*.py")
    ]
    found = {one for source in sources for one in re.findall(r'Drop\(\s*"(\w+)"', source)}
    assert len(found) > 15
    assert found <= OUR_REASONS


# ---------------------------------------------------------------- fingerprints and names


def test_a_changed_file_makes_a_new_version_and_a_moved_one_does_not(
    rows: Callable[..., str], own: Callable[..., FilterOptions], tmp_path: Path
) -> None:
    traces, out = rows(0, 4), tmp_path / "out"
    options = own(VERIFIER, RULES)
    first = filter_traces([traces], out, options, Run())
    assert sorted(first.manifest.user_code) == ["checks:check", "rules:short"]
    assert filter_traces([traces], out, options, Run()).up_to_date

    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("checks.py", "rules.py"):
        shutil.move(tmp_path / name, moved / name)
    there = msgspec.structs.replace(
        options, verifier=f"{moved}/checks.py:check", rules=(f"{moved}/rules.py:short",)
    )
    assert filter_traces([traces], out, there, Run()).up_to_date

    for name in ("checks.py", "rules.py"):
        with (moved / name).open("a", encoding="utf-8") as file:
            file.write("# changed\n")
        again = filter_traces([traces], out, there, Run())
        assert not again.up_to_date
    assert again.path.name == "v3"
    one = msgspec.structs.replace(there, rules=())
    assert not filter_traces([traces], out, one, Run()).up_to_date


def test_rules_of_one_name_are_refused(
    rows: Callable[..., str], own: Callable[..., FilterOptions], tmp_path: Path
) -> None:
    options = own(rules=RULES, names=("short", "short"))
    with pytest.raises(UsageError, match="two of them have one name"):
        filter_traces([rows(0)], tmp_path / "out", options, Run())


def test_rows_of_a_users_verifier_need_its_file(
    rows: Callable[..., str],
    own: Callable[..., FilterOptions],
    filtering: FilterOptions,
    tmp_path: Path,
) -> None:
    first = filter_traces([rows(0, 4)], tmp_path / "out", own(VERIFIER), Run())
    with pytest.raises(
        UsageError, match=r"judged by checks:check, .* --verifier PATH/checks\.py:check"
    ):
        filter_traces([str(first.path.parent)], tmp_path / "again", filtering, Run())
    again = filter_traces([str(first.path.parent)], tmp_path / "again", own(VERIFIER), Run())
    assert len(kept(again)) == 4
