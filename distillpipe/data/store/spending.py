"""What a version has cost, and what it may: prices, reservations, and a journal that survives a kill.

The journal of a draft, `spending.jsonl`, lasts until the version is finished:

    {"event": "carried", "number": 0, "cost": 1200000}       spent before this journal was begun
    {"event": "reserved", "number": 1, "cost": 70000000}     durable before the request is sent
    {"event": "billed", "number": 1, "cost": 4300000}        what came of it, as the server counts
    {"event": "bounded", "number": 2, "cost": 900000}        an answer that was not counted: at most so much

Three figures are kept apart: what was billed; how many requests have an unknown bill; and what is reserved for
those. A reservation without a bill (the process was killed, the connection dropped) stays reserved as it
stands: at the worst case. So what the server bills is never more than the two sums. Money is counted in
whole picodollars, a price of one dollar per million tokens being 1,000,000 of them a token: sums are exact.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from distillpipe.base.errors import Incomplete
from distillpipe.base.filesystem import sync_file, sync_folder
from distillpipe.base.interrupts import shielded
from distillpipe.base.options import EngineOptions
from distillpipe.base.records import Message, Trace
from distillpipe.data.store.counts import Counts
from distillpipe.data.store.jsonl import cut_torn_line, decoded, encoder
from distillpipe.data.store.versions import Draft

JOURNAL = "spending.jsonl"
PICODOLLARS = 10**12
TEMPLATE_TOKENS = 512  # that a server may put around the messages of a prompt


class Prices(NamedTuple):
    """Picodollars a token."""

    input: int
    output: int

    def cost(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Picodollars of one request."""
        return prompt_tokens * self.input + completion_tokens * self.output


def prices_of(options: EngineOptions) -> Prices | None:
    """The prices of a server, to the millionth of a dollar per million tokens; null where none are given."""
    if options.price_input is None or options.price_output is None:
        return None
    return Prices(round(options.price_input * 1e6), round(options.price_output * 1e6))


def dollars(picodollars: int) -> float:
    return picodollars / PICODOLLARS


def most_prompt_tokens(messages: Iterable[Message]) -> int:
    """What a prompt has at most: no byte-level tokenizer makes more tokens than a text has bytes."""
    return TEMPLATE_TOKENS + sum(len(message.content.encode()) for message in messages)


def say_dollars(amount: float) -> str:
    """`$1,204.50`; small amounts to two digits that say something: `$0.00042`."""
    if amount >= 0.1 or amount == 0:
        return f"${amount:,.2f}"
    return f"${amount:.2g}" if amount >= 1e-4 else f"${amount:.7f}".rstrip("0")


def projected(spent: float, rows_paid: int, rows_left: int) -> float | None:
    """What all rows will have cost, if the rest cost as the ones so far; None where there are none."""
    return spent + spent / rows_paid * rows_left if rows_paid else None


def say_spent(counts: Counts) -> str:
    """`$0.094 billed, $3.02 reserved for 4 requests with unknown bills`; "" where nothing is paid for.

    A manifest of before the three were kept apart has their sum alone: `$3.11 spent`.
    """
    if counts.cost_dollars is None:
        return ""
    if counts.billed_dollars is None:
        return f"{say_dollars(counts.cost_dollars)} spent"
    billed = f"{say_dollars(counts.billed_dollars)} billed"
    if not counts.unknown_bills:
        return billed
    reserved = say_dollars(counts.reserved_dollars or 0.0)
    requests = "request with an" if counts.unknown_bills == 1 else "requests with"
    bills = "bill" if counts.unknown_bills == 1 else "bills"
    return f"{billed}, {reserved} reserved for {counts.unknown_bills:,} {requests} unknown {bills}"


