"""`filter`: verify, bound and clean traces; what is dropped is kept with its reason.

Two passes over the input, so that text is never held: the first decides on each row, the second writes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from distillpipe import dataset, filters, forecast, verify, versions
from distillpipe.dataset import Writer
from distillpipe.errors import DataError
from distillpipe.filters.rules import Drop
from distillpipe.filters.select import Candidate, dropped_among
from distillpipe.forecast import Forecast
from distillpipe.hashing import content_hash
from distillpipe.jsonl import Spool
from distillpipe.progress import progress, say
from distillpipe.records import FilterOptions, Problem, Trace, Verdict
from distillpipe.stages.run import Result, Run, content_of, funnel, say_finished, say_up_to_date
from distillpipe.versions import Header


class Decision(NamedTuple):
    """What the first pass found out about a row."""

    content: str
    "hash of the row, judged"
    answer: str | None
    verdict: Verdict | None
    verdict_reason: str | None
    drop: Drop | None


def filter_traces(inputs: list[str], out: Path, options: FilterOptions, run: Run) -> Result:
    """Write the rows of `inputs` that every rule keeps as a new version under `out`, the rest beside them.

    Raises DataError, with the funnel, where no row is left; the draft then stays, unfinished.
    """
    header = _header(inputs, out, options, run)
    if (finished := versions.up_to_date(out, header)) is not None:
        return say_up_to_date(finished)

    with versions.draft(out, header) as draft, Writer(draft) as writer:
        decisions = _decide(inputs, options, draft.path, run)
        writer.counts.rows_read = len(decisions)
        for trace, decision in _rows_once(inputs, decisions):
            if trace.id in writer.done:
                continue
            judged = msgspec.structs.replace(
                trace, answer=decision.answer, verdict=decision.verdict,
                verdict_reason=decision.verdict_reason, verifier=options.verifier or trace.verifier,
            )  # fmt: skip
            if decision.drop is None:
                writer.append(judged)
            else:
                writer.reject(judged, *decision.drop)
        writer.sync()
        report = "\n".join(funnel(draft.manifest))
        if not writer.counts.rows_kept:
            raise DataError(f"no row of {len(decisions):,} is left:\n{report}")
        if report:
            say(
                f"filter: dropped {writer.counts.rows_rejected:,} of {len(decisions):,} rows\n{report}"
            )
        return say_finished(writer.finish(_problems(inputs, draft.path)), out)


def forecast_filter(inputs: list[str], out: Path, options: FilterOptions, run: Run) -> Forecast:
    """What `filter_traces` would do."""
    found = forecast.begin("filter", out, run.options, inputs)
    with forecast.noting(found):
        forecast.add_output(found, out, _header(inputs, out, options, run))
        found.rows = {"to read": dataset.count_rows(inputs)}
        found.estimate.disk_bytes = dataset.count_bytes(inputs)
        found.estimate.basis = "what is kept and what is rejected is written again"
    return found


def _header(inputs: list[str], out: Path, options: FilterOptions, run: Run) -> Header:
    return Header(
        kind="traces",
        stage="filter",
        content=content_of(options=options, rules=[verify.CODE_VERSION, filters.CODE_VERSION]),
        inputs=[versions.describe_input(reference, out) for reference in inputs],
        models=[],
        options=run.options,
        fresh=run.fresh,
    )


def _decide(
    inputs: list[str], options: FilterOptions, folder: Path, run: Run
) -> dict[str, Decision]:
    """A decision for every distinct row, by row id; what has to be held for it lies in `folder`."""
    decisions: dict[str, Decision] = {}
    candidates: list[Candidate] = []
    total = dataset.count_rows(inputs)
    if not total:
        raise DataError(f"{', '.join(inputs)}: no rows to filter")
    extras = _Extras(inputs, options, folder)
    verify.check_runnable(extras.verifiers, unsafe=run.unsafe)

    def judged_of(trace: Trace) -> Trace:
        return verify.verified(
            trace, options.verifier, extras.of(trace),
            answer_form=options.answer_form, unsafe=run.unsafe,
        )  # fmt: skip

    rows = dataset.read_training_traces(inputs, allow_benchmark=run.allow_benchmark_training)
    with progress("filter", total) as advance, verify.Judge(run.num_workers) as judge:
        for judged in judge.map(judged_of, rows):
            advance(1)
            content = content_hash(judged)
            if (known := decisions.get(judged.id)) is not None:
                if known.content != content:
                    raise dataset.conflict(judged.id)
                continue
            drop = filters.first_drop(judged, options)
            decisions[judged.id] = Decision(
                content, judged.answer, judged.verdict, judged.verdict_reason, drop
            )
            if drop is None:
                candidates.append(Candidate.of(judged))
    for row_id, drop in dropped_among(candidates, options).items():
        decisions[row_id] = decisions[row_id]._replace(drop=drop)
    return decisions


class _Extras:
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

    def of(self, trace: Trace) -> str | None:
        number = self._numbers.get(trace.problem_id)
        return None if number is None else self._spool[number].extra


def _rows_once(
    inputs: list[str], decisions: dict[str, Decision]
) -> Iterator[tuple[Trace, Decision]]:
    left = set(decisions)
    for trace in dataset.read_training_traces(inputs, allow_benchmark=True):
        if trace.id in left:
            left.remove(trace.id)
            yield trace, decisions[trace.id]


def _problems(inputs: list[str], path: Path) -> Iterator[Problem]:
    """The distinct problems of the rows kept: as the inputs list them, else from the rows."""
    left = {trace.problem_id for trace in dataset.read_rows(path, "part", Trace)}
    for reference in inputs:
        for problem in dataset.read_problems(reference):
            if problem.problem_id in left:
                left.remove(problem.problem_id)
                yield problem
    for trace in dataset.read_rows(path, "part", Trace):
        if trace.problem_id in left:
            left.remove(trace.problem_id)
            yield Problem(
                problem_id=trace.problem_id,
                problem=trace.problem,
                reference_answer=trace.reference_answer,
                verifier=trace.verifier,
                domain=trace.domain,
                benchmark=trace.benchmark,
            )
