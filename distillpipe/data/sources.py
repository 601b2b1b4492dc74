r"""Problems from files, datasets, the hub, and the table of benchmarks.

    {"problem": "Tom has 14 coins. ...", "answer": "20", "num_steps": 2}

A reference is a file (.jsonl, .json, both also .gz, .parquet), a dataset of ours (PATH, PATH@v1), which
stands for the problems of its rows, `hub:ORG/NAME[:CONFIG][:SPLIT]`, or the name of a benchmark. The
problem and the reference answer are found under the usual names or under the fields that are given, the
answer of a worked solution after `####` or in its last `\boxed{}`; every other key of the row goes to
`extra`.
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
from distillpipe.data.store.manifest import InputDataset
from distillpipe.verify import VERIFIERS
from distillpipe.verify.code.problem_tests import tests_for

DATA_FOLDER = "DISTILL_DATA"  # environment: the folder with the files of benchmarks
DATE_FIELDS = ("contest_date", "release_date", "date")
_KINDS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet")
_IN_ONE = ", several files one after the other in one"
Failed = Callable[[Problem, InternalError], None]
"Is told of a row whose reading met an internal error."
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def read_problems(
    reference: str,
    prompting: Prompting,
    limit: int | None,
    failed: Failed | None = None,
) -> Iterator[Problem]:
    """The first `limit` problems (all for None) of a reference, of those in the window of dates.

    A row whose reading meets an internal error is given to `failed`, with as much of its problem as is known;
    without `failed` it is a DataError. Raises DataError naming file and line where a row is broken or has no problem, and where no problem is
    in the window.
    """
    number = 0
    for problem in islice(_problems(reference, prompting, failed), limit):
        number += 1
        yield problem
    if not number and (prompting.min_date or prompting.max_date):
        window = f"{prompting.min_date or '...'} to {prompting.max_date or '...'}"
        raise DataError(
            f"{reference}: no problem is of {window} (--min-date, --max-date, which --protocol may have set)"
        )


def _problems(reference: str, prompting: Prompting, failed: Failed | None) -> Iterator[Problem]:
    if is_dataset(reference):
        for problem in dataset.read_problems(reference):
            if _is_in_window(_extra_keys(problem), problem.problem_id, prompting):
                yield judged_by(problem, prompting.verifier or problem.verifier)
        return
    benchmark = BENCHMARKS.get(reference)
    if benchmark is not None:
        prompting = _prompting_of(benchmark, prompting)
    name = None if benchmark is None else benchmark.name
    for where, row in rows(reference, "problem"):
        read = guarded(_problem_in, row, where, benchmark, prompting)
        if isinstance(read, InternalError):
            if failed is None:
                raise DataError(f"{where}: {read.reason}: please report it, and leave the row out")
            failed(msgspec.structs.replace(_stub(row, where, prompting), benchmark=name), read)
        elif read is not None:
            yield msgspec.structs.replace(read, benchmark=name)


def _problem_in(
    row: Any, where: str, benchmark: Benchmark | None, prompting: Prompting
) -> Problem | None:
    """The problem of a row; None for one that is not asked for."""
    made = row if benchmark is None else _made(benchmark, row, where)
    if made is None or not _is_in_window(made, where, prompting):
        return None
    return _problem(made, where, prompting)


def _stub(row: Any, where: str, prompting: Prompting) -> Problem:
    """What stands for the problem of a row that could not be read."""
    names = PROBLEM_FIELDS if prompting.problem_field is None else (prompting.problem_field,)
    key = text_under(row, names) if isinstance(row, dict) else None
    text = where if key is None else str(row[key])
    verifier = prompting.verifier or "math"
    found = problem_id(text, None, verifier)
    return Problem(problem_id=found, problem=text, reference_answer=None, verifier=verifier)


def rows(reference: str, holds: str = "row") -> Iterator[Placed]:
    """Place and value of each row of a file, of the hub or of a benchmark; errors say what it `holds`."""
    for where, row in rows_and_unreadable(reference, holds):
        yield where, readable(row)


def rows_and_unreadable(reference: str, holds: str = "row") -> Iterator[Placed]:
    """As `rows`, but a single row that cannot be read is an `Unreadable`."""
    found = _located(reference)
    if found.startswith(hub.PREFIX):
        return hub.hub_rows(found)
    return files.rows_and_unreadable(_existing(found), holds)


def describe(reference: str, out: Path) -> InputDataset:
    """What the manifest under `out` says of a reference; a hub dataset is known by its commit."""
    found = _located(reference)
    if found.startswith(hub.PREFIX):
        return InputDataset(path=found, version=None, id=hub.identity(found))
    if not is_dataset(found):
        _existing(found)
    return versions.describe_input(found, out)


def place_of(reference: str) -> str:
    """The file or hub dataset that a reference leads to; the reference itself where it leads nowhere."""
    try:
        return _located(reference)
    except UsageError:
        return reference


def is_dataset(reference: str) -> bool:
    """Whether a reference is a folder of versions, or names one of them."""
    return reference not in BENCHMARKS and (
        versions.followed(Path(reference)).is_dir()
        or versions.split_reference(reference)[1] is not None
    )


def _existing(reference: str) -> Path:
    path = Path(reference)
    if not path.is_file():
        raise UsageError(
            f"{reference} does not exist: give a dataset's folder, PATH@vN, or a .jsonl file (or .json, "
            f".csv, .parquet, .gz), hub:ORG/NAME, or the name of a benchmark ({', '.join(BENCHMARKS)})"
        )
    return path


def _located(reference: str) -> str:
    """Where a benchmark's name leads: a file of DISTILL_DATA, or the hub; all else is as it was."""
    benchmark = BENCHMARKS.get(reference)
    if benchmark is None:
        return reference
    folder = os.environ.get(DATA_FOLDER)
    if folder and (found := _in_folder(Path(folder), benchmark)):
        return str(found)
    try:
        hub.identity(benchmark.reference)
    except UsageError as error:
        dataset_name = benchmark.reference.removeprefix(hub.PREFIX)
        raise UsageError(
            f"benchmark {reference} is neither in the folder {DATA_FOLDER} ({folder or 'not set'}) nor to "
            f"be had from the hub: download {dataset_name} as {benchmark.file} (or .json, .csv, .parquet, as "
            f"it comes{_IN_ONE if '*' in dataset_name else ''}) into that folder ({error})"
        ) from error
    return benchmark.reference


