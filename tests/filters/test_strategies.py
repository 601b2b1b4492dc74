"""`--select N`: each strategy against its definition, s1 against an oracle, the draws against their chances."""

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from distillpipe.base.errors import UsageError
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.hashing import uniform
from distillpipe.filters.strategies import BY_DOMAIN, Candidate, not_selected, preselected

MakeOptions = Callable[..., FilterOptions]
LEAST_P = 1e-4  # all seeds are fixed: below it the chances are wrong, not the luck
STRATEGIES = ("random", "shortest", "longest", "diverse", "s1")


def row(
    row_id: str, domain: str = "", length: int | None = 0, source: str = "", verdict: Any = None
) -> Candidate:
    return Candidate(row_id, f"problem of {row_id}", row_id, length, domain, source, verdict)


def taken(rows: list[Candidate], num_wanted: int, options: FilterOptions) -> set[str]:
    return {one.id for one in rows} - set(not_selected(rows, num_wanted, options))


def random_pool(seed: int, most_rows: int) -> list[Candidate]:
    """Rows of up to five domains, all of other lengths, some right, of three sources."""
    draw = random.Random(seed)
    num_rows = draw.randint(1, most_rows)
    lengths = draw.sample(range(1, 100), num_rows)
    return [
        row(
            f"{seed}-{place}", draw.choice("abcde"), length, draw.choice(["", "AIME", "GPQA"]),
            draw.choice(["correct", "wrong"]),
        )
        for place, length in enumerate(lengths)
    ]  # fmt: skip


def random_options(seed: int, make_options: MakeOptions) -> FilterOptions:
    """Options of s1; in half of the cases with rows taken beforehand, in half with domains to follow."""
    draw = random.Random(-1 - seed)
    changes: dict[str, Any] = {}
    if draw.random() < 0.5:
        changes |= {"preselect": ("AIME", "GPQA"), "preselect_min_tokens": (0, 60)}
    if draw.random() < 0.5:
        changes |= {"follow": ("AIME", "GPQA"), "follow_weight": (1.0, 0.5)}
        changes["num_follow"] = draw.randint(1, 3)
    return make_options(strategy="s1", seed=seed, **changes)


# ---------------------------------------------------------------- what the strategies take


def test_longest_and_shortest_go_by_reasoning_tokens(make_options) -> None:
    rows = [row(row_id, length=length) for row_id, length in zip("abcd", [5, 9, 1, 7], strict=True)]
    assert not_selected(rows, 2, make_options(strategy="longest")) == {"a": 2, "c": 3}
    assert not_selected(rows, 2, make_options(strategy="shortest")) == {"d": 2, "b": 3}


def test_rows_of_one_length_are_drawn_by_their_ids(make_options) -> None:
    rows = [row(row_id, length=5) for row_id in "abcdef"]
    chosen = {
        frozenset(taken(rows, 2, make_options(strategy="longest", seed=at))) for at in range(40)
    }
    assert len(chosen) > 5


def test_random_takes_every_row_equally_often(make_options) -> None:
    rows = [row(str(at)) for at in range(10)]
    draws = Counter(
        row_id for seed in range(2000) for row_id in taken(rows, 3, make_options(seed=seed))
    )
    assert chisquare([draws[one.id] for one in rows]).pvalue > LEAST_P


def test_random_is_no_favour_to_problems_with_many_samples(make_options) -> None:
    # of ten samples the one with the lowest hash stays under --per-problem 1: that hash is not drawn by again
    lowest = [
        [
            min((f"{many}-{at}" for at in range(many)), key=lambda name: uniform(seed, name))
            for many in (1, 10)
        ]
        for seed in range(2000)
    ]
    many_won = sum(
        taken([row(one), row(ten)], 1, make_options(seed=seed)) == {ten}
        for seed, (one, ten) in enumerate(lowest)
    )
    assert chisquare([many_won, 2000 - many_won]).pvalue > LEAST_P


def test_diverse_takes_as_many_of_each_domain_whatever_their_lengths(make_options) -> None:
    rows = [row(f"a{at}", "a", at) for at in range(90)] + [
        row(f"b{at}", "b", at) for at in range(10)
    ]
    options = [make_options(strategy="diverse", seed=seed) for seed in range(1000)]
    draws = Counter(row_id for one in options for row_id in taken(rows, 2, one))
    of_domain = Counter(row_id[0] for row_id in draws.elements())
    assert chisquare([of_domain["a"], of_domain["b"]]).pvalue > LEAST_P
    assert chisquare([draws[f"a{at}"] for at in range(90)]).pvalue > LEAST_P


