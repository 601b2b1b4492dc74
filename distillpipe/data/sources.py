r"""Read problems from files, datasets, the Hugging Face Hub and the table of benchmarks.

    {"problem": "Tom has 14 coins. ...", "answer": "20", "num_steps": 2}

A reference is one of these; `find` makes `Problems` of it, once, and everything else takes them:

    problems.jsonl       a file: .jsonl, .json, .csv (all also .gz), .parquet
    runs/traces@v1       a dataset of ours: the problems of its rows
    hub:ORG/NAME[:CONFIG][:SPLIT]
    aime24               the name of a benchmark

The problem and the reference answer are read from their usual keys, or from the fields that the user names. The
answer of a worked solution is after `####` or in its last `\boxed{}`. All other keys of a row go to `extra`.
"""

import os
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from distillpipe.base.decoding import json_object
from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.options import Prompting
from distillpipe.base.records import Problem, problem_id
from distillpipe.base.rowguard import InternalError, guarded
from distillpipe.base.user_code.functions import is_user_name
from distillpipe.data.benchmarks import BENCHMARKS, Benchmark
from distillpipe.data.formats import files, hub
from distillpipe.data.formats.fields import (
    ANSWER_FIELDS,
    PROBLEM_FIELDS,
    Fields,
    NotText,
    extra_of,
    gold,
    present,
    problem_key,
    text_under,
    usual_verifier,
)
from distillpipe.data.formats.files import Placed, readable
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.dataset import Dataset
from distillpipe.data.store.manifest import InputDataset
from distillpipe.verify import VERIFIERS
from distillpipe.verify.code.problem_tests import tests_for

DATA_FOLDER = "DISTILL_DATA"  # environment variable: the folder with benchmark files
DATE_FIELDS = ("contest_date", "release_date", "date")
_EXTENSIONS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet")
Failed = Callable[[Problem, InternalError], None]
"Called for a row that raised an internal error."
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


class Problems(msgspec.Struct, frozen=True):
    """Where problems, or rows of other tools, are read from."""

    name: str
    "the reference that the user gave"
    place: Dataset | str
    "a file, a version of a dataset of ours, or a hub dataset (`hub:ORG/NAME`)"
    benchmark: Benchmark | None = None
    "null for what is not in the table of benchmarks"


def find(reference: str) -> Problems:
    """The problems that a reference names. Raises UsageError if there are none."""
    location = _located(reference)
    benchmark = BENCHMARKS.get(reference)
    if location.startswith(hub.PREFIX):
        return Problems(reference, location, benchmark)
    if not is_dataset(location) and not Path(location).is_file():
        raise UsageError(
            f"{location} does not exist: give a dataset's folder, PATH@vN, or a .jsonl file (or .json, "
            f".csv, .parquet, .gz), hub:ORG/NAME, or the name of a benchmark ({', '.join(BENCHMARKS)})"
        )
    return Problems(reference, dataset.find(location), benchmark)


def read_problems(
    source: Problems,
    prompting: Prompting,
    limit: int | None,
    failed: Failed | None = None,
) -> Iterator[Problem]:
    """Yield the first `limit` problems of a source, all for None, within the dates of `prompting`.

    A row that raises an internal error is passed to `failed`, with what is known of its problem; without
    `failed` it raises DataError. Raises DataError with file and line for a row that is broken or has no
    problem, and if no problem is within the dates.
    """
    number = 0
    for problem in islice(_problems(source, prompting, failed), limit):
        number += 1
        yield problem
    if not number and (prompting.min_date or prompting.max_date):
        window = f"{prompting.min_date or '...'} to {prompting.max_date or '...'}"
        raise DataError(
            f"{source.name}: no problem is dated {window} (--min-date, --max-date; --protocol may have set them)"
        )


