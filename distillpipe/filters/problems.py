"""The problems of the traces: what their verifiers need of them, and those that go with the rows kept."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from distillpipe import verify
from distillpipe.base.options import FilterOptions
from distillpipe.base.records import Problem, Trace
from distillpipe.data.store import dataset
from distillpipe.data.store.jsonl import Spool, decoded


class ProblemOfRow(msgspec.Struct, frozen=True):
    """What a row says of its problem; the rest of the line is passed over."""

    problem_id: str
    problem: str
    reference_answer: str | None
    verifier: str
    domain: str | None
    benchmark: str | None


class Extras:
    """The other keys of the problems whose verifier looks at them; on disk, as tests may be large."""

    def __init__(self, inputs: list[str], options: FilterOptions, folder: Path) -> None:
        self.verifiers: set[str] = set()
        self._spool = Spool(folder, Problem)
        self._numbers: dict[str, int] = {}
        for reference in inputs:
            for problem in dataset.read_problems(reference):
                verifier = options.verifier or problem.verifier
                verify.check_name(verifier)
                self.verifiers.add(verifier)
                if problem.extra and verify.VERIFIERS[verifier].reads_extra:
                    self._numbers[problem.problem_id] = len(self._spool)
                    self._spool.append(problem)
        self._spool.flush()

    def of(self, trace: Trace) -> str | None:
        number = self._numbers.get(trace.problem_id)
        return None if number is None else self._spool[number].extra


def problems_of(inputs: list[str], folder: Path) -> Iterator[Problem]:
    """The distinct problems of the rows in `folder`: as the inputs list them, else from the rows."""
    rows = dataset.read_rows(folder, "part", ProblemOfRow)
    left = {row.problem_id: row.domain for row in rows}
    for reference in inputs:
        for problem in dataset.read_problems(reference):
            if problem.problem_id in left:
                yield msgspec.structs.replace(problem, domain=left.pop(problem.problem_id))
    if not left:
        return
    for row in dataset.read_rows(folder, "part", ProblemOfRow):
        if row.problem_id in left:
            left.pop(row.problem_id)
            yield Problem(**msgspec.structs.asdict(row))


def texts_of(inputs: list[str]) -> Iterator[tuple[str, str]]:
    """Id and text of the problem of each row."""
    for reference in inputs:
        for path in dataset.trace_files(reference):
            for row in decoded(path, ProblemOfRow):
                yield row.problem_id, row.problem
