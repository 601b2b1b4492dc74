"""Verifiers and rules of the user's own: the commands that take them, and the examples that are shipped."""

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.options import SamplingOptions
from distillpipe.base.records import Problem, RejectedTrace, Trace
from distillpipe.base.user_code.functions import reference_to
from distillpipe.data.store import dataset
from distillpipe.stages.eval import evaluate
from distillpipe.stages.filter import filter_traces
from distillpipe.stages.rescore import rescore
from distillpipe.stages.run import Result, Run


def kept(result: Result) -> list[Trace]:
    return list(dataset.scan(result.path, Trace))


def rejected(result: Result) -> list[RejectedTrace]:
    return list(dataset.scan(result.path, RejectedTrace, "rejected"))


# ---------------------------------------------------------------- the command line


@pytest.mark.slow
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
    problems = list(dataset.read_problems(dataset.find("t")))
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


UNCALLABLE = {
    "name": ("def check(answer, trace): 1", "checks.py:nothing", "no nothing in checks.py, which has check"),
    "syntax": ("def check(answer:", "checks.py:check", "checks.py:1: SyntaxError: "),
    "package": ("import nowhere_at_all", "checks.py:check", "it needs the package nowhere_at_all, which is not"),
    "kind": ("check = 3", "checks.py:check", "check is not a function, but int"),
    "parameters": ("def check(gold, mine): 1", "checks.py:check", "check(gold, mine)"),
    "file": ("", "missing.py:check", "missing.py does not exist"),
    "form": ("", "checks:check", "expected FILE.py:FUNCTION"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        *(("filter", fault) for fault in UNCALLABLE),
        ("generate", "package"), ("eval", "syntax"), ("import", "name"), ("rescore", "kind"), ("rule", "parameters"),
        ("rescore", "form"), ("rule", "package"),
    ],
)  # fmt: skip
def test_what_cannot_be_called_is_refused_before_anything_is_read(
    command: str, fault: str, distill: Callable[..., Any], tiny_model: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_dataset: Callable[..., Any],
    make_traces: Callable[..., list[Trace]],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    source, reference, said = UNCALLABLE[fault]
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
    again = rescore(
        dataset.find_version(str(result.path.parent)), Run(), verifier=f"{tmp_path}/checks.py:check"
    )
    assert again.manifest.metrics is not None
    assert again.manifest.metrics["pass@1"] == 0.5
    assert again.manifest.user_code == result.manifest.user_code != {}
