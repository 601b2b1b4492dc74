"""`filter`: verify, bound and clean traces; what is dropped is kept with its reason.

Two passes over the input, so that no text stays in memory: the first decides on each row, the second writes.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from distillpipe import filters, verify
from distillpipe.base.errors import DataError
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.options import Judging
from distillpipe.base.progress import progress, say
from distillpipe.base.rowguard import REASON, InternalError, check_share, too_many
from distillpipe.data import forecast, sources
from distillpipe.data.forecast import Forecast
from distillpipe.data.sources import Problems
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.dataset import Dataset
from distillpipe.data.store.manifest import ModelUsed
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.filters.decide import Decision, RowFilter, decided, rows_once
from distillpipe.filters.difficulty import check_in_common, find_predictions
from distillpipe.filters.force import Forcer, find_teacher
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

SYNC_ROWS = 4096  # a row that is lost in a power cut is written again from its decision


@dataclass
class FilterPlan:
    """What `filter` is asked for: a run executes it, a dry run reports it.

    A reference is looked up once, when it is first used.
    """

    references: list[str]
    out: Path
    options: FilterOptions
    run: Run
    others: FilterInputs

    def __post_init__(self) -> None:
        name, self.verifier = verify.find_own(self.options.verifier)
        self.rules = find_rules(self.options.rules)
        # names in place of files: no place of a file is in a row or in a fingerprint
        rules = tuple(rule.name for rule in self.rules)
        self.options = msgspec.structs.replace(self.options, verifier=name, rules=rules)
        self.others.check(self.options)

    @cached_property
    def inputs(self) -> list[Dataset]:
        return [dataset.find(reference) for reference in self.references]

    @cached_property
    def predictions(self) -> list[Dataset]:
        """The datasets of --difficulty; the folder of an eval stands for all in it."""
        return find_predictions(self.others.predictions)

    @cached_property
    def benchmarks(self) -> list[Problems]:
        return [sources.find(reference) for reference in self.others.benchmarks]

    @cached_property
    def tokenizer(self) -> Model | None:
        """The tokenizer that counts tokens when reasoning is cut."""
        return None if self.others.tokenizer is None else find_tokenizer(self.others.tokenizer)

    @cached_property
    def header(self) -> Header:
        options, out, forcing = self.options, self.out, self.others.forcing
        predictions = self.predictions
        return Header(
            kind="traces",
            stage="filter",
            content=content_of(
                options=options,
                rules=[verify.CODE_VERSION, filters.CODE_VERSION],
                **code_packages(options.code_packages),
                **user_code(self.verifier, *self.rules),
                num_others=[len(predictions), len(self.others.benchmarks)],
                **({} if forcing is None else {"force": [forcing.sampling, forcing.end_text]}),
            ),
            inputs=[
                *(dataset.describe(source, out) for source in [*self.inputs, *predictions]),
                *(sources.describe(source, out) for source in self.benchmarks),
            ],
            models=self._models(),
            accept_errors=self.run.accept_errors,
            options=self.run.options,
            fresh=self.run.fresh,
            licences=licences.of_inputs(self.inputs),
        )

    def _models(self) -> list[ModelUsed]:
        models = []
        if self.tokenizer is not None:
            models.append(lookup.used("tokenizer", self.tokenizer, self.out))
        if self.others.forcing is not None:  # the fingerprint needs no weights
            teacher = find_teacher(self.others.forcing, weights=False)
            models.append(lookup.used("teacher", teacher, self.out))
        return models

    def check_functions(self) -> None:
        """Raise UsageError for a verifier or rule of the user's own that cannot be called."""
        for function in (self.verifier, *self.rules):
            if function is not None:
                function.check()


