"""Problems from the user's files: which keys are read, and which line an error names."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.records import Problem, problem_id
from distillpipe.data.sources import describe, find
from distillpipe.data.store import dataset
from distillpipe.data.store.manifest import Manifest


@pytest.mark.parametrize(
    ("row", "answer", "extra"),
    [
        ({"problem": "1+1?", "reference_answer": "2"}, "2", None),
        ({"question": "1+1?", "answer": "2"}, "2", None),
        ({"prompt": "1+1?", "gold": "2"}, "2", None),
        ({"problem": "1+1?"}, None, None),
        ({"problem": "1+1?", "answer": None}, None, {"answer": None}),
        ({"problem": "1+1?", "answer": 2}, "2", None),
        ({"problem": "1+1?", "answer": 2.5}, "2.5", None),
        ({"problem": "1+1?", "answer": 0}, "0", None),
        ({"problem": "1+1?", "answer": "2", "gold": "3"}, "2", {"gold": "3"}),
        ({"problem": "1+1?", "question": "else", "answer": "2"}, "2", {"question": "else"}),
        (
            {"problem": "1+1?", "answer": "2", "id": 7, "steps": ["a"]},
            "2",
            {"id": 7, "steps": ["a"]},
        ),
    ],
)
def test_problem_and_answer_have_usual_keys_and_the_rest_is_extra(
    tmp_path: Path,
    row: dict[str, object],
    answer: str | None,
    extra: object,
    read: Callable[..., list[Problem]],
    write: Callable[..., Path],
) -> None:
    (found,) = read(write(tmp_path / "problems.jsonl", row))

    assert found == Problem(
        problem_id=problem_id("1+1?", answer, "math"),
        problem="1+1?",
        reference_answer=answer,
        verifier="math",
        extra=found.extra,
    )
    assert (None if found.extra is None else json.loads(found.extra)) == extra


def test_fields_that_are_given_win_over_the_usual_names(
    tmp_path: Path, read: Callable[..., list[Problem]], write: Callable[..., Path]
) -> None:
    row = {"problem": "no", "answer": "no", "text": "1+1?", "solution": "2"}
    path = write(tmp_path / "problems.jsonl", row)
    (found,) = read(path, problem_field="text", answer_field="solution")

    assert (found.problem, found.reference_answer) == ("1+1?", "2")
    assert found.extra == '{"problem":"no","answer":"no"}'


def test_verifier_and_domain_come_from_the_row_unless_given(
    tmp_path: Path, read: Callable[..., list[Problem]], write: Callable[..., Path]
) -> None:
    row = {"problem": "1+1?", "answer": "2", "verifier": "numeric", "domain": "algebra"}
    path = write(tmp_path / "problems.jsonl", row)
    (own,), (given,) = read(path), read(path, verifier="exact")

    assert (own.verifier, own.domain, own.extra) == ("numeric", "algebra", None)
    assert (given.verifier, given.domain, given.extra) == ("exact", "algebra", None)
    assert own.problem_id == problem_id("1+1?", "2", "numeric")
    assert given.problem_id == problem_id("1+1?", "2", "exact")


def test_a_list_in_a_json_file_is_the_same_as_lines(
    tmp_path: Path, read: Callable[..., list[Problem]], write: Callable[..., Path]
) -> None:
    rows = [{"problem": "1+1?", "answer": "2"}, {"problem": "2+1?", "answer": "3"}]
    (tmp_path / "problems.json").write_text(json.dumps(rows, indent=1))

    assert read(tmp_path / "problems.json") == read(write(tmp_path / "problems.jsonl", *rows))


def test_empty_lines_and_windows_line_ends_are_passed_over(
    tmp_path: Path, read: Callable[..., list[Problem]]
) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_bytes(b'\r\n{"problem": "1+1?"}\r\n\n   \n{"problem": "2+1?"}')

    assert [problem.problem for problem in read(path)] == ["1+1?", "2+1?"]


def test_a_limit_takes_the_first_problems_and_reads_no_further(
    tmp_path: Path, read: Callable[..., list[Problem]], write: Callable[..., Path]
) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text('{"problem": "1+1?"}\n{"problem": "2+1?"}\nbroken\n')

    assert [problem.problem for problem in read(path, limit=2)] == ["1+1?", "2+1?"]
    assert len(read(write(path, {"problem": "1+1?"}), limit=9)) == 1


GOOD = '{"problem": "1+1?", "answer": "2"}'


@pytest.mark.parametrize(
    ("lines", "prompting", "message"),
    [
        (
            [GOOD, "", '{"problem": '],
            {},
            ":3: not valid JSON (Input data was truncated): correct or remove the line",
        ),
        ([GOOD, "not json"], {}, ":2: not valid JSON (JSON is malformed: "),
        (
            [GOOD, '["1+1?"]'],
            {},
            """:2: expected an object like {"problem": ...}, got ['1+1?']""",
        ),
        (
            [GOOD, '{"text": "1+1?", "answer": "2"}'],
            {},
            ":2: no problem: expected text under 'problem or question or prompt', the row has "
            "'text', 'answer': correct the row or give --problem-field",
        ),
        (
            ["{}"],
            {},
            ":1: no problem: expected text under 'problem or question or prompt', the row has "
            "no keys: correct the row or give --problem-field",
        ),
        (['{"problem": "  \\n"}'], {}, ":1: no problem: "),
        (['{"problem": ["a", "b"]}'], {}, ":1: no problem: "),
        (['{"problem": null, "answer": "2"}'], {}, ":1: no problem: "),
        (
            [GOOD],
            {"problem_field": "text"},
            ":1: no problem: expected text under 'text', the row has 'problem', 'answer': ",
        ),
        (
            [GOOD, '{"problem": "1+1?"}'],
            {"answer_field": "answer"},
            ":2: no 'answer' (--answer-field), the row has 'problem'",
        ),
        ([], {}, " is empty: expected one problem per line"),
        (["", "  "], {}, " is empty: expected one problem per line"),
    ],
)
def test_a_row_that_is_no_problem_is_an_error_with_file_and_line(
    tmp_path: Path,
    lines: list[str],
    prompting: dict[str, str],
    message: str,
    read: Callable[..., list[Problem]],
) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))

    with pytest.raises(DataError) as raised:
        read(path, **prompting)
    assert str(raised.value).startswith(f"{path}{message}")


def test_a_line_that_is_not_utf_8_is_an_error_with_file_and_line(
    tmp_path: Path, read: Callable[..., list[Problem]]
) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_bytes(GOOD.encode() + b'\n{"problem": "caf\xe9"}\n')

    with pytest.raises(DataError, match=f"{path}:2: not valid JSON"):
        read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", " is empty: expected one problem per line"),
        ('{"problem": "1+1?"}', ": expected a list of objects, got dict"),
        ('[{"problem": "1+1?"}, "2+1?"]', ": item 2: expected an object like "),
        ('[{"problem": "1+1?"}, {"text": 1}]', ": item 2: no problem: expected text under "),
        ("[{", ": not valid JSON ("),
    ],
)
def test_a_json_file_with_a_bad_item_is_an_error_that_names_it(
    tmp_path: Path, content: str, message: str, read: Callable[..., list[Problem]]
) -> None:
    path = tmp_path / "problems.json"
    path.write_text(content)

    with pytest.raises(DataError) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}{message}")


def test_a_missing_file_is_an_error_that_says_what_to_give(
    tmp_path: Path, read: Callable[..., list[Problem]]
) -> None:
    with pytest.raises(
        UsageError,
        match=r"none.jsonl does not exist: give a dataset's folder, PATH@vN, or a .jsonl file",
    ):
        read(tmp_path / "none.jsonl")


# ---------------------------------------------------------------- problems of a dataset


def test_a_dataset_stands_for_its_problems(
    tmp_path: Path,
    write_dataset: Callable[..., Manifest],
    read: Callable[..., list[Problem]],
    write: Callable[..., Path],
) -> None:
    problems = read(
        write(
            tmp_path / "problems.jsonl",
            {"problem": "1+1?", "answer": "2", "steps": 1},
            {"problem": "2+1?", "answer": "3"},
        )
    )
    write_dataset(tmp_path / "traces", [], problems=problems, name="A")
    write_dataset(tmp_path / "traces", [], problems=problems[:1], name="B")

    assert read(tmp_path / "traces") == problems[:1]
    assert read(f"{tmp_path}/traces@v1") == problems
    assert read(f"{tmp_path}/traces@v1", limit=1) == problems[:1]


def test_a_checkpoint_has_no_problems(
    tmp_path: Path, write_checkpoint: Callable[..., Manifest], read: Callable[..., list[Problem]]
) -> None:
    write_checkpoint(tmp_path, "student")

    with pytest.raises(UsageError, match=f"{tmp_path} holds no problems"):
        read(tmp_path)


def test_a_dataset_that_does_not_exist_is_an_error(
    tmp_path: Path, write_dataset: Callable[..., Manifest], read: Callable[..., list[Problem]]
) -> None:
    write_dataset(tmp_path / "traces", [])

    with pytest.raises(UsageError, match="traces has no version v2; it has v1"):
        read(f"{tmp_path}/traces@v2")


@pytest.mark.parametrize("answer", [["12"], {"value": 12}, True])
def test_an_answer_must_be_text_or_a_number(
    tmp_path: Path, answer: object, read: Callable[..., list[Problem]], write: Callable[..., Path]
) -> None:
    path = write(
        tmp_path / "p.jsonl", {"problem": "p", "answer": "1"}, {"problem": "q", "answer": answer}
    )
    with pytest.raises(DataError, match=f"{path}:2: expected text or a number under 'answer'"):
        read(path)


@pytest.mark.parametrize("verifier", ["maths", ["math"]])
def test_a_verifier_that_does_not_exist_is_named_with_its_line(
    tmp_path: Path, verifier: object, read: Callable[..., list[Problem]], write: Callable[..., Path]
) -> None:
    path = write(tmp_path / "p.jsonl", {"problem": "p", "answer": "1", "verifier": verifier})
    with pytest.raises(DataError, match=f"{path}:1: no verifier .*there are exact, numeric, math"):
        read(path)


# ---------------------------------------------------------------- other files, worked solutions


def test_problems_are_read_from_gzipped_and_parquet_files(
    tmp_path: Path, read: Callable[..., list[Problem]], write: Callable[..., Path]
) -> None:
    rows = [{"problem": "1+1?", "answer": "2"}, {"problem": "2+1?", "answer": "3"}]
    plain = write(tmp_path / "p.jsonl", *rows)
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "p.parquet")

    assert read(tmp_path / "p.jsonl.gz") == read(plain)
    assert read(tmp_path / "p.parquet") == read(plain)


@pytest.mark.parametrize(
    ("row", "answer", "extra"),
    [
        (
            {"question": "1+1?", "answer": "1+1=<<1+1=2>>2\n#### 2"},
            "2",
            {"answer": "1+1=<<1+1=2>>2\n#### 2"},
        ),
        (
            {"problem": "1+1?", "solution": "So $\\boxed{2}$."},
            "2",
            {"solution": "So $\\boxed{2}$."},
        ),
        (
            {"problem": "1+1?", "solution": "So $\\boxed{2}$.", "answer": "3"},
            "3",
            {"solution": "So $\\boxed{2}$."},
        ),
    ],
)
def test_the_answer_is_taken_from_a_solution_that_stays_in_extra(
    tmp_path: Path,
    row: dict[str, object],
    answer: str,
    extra: object,
    read: Callable[..., list[Problem]],
    write: Callable[..., Path],
) -> None:
    (found,) = read(write(tmp_path / "p.jsonl", row))

    assert found.reference_answer == answer
    assert json.loads(found.extra or "") == extra
    assert found.problem_id == problem_id("1+1?", answer, "math")


REAL = {
    # file: rows, answers of the first and of the last
    "gsm8k_test.jsonl": (1319, "18", "14"),
    "math500.jsonl": (500, "\\left( 3, \\frac{\\pi}{2} \\right)", "106^\\circ"),
    "aime24_deepscaler.json": (30, "204", "315"),
}


@pytest.mark.reference
@pytest.mark.parametrize("name", REAL)
def test_real_files_load_as_they_are_every_row_with_a_reference(
    reference_data: Callable[[str], Path], name: str, read: Callable[..., list[Problem]]
) -> None:
    problems = read(reference_data(f"data/math/{name}"))

    answers = [problem.reference_answer for problem in problems]
    assert (len(answers), answers[0], answers[-1]) == REAL[name]
    assert all(answers)
    assert {problem.benchmark for problem in problems} == {None}


@pytest.mark.reference
def test_the_last_box_of_a_real_solution_is_its_answer(
    tmp_path: Path,
    reference_rows: Callable[[str], list[dict[str, Any]]],
    read: Callable[..., list[Problem]],
    write: Callable[..., Path],
) -> None:
    rows = reference_rows("math/math500.jsonl")
    answers = [row.pop("answer") for row in rows]
    found = [problem.reference_answer for problem in read(write(tmp_path / "p.jsonl", *rows))]

    differing = [pair for pair in zip(answers, found, strict=True) if pair[0] != pair[1]]
    assert differing == [("\\frac{639}{40}", "15\\frac{39}{40}, \\frac{639}{40}")]


# ---------------------------------------------------------------- what a manifest says of an input


def test_an_input_is_described_by_its_content(
    tmp_path: Path, write_dataset: Callable[..., Manifest], write: Callable[..., Path]
) -> None:
    manifest = write_dataset(tmp_path / "traces", [])
    path = write(tmp_path / "p.jsonl", {"problem": "1+1?"})
    out = tmp_path / "out"

    assert describe(find(str(path)), out) == dataset.describe(dataset.find(str(path)), out)
    assert describe(find(str(tmp_path / "traces")), out).id == manifest.id
    assert describe(find(f"{tmp_path}/traces@v1"), out).version == "v1"


@pytest.mark.parametrize("reference", ["none.jsonl", "none", "hub"])
def test_a_missing_input_is_an_error_that_lists_what_to_give(
    tmp_path: Path, reference: str
) -> None:
    with pytest.raises(UsageError) as raised:
        describe(find(f"{tmp_path}/{reference}"), tmp_path / "out")
    assert str(raised.value) == (
        f"{tmp_path}/{reference} does not exist: give a dataset's folder, PATH@vN, or a .jsonl file "
        "(or .json, .csv, .parquet, .gz), hub:ORG/NAME, or the name of a benchmark (math500, aime24, aime25, "
        "amc23, gsm8k, minerva, olympiadbench, gpqa_diamond, mmlu_pro, humaneval, mbpp, livecodebench)"
    )
