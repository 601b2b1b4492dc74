"""The rules that need all rows: near-duplicates, duplicates, rows a problem, selection.

They see each row as a `Candidate`, without its text. Ties are broken by a hash of seed and row id, so the result does not
depend on the order of the input or on the order in which samples finished.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from distillpipe.base.errors import UsageError
from distillpipe.base.filter_options import FilterOptions, StrategyOptions
from distillpipe.base.hashing import uniform
from distillpipe.filters import strategies
from distillpipe.filters.rules import Drop
from distillpipe.filters.strategies import BY_DOMAIN, NO_DOMAIN, Candidate

REACHED = (None, "not_selected")  # reasons of rows that reached the selection


def check_options(
    options: FilterOptions,
    *,
    has_difficulty: bool,
    has_tokenizer: bool = False,
    has_teacher: bool = False,
) -> None:
    """Raise UsageError for options that need another option, or exclude each other."""
    bounds = (options.min_pass_rate, options.max_pass_rate)
    no_bounds = bounds == (None, None) and options.strategy != "s1"
    strategy = options.strategy_options
    over_budget = options.over_budget
    is_cut = over_budget == "cut"
    complaints = [
        (
            over_budget != "drop" and options.max_reasoning_tokens is None,
            f"--over-budget {over_budget} needs --max-reasoning-tokens N",
        ),
        (
            over_budget != "drop" and "too_many_reasoning_tokens" in options.ignored_rules,
            f"--over-budget {over_budget} and --ignore-rule too_many_reasoning_tokens exclude each other",
        ),
        (
            is_cut and not has_tokenizer,
            "--over-budget cut counts tokens: give the --tokenizer MODEL with which the rows were counted "
            "(usually the teacher)",
        ),
        (
            has_tokenizer and over_budget == "drop",
            "--tokenizer needs --over-budget cut, or force on a server",
        ),
        (
            over_budget == "force" and not has_teacher,
            "--over-budget force needs --teacher MODEL, which writes the answers",
        ),
        (has_teacher and over_budget != "force", "--teacher needs --over-budget force"),
        (has_difficulty and no_bounds, "--difficulty needs --min-pass-rate or --max-pass-rate"),
        (
            not has_difficulty and bounds != (None, None),
            "--min-pass-rate and --max-pass-rate need --difficulty PREDICTIONS",
        ),
        (options.strategy != "random" and options.select is None, "--strategy needs --select N"),
        (
            options.prefer != "random" and options.per_problem is None,
            "--prefer needs --per-problem",
        ),
        (
            strategy != StrategyOptions() and options.strategy != "s1",
            "--strategy-option needs --strategy s1",
        ),
        (
            bool(strategy.follow) != bool(strategy.num_follow),
            "--strategy-option follow needs num_follow, and the reverse",
        ),
        (
            len(strategy.preselect_min_tokens) not in (0, len(strategy.preselect)),
            "--strategy-option preselect_min_tokens: give none, or one for each of preselect",
        ),
        (
            len(strategy.follow_weight) not in (0, len(strategy.follow)),
            "--strategy-option follow_weight: give none, or one for each of follow",
        ),
        (
            any(weight <= 0 for weight in strategy.follow_weight),
            "--strategy-option follow_weight: give numbers above 0",
        ),
    ]
    for is_wrong, message in complaints:
        if is_wrong:
            raise UsageError(message)


def dropped_among(
    candidates: Iterable[Candidate], options: FilterOptions, near: Mapping[str, str] | None = None
) -> dict[str, Drop]:
    """The reason of each dropped candidate, by row id.

    Rows of near-duplicate problems are dropped first (`near` has the kept problem by problem_id), then duplicates, then
    rows over the maximum a problem, then rows that are not selected.
    """
    drops: dict[str, Drop] = {}
    first: dict[str, str] = {}
    num_of_problem: Counter[str] = Counter()
    remaining: list[Candidate] = []
    for candidate in _in_order_of_preference(candidates, options):
        if near and candidate.problem_id in near:
            drops[candidate.id] = Drop("near_duplicate_problem", near[candidate.problem_id])
            continue
        if options.dedup != "none" and candidate.content in first:
            drops[candidate.id] = Drop("duplicate", first[candidate.content])
            continue
        first[candidate.content] = candidate.id
        num_kept = num_of_problem[candidate.problem_id]
        if options.per_problem is not None and num_kept >= options.per_problem:
            drops[candidate.id] = Drop("over_per_problem", str(num_kept))
            continue
        num_of_problem[candidate.problem_id] += 1
        remaining.append(candidate)
    if options.select is not None:
        for row_id, rank in strategies.not_selected(remaining, options.select, options).items():
            drops[row_id] = Drop("not_selected", str(rank))
    return drops


def selection_warnings(
    candidates: Collection[Candidate], drops: dict[str, Drop], options: FilterOptions
) -> list[str]:
    """Warnings about a selection: too few rows, rows without a domain, sources without rows."""
    if options.select is None:
        return []
    remaining = [row for row in candidates if getattr(drops.get(row.id), "reason", None) in REACHED]
    messages = []
    if len(remaining) < options.select:
        messages.append(
            f"--select {options.select:,}: only {len(remaining):,} rows are left, all are kept"
        )
    num_without = sum(row.domain == NO_DOMAIN for row in remaining)
    if num_without and options.strategy in BY_DOMAIN:
        messages.append(
            f"--strategy {options.strategy}: {num_without:,} of {len(remaining):,} rows have no domain and "
            "count as one domain: --num-clusters K assigns domains"
        )
    strategy = options.strategy_options
    for key, sources in (("preselect", strategy.preselect), ("follow", strategy.follow)):
        messages += [
            f"--strategy-option {key}={source}: no row has such a source"
            for source in sources
            if not any(source in row.source for row in remaining)
        ]
    if options.strategy == "s1" and len({row.problem_id for row in remaining}) < len(remaining):
        messages.append(
            "--strategy s1: some problems have several rows; s1 had one a problem: give --per-problem 1"
        )
    return messages


def _in_order_of_preference(
    candidates: Iterable[Candidate], options: FilterOptions
) -> list[Candidate]:
    sign = {"shortest": 1, "longest": -1, "random": 0}[options.prefer]

    def key(row: Candidate) -> tuple[int, float]:
        length = 0
        if sign:
            length = sign * row.length_for(f"--prefer {options.prefer}")
        return length, uniform(options.seed, row.id)

    return sorted(candidates, key=key)
