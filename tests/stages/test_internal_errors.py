"""Rows that meet a planted fault in each stage: counted, said, and tolerated up to 1%."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from distillpipe import filters
from distillpipe.base import rowguard
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.options import Judging, SamplingOptions
from distillpipe.base.records import RejectedTrace, Trace
from distillpipe.base.rowguard import InternalErrors
from distillpipe.data.formats import incoming, outgoing
from distillpipe.data.formats.incoming import Reader
from distillpipe.data.formats.traces import Choices, ImportOptions
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.writer import FailedRow
from distillpipe.filters import decide
from distillpipe.stages.eval import evaluate
from distillpipe.stages.export import export
from distillpipe.stages.filter import filter_traces
from distillpipe.stages.generate import generate
from distillpipe.stages.import_traces import import_traces
from distillpipe.stages.run import Result, Run
from distillpipe.verify import VERIFIERS, Judgement, Question, Verifier

NUM_ROWS = 100
BAD = "a row like no other"
ACCEPTING = Run(accept_errors=True)


def fault(*_: object) -> Any:
    raise KeyError("log")


# ---------------------------------------------------------------- stages


class Stage(NamedTuple):
    """A stage in which some rows, those whose text is BAD, meet a planted fault."""

    run: Callable[[Path, int, Run], Result]
    "into a folder, with so many bad rows, as a run"
    heal: Callable[[], None]


@pytest.fixture
def write_traces(
    tmp_path: Path, make_traces: Callable[..., list[Trace]], write_dataset: Callable[..., Any]
) -> Callable[..., str]:
    """A dataset of NUM_ROWS traces, the first of which are bad."""

    def write(num_bad: int, **changes: Any) -> str:
        traces = make_traces(NUM_ROWS, **changes)
        rows = []
        for number, trace in enumerate(traces):
            *asked, answered = trace.messages
            if number < num_bad:
                answered = msgspec.structs.replace(answered, content=f"{BAD} {answered.content}")
            rows.append(msgspec.structs.replace(trace, messages=[*asked, answered]))
        out = tmp_path / f"traces-{num_bad}"
        if not out.exists():
            write_dataset(out, rows)
        return str(out)

    return write


def faulty_rule(trace: Trace, _: FilterOptions) -> None:
    if BAD in trace.response:
        fault()


def faulty_question(question: Question) -> str | None:
    return fault() if BAD in question.problem else None


def faulty_answer(response: str) -> str:
    return fault() if BAD in response else response


@pytest.fixture(params=["rule", "rule in processes", "extraction", "verdict kept", "import"])
def stage(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    write_traces: Callable[..., str],
    tmp_path: Path,
    filtering: FilterOptions,
) -> Stage:
    kind = request.param
    if kind == "import":
        return _import(monkeypatch, tmp_path)
    options = msgspec.structs.replace(
        filtering, verifier="faulty", per_problem=None, max_reasoning_tokens=None
    )
    healthy = Verifier(lambda *_: Judgement("correct"), lambda response: response)
    monkeypatch.setitem(VERIFIERS, "faulty", healthy)
    if kind.startswith("rule"):
        monkeypatch.setitem(filters.ROW_RULES, "faulty", faulty_rule)
    else:
        monkeypatch.setitem(VERIFIERS, "faulty", healthy._replace(answer=faulty_answer))
    if kind == "verdict kept":
        options = msgspec.structs.replace(options, verdicts=("correct", "unverifiable"))
    if kind == "rule in processes":
        monkeypatch.setattr(decide, "SMALL_BYTES", 0)

    def run(out: Path, num_bad: int, run: Run) -> Result:
        return filter_traces([write_traces(num_bad)], out, options, run, judging=Judging(2))

    def heal() -> None:
        filters.ROW_RULES.pop("faulty", None)
        monkeypatch.setitem(VERIFIERS, "faulty", healthy)

    return Stage(run, heal)


def _import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    whole = incoming.FORMATS["raw"]

    def read(row: Any, fields: Any) -> Any:
        return fault() if BAD in row["problem"] else whole.read(row, fields)

    monkeypatch.setitem(incoming.FORMATS, "raw", Reader(whole.fits, read))

    def run(out: Path, num_bad: int, run: Run) -> Result:
        path = tmp_path / f"rows-{num_bad}.jsonl"
        rows = [
            {
                "problem": f"{BAD if number < num_bad else 'a row'} {number}",
                "raw": "<think>1</think>2",
            }
            for number in range(NUM_ROWS)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return import_traces(str(path), out, ImportOptions(Choices("raw")), run)

    return Stage(run, lambda: monkeypatch.setitem(incoming.FORMATS, "raw", whole))


def errors_in(result: Result) -> list[Trace]:
    """The rows of a version that met an internal error."""
    folder = result.path
    rejected = dataset.scan(folder, RejectedTrace, "rejected")
    kept = dataset.scan(folder, Trace)
    return [
        *(row for row in rejected if rowguard.is_internal_error(row.reason, row.verdict_reason)),
        *(row for row in kept if rowguard.is_internal_error(None, row.verdict_reason)),
    ]


def test_one_row_in_a_hundred_ends_no_run(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = stage.run(tmp_path / "out", 1, Run())

    (row,) = errors_in(result)
    counts, said = result.manifest.counts, capsys.readouterr().err
    assert counts.num_internal_errors == 1
    assert counts.rows_kept + counts.rows_rejected == counts.rows_read == NUM_ROWS
    assert said.count("KeyError: 'log' (distillpipe/") == 1
    assert ", tests/stages/test_internal_errors.py:" in said
    assert f"on row {row.id}: " in said
    assert (
        "warning: 1 of 100 rows met an error of distillpipe itself (internal_error): please" in said
    )
    assert "distill show " in said
    assert stage.run(tmp_path / "out", 1, Run()).up_to_date


def test_above_one_percent_the_version_stays_partial(stage: Stage, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InternalErrors) as raised:
        stage.run(out, 2, Run())
    assert raised.value.exit_code == 1
    assert "2 of 100 rows met an error of distillpipe itself" in str(raised.value)
    assert "--accept-errors" in str(raised.value)
    assert versions.finished(out) == []
    assert [path.name for path in versions.partials(out)] == ["v1.partial"]

    accepted = stage.run(out, 2, ACCEPTING)
    assert accepted.path.name == "v1"
    assert len(errors_in(accepted)) == accepted.manifest.counts.num_internal_errors == 2
    assert stage.run(out, 2, ACCEPTING).up_to_date
    assert not (accepted.path / versions.ERRORS_FILE).exists()
    with pytest.raises(InternalErrors):  # what was accepted then is no finished version for others
        stage.run(out, 2, Run())


def test_once_it_is_mended_the_same_command_goes_on(stage: Stage, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InternalErrors):
        stage.run(out, 2, Run())
    stage.heal()
    result = stage.run(out, 2, Run())

    assert result.path.name == "v1"
    assert result.manifest.counts.rows_kept == NUM_ROWS
    assert errors_in(result) == []
    assert sorted(path.name for path in result.path.iterdir()) == [
        "README.md", "manifest.json", "part-00000.jsonl", "problems.jsonl",
        *(path.name for path in result.path.glob("rejected-*.jsonl")),
    ]  # fmt: skip


def test_rows_that_cannot_be_decided_on_are_listed(
    write_traces: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    filtering: FilterOptions,
) -> None:
    monkeypatch.setitem(filters.ROW_RULES, "faulty", faulty_rule)
    with pytest.raises(InternalErrors, match=r"errors\.jsonl lists them, the first with KeyError"):
        filter_traces([write_traces(3)], tmp_path / "out", filtering, Run())

    path = tmp_path / "out/v1.partial" / versions.ERRORS_FILE
    failed = [msgspec.json.decode(line, type=FailedRow) for line in path.read_bytes().splitlines()]
    assert len(failed) == 3
    assert all(one.error.startswith("KeyError: 'log' (") for one in failed)


# ---------------------------------------------------------------- sampling


@pytest.fixture
def problems(tmp_path: Path) -> Callable[[int], str]:
    """A file of NUM_ROWS problems, the first of which are bad."""

    def write(num_bad: int) -> str:
        path = tmp_path / f"problems-{num_bad}.jsonl"
        rows = [
            {"problem": f"{BAD if number < num_bad else 'what is'} {number}?", "answer": "1"}
            for number in range(NUM_ROWS)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def quick(sampling: SamplingOptions) -> SamplingOptions:
    """One sample of a few tokens of each problem."""
    return msgspec.structs.replace(
        sampling,
        plan=msgspec.structs.replace(sampling.plan, num_samples=1, limit=None),
        sampling=msgspec.structs.replace(sampling.sampling, max_tokens=2),
        prompting=msgspec.structs.replace(sampling.prompting, verifier="faulty"),
    )


@pytest.fixture
def faulty_template(tmp_path: Path) -> str:
    """A chat template that divides by zero where a problem is bad."""
    path = tmp_path / "faulty.jinja"
    path.write_text(
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
        f"{{% if '{BAD}' in message.content %}}{{{{ 1 // 0 }}}}{{% endif %}}{{% endfor %}}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        encoding="utf-8",
    )
    return str(path)


def accepting(options: SamplingOptions) -> SamplingOptions:
    return msgspec.structs.replace(options, accept_errors=True)


def test_what_was_sampled_is_kept_where_it_is_not_judged(
    quick: SamplingOptions,
    problems: Callable[[int], str],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, model = tmp_path / "out", str(tiny_model)
    healthy = Verifier(lambda *_: Judgement("correct"), lambda response: response)
    monkeypatch.setitem(VERIFIERS, "faulty", healthy._replace(missing=faulty_question))
    with pytest.raises(InternalErrors, match=r"\(internal_error\): please report"):
        evaluate(model, problems(2), out, quick, Run())
    (partial,) = versions.partials(out / "problems-2")
    rows = list(dataset.scan(partial, Trace))
    assert len(rows) == NUM_ROWS
    num_errors = sum(rowguard.is_internal_error(None, row.verdict_reason) for row in rows)

    monkeypatch.setitem(VERIFIERS, "faulty", healthy)
    result = evaluate(model, problems(2), out, quick, Run())
    again = {row.id: row.messages for row in dataset.scan(result.path, Trace)}
    assert num_errors == 2
    assert again == {row.id: row.messages for row in rows}
    assert result.path.name == "v1"
    assert result.manifest.counts.tokens_sampled == sum(
        row.num_completion_tokens or 0 for row in rows
    )
    assert result.manifest.metrics is not None
    assert result.manifest.metrics["num_internal_errors"] == 0


def test_a_prompt_that_cannot_be_rendered_costs_its_row(
    quick: SamplingOptions,
    problems: Callable[[int], str],
    tiny_model: Path,
    tmp_path: Path,
    faulty_template: str,
) -> None:
    options = msgspec.structs.replace(
        quick,
        prompting=msgspec.structs.replace(
            quick.prompting, verifier="exact", chat_template=faulty_template
        ),
    )
    model = str(tiny_model)
    made = generate(problems(1), model, tmp_path / "g", options, Run())
    scored = evaluate(model, problems(1), tmp_path / "e", options, Run())

    (row,) = errors_in(made)
    assert isinstance(row, RejectedTrace)
    assert row.problem.startswith(BAD)
    assert "ZeroDivisionError" in str(row.measured)
    assert made.manifest.counts.rows_kept == NUM_ROWS - 1
    assert made.manifest.counts.rows_read == NUM_ROWS
    assert scored.manifest.metrics is not None
    assert scored.manifest.metrics["num_problems"] == NUM_ROWS
    assert scored.manifest.metrics["num_unverifiable"] == 1
    assert scored.manifest.metrics["num_internal_errors"] == 1
    for run, name in (
        (generate, "g2"),
        (lambda *given: evaluate(given[1], given[0], *given[2:]), "e2"),
    ):
        with pytest.raises(InternalErrors, match="Nothing was sampled"):
            run(problems(2), model, tmp_path / name, options, Run())
        result = run(problems(2), model, tmp_path / name, accepting(options), ACCEPTING)
        assert result.manifest.counts.num_internal_errors == 2


# ---------------------------------------------------------------- out of the door


@pytest.mark.parametrize(("num_bad", "num_written"), [(1, NUM_ROWS - 1), (2, 0)])
def test_a_row_that_cannot_be_exported_is_left_out(
    num_bad: int,
    num_written: int,
    write_traces: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = outgoing.FORMATS["trl"]

    def row_of(turns: Any) -> Any:
        return fault() if BAD in str(turns) else whole(turns)

    monkeypatch.setitem(outgoing.FORMATS, "trl", row_of)
    out = tmp_path / "rows.jsonl"
    given = (write_traces(num_bad), out, "trl", "inline")
    if num_written:
        export(*given, allow_benchmark=False)  # type: ignore[arg-type]
        assert len(out.read_bytes().splitlines()) == num_written
        assert "is left out for internal_error: KeyError: 'log'" in capsys.readouterr().err
    else:
        with pytest.raises(InternalErrors, match="nothing is written"):
            export(*given, allow_benchmark=False)  # type: ignore[arg-type]
        assert not out.exists()
