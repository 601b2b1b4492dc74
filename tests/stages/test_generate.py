"""`generate` on the shipped teacher."""

import json
from pathlib import Path

from distillpipe.base.options import SamplingOptions
from distillpipe.base.records import RejectedTrace
from distillpipe.data.store import dataset
from distillpipe.stages.generate import generate
from distillpipe.stages.run import Run


def test_generate_samples_every_problem_and_keeps_what_it_was_asked(traces: Path) -> None:
    rows = list(dataset.read_traces(str(traces)))
    assert len(rows) == 24
    assert len({row.id for row in rows}) == 24
    assert {row.sample for row in rows} == {0, 1}
    assert all(row.reasoning.startswith(row.problem.split()[0]) for row in rows)
    assert all(row.messages[0].content == row.problem for row in rows)
    finished = [row for row in rows if row.finish_reason == "stop"]
    assert len(finished) >= 20
    assert all("\\boxed{" in row.response for row in finished)
    assert all(row.verdict is None for row in rows)


def test_token_counts_add_up_with_delimiters_and_end(traces: Path) -> None:
    for row in dataset.read_traces(str(traces)):
        if row.finish_reason == "stop":  # <think>, </think> and the end token
            counts = row.num_tokens
            assert counts.total == counts.prompt + counts.reasoning + counts.response + 3


def test_problems_stand_once_beside_the_rows_with_their_extra(traces: Path) -> None:
    problems = list(dataset.read_problems(dataset.find(str(traces))))
    assert len(problems) == 12
    assert json.loads(problems[0].extra or "") == {
        "num_steps": json.loads(problems[0].extra or "")["num_steps"]
    }


def test_a_prompt_that_is_too_long_is_rejected_with_its_length_and_the_others_are_sampled(
    shipped: Path, tmp_path: Path, sampling: SamplingOptions
) -> None:
    problems = tmp_path / "mixed.jsonl"
    rows = [
        {"problem": "pens " * 1100, "answer": "1"},
        {"problem": "Mia has 3 pens.", "answer": "3"},
    ]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "traces"
    found = generate(str(problems), str(shipped / "teacher"), out, sampling, Run())
    manifest = found.manifest
    assert (manifest.counts.rows_kept, manifest.counts.rows_rejected) == (2, 2)
    rejected = list(dataset.scan(out / "v1", RejectedTrace, "rejected"))
    assert [(row.reason, int(row.measured or 0) > 1024) for row in rejected] == [
        ("prompt_too_long", True)
    ] * 2
