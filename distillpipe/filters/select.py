"""The rules that look at all rows at once; each row is known by a `Candidate`, not by its text.

Which of several rows stays is drawn by the hash of seed and row id, so the order of the input and of
the finishing of samples does not matter.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from distillpipe.base.errors import UsageError
from distillpipe.base.filter_options import FilterOptions, StrategyOptions
from distillpipe.base.hashing import uniform
from distillpipe.filters import strategies
from distillpipe.filters.rules import Drop
from distillpipe.filters.strategies import BY_DOMAIN, NO_DOMAIN, Candidate

REACHED = (None, "not_selected")  # the reasons of rows that came as far as the selection


def check_options(
    options: FilterOptions,
    *,
    has_difficulty: bool,
    has_tokenizer: bool = False,
    has_teacher: bool = False,
) -> None:
    """Raises UsageError for options that say nothing without one another."""
    bounds = (options.min_pass_rate, options.max_pass_rate)
    no_bounds = bounds == (None, None) and options.strategy != "s1"
    given = options.strategy_options
    way = options.over_budget
    is_cut = way == "cut"
    complaints = [
        (
            way != "drop" and options.max_reasoning_tokens is None,
            f"--over-budget {way} needs --max-reasoning-tokens N",
        ),
        (
            way != "drop" and "too_many_reasoning_tokens" in options.ignored_rules,
            f"--over-budget {way} and --ignore-rule too_many_reasoning_tokens exclude each other",
        ),
        (
            is_cut and not has_tokenizer,
            "--over-budget cut counts tokens: give --tokenizer MODEL, by which the rows were counted "
            "(usually the teacher)",
        ),
        (
            has_tokenizer and way == "drop",
            "--tokenizer needs --over-budget cut, or force on a server",
        ),
        (
            way == "force" and not has_teacher,
            "--over-budget force needs --teacher MODEL, which answers",
        ),
        (has_teacher and way != "force", "--teacher needs --over-budget force"),
        (has_difficulty and no_bounds, "--difficulty needs --min-pass-rate or --max-pass-rate"),
        (
            not has_difficulty and bounds != (None, None),
            "a pass rate needs --difficulty PREDICTIONS",
        ),
        (options.strategy != "random" and options.select is None, "--strategy needs --select N"),
        (
            options.prefer != "random" and options.per_problem is None,
            "--prefer needs --per-problem",
        ),
        (
            given != StrategyOptions() and options.strategy != "s1",
            "--strategy-option needs --strategy s1",
        ),
        (
            bool(given.follow) != bool(given.num_follow),
            "--strategy-option follow needs num_follow, and the reverse",
        ),
        (
            len(given.preselect_min_tokens) not in (0, len(given.preselect)),
            "--strategy-option preselect_min_tokens: give none, or one for each of preselect",
        ),
        (
            len(given.follow_weight) not in (0, len(given.follow)),
            "--strategy-option follow_weight: give none, or one for each of follow",
        ),
        (
            any(weight <= 0 for weight in given.follow_weight),
            "--strategy-option follow_weight: give numbers above 0",
        ),
    ]
    for is_wrong, said in complaints:
        if is_wrong:
            raise UsageError(said)


def dropped_among(
    candidates: Iterable[Candidate], options: FilterOptions, near: Mapping[str, str] | None = None
) -> dict[str, Drop]:
    """Why each dropped candidate is dropped, by row id.

    Rows of near-duplicate problems go first (`near`: what each is like, by problem_id), then duplicates,
    then what is over the share of a problem, then what is not selected.
    """
    drops: dict[str, Drop] = {}
    first: dict[str, str] = {}
    num_of_problem: Counter[str] = Counter()
    left: list[Candidate] = []
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
        left.append(candidate)
    if options.select is not None:
        for row_id, rank in strategies.not_selected(left, options.select, options).items():
            drops[row_id] = Drop("not_selected", str(rank))
    return drops


def remarks(
    candidates: Collection[Candidate], drops: dict[str, Drop], options: FilterOptions
) -> list[str]:
    """What a user who selects should know: too few rows, rows without a domain, sources without rows."""
    if options.select is None:
        return []
    left = [row for row in candidates if getattr(drops.get(row.id), "reason", None) in REACHED]
    said = []
    if len(left) < options.select:
        said.append(f"--select {options.select:,}: {len(left):,} rows are left, all are kept")
    num_without = sum(row.domain == NO_DOMAIN for row in left)
    if num_without and options.strategy in BY_DOMAIN:
        said.append(
            f"--strategy {options.strategy}: {num_without:,} of {len(left):,} rows have no domain and "
            "count as one domain (--num-clusters K makes some)"
        )
    given = options.strategy_options
    for key, sources in (("preselect", given.preselect), ("follow", given.follow)):
        said += [
            f"--strategy-option {key}={source}: no row is of such a source"
            for source in sources
            if not any(source in row.source for row in left)
        ]
    if options.strategy == "s1" and len({row.problem_id for row in left}) < len(left):
        said.append("--strategy s1: some problems have several rows; s1 had one: --per-problem 1")
    return said


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
