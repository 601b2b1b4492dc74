"""Verifiers and rules of the user's own in the stages: what they decide, what they cost, what names them."""

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from distillpipe.base.errors import UsageError
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.options import Judging, SamplingOptions
from distillpipe.base.records import Problem, RejectedTrace, Trace
from distillpipe.base.rowguard import InternalErrors
from distillpipe.base.user_code import functions
from distillpipe.base.user_code.functions import reference_to
from distillpipe.data.store import dataset, versions
from distillpipe.filters import decide
from distillpipe.filters.own_rules import OUR_REASONS
from distillpipe.stages.eval import evaluate
from distillpipe.stages.filter import filter_traces
from distillpipe.stages.rescore import rescore
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
    """`rows(num_bad)`: a dataset of NUM_ROWS right traces, the first of which say BAD."""

    def write(num_bad: int, **changes: Any) -> str:
        out = tmp_path / f"rows-{num_bad}"
        found = []
        for number, trace in enumerate(make_traces(NUM_ROWS, **changes)):
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


@pytest.mark.parametrize("in_processes", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["verifier", "rule"])
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
    result = filter_traces([rows(3)], tmp_path / "out", options, Run())
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
    result = filter_traces([rows(0, finish_reason="length")], tmp_path / "out", options, Run())
    assert {(row.verdict, row.verdict_reason) for row in kept(result)} == {("wrong", "truncated")}