def test_a_domain_that_is_used_up_leaves_its_turns_to_the_others(make_options) -> None:
    rows = [row(f"a{at}", "a") for at in range(20)] + [row("b0", "b")]
    for strategy in BY_DOMAIN:
        assert len(taken(rows, 15, make_options(strategy=strategy))) == 15


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("num_wanted", [5, 6, 1000])
def test_where_fewer_rows_are_left_all_are_taken(make_options, strategy, num_wanted) -> None:
    rows = [row(str(at), "ab"[at % 2], at) for at in range(5)]
    assert not_selected(rows, num_wanted, make_options(strategy=strategy)) == {}
    assert not_selected([], num_wanted, make_options(strategy=strategy)) == {}


@pytest.mark.parametrize("strategy", ["shortest", "longest", "s1"])
def test_a_strategy_that_goes_by_length_needs_token_counts(make_options, strategy) -> None:
    with pytest.raises(UsageError, match=f"row x has no token counts, which --strategy {strategy}"):
        not_selected([row("x", length=None)], 1, make_options(strategy=strategy))
    for other in ("random", "diverse"):
        assert not_selected([row("x", length=None)], 1, make_options(strategy=other)) == {}


def test_a_rank_is_counted_within_the_domain_where_domains_are_drawn(make_options) -> None:
    rows = [row(f"{domain}{length}", domain, length) for domain in "ab" for length in range(4)]
    ranks = not_selected(rows, 2, make_options(strategy="s1"))
    assert len(ranks) == 6
    assert all(rank == 3 - int(row_id[1]) for row_id, rank in ranks.items())


# ---------------------------------------------------------------- s1 against an oracle


def s1_chances(
    rows: list[Candidate], num_wanted: int, options: FilterOptions
) -> dict[frozenset[str], Fraction]:
    """The published algorithm, every path of it: each set that may be drawn, and its chance.

    While rows are wanted: a domain, with equal chance among those left, or for the last `num_follow` by
    weight; in it a row with p proportional to 2^-rank among those left. Rows of the sources preselected
    are in the set from the start and stay in the pool.
    """
    by_id = {one.id: one for one in rows}
    before = [
        one.id
        for one in sorted(rows, key=lambda one: uniform(options.seed, "preselect", one.id))
        if one.verdict == "correct"
        and any(
            one.source == source and (one.num_reasoning_tokens or 0) >= least
            for source, least in zip(
                options.strategy_options.preselect,
                options.strategy_options.preselect_min_tokens,
                strict=True,
            )
        )
    ]
    weights: Counter[str] = Counter()
    for source, weight in zip(
        options.strategy_options.follow, options.strategy_options.follow_weight, strict=True
    ):
        of_source = [one.domain for one in rows if one.source == source]
        for domain in of_source:
            weights[domain] += Fraction(weight) / len(of_source)  # type: ignore[assignment]

    chances: Counter[frozenset[str]] = Counter()
    states = {(frozenset(by_id), frozenset(before[:num_wanted])): Fraction(1)}
    while states:
        reached: dict[Any, Fraction] = {}
        for (left, chosen), chance in states.items():
            if len(chosen) >= num_wanted or not left:
                chances[chosen] += chance  # type: ignore[assignment]
                continue
            domains = {by_id[row_id].domain: Fraction(1) for row_id in left}
            if len(chosen) >= num_wanted - options.strategy_options.num_follow:
                domains = {one: weights[one] for one in domains if weights[one]} or domains
            for domain, weight in domains.items():
                of_domain = sorted(
                    (row_id for row_id in left if by_id[row_id].domain == domain),
                    key=lambda row_id: -(by_id[row_id].num_reasoning_tokens or 0),
                )
                powers = [Fraction(1, 2**rank) for rank in range(len(of_domain))]
                for row_id, power in zip(of_domain, powers, strict=True):
                    state = (left - {row_id}, chosen | {row_id})
                    share = weight / sum(domains.values()) * power / sum(powers)
                    reached[state] = reached.get(state, Fraction(0)) + chance * share
        states = reached
    return dict(chances)


def below(
    chances: dict[frozenset[str], Fraction], values: Mapping[frozenset[str], Any]
) -> dict[frozenset[str], float]:
    """The chance of all sets of a lower value, for each set."""
    sums, total = {}, 0.0
    for chosen in sorted(chances, key=lambda chosen: (values[chosen], sorted(chosen))):
        sums[chosen] = total
        total += float(chances[chosen])
    return sums


