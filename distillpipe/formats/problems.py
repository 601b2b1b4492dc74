"""The distinct problems of imported traces: text on disk, in memory an id and a hash of each."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from distillpipe.base.decoding import json_object
from distillpipe.base.hashing import content_hash
from distillpipe.base.records import Problem, Trace
from distillpipe.jsonl import Spool


class Problems:
    """Each problem once, as the first row that has it describes it."""

    def __init__(self, folder: Path) -> None:
        self._spool = Spool(folder, Problem)
        self._extra: dict[str, str] = {}

    def __iter__(self) -> Iterator[Problem]:
        return (self._spool[number] for number in range(len(self._spool)))

    def add(self, problem: Problem, trace: Trace) -> Trace:
        """The trace of a problem; it bears what its row says of the problem otherwise than the first."""
        said = content_hash(problem.extra)
        if problem.problem_id not in self._extra:
            self._extra[problem.problem_id] = said
            self._spool.append(problem)
        if said == self._extra[problem.problem_id] or problem.extra is None:
            return trace
        both = {**json_object(problem.extra), **json_object(trace.extra)}
        return msgspec.structs.replace(trace, extra=msgspec.json.encode(both).decode())