def test_a_reason_of_a_rule_stands_in_the_funnel(
    rows: Callable[..., str], own: Callable[..., FilterOptions], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    rules = RULES.replace("< 6", "< 7")  # "0+1=1." has six characters, "9+1=10." seven
    traces = rows(0, verdict="wrong", answer="3")  # of an earlier command: rules see none
    result = filter_traces([traces], tmp_path / "out", own(rules=rules), Run())
    assert [(row.reason, row.measured) for row in rejected(result)] == [("short_thought", "6")] * 9
    assert re.search(r"9 rows .* short_thought", capsys.readouterr().err)


def test_rules_are_asked_in_their_order_and_all_with_explain(
    rows: Callable[..., str], own: Callable[..., FilterOptions], tmp_path: Path
) -> None:
    options = own(rules=RULES.replace("< 6", "< 7"), names=("short", "all_of_them"))
    options = msgspec.structs.replace(options, explain=True, verdicts=("wrong",))
    with pytest.raises(Exception, match="no row of 100 is left"):
        filter_traces([rows(0)], tmp_path / "out", options, Run())
    (partial,) = versions.partials(tmp_path / "out")
    found = [
        (row.reason, row.other_reasons) for row in dataset.scan(partial, RejectedTrace, "rejected")
    ]
    assert found.count(("short_thought", ["not_wanted", "correct_answer"])) == 9
    assert found.count(("not_wanted", ["correct_answer"])) == 91


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
    traces, out = rows(0), tmp_path / "out"
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
    first = filter_traces([rows(0)], tmp_path / "out", own(VERIFIER), Run())
    with pytest.raises(
        UsageError, match=r"judged by checks:check, .* --verifier PATH/checks\.py:check"
    ):
        filter_traces([str(first.path.parent)], tmp_path / "again", filtering, Run())
    again = filter_traces([str(first.path.parent)], tmp_path / "again", own(VERIFIER), Run())
    assert len(kept(again)) == NUM_ROWS


# ---------------------------------------------------------------- the command line


def test_the_commands_take_a_verifier_and_rules_of_the_users_own(
    distill: Callable[..., Any], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("checks.py").write_text(
        "print('loud')\ndef check(problem, extra):\n    print('loud')\n"
        "    return extra['number'] % 2 == 0, f'number {extra[\"number\"]}'\n"
        "def strict(problem):\n    return False\n"
        "def odd(trace):\n    return 'odd', trace.problem if '1' in trace.problem else 'odd'\n",
        encoding="utf-8",
    )
    Path("problems.jsonl").write_text(
        "".join(json.dumps({"problem": f"What is {n}?", "number": n}) + "\n" for n in range(4)),
        encoding="utf-8",
    )
    sampling = ["--prompt-template", "{problem}", "--max-tokens", 2, "--engine", "transformers"]
    own = ["--verifier", "checks.py:check"]

    made = distill(
        "generate",
        "problems.jsonl",
        "--teacher",
        tiny_model,
        *sampling,
        *own,
        "--out",
        "t",
        "--json",
    )
    assert made.code == 0, made.err
    assert json.loads(made.out)["versions"][0]["up_to_date"] is False
    problems = list(dataset.read_problems("t"))
    assert {one.verifier for one in problems} == {"checks:check"}
    assert all(isinstance(one, Problem) for one in problems)

    scored = distill("eval", tiny_model, "--benchmark", "problems.jsonl", *sampling, *own, "--temperature", 0,
                     "--out", "e", "--json")  # fmt: skip
    assert scored.code == 0, scored.err
    found = json.loads(scored.out)["versions"][0]["manifest"]["metrics"]
    assert found["num_correct"] + found["num_wrong"] + found["num_truncated"] == 4
    assert list(found["user_code"]) == ["checks:check"]

    lost = distill("rescore", "e")
    assert (lost.code, lost.out) == (2, "")
    assert (
        "was judged by checks.py:check, a verifier of the user's own: give its file again"
        in lost.err
    )
    again = distill("rescore", "e", "--verifier", "checks.py:strict", "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["versions"][0]["manifest"]["metrics"]["num_correct"] == 0
    shown = distill("show", "e/problems")
    assert "checks:strict" in shown.out

    dropped = distill("filter", "t", *own, "--rule", "checks.py:odd", "--ignore-rule", "unfinished",
                      "--ignore-rule", "missing_response", "--min-reasoning-tokens", 0, "--out", "c")  # fmt: skip
    assert (dropped.code, dropped.out) == (1, "")
    assert re.search(r"rows .* odd", dropped.err)

    Path("traces.jsonl").write_text(
        "".join(
            json.dumps({"problem": f"p{n}", "raw": "<think>1</think>2", "number": n}) + "\n"
            for n in range(4)
        ),
        encoding="utf-8",
    )
    taken = distill("import", "traces.jsonl", *own, "--format", "raw", "--out", "i")
    assert taken.code == 0, taken.err
    judged = distill("filter", "i", *own, "--out", "j", "--json")
    assert json.loads(judged.out)["versions"][0]["manifest"]["counts"]["rows_kept"] == 2


@pytest.mark.parametrize("command", ["generate", "eval", "filter", "import", "rescore", "rule"])
@pytest.mark.parametrize(
    ("source", "reference", "said"),
    [
        ("def check(answer, trace): 1", "checks.py:nothing", "no nothing in checks.py, which has check"),
        ("def check(answer:", "checks.py:check", "checks.py:1: SyntaxError: "),
        ("import nowhere_at_all", "checks.py:check", "it needs the package nowhere_at_all, which is not"),
        ("check = 3", "checks.py:check", "check is not a function, but int"),
        ("def check(gold, mine): 1", "checks.py:check", "check(gold, mine)"),
        ("", "missing.py:check", "missing.py does not exist"),
        ("", "checks:check", "expected FILE.py:FUNCTION"),
    ],
)  # fmt: skip
def test_what_cannot_be_called_is_refused_before_anything_is_read(
    command: str, source: str, reference: str, said: str, distill: Callable[..., Any], tiny_model: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_dataset: Callable[..., Any],
    make_traces: Callable[..., list[Trace]],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("checks.py").write_text(source, encoding="utf-8")
    broken = Path("broken.jsonl")  # whoever reads it fails with 1
    broken.write_text("{not json\n", encoding="utf-8")
    judged = [msgspec.structs.replace(one, verdict="correct") for one in make_traces(2)]
    write_dataset(Path("p"), judged, kind="predictions", stage="eval")
    arguments: dict[str, list[Any]] = {
        "generate": [broken, "--teacher", tiny_model, "--verifier", reference, "--out", "out"],
        "eval": [tiny_model, "--benchmark", broken, "--verifier", reference, "--out", "out"],
        "filter": [broken, "--verifier", reference, "--out", "out"],
        "rule": [broken, "--rule", reference, "--out", "out"],
        "import": [broken, "--verifier", reference, "--out", "out"],
        "rescore": ["p", "--verifier", reference],
    }
    name = "filter" if command == "rule" else command
    done = distill(name, *arguments[command])
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not Path("out").exists()
    if command not in ("rescore",):
        dry = distill(name, *arguments[command], "--dry-run")
        assert (dry.code, dry.out) == (2, "")


# ---------------------------------------------------------------- Python and the examples


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def test_the_example_of_a_verifier_compares_field_by_field(
    repository: Path, make_trace: Callable[..., Trace], write_dataset: Callable[..., Any],
    filtering: FilterOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "verifier", None)
    module = loaded(repository / "examples" / "verifier.py")
    reference = '{"name": "Ada", "year": 1815}'
    cases = [
        ('{"name": "ada", "year": 1815}', reference, "correct", None),
        ('Here:\n```json\n{"name": "Ada", "year": 1816}\n```', reference, "correct", None),
        ('{"name": "Ada", "year": 1817}', reference, "wrong", "year: 1817, expected 1815"),
        ('{"name": "Ada"}', reference, "wrong", "fields name, expected name, year"),
        ("Ada, 1815", reference, "wrong", "no JSON object in the response"),
        ('{"name": "Ada"}', "Ada", "unverifiable", "the reference is no JSON object"),
    ]
    traces = [
        make_trace(
            problem=f"Extract {number}", response=response, reference_answer=gold, row_key=f"{number:032}",
            extra='{"tolerance": {"year": 1}}',
        )
        for number, (response, gold, *_) in enumerate(cases)
    ]  # fmt: skip
    write_dataset(tmp_path / "traces", traces)
    options = msgspec.structs.replace(
        filtering, verifier=reference_to(module.same_fields), verdicts=("correct", "wrong", "unverifiable"),
        ignored_rules=("unfinished_response", "contradicting_answers"),
    )  # fmt: skip
    result = filter_traces([str(tmp_path / "traces")], tmp_path / "out", options, Run())
    found = {row.problem: (row.verdict, row.verdict_reason) for row in kept(result)}
    assert found == {f"Extract {number}": case[2:] for number, case in enumerate(cases)}
    assert list(result.manifest.user_code) == ["verifier:same_fields"]


def test_the_example_of_a_rule_drops_answers_before_reasoning(
    repository: Path, make_trace: Callable[..., Trace], write_dataset: Callable[..., Any],
    filtering: FilterOptions, tmp_path: Path,
) -> None:  # fmt: skip
    thought = "Tom has 14 and finds 6 more, so we add the two numbers: 14+6=20. That is all."
    told = "20. " + thought
    traces = [
        make_trace(problem=f"Tom has 14 and finds 6: {n}?", reasoning=text, row_key=f"{n:032}")
        for n, text in enumerate([thought, told])
    ]
    write_dataset(tmp_path / "traces", traces)
    rule = f"{repository}/examples/rule.py:answer_first"
    options = msgspec.structs.replace(filtering, rules=(rule,), per_problem=None)
    result = filter_traces([str(tmp_path / "traces")], tmp_path / "out", options, Run())
    assert [row.reasoning for row in kept(result)] == [thought]
    assert [(row.reason, row.measured) for row in rejected(result)] == [
        ("answer_before_reasoning", "0")
    ]


def test_scores_count_what_a_users_verifier_could_not_judge(
    shipped: Path, sampling: SamplingOptions, tmp_path: Path
) -> None:
    (tmp_path / "checks.py").write_text(
        "def check(response, extra):\n    return [True, False, 'unverifiable', True][extra['n']]\n",
        encoding="utf-8",
    )
    source = (shipped / "problems-test.jsonl").read_text(encoding="utf-8").splitlines()[:4]
    rows = [json.loads(line) | {"n": number} for number, line in enumerate(source)]
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = msgspec.structs.replace(
        sampling,
        plan=msgspec.structs.replace(sampling.plan, num_samples=1),
        sampling=msgspec.structs.replace(sampling.sampling, temperature=0.0),
        prompting=msgspec.structs.replace(
            sampling.prompting, verifier=f"{tmp_path}/checks.py:check"
        ),
    )
    result = evaluate(str(shipped / "teacher"), str(problems), tmp_path / "out", options, Run())
    found = result.manifest.metrics
    assert found is not None
    assert [found[f"num_{name}"] for name in ("correct", "wrong", "unverifiable")] == [2, 1, 1]
    assert (found["num_problems"], found["pass@1"], found["upper_bound"]) == (4, 0.5, 0.75)
    again = rescore(str(result.path.parent), Run(), verifier=f"{tmp_path}/checks.py:check")
    assert again.manifest.metrics is not None
    assert again.manifest.metrics["pass@1"] == 0.5
    assert again.manifest.user_code == result.manifest.user_code != {}
