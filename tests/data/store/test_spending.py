"""Prices, reservations and the journal: sums are exact and survive a kill."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillpipe.base.options import EngineOptions
from distillpipe.base.records import Message
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store import versions
from distillpipe.data.store.counts import Counts
from distillpipe.data.store.spending import (
    JOURNAL,
    Ledger,
    Prices,
    close_books,
    most_prompt_tokens,
    prices_of,
    projected,
    say_dollars,
    say_spent,
)
from distillpipe.data.store.versions import Draft, Header

PRICES = Prices(550_000, 2_190_000)
DOLLAR = 10**12

OpenDraft = Callable[[], Any]


@pytest.fixture
def open_draft(tmp_path: Path, make_header: Callable[..., Header]) -> OpenDraft:
    return lambda: versions.draft(tmp_path / "out", make_header())


def journal(draft: Draft) -> list[str]:
    return (draft.path / JOURNAL).read_text().splitlines()


def test_prices_are_whole_picodollars_a_token() -> None:
    options = EngineOptions(engine="openai", concurrency=1, price_input=0.55, price_output=2.19)
    assert prices_of(options) == PRICES
    assert PRICES.cost(1_000_000, 1_000_000) == 2.74 * DOLLAR
    assert prices_of(EngineOptions(engine="openai", concurrency=1)) is None


@given(st.text())
def test_a_prompt_has_no_more_tokens_than_bytes_and_a_template(text: str) -> None:
    assert most_prompt_tokens([Message(role="user", content=text)]) == 512 + len(text.encode())


def test_what_is_admitted_stays_under_the_cap_whatever_it_costs(open_draft: OpenDraft) -> None:
    with open_draft() as draft:
        ledger = Ledger(draft, PRICES, max_cost=1.0)
        numbers = []
        while ledger.admits(300 * DOLLAR // 1000):
            numbers.append(ledger.reserve(300 * DOLLAR // 1000))
        assert len(numbers) == 3

        ledger.bill(numbers[0], DOLLAR // 10)
        assert ledger.admits(300 * DOLLAR // 1000)
        assert not ledger.admits(300 * DOLLAR // 1000 + 1)
        ledger.bill(numbers[1], None)
        ledger.bill(numbers[2], 0)
        assert ledger.spent == pytest.approx(0.4)
        assert draft.manifest.counts.cost_dollars == ledger.spent


def test_the_journal_is_written_before_and_after(open_draft: OpenDraft) -> None:
    with open_draft() as draft:
        ledger = Ledger(draft, PRICES, None)
        ledger.bill(ledger.reserve(70), 40)
        assert journal(draft) == [
            '{"event":"carried","number":0,"cost":0}',
            '{"event":"reserved","number":1,"cost":70}',
            '{"event":"billed","number":1,"cost":40}',
        ]


def test_what_was_under_way_counts_as_its_worst_in_the_next_run(open_draft: OpenDraft) -> None:
    with open_draft() as draft:
        ledger = Ledger(draft, PRICES, None)
        ledger.bill(ledger.reserve(DOLLAR), DOLLAR // 4)
        ledger.reserve(2 * DOLLAR)  # and the process is killed
    with open_draft() as draft:
        again = Ledger(draft, PRICES, 3.0)
        assert again.spent == 2.25
        assert not again.admits(DOLLAR)
        again.bill(again.reserve(DOLLAR // 2), DOLLAR // 8)
        again.close()
    with open_draft() as draft:
        assert Ledger(draft, PRICES, None).spent == 2.375


def test_a_line_that_was_torn_was_never_sent_or_counts_as_its_worst(open_draft: OpenDraft) -> None:
    with open_draft() as draft:
        ledger = Ledger(draft, PRICES, None)
        ledger.bill(ledger.reserve(7 * DOLLAR), 1 * DOLLAR)
        path = draft.path / JOURNAL
        whole = path.read_bytes()
        path.write_bytes(whole[:-3])  # the bill is torn
        assert Ledger(draft, PRICES, None).spent == 7.0
        path.write_bytes(whole + b'{"event":"reserved","number":2,"co')
        assert Ledger(draft, PRICES, None).spent == 1.0


def figures(counts: Counts) -> tuple[float | None, float | None, float | None, int]:
    return (
        counts.cost_dollars, counts.billed_dollars, counts.reserved_dollars, counts.unknown_bills
    )  # fmt: skip


def test_billed_unknown_and_reserved_are_kept_apart(open_draft: OpenDraft) -> None:
    with open_draft() as draft:
        ledger, counts = Ledger(draft, PRICES, None), draft.manifest.counts
        assert figures(counts) == (0.0, 0.0, 0.0, 0)
        numbers = [ledger.reserve(DOLLAR) for _ in range(5)]
        ledger.bill(numbers[0], DOLLAR // 4)
        ledger.bill(numbers[1], None)  # a lost answer
        ledger.bill(numbers[2], DOLLAR // 8, is_known=False)  # an answer that was not counted
        assert figures(counts) == (1.375, 0.25, 1.125, 2)
        ledger.bill(numbers[3], 0)  # an error
        assert figures(counts) == (1.375, 0.25, 1.125, 2)
        ledger.close()  # one is still under way
        assert figures(counts) == (2.375, 0.25, 2.125, 3)
        assert journal(draft)[-1] == '{"event":"billed","number":4,"cost":0}'
        assert '{"event":"bounded","number":3,"cost":125000000000}' in journal(draft)


@pytest.mark.parametrize("is_closed", [False, True])
def test_the_three_figures_outlive_a_kill(open_draft: OpenDraft, is_closed: bool) -> None:
    with open_draft() as draft:
        ledger = Ledger(draft, PRICES, None)
        numbers = [ledger.reserve(DOLLAR) for _ in range(4)]
        ledger.bill(numbers[0], DOLLAR // 4)
        ledger.bill(numbers[1], None)
        ledger.bill(numbers[2], DOLLAR // 8, is_known=False)
        if is_closed:
            ledger.close()
            close_books(draft)
    with open_draft() as draft:
        again = Ledger(draft, PRICES, None)
        assert figures(draft.manifest.counts) == (2.375, 0.25, 2.125, 3)
        again.bill(again.reserve(DOLLAR), DOLLAR // 2)
        assert figures(draft.manifest.counts) == (2.875, 0.75, 2.125, 3)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 100), st.none() | st.integers(0, 100), st.booleans(), st.booleans()
        ),
        max_size=30,
    )
)
def test_a_journal_gives_the_sums_that_were_kept(
    tmp_path_factory: pytest.TempPathFactory, make_header: Callable[..., Header], bills: Any
) -> None:
    with versions.draft(tmp_path_factory.mktemp("out"), make_header()) as draft:
        ledger = Ledger(draft, PRICES, None)
        spent = {True: 0, False: 0}
        for worst, cost, is_known, comes_back in bills:
            number = ledger.reserve(worst)
            if comes_back:
                ledger.bill(number, cost, is_known=is_known)
            is_sure = comes_back and cost is not None and is_known
            spent[is_sure] += cost if comes_back and cost is not None else worst
        ledger.close()
        num_unknown = sum(
            not (back and cost is not None and known) for _, cost, known, back in bills
        )
        expected = (
            *(one / DOLLAR for one in (sum(spent.values()), spent[True], spent[False])),
            num_unknown,
        )
        assert figures(draft.manifest.counts) == expected
        draft.manifest.counts = Counts()
        Ledger(draft, PRICES, None).close()
        assert figures(draft.manifest.counts) == expected


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (Counts(), ""),
        (Counts(cost_dollars=3.12), "$3.12 spent"),  # a manifest of before
        (Counts(cost_dollars=0.0, billed_dollars=0.0, reserved_dollars=0.0), "$0.00 billed"),
        (Counts(cost_dollars=0.094, billed_dollars=0.094, reserved_dollars=0.0), "$0.094 billed"),
        (
            Counts(
                cost_dollars=3.114, billed_dollars=0.094, reserved_dollars=3.02, unknown_bills=4
            ),
            "$0.094 billed, $3.02 reserved for 4 requests with unknown bills",
        ),
        (
            Counts(cost_dollars=0.5, billed_dollars=0.0, reserved_dollars=0.5, unknown_bills=1),
            "$0.00 billed, $0.50 reserved for 1 request with an unknown bill",
        ),
    ],
)
def test_what_was_spent_is_said_in_its_parts(counts: Counts, said: str) -> None:
    assert say_spent(counts) == said


def test_a_draft_of_before_goes_on_with_its_sum(open_draft: OpenDraft) -> None:
    with open_draft() as draft:
        draft.manifest.counts.cost_dollars = 2.0
        ledger = Ledger(draft, PRICES, 3.0)
        assert ledger.spent == 2.0
        assert not ledger.admits(DOLLAR + 1)


def test_closed_books_stand_in_the_manifest_and_nowhere_else(open_draft: OpenDraft) -> None:
    with open_draft() as draft:
        ledger = Ledger(draft, PRICES, None)
        ledger.reserve(DOLLAR)
        ledger.close()
        close_books(draft)
        assert not (draft.path / JOURNAL).exists()
        assert manifests.read(draft.path).counts.cost_dollars == 1.0

        again = Ledger(draft, PRICES, None)
        assert again.spent == 1.0
        assert journal(draft)[0] == (
            f'{{"event":"carried","number":0,"cost":{DOLLAR},"reserved":{DOLLAR},"unknown":1}}'
        )


def test_where_nothing_was_paid_there_are_no_books_to_close(open_draft: OpenDraft) -> None:
    with open_draft() as draft:
        close_books(draft)
        assert draft.manifest.counts.cost_dollars is None


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.0, "$0.00"), (1204.5, "$1,204.50"), (0.1, "$0.10"), (0.066, "$0.066"),
        (0.00042, "$0.00042"), (0.0000042, "$0.0000042"),
    ],
)  # fmt: skip
def test_amounts_say_something(amount: float, text: str) -> None:
    assert say_dollars(amount) == text


def test_the_rest_is_projected_to_cost_what_the_rows_so_far_did() -> None:
    assert projected(2.0, 4, 6) == 5.0
    assert projected(2.0, 0, 6) is None
