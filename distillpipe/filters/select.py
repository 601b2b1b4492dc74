"""The rules that look at all rows at once; each row is known by a `Candidate`, not by its text.

Which of several rows stays is drawn by the hash of seed and row id, so the order of the input and of
the finishing of samples does not matter.
"""

from collections.abc import Iterable
from typing import NamedTuple

from distillpipe.filters.rules import Drop
from distillpipe.hashing import content_hash, uniform
from distillpipe.records import FilterOptions, Trace


class Candidate(NamedTuple):
    """What the rules need to know of a row."""

    id: str
    problem_id: str
    content: str
    "hash of problem and completion"

    @classmethod
    def of(cls, trace: Trace) -> "Candidate":
        completion = content_hash(trace.problem, trace.messages[-1])
        return cls(trace.id, trace.problem_id, completion)


def dropped_among(candidates: Iterable[Candidate], options: FilterOptions) -> dict[str, Drop]:
    """Why each dropped candidate is dropped, by row id: duplicates, then the share of a problem."""
    drawn = sorted(candidates, key=lambda candidate: uniform(options.seed, candidate.id))
    drops: dict[str, Drop] = {}
    first: dict[str, str] = {}
    num_of_problem: dict[str, int] = {}
    for candidate in drawn:
        if options.dedup == "exact" and candidate.content in first:
            drops[candidate.id] = Drop("duplicate", first[candidate.content])
            continue
        first[candidate.content] = candidate.id
        num_kept = num_of_problem.get(candidate.problem_id, 0)
        if options.per_problem is not None and num_kept >= options.per_problem:
            drops[candidate.id] = Drop("over_per_problem", str(num_kept))
            continue
        num_of_problem[candidate.problem_id] = num_kept + 1
    return drops
