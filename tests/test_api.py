"""The Python API: the commands as functions, with the same words, defaults, checks and errors."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import distillpipe as dp
from distillpipe import api
from distillpipe.cli.app import COMMANDS
from distillpipe.data.forecast import Forecast
from distillpipe.data.formats.traces import ImportOptions
from distillpipe.stages.import_traces import import_traces
from distillpipe.stages.run import Run


@pytest.fixture
def shipped(repository: Path) -> Path:
    """The folder of the shipped models and problems."""
    return repository / "data" / "quickstart"


FUNCTIONS = {
    "generate": "generate", "filter": "filter", "sft": "sft", "eval": "evaluate", "label": "label",
}  # fmt: skip


def test_the_package_alone_loads_nothing() -> None:
    code = "import sys, distillpipe; print([one for one in sys.modules if 'distillpipe.' in one])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_api_loads_nothing_heavy() -> None:
    code = (
        "import sys, distillpipe as dp; dp.generate; "
        "print({'torch', 'transformers', 'numpy', 'vllm', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_every_name_is_there_and_another_is_not() -> None:
    for name in dp.__all__:
        assert getattr(dp, name) is not None
    assert dir(dp) == sorted(dp.__all__)
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        dp.train  # noqa: B018 - the access is what is tested


@pytest.mark.parametrize(("command", "name"), FUNCTIONS.items())
def test_a_signature_has_the_options_of_the_command(command: str, name: str) -> None:
    function, fields = getattr(dp, name), COMMANDS[command].fields
    parameters = inspect.signature(function).parameters

    assert set(parameters) == set(fields) - {"as_json", "preview"}
    for key, parameter in parameters.items():
        field = fields[key]
        assert (parameter.default is inspect.Parameter.empty) == field.is_required, key
        if not field.is_list:
            assert parameter.default == field.default, key
        assert f"    {key}: {field.option.help}" in inspect.getdoc(function)


def test_the_stub_is_what_the_options_say(load_script: Callable[[str], ModuleType]) -> None:
    script = load_script("api_stub.py")
    assert script.STUB.read_text() == script.stub(), "written by `python scripts/api_stub.py`"


def test_a_mistake_is_an_exception_with_the_text_of_the_command_line(
    distill: Callable[..., Any], tmp_path: Path
) -> None:
    said = distill("filter", "missing", "--out", tmp_path / "out").err
    with pytest.raises(dp.DistillError) as raised:
        dp.filter("missing", out=tmp_path / "out")
    assert said == f"error: {raised.value}\n"


def test_names_of_other_tools_are_answered_with_ours() -> None:
    with pytest.raises(
        dp.DistillError, match=r"sft\(\) has no 'lr': the learning rate is learning_rate"
    ):
        dp.sft("x", student="y", out="o", lr=1e-5)
    with pytest.raises(dp.DistillError, match=r"evaluate\(\) has no 'as_json'"):
        dp.evaluate("x", benchmark="y", out="o", as_json=True)


@pytest.mark.slow
def test_a_dry_run_is_a_forecast_and_writes_nothing(shipped: Path, tmp_path: Path) -> None:
    problems = shipped / "problems-train.jsonl"
    found = dp.generate(
        problems, teacher=shipped / "teacher", out=tmp_path / "out", limit=3, dry_run=True
    )
    assert isinstance(found, Forecast)
    assert found.rows == {"wanted": 3, "there already": 0, "to sample": 3}
    assert found.options["limit"].value == 3
    assert not (tmp_path / "out").exists()
    both = dp.evaluate(shipped / "teacher", benchmark=[str(problems)], out="o", dry_run=True)
    assert [one.stage for one in both] == ["eval"]


@pytest.mark.slow
def test_the_five_steps_run_from_python_and_agree_with_the_commands(
    shipped: Path, tmp_path: Path, distill: Callable[..., Any]
) -> None:
    problems, prompt = shipped / "problems-train.jsonl", "{problem}"
    traces = dp.generate(
        problems, teacher=shipped / "teacher", out=tmp_path / "traces", num_samples=2,
        temperature=0.6, limit=8, max_tokens=256, prompt_template=prompt,
    )  # fmt: skip
    clean = dp.filter(traces, out=tmp_path / "clean", max_reasoning_tokens=8192, per_problem=1)
    student = dp.sft(
        clean, student=shipped / "student-qwen", out=tmp_path / "student", method="full",
        learning_rate=1e-3, max_steps=2, batch_size=4, max_length=512,
    )  # fmt: skip
    test = shipped / "problems-test.jsonl"
    asked = {"benchmark": test, "limit": 4, "max_tokens": 256, "prompt_template": prompt}
    result = dp.evaluate(student, out=tmp_path / "eval", **asked)
    teacher = dp.evaluate(shipped / "teacher", out=tmp_path / "eval-teacher", **asked)
    labelled = dp.label(
        [clean], teacher=shipped / "teacher", out=tmp_path / "labelled", soft_labels=5
    )

    assert traces.manifest.counts.rows_kept == 16
    assert not traces.up_to_date
    assert student.metrics["loss"] > 0
    assert isinstance(result, dp.Evaluation)
    assert result.pass_at_1 == result.manifest.metrics["pass@1"]
    assert result.interval == tuple(result.manifest.metrics["interval"])
    rows = list(dp.read_traces(clean))
    assert len(rows) == clean.manifest.counts.rows_kept
    assert {row.verdict for row in rows} == {"correct"}
    assert labelled.manifest.counts.rows_kept == len(rows)
    (compared,) = dp.compare([teacher, result])
    assert [one.metrics["pass@1"] for one in compared.models] == [
        teacher.pass_at_1,
        result.pass_at_1,
    ]

    again = dp.generate(
        problems, teacher=shipped / "teacher", out=tmp_path / "traces", num_samples=2,
        temperature=0.6, limit=8, max_tokens=256, prompt_template=prompt,
    )  # fmt: skip
    assert (again.up_to_date, again.path) == (True, traces.path)
    done = distill(
        "filter", tmp_path / "traces", "--out", tmp_path / "clean", "--max-reasoning-tokens", 8192,
        "--per-problem", 1,
    )  # fmt: skip
    assert done.err == f"filter: up to date: {clean.path}\n"
    assert isinstance(traces, api.Result)


def test_functions_of_the_users_own_judge(
    repository: Path, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(repository / "examples"))
    import rule  # type: ignore[import-not-found]
    import verifier  # type: ignore[import-not-found]

    traces = tmp_path / "traces.jsonl"
    conversation = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "reasoning_content": "1 and 1 is 2.", "content": "\\boxed{2.0}"},
    ]
    traces.write_text(json.dumps({"messages": conversation, "answer": "2"}) + "\n")
    imported = import_traces(str(traces), tmp_path / "imported", ImportOptions(), Run())

    result = dp.filter(
        imported.path,
        out=tmp_path / "clean",
        verifier=verifier.same_number,
        rule=rule.answer_first,
        min_reasoning_tokens=0,
    )

    (trace,) = dp.read_traces(result)
    assert (trace.verifier, trace.verdict) == ("verifier:same_number", "correct")
    assert set(result.manifest.user_code) == {"verifier:same_number", "rule:answer_first"}
    with pytest.raises(dp.DistillError, match="is a lambda, which cannot be imported by name"):
        dp.filter(imported.path, out=tmp_path / "other", verifier=lambda answer: answer == "2")
