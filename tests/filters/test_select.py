"""The rules that look at all rows: which stay is drawn by seed and id, never by the order of the input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.base.errors import UsageError
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.hashing import uniform
from distillpipe.base.records import Message
from distillpipe.filters.rules import Drop
from distillpipe.filters.select import check_options, dropped_among, selection_warnings
from distillpipe.filters.strategies import Candidate


def candidates(*rows: str) -> list[Candidate]:
    """Rows as "id problem content"."""
    return [Candidate(*row.split()) for row in rows]


def kept(rows: list[Candidate], options: FilterOptions) -> set[str]:
    return {row.id for row in rows} - set(dropped_among(rows, options))


def test_no_rows_drop_nothing(make_options) -> None:
    assert dropped_among([], make_options(dedup="exact", per_problem=1)) == {}


def test_one_row_is_kept(make_options) -> None:
    assert dropped_among(candidates("a p x"), make_options(dedup="exact", per_problem=1)) == {}


def test_of_equal_completions_one_stays_and_the_others_name_it(make_options) -> None:
    rows = candidates("a p x", "b p x", "c p x", "d p y")
    drops = dropped_among(rows, make_options(dedup="exact"))
    stays = min("abc", key=lambda row_id: uniform(0, row_id))
    assert drops == {row_id: Drop("duplicate", stays) for row_id in {*"abc"} - {stays}}


def test_equal_completions_of_other_problems_are_duplicates_too(make_options) -> None:
    # the content covers the text of the problem: the problems differ in reference or verifier only
    drops = dropped_among(candidates("a p x", "b q x"), make_options(dedup="exact"))
    assert len(drops) == 1


def test_without_dedup_equal_completions_stay(make_options) -> None:
    assert dropped_among(candidates("a p x", "b p x"), make_options(dedup="none")) == {}


def test_a_problem_keeps_its_share_and_the_rest_measure_what_was_kept(make_options) -> None:
    rows = candidates("a p 1", "b p 2", "c p 3", "d p 4", "e q 5")
    drops = dropped_among(rows, make_options(per_problem=2))
    last = sorted("abcd", key=lambda row_id: uniform(0, row_id))[2:]
    assert drops == dict.fromkeys(last, Drop("over_per_problem", "2"))


@pytest.mark.parametrize(("share", "num_kept"), [(1, 1), (2, 2), (3, 3), (4, 3), (None, 3)])
def test_a_problem_keeps_as_many_rows_as_its_share_allows(make_options, share, num_kept) -> None:
    rows = candidates("a p 1", "b p 2", "c p 3")
    assert len(kept(rows, make_options(per_problem=share))) == num_kept


@pytest.mark.parametrize("seed", range(8))
def test_duplicates_do_not_use_up_the_share_of_a_problem(make_options, seed) -> None:
    rows = candidates("a p x", "b p x", "c p x", "d p y")
    drops = dropped_among(rows, make_options(dedup="exact", per_problem=2, seed=seed))
    assert [drop.reason for drop in drops.values()] == ["duplicate", "duplicate"]
    assert "d" not in drops


def test_another_seed_draws_other_rows_and_every_row_has_its_turn(make_options) -> None:
    rows = candidates("a p 1", "b p 2", "c p 3")
    chosen = [kept(rows, make_options(per_problem=1, seed=seed)) for seed in range(30)]
    assert set.union(*chosen) == {"a", "b", "c"}
    assert all(len(one) == 1 for one in chosen)


ROWS = st.lists(
    st.tuples(st.uuids().map(str), st.sampled_from("pqr"), st.sampled_from("wxyz")),
    unique_by=lambda row: row[0],
    max_size=12,
)


@given(ROWS, st.data(), st.sampled_from([None, 1, 2]), st.sampled_from(["exact", "none"]))
def test_the_order_of_the_input_does_not_matter(make_options, rows, data, share, dedup) -> None:
    options = make_options(dedup=dedup, per_problem=share)
    ordered = [Candidate(*row) for row in rows]
    shuffled = data.draw(st.permutations(ordered))
    assert dropped_among(shuffled, options) == dropped_among(ordered, options)


@given(ROWS, st.sampled_from([1, 2]))
def test_what_stays_is_distinct_and_within_the_share_and_some_of_every_problem(
    make_options, rows, share
) -> None:
    stays = kept([Candidate(*row) for row in rows], make_options(per_problem=share))
    problems = [problem for row_id, problem, _ in rows if row_id in stays]
    for problem in {problem for _, problem, _ in rows}:
        num_rows = sum(1 for row in rows if row[1] == problem)
        assert problems.count(problem) == min(share, num_rows)

    distinct = kept([Candidate(*row) for row in rows], make_options(dedup="exact"))
    contents = [content for row_id, _, content in rows if row_id in distinct]
    assert sorted(contents) == sorted({content for _, _, content in rows})


def test_a_candidate_is_known_by_problem_and_completion_only(make_trace) -> None:
    one = Candidate.of(make_trace(row_key="a" * 32, sample=0, seed=1, verdict="wrong"))
    other = Candidate.of(make_trace(row_key="b" * 32, sample=1, seed=2, verdict="correct"))
    assert one.content == other.content
    assert one.problem_id == other.problem_id
    assert (one.id, other.id) == (
        f"{one.problem_id}/{'a' * 16}",
        f"{one.problem_id}/{'b' * 16}",
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"problem": "another problem"},
        {"reasoning": "14+6 = 20."},
        {"reasoning": None},
        {"response": "\\boxed{20}."},
        {"reasoning": "14+6=20.\\boxed{20}", "response": ""},
    ],
)
def test_another_problem_or_completion_is_other_content(make_trace, changes) -> None:
    assert Candidate.of(make_trace(**changes)).content != Candidate.of(make_trace()).content


def test_another_prompt_around_the_same_problem_is_the_same_content(make_trace) -> None:
    trace = make_trace()
    prompted = make_trace(messages=[Message(role="user", content="Solve!"), trace.messages[-1]])
    assert Candidate.of(prompted).content == Candidate.of(trace).content


# ---------------------------------------------------------------- preference and selection


def long_candidates(*lengths: int | None) -> list[Candidate]:
    """Rows of one problem, all of other content, with so many reasoning tokens."""
    return [Candidate(str(at), "p", str(at), length) for at, length in enumerate(lengths)]


@pytest.mark.parametrize(
    ("prefer", "stays"), [("shortest", {"1", "3"}), ("longest", {"0", "4"}), ("random", None)]
)
def test_under_the_share_of_a_problem_the_preferred_rows_stay(make_options, prefer, stays) -> None:
    rows = long_candidates(9, 1, 5, 2, 7)
    found = {
        frozenset(kept(rows, make_options(per_problem=2, prefer=prefer, seed=s))) for s in range(40)
    }
    if stays is None:
        assert len(found) == 10  # every pair has its turn
    else:
        assert found == {frozenset(stays)}


def test_a_preference_by_length_needs_token_counts(make_options) -> None:
    with pytest.raises(UsageError, match="row 1 has no token counts, which --prefer longest needs"):
        dropped_among(long_candidates(3, None), make_options(per_problem=1, prefer="longest"))
    assert len(kept(long_candidates(3, None), make_options(per_problem=1))) == 1


def test_what_is_not_selected_is_dropped_last_with_its_rank(make_options) -> None:
    rows = [
        Candidate("a", "p", "same", 9),
        Candidate("b", "p", "same", 9),
        *[
            Candidate(row_id, row_id, row_id, length)
            for row_id, length in [("c", 7), ("d", 5), ("e", 3)]
        ],
    ]
    options = make_options(dedup="exact", select=2, strategy="longest")
    first, other = sorted("ab", key=lambda row_id: uniform(0, row_id))
    assert dropped_among(rows, options) == {
        other: Drop("duplicate", first),
        "d": Drop("not_selected", "2"),
        "e": Drop("not_selected", "3"),
    }


def test_without_select_nothing_is_drawn(make_options) -> None:
    assert dropped_among(long_candidates(1, 2, 3), make_options()) == {}
    assert selection_warnings(long_candidates(1, 2, 3), {}, make_options()) == []


def said(rows: list[Candidate], options: FilterOptions) -> list[str]:
    return selection_warnings(rows, dropped_among(rows, options), options)


def test_that_fewer_rows_are_left_than_asked_for_is_said(make_options) -> None:
    rows = [Candidate(row_id, row_id, row_id, 1) for row_id in "abc"]
    assert said(rows, make_options(select=3)) == []
    assert said(rows, make_options(select=1000)) == [
        "--select 1,000: only 3 rows are left, all are kept"
    ]


def test_rows_without_a_domain_are_one_domain_and_said_to_be(make_options) -> None:
    rows = [Candidate(row_id, row_id, row_id, 1) for row_id in "abc"]
    rows.append(Candidate("d", "d", "d", 1, "algebra"))
    for strategy in ("diverse", "s1"):
        assert said(rows, make_options(select=2, strategy=strategy)) == [
            f"--strategy {strategy}: 3 of 4 rows have no domain and count as one domain: "
            "--num-clusters K assigns domains"
        ]
    assert said(rows, make_options(select=2, strategy="longest")) == []
    assert said(rows[3:], make_options(select=1, strategy="s1")) == []


def test_a_source_of_which_there_is_no_row_is_said(make_options) -> None:
    rows = [Candidate(row_id, row_id, row_id, 1, "algebra", "AIME_2024") for row_id in "abc"]
    options = make_options(
        select=2, strategy="s1", preselect=("AIME", "gpqa"), follow=("olympiad",), num_follow=1
    )
    assert said(rows, options) == [
        "--strategy-option preselect=gpqa: no row has such a source",
        "--strategy-option follow=olympiad: no row has such a source",
    ]


def test_several_rows_of_a_problem_are_said_under_s1_which_had_one(make_options) -> None:
    rows = [Candidate(str(at), "p", str(at), at, "algebra") for at in range(3)]
    assert said(rows, make_options(select=2, strategy="s1")) == [
        "--strategy s1: some problems have several rows; s1 had one a problem: give --per-problem 1"
    ]
    alone = make_options(select=1, strategy="s1", per_problem=1)
    assert said(rows, alone) == []


@pytest.mark.parametrize(
    ("changes", "has_difficulty", "complaint"),
    [
        ({}, True, "--difficulty needs --min-pass-rate or --max-pass-rate"),
        (
            {"max_pass_rate": 0.5},
            False,
            "--min-pass-rate and --max-pass-rate need --difficulty PREDICTIONS",
        ),
        ({"strategy": "s1"}, False, "--strategy needs --select N"),
        ({"prefer": "longest"}, False, "--prefer needs --per-problem"),
        ({"select": 9, "preselect": ("a",)}, False, "--strategy-option needs --strategy s1"),
        (
            {"select": 9, "strategy": "s1", "follow": ("a",)},
            False,
            "--strategy-option follow needs num_follow",
        ),
        (
            {"select": 9, "strategy": "s1", "num_follow": 1},
            False,
            "--strategy-option follow needs num_follow",
        ),
        (
            {"select": 9, "strategy": "s1", "preselect": ("a", "b"), "preselect_min_tokens": (1,)},
            False,
            "--strategy-option preselect_min_tokens: give none, or one for each of preselect",
        ),
        (
            {
                "select": 9,
                "strategy": "s1",
                "follow": ("a",),
                "num_follow": 1,
                "follow_weight": (1.0, 2.0),
            },
            False,
            "--strategy-option follow_weight: give none, or one for each of follow",
        ),
        (
            {
                "select": 9,
                "strategy": "s1",
                "follow": ("a",),
                "num_follow": 1,
                "follow_weight": (0.0,),
            },
            False,
            "--strategy-option follow_weight: give numbers above 0",
        ),
    ],
)
def test_options_that_say_nothing_without_one_another_are_refused(
    make_options, changes, has_difficulty, complaint
) -> None:
    with pytest.raises(UsageError, match=complaint):
        check_options(make_options(**changes), has_difficulty=has_difficulty)


@pytest.mark.parametrize(
    ("changes", "has_difficulty"),
    [
        ({}, False),
        ({"min_pass_rate": 0.1}, True),
        ({"select": 9, "strategy": "s1"}, True),
        ({"select": 9, "strategy": "s1"}, False),
        ({"select": 9, "strategy": "diverse", "per_problem": 1, "prefer": "shortest"}, False),
        (
            {"select": 9, "strategy": "s1", "follow": ("a",), "num_follow": 3, "preselect": ("a",)},
            False,
        ),
    ],
)
def test_options_that_belong_together_are_accepted(make_options, changes, has_difficulty) -> None:
    check_options(make_options(**changes), has_difficulty=has_difficulty)