def _problems(source: Problems, prompting: Prompting, failed: Failed | None) -> Iterator[Problem]:
    if isinstance(source.place, Dataset) and not source.place.is_file:
        for problem in dataset.read_problems(source.place):
            if _is_in_window(json_object(problem.extra), problem.problem_id, prompting):
                yield judged_by(problem, prompting.verifier or problem.verifier)
        return
    benchmark = source.benchmark
    if benchmark is not None:
        prompting = _prompting_of(benchmark, prompting)
    name = None if benchmark is None else benchmark.name
    for where, row in rows(source, "problem"):
        problem_or_error = guarded(_problem_in, row, where, benchmark, prompting)
        if isinstance(problem_or_error, InternalError):
            error = problem_or_error
            if failed is None:
                raise DataError(f"{where}: {error.reason}: please report it, and remove the row")
            failed(msgspec.structs.replace(_stub(row, where, prompting), benchmark=name), error)
        elif problem_or_error is not None:
            yield msgspec.structs.replace(problem_or_error, benchmark=name)


def _problem_in(
    row: Any, where: str, benchmark: Benchmark | None, prompting: Prompting
) -> Problem | None:
    """The problem of a row, None for a row that is not in the benchmark or not within the dates."""
    converted = row if benchmark is None else _converted(benchmark, row, where)
    if converted is None or not _is_in_window(converted, where, prompting):
        return None
    return _problem(converted, where, prompting)


def _stub(row: Any, where: str, prompting: Prompting) -> Problem:
    """A placeholder for the problem of a row that could not be read."""
    names = PROBLEM_FIELDS if prompting.problem_field is None else (prompting.problem_field,)
    key = text_under(row, names) if isinstance(row, dict) else None
    text = where if key is None else str(row[key])
    verifier = prompting.verifier or "math"
    return Problem(
        problem_id=problem_id(text, None, verifier),
        problem=text,
        reference_answer=None,
        verifier=verifier,
    )


def rows(source: Problems, holds: str = "row") -> Iterator[Placed]:
    """Yield place and value of each row of a file or a hub dataset.

    `holds` is the noun for a row in error messages: "row" or "problem".
    """
    for where, row in rows_and_unreadable(source, holds):
        yield where, readable(row)


def rows_and_unreadable(source: Problems, holds: str = "row") -> Iterator[Placed]:
    """As `rows`, but yield an `Unreadable` for a single row that cannot be read."""
    if isinstance(source.place, Dataset):
        return files.rows_and_unreadable(source.place.path, holds)
    return hub.hub_rows(source.place)


def describe(source: Problems, out: Path) -> InputDataset:
    """The manifest entry for problems that a version under `out` reads. A hub dataset has its commit as id."""
    if isinstance(source.place, Dataset):
        return dataset.describe(source.place, out)
    return InputDataset(path=source.place, version=None, id=hub.identity(source.place))


def place_of(reference: str) -> str:
    """The file or hub dataset of a reference. The reference itself if there is none."""
    try:
        return _located(reference)
    except UsageError:
        return reference


def is_dataset(reference: str) -> bool:
    """Whether a reference is a folder of versions or one of its versions."""
    return reference not in BENCHMARKS and (
        versions.follow_latest(Path(reference)).is_dir()
        or versions.split_reference(reference)[1] is not None
    )


def _located(reference: str) -> str:
    """The file in DISTILL_DATA, or the hub dataset, of a benchmark. Other references are returned as they are."""
    benchmark = BENCHMARKS.get(reference)
    if benchmark is None:
        return reference
    folder = os.environ.get(DATA_FOLDER)
    if folder:  # the usual file name first, then the same name with another extension
        stem = benchmark.file.partition(".")[0]
        names = (benchmark.file, *(stem + extension for extension in _EXTENSIONS))
        path = next((Path(folder, name) for name in names if Path(folder, name).is_file()), None)
        if path is not None:
            return str(path)
    try:
        hub.identity(benchmark.reference)
    except UsageError as error:
        dataset_name = benchmark.reference.removeprefix(hub.PREFIX)
        several = ", its files concatenated" if "*" in dataset_name else ""
        raise UsageError(
            f"benchmark {reference} is neither in the folder {DATA_FOLDER} ({folder or 'not set'}) nor "
            f"available from the hub: download {dataset_name} as {benchmark.file} (or as .json, .csv or "
            f".parquet{several}) into that folder ({error})"
        ) from error
    return benchmark.reference


