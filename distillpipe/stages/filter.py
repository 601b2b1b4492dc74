"""`filter`: verify, bound and clean traces; what is dropped is kept with its reason.

Two passes over the input, so that text is never held: the first decides on each row, the second writes.
"""

from pathlib import Path
from typing import NamedTuple

import msgspec

from distillpipe import filters, verify
from distillpipe.base.errors import DataError
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.options import Judging
from distillpipe.base.progress import progress, say
from distillpipe.base.rowguard import REASON, InternalError, check_share, too_many
from distillpipe.base.user_code.functions import UserFunction
from distillpipe.data import forecast, sources
from distillpipe.data.forecast import Forecast
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.filters.decide import Decision, RowFilter, decided, rows_once
from distillpipe.filters.difficulty import check_in_common, predictions_in
from distillpipe.filters.force import Forcer, teacher_used
from distillpipe.filters.own_rules import find_rules
from distillpipe.filters.problems import (
    NO_INPUTS,
    FilterInputs,
    ProblemExtras,
    near_problems,
    problems_of,
    read_problem_facts,
)
from distillpipe.filters.rules import Drop
from distillpipe.filters.select import dropped_among, selection_warnings
from distillpipe.filters.strategies import Candidate
from distillpipe.models import licences, lookup
from distillpipe.models.lookup import Model
from distillpipe.models.tokens import counter, find_tokenizer
from distillpipe.stages.run import (
    Result,
    Run,
    code_packages,
    content_of,
    funnel,
    overlap,
    say_finished,
    say_up_to_date,
    user_code,
)
from distillpipe.verify.code.packages import versions_of
from distillpipe.verify.code.verifier import missing_modules

SYNC_ROWS = 4096  # a row that a power cut takes is written again from its decision


def filter_traces(
    inputs: list[str],
    out: Path,
    options: FilterOptions,
    run: Run,
    others: FilterInputs = NO_INPUTS,
    judging: Judging = Judging(),
) -> Result:
    """Write the rows of `inputs` that every rule keeps as a new version under `out`, the rest beside them.

    Rows that are too long are answered once more where there is a `forcing`: then the new ones are input, too.
    Raises DataError, with the funnel, where no row is left; the draft then stays, unfinished.
    """
    own = _own(options)
    options = own.options
    others = _checked(others, options)
    header = _header(inputs, out, own, run, others)
    if (finished := versions.up_to_date(out, header)) is not None:
        return say_up_to_date(finished)
    own.check()

    from distillpipe.data.store.label_carry import (
        carry,  # it loads numpy, which "up to date" has no use for
    )

    with versions.draft(out, header) as draft, Writer(draft, SYNC_ROWS) as writer:
        examiner = _examiner(inputs, own, draft.path, judging, others)
        rows, failed = inputs, dict[str, InternalError]()
        writer.forget_failed()
        if others.forcing is not None:
            forcer = Forcer(
                others.forcing, options, writer, allow_benchmark=run.allow_benchmark_training
            )
            rows = [*inputs, *forcer.force(inputs, out, examiner.wants_problem)]
            failed = forcer.errors
        decisions = _decide(rows, inputs, options, run, judging, examiner)
        _check_errors(decisions, failed, inputs, writer, run)
        writer.counts.rows_read = len(decisions)
        moved = carry(rows, {row for row, one in decisions.items() if not one.drops}, draft)
        for judged, decision in rows_once(rows, decisions, options, moved):
            if judged.id in writer.done:
                continue
            if not decision.drops:
                writer.append(judged)
                continue
            first, *more = decision.drops
            also = [drop.reason for drop in more] if options.explain else None
            writer.reject(judged, first.reason, first.measured, also)
        writer.sync()
        draft.manifest.libraries |= versions_of(options.code_packages)
        draft.manifest.user_code = own.hashes
        reasons = (one.verdict_reason for one in decisions.values())
        report = [*funnel(draft.manifest), *missing_modules(reasons)]
        if options.explain:
            drops = ([drop.reason for drop in one.drops] for one in decisions.values())
            report += overlap(drops)
        if not writer.counts.rows_kept:
            raise DataError(f"no row of {len(decisions):,} is left:", *report)
        if options.over_budget == "cut":
            num_cut = sum(one.cut is not None and not one.drops for one in decisions.values())
            say(
                f"filter: cut the reasoning of {num_cut:,} of the {writer.counts.rows_kept:,} rows kept"
            )
        if report:
            num_dropped = writer.counts.rows_rejected
            say(f"filter: dropped {num_dropped:,} of {len(decisions):,} rows", *report)
        return say_finished(writer.finish(problems_of(inputs, draft.path)), out)


def _check_errors(
    decisions: dict[str, Decision],
    failed: dict[str, InternalError],
    inputs: list[str],
    writer: Writer,
    run: Run,
) -> None:
    """Refuse to write a version where too many rows met internal errors: what is kept depends on all rows.

    `failed` are those that met one when they were to be answered again.
    """
    for row_id, error in failed.items():
        decisions[row_id].drops.insert(0, Drop(REASON, error.description))
    errors = {row: one.error for row, one in decisions.items() if one.error is not None}
    if not errors:
        return
    path = writer.draft.path
    if too_many(len(errors), len(decisions)) and not run.accept_errors:
        for row_id, said in errors.items():
            writer.fail_id(row_id, str(said))
    first = next(iter(errors))
    check_share(
        len(errors), len(decisions), accepted=run.accept_errors, first=str(errors[first]),
        show=f"distill show {inputs[0]} --row {first}",
        way_out=f"nothing is written, {path / versions.ERRORS_FILE} lists them, the first with "
        f"{errors[first]}. When it is mended the same command goes on; with --accept-errors it finishes "
        "without these rows",
    )  # fmt: skip


