"""The strategies of `--select N`: each ranks the rows; `diverse` and `s1` also draw domains.

    longest, shortest   by reasoning tokens
    random              by a hash of seed and row id
    diverse             draw a domain uniformly, take its next row in random order
    s1                  draw a domain uniformly, then a row with p proportional to 2^-rank; rank 0 has the longest
                        reasoning of the remaining rows
                        (arXiv 2501.19393, algorithm 1; data/filter.ipynb of simplescaling/s1)

All draws are hashes of seed and row id, or of seed and domain, never the next number of a generator. So the order of the
input does not matter, a smaller selection is the start of a larger one, and one more row in the input replaces at most
one other row.
"""

import itertools
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from distillpipe.base.errors import UsageError
from distillpipe.base.filter_options import FilterOptions, Strategy
from distillpipe.base.hashing import content_hash, uniform
from distillpipe.base.records import Trace, Verdict

NO_DOMAIN = ""  # of a row without a domain


class Candidate(NamedTuple):
    """A row that no rule has dropped, without its text."""

    id: str
    problem_id: str
    content: str
    "hash of problem and completion"
    num_reasoning_tokens: int | None = None
    domain: str = NO_DOMAIN
    source: str = ""
    "the source of the problem, if the strategy needs it"
    verdict: Verdict | None = None

    @classmethod
    def of(cls, trace: Trace, domain: str | None = None, source: str = "") -> "Candidate":
        """The candidate of a judged trace; `domain` and `source` are those of its problem."""
        return cls(
            trace.id,
            trace.problem_id,
            content_hash(trace.problem, trace.messages[-1]),
            None if trace.num_tokens is None else trace.num_tokens.reasoning,
            sys.intern(domain or NO_DOMAIN),
            source,
            trace.verdict,
        )

    def length_for(self, option: str) -> int:
        """The number of reasoning tokens. Raises UsageError, which names `option`, for a row without counts."""
        if self.num_reasoning_tokens is None:
            raise UsageError(
                f"row {self.id} has no token counts, which {option} needs: import it again with "
                "`distill import --tokenizer MODEL`"
            )
        return self.num_reasoning_tokens


BY_DOMAIN: tuple[Strategy, ...] = ("diverse", "s1")
SIGN_OF_LENGTH: dict[Strategy, int] = {"s1": -1, "longest": -1, "shortest": 1}

Pool = dict[str, list[Candidate]]  # by domain, in the order of their ranks


def not_selected(
    rows: Iterable[Candidate], num_wanted: int, options: FilterOptions
) -> dict[str, int]:
    """The rows that are not among the `num_wanted` selected: id and rank, in their domain if domains are drawn.

    Raises UsageError if the strategy needs token counts and a row has none.
    """
    ordered = _in_order(rows, options)
    if options.strategy not in BY_DOMAIN:
        return {row.id: rank for rank, row in enumerate(ordered) if rank >= num_wanted}
    pool: Pool = {}
    for row in ordered:
        pool.setdefault(row.domain, []).append(row)
    ranks = {row.id: rank for of_domain in pool.values() for rank, row in enumerate(of_domain)}
    for row_id in _drawn_by_domains(pool, ordered, num_wanted, options):
        del ranks[row_id]
    return ranks


def _in_order(rows: Iterable[Candidate], options: FilterOptions) -> list[Candidate]:
    sign = SIGN_OF_LENGTH.get(options.strategy, 0)

    def key(row: Candidate) -> tuple[int, float, str]:
        length = sign * row.length_for(f"--strategy {options.strategy}") if sign else 0
        return length, uniform(options.seed, "select", row.id), row.id

    return sorted(rows, key=key)


def _drawn_by_domains(
    pool: Pool, ordered: list[Candidate], num_wanted: int, options: FilterOptions
) -> list[str]:
    """Draw at most `num_wanted` rows and return their ids; they are removed from `pool`.

    Preselected rows stay in the pool and may be drawn again without effect, as in s1. When the domains of --follow have
    no rows left, all domains are drawn uniformly again.
    """
    taken = dict.fromkeys(row.id for row in preselected(ordered, options)[:num_wanted])
    even = dict.fromkeys(pool, 1.0)
    followed = weights_of_domains(ordered, options)
    num_drawn: Counter[str] = Counter()
    phases = [
        (even, num_wanted - options.strategy_options.num_follow),
        (followed, num_wanted),
        (even, num_wanted),
    ]
    for phase, (weights, enough) in enumerate(phases):
        for domain in _turns(pool, weights, options.seed, phase):
            if len(taken) >= enough:
                break
            index = 0
            if options.strategy == "s1":
                index = _halving(pool[domain], options.seed, num_drawn[domain])
            taken[pool[domain].pop(index).id] = None
            num_drawn[domain] += 1
    return list(taken)


def _turns(pool: Pool, weights: Mapping[str, float], seed: int, phase: int) -> list[str]:
    """A sequence of domains, each as often as it has rows, drawn by weight without replacement.

    Each domain is a Poisson process with rate `weight`, with one event for each of its rows. The next event of several
    such processes belongs to a domain with probability weight / sum of weights, independent of earlier events.
    """
    rings = []
    for domain, rows in pool.items():
        if not (weight := weights.get(domain, 0.0)):
            continue
        waits = (
            -math.log(1.0 - uniform(seed, "domain", phase, domain, turn)) / weight
            for turn in range(len(rows))
        )
        rings += [(time, domain) for time in itertools.accumulate(waits)]
    return [domain for _, domain in sorted(rings)]


def _halving(rows: list[Candidate], seed: int, turn: int) -> int:
    """An index drawn with p proportional to 2^-index.

    Each row in turn tosses a coin, and the first head is taken; if all show tails, they toss again.
    """
    for attempt in itertools.count():
        for index, row in enumerate(rows):
            if uniform(seed, "coin", row.id, turn, attempt) < 0.5:
                return index
    raise AssertionError("unreachable")


def preselected(ordered: list[Candidate], options: FilterOptions) -> list[Candidate]:
    """The correct rows of the sources named by `preselect` that are long enough, in random order."""
    strategy = options.strategy_options
    rows = [
        row
        for row in ordered
        if row.verdict == "correct"
        and any(
            source in row.source
            and (not minimum or row.length_for("preselect_min_tokens") >= minimum)
            for source, minimum in zip(
                strategy.preselect,
                strategy.preselect_min_tokens or (0,) * len(strategy.preselect),
                strict=True,
            )
        )
    ]
    return sorted(rows, key=lambda row: uniform(options.seed, "preselect", row.id))


def weights_of_domains(rows: list[Candidate], options: FilterOptions) -> dict[str, float]:
    """The frequencies of domains in the sources named by `follow`, weighted by source."""
    strategy = options.strategy_options
    weights: dict[str, float] = defaultdict(float)
    of_sources = strategy.follow_weight or (1.0,) * len(strategy.follow)
    for source, weight in zip(strategy.follow, of_sources, strict=True):
        counts = Counter(row.domain for row in rows if source in row.source)
        for domain, number in counts.items():
            weights[domain] += weight * number / counts.total()
    return dict(weights)
