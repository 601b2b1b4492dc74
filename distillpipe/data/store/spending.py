"""Costs of a version: prices, a spending cap, and a journal of requests that survives a kill.

The journal of a draft, `spending.jsonl`, is removed when the version is finished:

    {"event": "carried", "number": 0, "cost": 1200000}       spent before this journal began
    {"event": "reserved", "number": 1, "cost": 70000000}     worst case; durable before the request is sent. A
                                                             second one of the same number takes its place
    {"event": "billed", "number": 1, "cost": 4300000}        from the token counts in the server's response
    {"event": "bounded", "number": 2, "cost": 900000}        response without token counts: cost at most this

Three figures are kept apart: dollars billed, the number of requests with an unknown bill, and dollars reserved
for those. A request without a bill (the process was killed, the connection was lost) stays reserved at its
worst case. So the server never charges more than billed + reserved. Amounts are whole picodollars, so sums
are exact: one dollar per million tokens is 1,000,000 picodollars per token.
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
TEMPLATE_TOKENS = (
    512  # upper bound of what a server's chat template adds to the messages of a prompt
)


class Prices(NamedTuple):
    """Prices in picodollars per token."""

    input: int
    output: int

    def cost(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Cost of one request in picodollars."""
        return prompt_tokens * self.input + completion_tokens * self.output


def prices_of(options: EngineOptions) -> Prices | None:
    """The prices given in the options, None without them. Precision: $0.000001 per million tokens."""
    if options.price_input is None or options.price_output is None:
        return None
    return Prices(round(options.price_input * 1e6), round(options.price_output * 1e6))


def dollars(picodollars: int) -> float:
    return picodollars / PICODOLLARS


def most_prompt_tokens(messages: Iterable[Message]) -> int:
    """Upper bound of prompt tokens: no byte-level tokenizer makes more tokens than a text has bytes."""
    return TEMPLATE_TOKENS + sum(len(message.content.encode()) for message in messages)


def say_dollars(amount: float) -> str:
    """Format dollars: `$1,204.50`, and small amounts with two significant digits: `$0.00042`."""
    if amount >= 0.1 or amount == 0:
        return f"${amount:,.2f}"
    return f"${amount:.2g}" if amount >= 1e-4 else f"${amount:.7f}".rstrip("0")


def projected(spent: float, rows_paid: int, rows_left: int) -> float | None:
    """Total cost if the remaining rows cost as much as the ones so far. None before the first row."""
    return spent + spent / rows_paid * rows_left if rows_paid else None


def say_spent(counts: Counts) -> str:
    """Format the costs: `$0.094 billed, $3.02 reserved for 4 requests with unknown bills`.

    An older manifest has only the sum: `$3.11 spent`. Returns "" without prices.
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
    """The costs of a run as text for the progress line: so far, and projected to all rows."""

    def __init__(self, counts: Counts, num_missing: int) -> None:
        self._counts = counts
        self.num_left = num_missing
        self._paid = counts.rows_kept - counts.rows_reused

    def add_row(self, trace: Trace) -> str:
        """Count a finished row and return the text for the progress line, "" without prices."""
        self.num_left -= 1
        self._paid += 1
        spent = say_spent(self._counts)
        return f"{spent}{self._projection()}" if spent else ""

    @contextmanager
    def added_to_errors(self) -> Iterator[None]:
        """Add the number of missing rows and the projected cost to an `Incomplete` that ends the block."""
        try:
            yield
        except Incomplete as error:
            raise Incomplete(
                f"{error}; {self.num_left:,} rows are left{self._projection()}"
            ) from None

    def _projection(self) -> str:
        spent = self._counts.cost_dollars
        total = None if spent is None else projected(spent, self._paid, self.num_left)
        return "" if total is None else f", about {say_dollars(total)} in all"


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the journal."""

    event: Literal["carried", "reserved", "billed", "bounded"]
    number: int
    cost: int
    "picodollars"
    reserved: int = 0
    "only with `carried`: the part of `cost` that is reserved for unknown bills"
    unknown: int = 0
    "only with `carried`: the number of unknown bills"


class Sums(NamedTuple):
    """Costs of finished requests, in picodollars."""

    billed: int = 0
    reserved: int = 0
    "upper bound for the requests whose bills are unknown"
    unknown: int = 0
    "number of these requests"

    @property
    def spent(self) -> int:
        """Upper bound of what the server charges."""
        return self.billed + self.reserved

    def enter(self, counts: Counts) -> None:
        """Write the sums into the counts of a manifest, in dollars."""
        counts.cost_dollars = dollars(self.spent)
        counts.billed_dollars = dollars(self.billed)
        counts.reserved_dollars = dollars(self.reserved)
        counts.unknown_bills = self.unknown