def _in_folder(folder: Path, benchmark: Benchmark) -> Path | None:
    """The file of a benchmark: its usual name first, else the same name in another format."""
    stem = benchmark.file.partition(".")[0]
    names = [benchmark.file, *(stem + kind for kind in _KINDS)]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _prompting_of(benchmark: Benchmark, prompting: Prompting) -> Prompting:
    return msgspec.structs.replace(
        prompting,
        problem_field=prompting.problem_field or benchmark.problem_field,
        answer_field=prompting.answer_field or benchmark.answer_field,
        verifier=prompting.verifier or benchmark.verifier,
    )


def _made(benchmark: Benchmark, row: Any, where: str) -> Any:
    """A row of a benchmark as it is read further; None for one that is no part of it."""
    if not isinstance(row, dict):
        return row
    try:
        made = benchmark.made(row)
    except KeyError as error:
        raise DataError(
            f"{where}: no {error} in this row, as {benchmark.name} has: is it the file of that benchmark?"
        ) from error
    if made is not None and "domain" not in made and benchmark.domain_field in made:
        made = {**made, "domain": made[benchmark.domain_field]}
    return made


def _is_in_window(row: Any, where: str, prompting: Prompting) -> bool:
    """Whether a row is of the days asked for, the first and the last included."""
    if (prompting.min_date is None and prompting.max_date is None) or not isinstance(row, dict):
        return True
    key = text_under(row, DATE_FIELDS)
    day = "" if key is None else row[key][:10]
    if not _DAY.fullmatch(day):
        raise DataError(
            f"{where}: no date like 2024-08-01 under {' or '.join(DATE_FIELDS)}: --min-date and "
            "--max-date (which --protocol may have set) need one in each row"
        )
    return (prompting.min_date or day) <= day <= (prompting.max_date or day)


def _extra_keys(problem: Problem) -> dict[str, Any]:
    return json_object(problem.extra)


def _problem(row: Any, where: str, prompting: Prompting) -> Problem:
    if not isinstance(row, dict):
        raise DataError(f'{where}: expected an object like {{"problem": ...}}, got {row!r:.60}')
    fields = Fields(prompting.problem_field, prompting.answer_field)
    key = problem_key(row, fields)
    if key is None:
        wanted = fields.problem or " or ".join(PROBLEM_FIELDS)
        raise DataError(
            f"{where}: no problem: expected text under {wanted!r}, the row has "
            f"{', '.join(map(repr, row)) or 'no keys'}: mend the row or give --problem-field"
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
    known = {key, answer_key, "verifier", "domain"}
    return Problem(
        problem_id=problem_id(row[key], reference, verifier, tests_for(verifier, row)),
        problem=row[key],
        reference_answer=reference,
        verifier=verifier,
        domain=row.get("domain") if isinstance(row.get("domain"), str) else None,
        extra=extra_of({name: value for name, value in row.items() if name not in known}),
    )


def judged_by(problem: Problem, verifier: str) -> Problem:
    """The problem with another verifier, which makes it another problem."""
    tests = tests_for(verifier, _extra_keys(problem))
    found = problem_id(problem.problem, problem.reference_answer, verifier, tests)
    return msgspec.structs.replace(problem, verifier=verifier, problem_id=found)