def filter_traces(
    inputs: list[str],
    out: Path,
    options: FilterOptions,
    run: Run,
    others: FilterInputs = NO_INPUTS,
    judging: Judging = Judging(),
) -> Result:
    """Write the rows of `inputs` that every rule keeps as a new version under `out`, the rest beside them.

    With a `forcing`, rows that are too long get a new response first; the new rows are then part of the input.
    Raises DataError, with the funnel, if no row is kept; the draft then stays, unfinished.
    """
    plan = FilterPlan(inputs, out, options, run, others)
    if (finished := versions.up_to_date(out, plan.header)) is not None:
        return say_up_to_date(finished)
    plan.check_functions()
    options = plan.options

    from distillpipe.data.store.label_carry import carry  # numpy: not for an "up to date" answer

    with versions.draft(out, plan.header) as draft, Writer(draft, SYNC_ROWS) as writer:
        # Read what the rules need to know of all problems.
        examiner = _examiner(plan, judging, draft.path)

        # Sample new responses for the rows that are too long.
        rows, forcing_errors = plan.inputs, dict[str, InternalError]()
        writer.forget_failed()
        if others.forcing is not None:
            teacher = find_teacher(others.forcing, weights=True)
            forcer = Forcer(
                others.forcing,
                teacher,
                options,
                writer,
                allow_benchmark=run.allow_benchmark_training,
            )
            rows = [*rows, *forcer.force(rows, out, examiner.wants_problem)]
            forcing_errors = forcer.errors

        # First pass: decide on each row.
        decisions = _decide(rows, plan, judging, examiner)
        _check_errors(decisions, forcing_errors, plan, writer)
        writer.counts.rows_read = len(decisions)

        # Second pass: write each row according to its decision.
        kept = {row_id for row_id, decision in decisions.items() if not decision.drops}
        moved_labels = carry(rows, kept, draft)
        for row, decision in rows_once(rows, decisions, options, moved_labels):
            if row.id in writer.done:
                continue
            if not decision.drops:
                writer.append(row)
                continue
            first, *others_true = decision.drops
            other_reasons = [drop.reason for drop in others_true] if options.explain else None
            writer.reject(row, first.reason, first.measured, other_reasons)
        writer.sync()

        # Report and finish.
        draft.manifest.libraries |= versions_of(options.code_packages)
        draft.manifest.user_code = user_code(plan.verifier, *plan.rules).get("user_code", {})
        _report(decisions, writer, options)
        return say_finished(writer.finish(problems_of(plan.inputs, draft.path)), out)


def forecast_filter(
    inputs: list[str],
    out: Path,
    options: FilterOptions,
    run: Run,
    others: FilterInputs = NO_INPUTS,
) -> Forecast:
    """What `filter_traces` would do."""
    plan = FilterPlan(inputs, out, options, run, others)
    plan.check_functions()
    result = forecast.begin("filter", out, run.options, inputs)
    with forecast.noting(result):
        forecast.add_output(result, out, plan.header)
        result.rows = {"to read": dataset.count_rows(plan.inputs)}
        result.estimate.disk_bytes = dataset.count_bytes(plan.inputs)
        result.estimate.basis = "what is kept and what is rejected is written again"
    return result


def _examiner(plan: FilterPlan, judging: Judging, folder: Path) -> RowFilter:
    """Everything that the rules need; other keys of problems are stored in `folder`."""
    options, inputs = plan.options, plan.inputs
    if not dataset.count_rows(inputs):
        raise DataError(f"{', '.join(source.name for source in inputs)}: no rows to filter")
    extras = ProblemExtras(inputs, options, folder)
    programs = verify.Programs(options.code_rules, options.code_packages, judging.unsafe)
    verify.check_runnable(extras.verifiers, programs, plan.verifier)
    facts = read_problem_facts(inputs, plan.predictions, plan.benchmarks, options)
    count_tokens = None if plan.tokenizer is None else counter(plan.tokenizer)
    return RowFilter(options, facts, extras, count_tokens, programs, plan.verifier, plan.rules)


