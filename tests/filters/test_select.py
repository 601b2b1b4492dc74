"""The rules that look at all rows: which stay is drawn by seed and id, never by the order of the input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.filters.rules import Drop
from distillpipe.filters.select import Candidate, dropped_among
from distillpipe.hashing import uniform
from distillpipe.records import FilterOptions, Message


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