@pytest.mark.slow
def test_s1_draws_sets_with_the_chances_of_the_published_algorithm_on_1000_pools(
    make_options,
) -> None:
    # below the set drawn, and a part of its own chance: uniform in [0, 1) if the chances are right
    by_chance: Counter[int] = Counter()
    by_length: Counter[int] = Counter()
    for pool in range(1000):
        rows, options = random_pool(pool, most_rows=6), random_options(pool, make_options)
        num_wanted = 1 + pool % len(rows)
        if len(preselected(rows, options)) >= num_wanted:
            continue  # nothing is drawn
        chances = s1_chances(rows, num_wanted, options)
        assert sum(chances.values()) == 1
        lengths = {one.id: one.num_reasoning_tokens or 0 for one in rows}
        rarer = below(chances, chances)
        shorter = below(chances, {one: sum(lengths[row_id] for row_id in one) for one in chances})
        for seed in range(20 * pool, 20 * pool + 20):
            drawn = frozenset(taken(rows, num_wanted, msgspec.structs.replace(options, seed=seed)))
            own = uniform(seed, "part of its own") * float(chances[drawn])
            by_chance[int(20 * (rarer[drawn] + own))] += 1
            by_length[int(20 * (shorter[drawn] + own))] += 1
    assert by_chance.total() > 12_000
    assert chisquare([by_chance[place] for place in range(20)]).pvalue > LEAST_P
    assert chisquare([by_length[place] for place in range(20)]).pvalue > LEAST_P


def s1_step_by_step(rows: list[Candidate], num_wanted: int, options: FilterOptions) -> set[str]:
    """The same draws, each made anew from what is left: no sorting ahead, nothing carried along."""
    left = list(rows)
    found = {
        one.id
        for one in rows
        if one.verdict == "correct" and one.source in options.strategy_options.preselect
    }
    if options.strategy_options.preselect:
        found -= {
            one.id for one in rows if one.source == "GPQA" and (one.num_reasoning_tokens or 0) < 60
        }
    chosen = set(
        sorted(found, key=lambda one: uniform(options.seed, "preselect", one))[:num_wanted]
    )
    drawn: Counter[str] = Counter()
    phase, rung = 0, Counter[str]()
    ends = [num_wanted - options.strategy_options.num_follow, num_wanted, num_wanted]
    while left and len(chosen) < num_wanted:
        weights = Counter({one.domain: 1.0 for one in left})
        if phase == 1:
            weights = Counter()
            for source, weight in zip(
                options.strategy_options.follow, options.strategy_options.follow_weight, strict=True
            ):
                same = [one.domain for one in rows if one.source == source]
                for domain in same:
                    weights[domain] += weight * same.count(domain) / len(same) / same.count(domain)
        live = [domain for domain in {one.domain for one in left} if weights[domain]]
        if len(chosen) >= ends[phase] or not live:
            phase, rung = phase + 1, Counter()
            continue

        def time(domain: str) -> float:
            waits = [
                -math.log(1 - uniform(options.seed, "domain", phase, domain, turn))  # noqa: B023
                for turn in range(rung[domain] + 1)  # noqa: B023
            ]
            return sum(waits) / weights[domain]  # noqa: B023

        domain = min(live, key=time)
        longest_first = sorted(
            (one for one in left if one.domain == domain),
            key=lambda one: -(one.num_reasoning_tokens or 0),
        )
        tosses = (
            one
            for attempt in range(1000)
            for one in longest_first
            if uniform(options.seed, "coin", one.id, drawn[domain], attempt) < 0.5
        )
        won = next(tosses)
        left.remove(won)
        chosen.add(won.id)
        drawn[domain] += 1
        rung[domain] += 1
    return chosen


def test_s1_takes_what_is_drawn_step_by_step_on_1000_pools(make_options) -> None:
    for seed in range(1000):
        rows, options = random_pool(seed, most_rows=40), random_options(seed, make_options)
        num_wanted = 1 + seed % len(rows)
        assert taken(rows, num_wanted, options) == s1_step_by_step(rows, num_wanted, options), seed


def test_in_a_domain_chances_halve_with_every_rank(make_options) -> None:
    rows = [row(str(rank), "a", 100 - rank) for rank in range(8)]
    firsts = [taken(rows, 1, make_options(strategy="s1", seed=seed)) for seed in range(10_000)]
    counts = Counter(int(row_id) for one in firsts for row_id in one)
    whole = sum(2.0**-rank for rank in range(8))
    expected = [10_000 * 2.0**-rank / whole for rank in range(8)]
    assert chisquare([counts[rank] for rank in range(8)], expected).pvalue > LEAST_P