def _decide(
    rows: list[Dataset], plan: FilterPlan, judging: Judging, examiner: RowFilter
) -> dict[str, Decision]:
    """A decision for every distinct row, by row id; the problems of `rows` are those of the plan's inputs."""
    options = plan.options
    decisions: dict[str, Decision] = {}
    candidates: list[Candidate] = []
    problem_ids: set[str] = set()
    cut_ids: dict[str, str] = {}
    allow = plan.run.allow_benchmark_training
    with (
        decided(examiner, rows, judging.num_workers, allow_benchmark=allow) as decided_rows,
        progress("filter", dataset.count_rows(rows)) as advance,  # its thread starts last
    ):
        for row in decided_rows:
            advance(1)
            if (earlier := decisions.get(row.id)) is not None:
                if earlier.content != row.decision.content:
                    raise dataset.conflict(row.id)
                continue
            decisions[row.id] = row.decision
            problem_ids.add(row.problem_id)
            if row.candidate is not None:
                candidates.append(row.candidate)
                if row.decision.cut is not None:
                    cut_ids[row.id] = row.written_id
    # a row that is cut may become a row that the inputs hold too
    for row_id, cut_id in cut_ids.items():
        if cut_id in decisions:
            decisions[row_id].drops.append(Drop("duplicate", cut_id))
    candidates = [candidate for candidate in candidates if not decisions[candidate.id].drops]
    check_in_common(examiner.facts.rates, problem_ids)

    # The rules that need all rows.
    near = near_problems(plan.inputs, candidates, options)
    drops = dropped_among(candidates, options, near)
    for row_id, drop in drops.items():
        decisions[row_id].drops.append(drop)
    for warning in selection_warnings(candidates, drops, options):
        say(f"filter: {warning}")
    return decisions


def _check_errors(
    decisions: dict[str, Decision],
    forcing_errors: dict[str, InternalError],
    plan: FilterPlan,
    writer: Writer,
) -> None:
    """Refuse to write a version if too many rows met internal errors: what is kept depends on all rows.

    `forcing_errors` are those of rows that were to get a new response.
    """
    for row_id, error in forcing_errors.items():
        decisions[row_id].drops.insert(0, Drop(REASON, error.description))
    errors = {
        row_id: decision.error
        for row_id, decision in decisions.items()
        if decision.error is not None
    }
    if not errors:
        return
    path, accepted = writer.draft.path, plan.run.accept_errors
    if too_many(len(errors), len(decisions)) and not accepted:
        for row_id, description in errors.items():
            writer.fail_id(row_id, str(description))
    first = next(iter(errors))
    check_share(
        len(errors), len(decisions), accepted=accepted, first=str(errors[first]),
        show=f"distill show {plan.inputs[0].name} --row {first}",
        way_out=f"nothing is written, {path / versions.ERRORS_FILE} lists them, the first with "
        f"{errors[first]}. When it is mended the same command goes on; with --accept-errors it finishes "
        "without these rows",
    )  # fmt: skip


def _report(decisions: dict[str, Decision], writer: Writer, options: FilterOptions) -> None:
    """Print how many rows each rule dropped. Raises DataError, with the same lines, if no row is kept."""
    verdict_reasons = (decision.verdict_reason for decision in decisions.values())
    lines = [*funnel(writer.draft.manifest), *missing_modules(verdict_reasons)]
    if options.explain:
        reasons = ([drop.reason for drop in decision.drops] for decision in decisions.values())
        lines += overlap(reasons)
    num_kept = writer.counts.rows_kept
    if not num_kept:
        raise DataError(f"no row of {len(decisions):,} is left:", *lines)
    if options.over_budget == "cut":
        num_cut = sum(
            decision.cut is not None and not decision.drops for decision in decisions.values()
        )
        say(f"filter: cut the reasoning of {num_cut:,} of the {num_kept:,} rows kept")
    if lines:
        num_dropped = writer.counts.rows_rejected
        say(f"filter: dropped {num_dropped:,} of {len(decisions):,} rows", *lines)
