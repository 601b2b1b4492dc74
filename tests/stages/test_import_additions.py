"""`import`: token counts that are estimated, references from another file, and lines of text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.options import Prompting
from distillpipe.base.records import TokenCounts
from distillpipe.data.formats.token_estimate import estimated_tokens
from distillpipe.data.sources import find, read_problems
from distillpipe.data.store import dataset
from distillpipe.data.store.manifest import Manifest

Importing = Callable[..., Manifest]


def test_tokens_are_estimated_where_no_tokenizer_is_given(
    run_import: Importing,
    write_rows: Callable[..., str],
    rows_of_import: list[Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = run_import(write_rows(tmp_path / "raw.jsonl", *rows_of_import), tmp_path / "out")

    first, second, third = dataset.read_traces(str(tmp_path / "out"))
    assert first.num_tokens == TokenCounts(prompt=9, reasoning=4, response=5, total=21)
    assert second.num_tokens is not None
    assert third.num_tokens is not None
    # tags and end token; a thought that was cut off has neither closing tag nor end
    assert third.num_tokens.total - third.num_tokens.prompt - third.num_tokens.reasoning == 1
    assert manifest.counts.rows_uncounted == 0
    assert "tokens are estimated as Qwen's tokenizer counts them" in capsys.readouterr().err


@pytest.mark.reference
def test_estimated_tokens_are_close_to_those_of_qwen(
    reference_data: Callable[[str], Path],
) -> None:
    for path in sorted(reference_data("data/traces").glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:200]]
        texts = [row.get("raw") or f"{row['reasoning']}{row['answer_text']}" for row in rows]
        counts = [row["x_qwen_tokens"] for row in rows]
        estimates = [estimated_tokens(text) for text in texts]
        assert abs(sum(estimates) / sum(counts) - 1) < 0.05, path.name


def test_references_are_joined_from_another_file(
    run_import: Importing,
    write_rows: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [
        {"problem": "1+1?", "raw": "<think>1 and 1.</think>\\boxed{2}"},
        {"problem": "Return your final response within \\boxed{}. 2+ 1?", "raw": "3"},
        {"problem": "3+1?", "raw": "4", "gold": "5"},
        {"problem": "4+1?", "raw": "5"},
    ]
    answers = write_rows(
        tmp_path / "answers.jsonl",
        {"question": "1+1?", "answer": "2"},
        {"question": "2+  1?", "answer": 3},
        {"question": "3+1?", "answer": "4"},
    )
    source = write_rows(tmp_path / "raw.jsonl", *rows)
    first = run_import(source, tmp_path / "out")
    joined = run_import(source, tmp_path / "out", answers=answers)

    kept = list(dataset.read_traces(str(tmp_path / "out")))
    assert [(row.problem, row.reference_answer) for row in kept] == [
        ("1+1?", "2"), ("2+ 1?", "3"), ("3+1?", "4"), ("4+1?", None),
    ]  # fmt: skip
    assert (first.version, joined.version) == ("v1", "v2")
    said = capsys.readouterr().err
    assert "import: 3 rows: the reference answer is from --answers\n" in said
    assert "import: 1 rows: the file of --answers does not have the problem\n" in said
    assert "import: 1 rows: the instruction 'Return your final response" in said


def test_a_file_without_references_cannot_be_joined(
    run_import: Importing, write_rows: Callable[..., str], rows_of_import: list[Any], tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "raw.jsonl", *rows_of_import)
    answers = write_rows(tmp_path / "answers.jsonl", {"question": "1+1?"})
    with pytest.raises(DataError, match="holds no reference answer"):
        run_import(source, tmp_path / "out", answers=answers)
    with pytest.raises(UsageError, match="does not exist"):
        run_import(source, tmp_path / "out", answers=str(tmp_path / "none.jsonl"))


@pytest.mark.parametrize("options", [{"format": "lines"}, {"format": "lines", "limit": 9}])
def test_lines_of_text_become_problems(
    run_import: Importing, tmp_path: Path, options: dict[str, Any]
) -> None:
    source = tmp_path / "questions.txt"
    source.write_bytes(b"\xef\xbb\xbf1+1?\n\n  2+1?  \r\n\xff\n1+1?\n")
    manifest = run_import(str(source), tmp_path / "out", **options)

    problems = list(dataset.read_problems(dataset.find(str(tmp_path / "out"))))
    assert [problem.problem for problem in problems] == ["1+1?", "2+1?"]
    assert manifest.counts.rows_kept == 0
    assert run_import(str(source), tmp_path / "out", **options).version == manifest.version


def test_generate_reads_a_text_file_line_by_line(tmp_path: Path) -> None:
    source = tmp_path / "questions.txt"
    source.write_text("1+1?\n2+1?\n", encoding="utf-8")
    assert [one.problem for one in read_problems(find(str(source)), Prompting(), None)] == [
        "1+1?",
        "2+1?",
    ]


def test_a_mixed_file_is_read_row_by_row(
    run_import: Importing, write_rows: Callable[..., str], tmp_path: Path
) -> None:
    rows = [
        {
            "problem": "1+1?",
            "solution": "See page 3.",
            "reasoning": "1 and 1.",
            "deepseek_solution": "2",
        },
        {"messages": [{"role": "user", "content": "2+1?"}, {"role": "assistant", "content": "3"}]},
        {"problem": "3+1?", "solution": "See page 4."},
    ]
    manifest = run_import(write_rows(tmp_path / "rows.jsonl", *rows), tmp_path / "out")
    kept = list(dataset.read_traces(str(tmp_path / "out")))
    assert [(row.problem, row.reasoning, row.response) for row in kept] == [
        ("1+1?", "1 and 1.", "2"),
        ("2+1?", "", "3"),
    ]
    assert manifest.counts.rows_rejected == 1


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
def test_rows_are_not_read_as_lines_of_text(
    run_import: Importing, tmp_path: Path, suffix: str
) -> None:
    source = tmp_path / f"problems{suffix}"
    source.write_text('{"problem": "1+1?", "answer": "2"}\n', encoding="utf-8")

    with pytest.raises(UsageError, match=r"--format lines is for a text.*`distill generate`"):
        run_import(str(source), tmp_path / "out", format="lines")
