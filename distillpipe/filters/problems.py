"""The problems of the traces: what their verifiers need of them, and those that go with the rows kept."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from distillpipe import dataset, verify
from distillpipe.jsonl import Spool
from distillpipe.records import FilterOptions, Problem, Trace


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
    left = {trace.problem_id: trace.domain for trace in dataset.read_rows(folder, "part", Trace)}
    for reference in inputs:
        for problem in dataset.read_problems(reference):
            if problem.problem_id in left:
                yield msgspec.structs.replace(problem, domain=left.pop(problem.problem_id))
    for trace in dataset.read_rows(folder, "part", Trace):
        if trace.problem_id in left:
            left.pop(trace.problem_id)
            yield Problem(
                problem_id=trace.problem_id,
                problem=trace.problem,
                reference_answer=trace.reference_answer,
                verifier=trace.verifier,
                domain=trace.domain,
                benchmark=trace.benchmark,
            )