class Ledger:
    """Admits requests to a server while a cost cap holds, and keeps the costs in the counts of a draft."""

    def __init__(self, draft: Draft, charged: Prices, max_cost: float | None) -> None:
        self.prices = charged
        self.max_cost = max_cost
        self._counts = draft.manifest.counts
        self._limit = None if max_cost is None else round(max_cost * PICODOLLARS)
        self._in_flight: dict[int, int] = {}  # worst case by request number
        self._in_flight_sum = 0
        path = draft.path / JOURNAL
        journal = _read(path)
        self._number = journal.last_number if journal else 0
        self._sums = journal.sums if journal else _sums_of(self._counts)
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if journal is None:
            sums = self._sums
            self._write([Event("carried", 0, sums.spent, sums.reserved, sums.unknown)])
            sync_file(self._file, path, content_only=True)
            sync_folder(draft.path)
        self._sums.enter(self._counts)

    @property
    def spent(self) -> float:
        """Dollars spent at most by finished requests, over all runs of the version."""
        return dollars(self._sums.spent)

    def say_spent(self) -> str:
        """What was billed and what is reserved for unknown bills, as text."""
        return say_spent(self._counts)

    def admits(self, worst: int) -> bool:
        """Whether the cap holds if this request and all requests in flight cost their worst case."""
        return self._limit is None or self._sums.spent + self._in_flight_sum + worst <= self._limit

    def reserve(self, worst: int) -> int:
        """Reserve the worst case of a request and return its number. Durable after the next `sync`."""
        self._number += 1
        self._in_flight[self._number] = worst
        self._in_flight_sum += worst
        self._write([Event("reserved", self._number, worst)])
        return self._number

    def grow(self, number: int, worst: int) -> bool:
        """Reserve more for a request that is under way; false if the cap does not allow it."""
        more = worst - self._in_flight[number]
        if more > 0:
            if not self.admits(more):
                return False
            self._in_flight[number] = worst
            self._in_flight_sum += more
            self._write([Event("reserved", number, worst)])
        return True

    def reserved(self, number: int) -> int:
        """What is reserved for a request that is under way."""
        return self._in_flight[number]

    def sync(self) -> None:
        """Make all reservations durable. Call it before the requests are sent."""
        sync_file(self._file, self._path, content_only=True)

    def bill(self, number: int, cost: int | None, *, is_known: bool = True) -> None:
        """Record the cost of a finished request, in picodollars.

        `is_known` false: `cost` is an upper bound. None: nothing is known, so the worst case stays reserved.
        """
        worst = self._in_flight.pop(number)
        self._in_flight_sum -= worst
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
        """Close the journal. Requests still in flight have unknown bills."""
        for number in list(self._in_flight):
            self.bill(number, None)
        os.close(self._file)

    def _write(self, events: list[Event]) -> None:
        with shielded():
            unwritten = memoryview(b"".join(encoder.encode(event) + b"\n" for event in events))
            while unwritten:
                unwritten = unwritten[os.write(self._file, unwritten) :]


def close_books(draft: Draft) -> None:
    """Write the sums of a draft's journal into its manifest and remove the journal."""
    path = draft.path / JOURNAL
    journal = _read(path)
    if journal is not None:
        journal.sums.enter(draft.manifest.counts)
        draft.save()
        path.unlink()


class _Journal(NamedTuple):
    sums: Sums
    last_number: int


def _read(path: Path) -> _Journal | None:
    """Add up a journal. Open reservations count as unknown bills. None if there is no journal or it is empty."""
    if not path.is_file():
        return None
    cut_torn_line(path)
    billed, reserved, unknown, number, open_bills = 0, 0, 0, 0, dict[int, int]()
    is_empty = True
    for event in decoded(path, Event):
        is_empty = False
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
    return None if is_empty else _Journal(sums, number)


def _sums_of(counts: Counts) -> Sums:
    """The sums in a manifest. An older one has only the total, which counts as billed."""
    reserved = _picodollars(counts.reserved_dollars)
    return Sums(_picodollars(counts.cost_dollars) - reserved, reserved, counts.unknown_bills)


def _picodollars(amount: float | None) -> int:
    return round((amount or 0.0) * PICODOLLARS)