def _prompting_of(benchmark: Benchmark, prompting: Prompting) -> Prompting:
    return msgspec.structs.replace(
        prompting,
        problem_field=prompting.problem_field or benchmark.problem_field,
        answer_field=prompting.answer_field or benchmark.answer_field,
        verifier=prompting.verifier or benchmark.verifier,
    )


def _converted(benchmark: Benchmark, row: Any, where: str) -> Any:
    """A row of a benchmark with our usual keys, None for a row that is not part of the benchmark."""
    if not isinstance(row, dict):
        return row
    try:
        converted = benchmark.convert(row)
    except KeyError as error:
        raise DataError(
            f"{where}: this row has no {error}, but rows of {benchmark.name} have: is this the right file?"
        ) from error
    if converted is not None and "domain" not in converted and benchmark.domain_field in converted:
        converted = {**converted, "domain": converted[benchmark.domain_field]}
    return converted


def _is_in_window(row: Any, where: str, prompting: Prompting) -> bool:
    """Whether the date of a row is from `min_date` to `max_date`, both included."""
    if (prompting.min_date is None and prompting.max_date is None) or not isinstance(row, dict):
        return True
    key = text_under(row, DATE_FIELDS)
    day = "" if key is None else row[key][:10]
    if not _DAY.fullmatch(day):
        raise DataError(
            f"{where}: no date like 2024-08-01 under {' or '.join(DATE_FIELDS)}: --min-date and --max-date "
            "(--protocol may have set them) need a date in each row"
        )
    return (prompting.min_date or day) <= day <= (prompting.max_date or day)


def _problem(row: Any, where: str, prompting: Prompting) -> Problem:
    if not isinstance(row, dict):
        raise DataError(f'{where}: expected an object like {{"problem": ...}}, got {row!r:.60}')
    fields = Fields(prompting.problem_field, prompting.answer_field)
    key = problem_key(row, fields)
    if key is None:
        expected = fields.problem or " or ".join(PROBLEM_FIELDS)
        raise DataError(
            f"{where}: no problem: expected text under {expected!r}, the row has "
            f"{', '.join(map(repr, row)) or 'no keys'}: correct the row or give --problem-field"
        )
    if fields.answer is not None and present(row, fields.answer, ANSWER_FIELDS) is None:
        raise DataError(
            f"{where}: no {fields.answer!r} (--answer-field), the row has "
            f"{', '.join(map(repr, row))}"
        )
    try:
        reference, answer_key = gold(row, fields)
    except NotText as error:
        raise DataError(f"{where}: {error}") from error
    verifier = prompting.verifier or row.get("verifier") or usual_verifier(row)
    if not isinstance(verifier, str) or not (verifier in VERIFIERS or is_user_name(verifier)):
        names = ", ".join(VERIFIERS)
        raise DataError(
            f"{where}: no verifier {verifier!r}: there are {names}; your own is given as "
            "--verifier FILE.py:FUNCTION"
        )
    used = {key, answer_key, "verifier", "domain"}
    return Problem(
        problem_id=problem_id(row[key], reference, verifier, tests_for(verifier, row)),
        problem=row[key],
        reference_answer=reference,
        verifier=verifier,
        domain=row.get("domain") if isinstance(row.get("domain"), str) else None,
        extra=extra_of({name: value for name, value in row.items() if name not in used}),
    )


def judged_by(problem: Problem, verifier: str) -> Problem:
    """The problem with another verifier. Its `problem_id` changes with it."""
    tests = tests_for(verifier, json_object(problem.extra))
    new_id = problem_id(problem.problem, problem.reference_answer, verifier, tests)
    return msgspec.structs.replace(problem, verifier=verifier, problem_id=new_id)
