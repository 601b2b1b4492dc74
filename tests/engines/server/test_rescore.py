"""What was paid for is scored again without a request: by the same command, or by `rescore`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe import verify
from distillpipe.data.store import dataset
from distillpipe.data.store import manifest as manifests
from distillpipe.engines.server import retry
from distillpipe.reports import scoring
from distillpipe.reports.scoring import OUTCOMES

TOO_LONG = "This model's maximum context length is 20 tokens. However, you requested 30 tokens."


@pytest.fixture
def benchmark_file(tmp_path: Path) -> Path:
    """Six problems; the third is too long, the fourth fails, the fifth is answered without a box."""
    path = tmp_path / "sums.jsonl"
    rows = [{"problem": f"What is {number}+1?", "answer": str(number + 1)} for number in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def answering(sent: Any) -> Callable[[Any, int], Any]:
    """What the server does with each problem."""

    def react(body: Any, _attempt: int) -> Any:
        number = int(body["messages"][-1]["content"].split()[2][0])
        if number == 2:
            return sent(400, json.dumps({"error": {"message": TOO_LONG}}).encode())
        if number == 3:
            return sent(501, b'{"error": {"message": "not now"}}')
        said = f"\\boxed{{{number + 1}}}" if number != 4 else "The final answer is 5."
        return sent(message={"content": said, "reasoning": "Add one."})

    return react


@pytest.fixture
def scored(
    serve: Any,
    answering: Any,
    distill: Callable[..., Any],
    benchmark_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """An eval of four samples a problem, its server, and the call of it."""
    monkeypatch.setattr(retry, "FIRST_DELAY", 1e-3)
    monkeypatch.setattr(retry, "LONGEST_DELAY", 1e-3)
    server = serve(answering)
    call = (
        "eval", "teacher", "--base-url", server.url, "--benchmark", benchmark_file, "--prompt-template",
        "{problem}", "--num-samples", 4, "--accept-errors", "--out", tmp_path / "out",
    )  # fmt: skip
    done = distill(*call)
    assert done.code == 0, done.err
    server.stop()
    server.bodies.clear()
    return server, call, tmp_path / "out" / "sums"


def metrics(version: Path) -> Any:
    return json.loads((version / "metrics.json").read_text())


def test_the_figures_add_up_to_what_was_asked(scored: Any) -> None:
    _, _, out = scored
    found = metrics(out / "v1")
    counts = {name: found[f"num_{name}"] for name in OUTCOMES}
    assert counts == {
        "correct": 12, "wrong": 4, "truncated": 0, "unverifiable": 0, "not_run": 4,
    }  # fmt: skip
    assert (found["num_asked"], found["num_left_out"]) == (24, 4)
    assert (found["num_problems"], found["num_problems_asked"]) == (5, 6)
    assert found["unanswered"] == {"prompt_too_long": 4, "engine_error": 4}
    assert found["pass@1"] == 12 / 20
    assert "0.600" in (out / "v1" / "metrics.md").read_text()
    assert "over 20 of 24" in (out / "v1" / "metrics.md").read_text()


def test_without_its_server_an_eval_is_scored_by_a_mended_verifier(
    scored: Any, distill: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, call, out = scored
    monkeypatch.setattr(verify, "CODE_VERSION", verify.CODE_VERSION + 1)
    done = distill(*call)
    assert done.code == 0, done.err
    assert server.bodies == []
    assert metrics(out / "v2") | {"verifier_version": 0, "resources": None} == metrics(
        out / "v1"
    ) | {"verifier_version": 0, "resources": None}


def test_without_its_server_an_eval_is_scored_in_another_form(
    scored: Any, distill: Callable[..., Any]
) -> None:
    server, call, out = scored
    assert distill(*call, "--answer-form", "any").code == 0
    assert server.bodies == []
    assert (metrics(out / "v2")["num_correct"], metrics(out / "v2")["num_not_run"]) == (16, 4)


@pytest.mark.parametrize(
    ("options", "num_correct"),
    [((), 12), (("--answer-form", "any"), 16), (("--verifier", "exact"), 12)],
)
def test_rescore_needs_neither_server_nor_benchmark(
    scored: Any, distill: Callable[..., Any], benchmark_file: Path, options: Any, num_correct: int
) -> None:
    server, _, out = scored
    benchmark_file.unlink()
    done = distill("rescore", out.parent, *options)
    assert done.code == 0, done.err
    assert server.bodies == []
    found = metrics(out / "v2")
    assert found["num_correct"] == num_correct
    assert (found["num_asked"], found["num_not_run"], found["num_left_out"]) == (24, 4, 4)
    assert found["resources"] == metrics(out / "v1")["resources"]
    before, after = (scoring.read(dataset.find(str(out / name))) for name in ("v1", "v2"))
    assert before.counts["not_run"] == after.counts["not_run"]
    again = distill("rescore", out.parent, *options)
    assert "up to date" in again.err
    texts = [
        sorted(row.response for row in dataset.read_traces(f"{out}@{name}"))
        for name in ("v1", "v2")
    ]
    assert texts[0] == texts[1]


def test_rescore_scores_a_version_without_metrics(scored: Any, distill: Callable[..., Any]) -> None:
    _, _, out = scored
    manifest = manifests.read(out / "v1")
    manifest.metrics = None
    manifests.write(out / "v1", manifest)
    found = distill("rescore", out, "--json")
    assert json.loads(found.out)["versions"][0]["manifest"]["metrics"]["num_correct"] == 12


def test_rescore_takes_what_a_deleted_model_said(
    distill: Callable[..., Any], tiny_model: Path, repository: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    out = tmp_path / "out"
    problems = repository / "data" / "quickstart" / "problems-test.jsonl"
    assert distill("eval", model, "--benchmark", problems, "--limit", 3, "--max-tokens", 8, "--out", out).code == 0  # fmt: skip
    shutil.rmtree(model)
    done = distill("rescore", out, "--answer-form", "any")
    assert done.code == 0, done.err
    assert metrics(out / "problems-test" / "v2")["num_asked"] == 3


def test_rescore_of_traces_names_the_command_that_judges_them(
    distill: Callable[..., Any], write_dataset: Any, make_traces: Any, tmp_path: Path
) -> None:
    write_dataset(tmp_path / "traces", make_traces(1))
    done = distill("rescore", tmp_path / "traces")
    assert done.code == 2
    assert "holds traces, not predictions" in done.err