class Bill:
    """What the rows of a run cost, for the person who watches; says nothing where nothing is paid for."""

    def __init__(self, counts: Counts, num_missing: int) -> None:
        self._counts = counts
        self.num_left = num_missing
        self._paid = counts.rows_kept - counts.rows_reused

    def add_row(self, trace: Trace) -> str:
        """Count a row; what is spent and what all rows may come to, for the progress line."""
        self.num_left -= 1
        self._paid += 1
        spent = say_spent(self._counts)
        return f"{spent}{self._in_all()}" if spent else ""

    @contextmanager
    def at_the_end(self) -> Iterator[None]:
        """Say with an error that ends the run what was spent, and what the rest may cost."""
        try:
            yield
        except Incomplete as error:
            raise Incomplete(f"{error}; {self.num_left:,} rows are left{self._in_all()}") from None

    def _in_all(self) -> str:
        spent = self._counts.cost_dollars
        total = None if spent is None else projected(spent, self._paid, self.num_left)
        return "" if total is None else f", about {say_dollars(total)} in all"


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the journal."""

    event: Literal["carried", "reserved", "billed", "bounded"]
    number: int
    cost: int
    "picodollars"
    reserved: int = 0
    "of what is carried: the part that is reserved for unknown bills"
    unknown: int = 0
    "so many bills"


class Sums(NamedTuple):
    """What was paid, in picodollars."""

    billed: int = 0
    reserved: int = 0
    "for requests that are done with, but whose bills are unknown: what they may cost"
    unknown: int = 0
    "so many requests"

    @property
    def spent(self) -> int:
        """What the server bills at most."""
        return self.billed + self.reserved

    def enter(self, counts: Counts) -> None:
        """Bring the sums into the counts of a manifest."""
        counts.cost_dollars = dollars(self.spent)
        counts.billed_dollars = dollars(self.billed)
        counts.reserved_dollars = dollars(self.reserved)
        counts.unknown_bills = self.unknown


class Ledger:
    """Admits requests to a server under a cap, and keeps what they cost in the counts of a draft."""

    def __init__(self, draft: Draft, charged: Prices, max_cost: float | None) -> None:
        self.prices = charged
        self.max_cost = max_cost
        self._counts = draft.manifest.counts
        self._limit = None if max_cost is None else round(max_cost * PICODOLLARS)
        self._in_flight: dict[int, int] = {}
        self._under_way = 0
        path = draft.path / JOURNAL
        found = _read(path)
        self._number = found.number if found else 0
        self._sums = found.sums if found else _carried(self._counts)
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if found is None:
            sums = self._sums
            self._write([Event("carried", 0, sums.spent, sums.reserved, sums.unknown)])
            sync_file(self._file, path, content_only=True)
            sync_folder(draft.path)
        self._sums.enter(self._counts)

    @property
    def spent(self) -> float:
        """Dollars, over all runs of the version, unknown bills at their worst; what is under way is not in it."""
        return dollars(self._sums.spent)

    def say_spent(self) -> str:
        """What was billed and what is reserved for unknown bills, in words."""
        return say_spent(self._counts)

    def admits(self, worst: int) -> bool:
        """Whether the cap holds even if this request and all that are under way cost their worst."""
        return self._limit is None or self._sums.spent + self._under_way + worst <= self._limit

    def reserve(self, worst: int) -> int:
        """Set money aside for a request, whose number comes back: durable with the next `sync`."""
        self._number += 1
        self._in_flight[self._number] = worst
        self._under_way += worst
        self._write([Event("reserved", self._number, worst)])
        return self._number

    def sync(self) -> None:
        """Make all reservations durable: comes before their requests are sent."""
        sync_file(self._file, self._path, content_only=True)

    def bill(self, number: int, cost: int | None, *, is_known: bool = True) -> None:
        """What a request cost, or what it cost at most; None where neither is known: then its worst case."""
        worst = self._in_flight.pop(number)
        self._under_way -= worst
        sums = self._sums
        if cost is not None and is_known:
            self._sums = sums._replace(billed=sums.billed + cost)
            self._write([Event("billed", number, cost)])
        else:
            reserved = sums.reserved + (worst if cost is None else cost)
            self._sums = sums._replace(reserved=reserved, unknown=sums.unknown + 1)
            if cost is not None:
                self._write([Event("bounded", number, cost)])
        self._sums.enter(self._counts)

    def close(self) -> None:
        """What is still under way has an unknown bill."""
        for number in list(self._in_flight):
            self.bill(number, None)
        os.close(self._file)

    def _write(self, events: list[Event]) -> None:
        with shielded():
            left = memoryview(b"".join(encoder.encode(event) + b"\n" for event in events))
            while left:
                left = left[os.write(self._file, left) :]


def close_books(draft: Draft) -> None:
    """Bring what the journal of a draft says into its manifest, and remove the journal."""
    path = draft.path / JOURNAL
    found = _read(path)
    if found is not None:
        found.sums.enter(draft.manifest.counts)
        draft.save()
        path.unlink()


class _Read(NamedTuple):
    sums: Sums
    number: int


def _read(path: Path) -> _Read | None:
    """What a journal comes to, unknown bills at their worst; None where there is none, or it says nothing."""
    if not path.is_file():
        return None
    cut_torn_line(path)
    billed, reserved, unknown, number, open_bills = 0, 0, 0, 0, dict[int, int]()
    is_begun = False
    for event in decoded(path, Event):
        is_begun = True
        number = max(number, event.number)
        match event.event:
            case "carried":
                billed += event.cost - event.reserved
                reserved += event.reserved
                unknown += event.unknown
            case "reserved":
                open_bills[event.number] = event.cost
            case "billed":
                open_bills.pop(event.number, None)
                billed += event.cost
            case "bounded":
                open_bills.pop(event.number, None)
                reserved += event.cost
                unknown += 1
    sums = Sums(billed, reserved + sum(open_bills.values()), unknown + len(open_bills))
    return _Read(sums, number) if is_begun else None


def _carried(counts: Counts) -> Sums:
    """What a manifest says; one of before the figures were kept apart has their sum alone."""
    reserved = _picodollars(counts.reserved_dollars)
    return Sums(_picodollars(counts.cost_dollars) - reserved, reserved, counts.unknown_bills)


def _picodollars(amount: float | None) -> int:
    return round((amount or 0.0) * PICODOLLARS)