def forecast_filter(
    inputs: list[str],
    out: Path,
    options: FilterOptions,
    run: Run,
    others: FilterInputs = NO_INPUTS,
) -> Forecast:
    """What `filter_traces` would do."""
    own = _own(options)
    own.check()
    options = own.options
    others.check(options)
    found = forecast.begin("filter", out, run.options, inputs)
    with forecast.noting(found):
        others = _checked(others, options)
        forecast.add_output(found, out, _header(inputs, out, own, run, others))
        found.rows = {"to read": dataset.count_rows(inputs)}
        found.estimate.disk_bytes = dataset.count_bytes(inputs)
        found.estimate.basis = "what is kept and what is rejected is written again"
    return found


class Own(NamedTuple):
    """What of the user's own code decides on rows."""

    options: FilterOptions
    "with names in place of files, whose places are in no row and no fingerprint"
    verifier: UserFunction | None
    rules: tuple[UserFunction, ...]

    @property
    def hashes(self) -> dict[str, str]:
        return user_code(self.verifier, *self.rules).get("user_code", {})

    def check(self) -> None:
        """Raise UsageError for a function that cannot be called."""
        for one in (self.verifier, *self.rules):
            if one is not None:
                one.check()


def _own(options: FilterOptions) -> Own:
    name, verifier = verify.find_own(options.verifier)
    rules = find_rules(options.rules)
    names = tuple(rule.name for rule in rules)
    named = msgspec.structs.replace(options, verifier=name, rules=names)
    return Own(named, verifier, rules)


def _checked(others: FilterInputs, options: FilterOptions) -> FilterInputs:
    """The other inputs, with the datasets that a folder of an eval stands for."""
    others.check(options)
    return others._replace(predictions=predictions_in(others.predictions))


def _header(
    inputs: list[str],
    out: Path,
    own: Own,
    run: Run,
    others: FilterInputs,
) -> Header:
    forcing = others.forcing
    by_teacher = {} if forcing is None else {"force": [forcing.sampling, forcing.end_text]}
    return Header(
        kind="traces",
        stage="filter",
        content=content_of(
            options=own.options,
            rules=[verify.CODE_VERSION, filters.CODE_VERSION],
            **code_packages(own.options.code_packages),
            **user_code(own.verifier, *own.rules),
            num_others=[len(others.predictions), len(others.benchmarks)],
            **by_teacher,
        ),
        inputs=[
            *(versions.describe_input(reference, out) for reference in inputs),
            *(versions.describe_input(reference, out) for reference in others.predictions),
            *(sources.describe(reference, out) for reference in others.benchmarks),
        ],
        models=[
            *(lookup.used("tokenizer", one, out) for one in _tokenizer(others)),
            *([] if forcing is None else [teacher_used(forcing, out)]),
        ],
        accept_errors=run.accept_errors,
        options=run.options,
        fresh=run.fresh,
        licences=licences.of_inputs(inputs),
    )


def _tokenizer(others: FilterInputs) -> list[Model]:
    return [] if others.tokenizer is None else [find_tokenizer(others.tokenizer)]


def _examiner(
    inputs: list[str], own: Own, folder: Path, judging: Judging, others: FilterInputs
) -> RowFilter:
    """All that rows are looked at by; what has to be held for it lies in `folder`."""
    if not dataset.count_rows(inputs):
        raise DataError(f"{', '.join(inputs)}: no rows to filter")
    options = own.options
    extras = ProblemExtras(inputs, options, folder)
    programs = verify.Programs(options.code_rules, options.code_packages, judging.unsafe)
    verify.check_runnable(extras.verifiers, programs, own.verifier)
    known = read_problem_facts(inputs, others, options)
    count = next((counter(tokenizer) for tokenizer in _tokenizer(others)), None)
    return RowFilter(options, known, extras, count, programs, own.verifier, own.rules)


def _decide(
    rows: list[str],
    inputs: list[str],
    options: FilterOptions,
    run: Run,
    judging: Judging,
    examiner: RowFilter,
) -> dict[str, Decision]:
    """A decision for every distinct row, by row id; the problems of `rows` are those of `inputs`."""
    decisions: dict[str, Decision] = {}
    candidates: list[Candidate] = []
    problem_ids: set[str] = set()
    cut_ids: dict[str, str] = {}
    allow = run.allow_benchmark_training
    with (
        decided(examiner, rows, judging.num_workers, allow_benchmark=allow) as found,
        progress("filter", dataset.count_rows(rows)) as advance,  # its thread starts last
    ):
        for row in found:
            advance(1)
            if (before := decisions.get(row.id)) is not None:
                if before.content != row.decision.content:
                    raise dataset.conflict(row.id)
                continue
            decisions[row.id] = row.decision
            problem_ids.add(row.problem_id)
            if row.candidate is not None:
                candidates.append(row.candidate)
                if row.decision.cut is not None:
                    cut_ids[row.id] = row.written_id
    candidates = _without_cut_before(candidates, cut_ids, decisions)
    check_in_common(examiner.facts.rates, problem_ids)
    near = near_problems(inputs, candidates, options)
    dropped = dropped_among(candidates, options, near)
    for row_id, drop in dropped.items():
        decisions[row_id].drops.append(drop)
    for remark in selection_warnings(candidates, dropped, options):
        say(f"filter: {remark}")
    return decisions


def _without_cut_before(
    candidates: list[Candidate], cut_ids: dict[str, str], decisions: dict[str, Decision]
) -> list[Candidate]:
    """The candidates but for those that are cut to a row which the inputs hold too."""
    for row_id, cut_id in cut_ids.items():
        if cut_id in decisions:
            decisions[row_id].drops.append(Drop("duplicate", cut_id))
    return [one for one in candidates if not decisions[one.id].drops]
