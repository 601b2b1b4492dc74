"""Problems from files of one's own: JSONL (an object a line) or JSON (a list of objects).

    {"problem": "Tom has 14 coins. ...", "answer": "20", "num_steps": 2}

The problem and the reference answer are found under the usual names or under the fields that are
given; every other key of the row goes to `extra`. A dataset stands for the problems of its rows.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from distillpipe import dataset, versions
from distillpipe.errors import DataError, UsageError
from distillpipe.records import Problem, Prompting, problem_id
from distillpipe.verify import VERIFIERS

PROBLEM_FIELDS = ("problem", "question", "prompt")
ANSWER_FIELDS = ("reference_answer", "answer", "gold")
DEFAULT_VERIFIER = "math"


def read_problems(reference: str, prompting: Prompting, limit: int | None) -> Iterator[Problem]:
    """The first `limit` problems (all for None) of a file or of a dataset.

    Raises DataError naming file and line where a row is broken or has no problem.
    """
    path = Path(reference)
    if path.is_dir() or versions.split_reference(reference)[1] is not None:
        for problem in islice(dataset.read_problems(reference), limit):
            yield _judged_by(problem, prompting.verifier or problem.verifier)
        return
    if not path.is_file():
        raise UsageError(f"{reference} does not exist: give a .jsonl or .json file of problems")
    for where, row in islice(_rows(path), limit):
        yield _problem(row, where, prompting)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix == ".json":
        rows = _decode(path.read_bytes(), str(path))
        if not isinstance(rows, list):
            raise DataError(f"{path}: expected a list of objects, got {type(rows).__name__}")
        named = iter([(f"{path}: item {number}", row) for number, row in enumerate(rows, start=1)])
    else:
        named = _jsonl(path)
    empty = True
    for where, row in named:
        if not isinstance(row, dict):
            raise DataError(f'{where}: expected an object like {{"problem": ...}}, got {row!r:.60}')
        empty = False
        yield where, row
    if empty:
        raise DataError(f"{path} is empty: it should hold one problem a line")


def _jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"{path}:{number}", _decode(line, f"{path}:{number}")


def _decode(content: bytes, where: str) -> Any:
    try:
        return msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: not valid JSON ({error}): mend or remove the line") from error


def _problem(row: dict[str, Any], where: str, prompting: Prompting) -> Problem:
    problem_field = _field(row, prompting.problem_field, PROBLEM_FIELDS)
    if (
        problem_field is None
        or not isinstance(row[problem_field], str)
        or not row[problem_field].strip()
    ):
        wanted = prompting.problem_field or " or ".join(PROBLEM_FIELDS)
        raise DataError(
            f"{where}: no problem: expected text under {wanted!r}, the row has "
            f"{', '.join(map(repr, row)) or 'no keys'}: mend the row or give --problem-field"
        )
    answer_field = _field(row, prompting.answer_field, ANSWER_FIELDS)
    if answer_field is None and prompting.answer_field is not None:
        raise DataError(
            f"{where}: no {prompting.answer_field!r} (--answer-field), the row has "
            f"{', '.join(map(repr, row))}"
        )
    answer = None if answer_field is None else row[answer_field]
    if not isinstance(answer, str | int | float | None) or isinstance(answer, bool):
        raise DataError(
            f"{where}: expected text or a number under {answer_field!r}, got {answer!r:.60}"
        )
    reference = None if answer is None else str(answer)
    verifier = prompting.verifier or row.get("verifier") or DEFAULT_VERIFIER
    if not isinstance(verifier, str) or verifier not in VERIFIERS:
        raise DataError(f"{where}: no verifier {verifier!r}: there are {', '.join(VERIFIERS)}")
    known = {problem_field, answer_field, "verifier", "domain"}
    extra = {key: value for key, value in row.items() if key not in known}
    return Problem(
        problem_id=problem_id(row[problem_field], reference, verifier),
        problem=row[problem_field],
        reference_answer=reference,
        verifier=verifier,
        domain=row.get("domain") if isinstance(row.get("domain"), str) else None,
        extra=msgspec.json.encode(extra).decode() if extra else None,
    )


def _judged_by(problem: Problem, verifier: str) -> Problem:
    """The problem with another verifier, which makes it another problem."""
    found = problem_id(problem.problem, problem.reference_answer, verifier)
    return msgspec.structs.replace(problem, verifier=verifier, problem_id=found)


def _field(row: dict[str, Any], given: str | None, usual: tuple[str, ...]) -> str | None:
    names = (given,) if given is not None else usual
    return next((name for name in names if row.get(name) is not None), None)
