"""Versions that name what they were made of."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.records import Problem, Trace
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.manifest import Manifest
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer


@pytest.fixture
def make(
    make_header: Callable[..., Header], make_traces: Callable[..., list[Trace]]
) -> Callable[..., Manifest]:
    """`make(out, kept=3, dropped={"wrong_answer": 2}, inputs=[...])` finishes a version of so many rows.

    The kept rows are those of the first problems, the rejected ones those that follow.
    """

    def factory(
        out: Path,
        kept: int = 2,
        dropped: dict[str, int] | None = None,
        inputs: Sequence[Path | str] = (),
        num_problems: int = 0,
        **header: Any,
    ) -> Manifest:
        dropped = dropped or {}
        described = [dataset.describe(dataset.find(str(given)), out) for given in inputs]
        opened = make_header(inputs=described, **header)
        traces = make_traces(kept + sum(dropped.values()))
        problems = (
            Problem(problem_id=str(n), problem="1+1?", reference_answer="2", verifier="math")
            for n in range(num_problems)
        )
        with versions.draft(out, opened) as draft, Writer(draft) as writer:
            writer.counts.rows_read = len(traces)
            for trace in traces[:kept]:
                writer.append(msgspec.structs.replace(trace, verdict="correct"))
            left = iter(traces[kept:])
            for reason, count in dropped.items():
                for _ in range(count):
                    writer.reject(next(left), reason, "measured")
            return writer.finish(problems)

    return factory