def test_the_domain_is_drawn_with_equal_chance_whatever_its_size(make_options) -> None:
    rows = [
        row(f"{domain}{at}", domain, at)
        for domain in "abc"
        for at in range("a c b".index(domain) ** 2 + 1)
    ]
    firsts = [taken(rows, 1, make_options(strategy="s1", seed=seed)) for seed in range(2000)]
    counts = Counter(row_id[0] for one in firsts for row_id in one)
    assert chisquare([counts[domain] for domain in "abc"]).pvalue > LEAST_P


# ---------------------------------------------------------------- sources taken first, domains followed


def test_right_rows_of_a_source_are_taken_first_if_they_are_long_enough(make_options) -> None:
    rows = [
        row("a", "x", 9, "qq8933/AIME_1983_2024", "correct"),
        row("b", "x", 9, "qq8933/AIME_1983_2024", "wrong"),
        row("c", "x", 5601, "qfq/openaimath/Algebra", "correct"),
        row("d", "x", 5600, "qfq/openaimath/Algebra", "correct"),
        *[row(f"other {at}", "x", 10**6 + at) for at in range(50)],
    ]
    options = make_options(
        strategy="s1", preselect=("AIME_1983_2024", "openaimath"), preselect_min_tokens=(0, 5601)
    )
    assert taken(rows, 2, options) == {"a", "c"}
    assert taken(rows, 1, options) in ({"a"}, {"c"})


def test_a_source_needs_no_length_where_none_is_given(make_options) -> None:
    rows = [row("a", "x", None, "AIME", "correct"), row("b", "x", None, "other", "correct")]
    assert taken(
        [one._replace(num_reasoning_tokens=1) for one in rows], 1,
        make_options(strategy="s1", preselect=("AIME",)),
    ) == {"a"}  # fmt: skip


def test_the_last_rows_follow_the_domains_of_the_sources(make_options) -> None:
    # AIME: two of three rows in a; GPQA, half its weight: all rows in b; c in neither
    rows = [row("a0", "a", 1, "AIME"), row("a1", "a", 2, "AIME"), row("b0", "b", 1, "AIME")]
    rows += [row("b1", "b", 2, "GPQA"), *[row(f"c{at}", "c", at) for at in range(5)]]
    counts: Counter[str] = Counter()
    for seed in range(3000):
        options = make_options(
            strategy="s1",
            follow=("AIME", "GPQA"),
            follow_weight=(1.0, 0.5),
            num_follow=1,
            seed=seed,
        )
        counts.update(row_id[0] for row_id in taken(rows, 1, options))
    assert counts["c"] == 0
    expected = [3000 * weight / 1.5 for weight in (2 / 3, 1 / 3 + 0.5)]
    assert chisquare([counts["a"], counts["b"]], expected).pvalue > LEAST_P


def test_where_the_domains_to_follow_are_used_up_all_are_drawn_again(make_options) -> None:
    rows = [row("a", "a", 1, "AIME"), *[row(f"c{at}", "c", at) for at in range(5)]]
    options = make_options(strategy="s1", follow=("AIME",), num_follow=4)
    assert len(taken(rows, 4, options)) == 4
    assert "a" in taken(rows, 4, options)


# ---------------------------------------------------------------- order, more rows, fewer rows

POOLS = st.lists(
    st.tuples(st.uuids().map(str), st.sampled_from("abc"), st.integers(0, 5)),
    unique_by=lambda one: one[0], min_size=1, max_size=25,
)  # fmt: skip


@given(POOLS, st.data(), st.sampled_from(STRATEGIES), st.integers(1, 26))
def test_the_order_of_the_input_does_not_matter(make_options, pool, data, strategy, num) -> None:
    options = make_options(strategy=strategy)
    rows = [row(*one) for one in pool]
    shuffled = data.draw(st.permutations(rows))
    assert not_selected(shuffled, num, options) == not_selected(rows, num, options)


@given(POOLS, st.sampled_from(STRATEGIES), st.integers(1, 26), st.integers(0, 99))
def test_so_many_rows_are_taken_and_fewer_are_the_first_of_more(
    make_options, pool, strategy, num, seed
) -> None:
    rows, options = [row(*one) for one in pool], make_options(strategy=strategy, seed=seed)
    fewer, more = taken(rows, num, options), taken(rows, num + 1, options)
    assert len(fewer) == min(num, len(rows))
    assert fewer <= more


@given(POOLS, st.sampled_from(STRATEGIES), st.integers(1, 26), st.integers(0, 99))
def test_one_row_more_takes_the_place_of_at_most_one(
    make_options, pool, strategy, num, seed
) -> None:
    rows, options = [row(*one) for one in pool], make_options(strategy=strategy, seed=seed)
    before, after = taken(rows[1:], num, options), taken(rows, num, options)
    assert len(before - after) <= 1
    assert len(after - before) <= 1
