"""Any server that speaks OpenAI's chat completions: `vllm serve`, SGLang, Ollama, DeepSeek, OpenRouter.

A scheduler in plain code decides what is sent and when; only the single request is asynchronous. So
requests are pulled, and rows written, by one thread, and Ctrl-C falls between two turns of the event loop.
"""

import heapq
import random
import time
from collections.abc import Generator, Iterator, Sequence
from itertools import count
from typing import NamedTuple

import msgspec

from distillpipe.base.errors import EngineError, Incomplete
from distillpipe.base.progress import say
from distillpipe.base.redaction import redact
from distillpipe.engines.base import Answer, Failure, Outcome, Refusal, Request
from distillpipe.engines.server.billing import Billing
from distillpipe.engines.server.bodies import Dialect, Endpoint, adapted
from distillpipe.engines.server.connections import Limits, most_bytes, num_connections_allowed
from distillpipe.engines.server.event_loop import TICK_SECONDS, Turns
from distillpipe.engines.server.replies import (
    Again,
    Refused,
    Reply,
    Response,
    Stop,
    one_line,
    read_response,
)
from distillpipe.engines.server.retry import (
    LONGEST_DELAY,
    MAX_TRIES,
    Throttle,
    delay,
    retry_after_seconds,
)
from distillpipe.engines.server.server import Server
from distillpipe.engines.server.usage import Remark

DEAD_TRIES = 6  # in a row without a connection, for each request under way: the server is gone
MANY_FAILURES = 20  # given up in a row, if the concurrency is no more: the server is out of order
NUM_NAMES = 20  # that are told of a server which calls itself otherwise again and again
NUM_SUSPECTS = 5  # refused before the first answer: the fault lies in the options


class Patience(NamedTuple):
    """How long a server may take."""

    timeout_seconds: float | None = None
    "without a byte of the answer; null: ten minutes, and a second for ten tokens of `max_tokens`"
    delay_scale: float = 1.0
    "of the waits between tries"
    deadline_seconds: float | None = None
    "for the whole of a request; null: twice the time without a byte"

    def timeout(self, max_tokens: int) -> float:
        """Seconds without a byte: an answer comes in one piece, at its end."""
        return 600 + max_tokens / 10 if self.timeout_seconds is None else self.timeout_seconds

    def limits(self, request: Request) -> Limits:
        """What one request may take: time without a byte, time in all, bytes of its answer."""
        silence = self.timeout(request.max_tokens)
        deadline = 2 * silence if self.deadline_seconds is None else self.deadline_seconds
        return Limits(silence, deadline, most_bytes(request))


PATIENCE = Patience()


class OpenAIEngine:
    """Asks a server; see `engines.base.Engine`. With `billing`, what is sent is paid for.

    With `needs_reasoning`, answers without any are an EngineError; see `alarm`. `end_ids` are those of
    the chat that renders prompts here; null where the server does.
    """

    def __init__(
        self,
        server: Server,
        concurrency: int,
        billing: Billing | None = None,
        patience: Patience = PATIENCE,
        *,
        needs_reasoning: bool = False,
        end_ids: frozenset[int] | None = None,
    ) -> None:
        self._server = server
        self._concurrency = num_connections_allowed(concurrency)
        self._billing = billing
        self._patience = patience
        self._needs_reasoning = needs_reasoning
        self._endpoint = Endpoint(server.model, server.context_length, end_ids)
        self.context_length = server.context_length
        self.description = f"{server.model} at {server.base_url}"

    def complete(self, requests: Iterator[Request | None]) -> Generator[Outcome, None, None]:
        """See `Engine.complete`. Raises Incomplete where the money is spent."""
        run = _Run(
            self._server, self._endpoint, requests, self._concurrency, self._billing, self._patience
        )
        try:
            yield from with_alarm(run.outcomes()) if self._needs_reasoning else run.outcomes()
        finally:
            run.close()
            if self._billing is not None:
                self._billing.close()


class _Pending(msgspec.Struct):
    """A request that was pulled and is not finished."""

    request: Request
    tries: int = 0
    sent_after: int = 0
    "halvings of the throttle"
    reservation: int | None = None
    is_bounded: bool = True
    "false once the server has said that prompt and `max_tokens` together outgrow its context"
    dialect: Dialect = Dialect()
    "that it was asked in last"


class _Run:
    """The requests of one call of `complete`."""

    def __init__(
        self,
        server: Server,
        endpoint: Endpoint,
        requests: Iterator[Request | None],
        concurrency: int,
        billing: Billing | None,
        patience: Patience,
    ) -> None:
        self._server, self._endpoint = server, endpoint
        self._requests, self._concurrency = requests, concurrency
        self._billing, self._patience = billing, patience
        self._connections = server.connect(concurrency)
        self._turns = Turns()
        self._throttle = Throttle(concurrency)
        self._is_exhausted = False
        self._waiting: list[tuple[float, int, _Pending]] = []
        "a heap: when it is due, a number that no other has"
        self._numbers = count()
        self._unpaid: _Pending | None = None
        "waits for money that is set aside for others"
        self._suspects: list[Refusal] = []
        self._is_proven = False
        self._dialect = Dialect()
        self._num_unconnected = self._num_given_up = 0
        self._served_by: set[str] = set()
        self._error: EngineError | None = None
        self._has_told_to_wait = False
        self._remarks: set[str] = set()
        "kinds of what was said of the server's counts"

    def outcomes(self) -> Iterator[Outcome]:
        """What comes of the requests, as it comes."""
        self._send()
        while self._turns.num_tasks or self._waiting or self._unpaid is not None:
            for pending, response in self._turns.turn(self._seconds_to_next()):
                yield from self._settled(pending, response)
            if self._error is not None:  # not before all is handed on that has come back with it
                raise self._error
            self._send()
        yield from self._suspects

    def close(self) -> None:
        """Take back what is under way, and close all connections."""
        self._turns.close(self._connections.close())

    def _send(self) -> None:
        """Send what is due and what is new, as far as throttle and money allow."""
        sent: list[_Pending] = []
        while self._turns.num_tasks + len(sent) < self._throttle.limit:
            pending = self._next(len(sent))
            if pending is None:
                break
            if self._billing is not None:
                pending.reservation = self._billing.reserve(pending.request)
                if pending.reservation is None:
                    self._unpaid = pending
                    if not sent and not self._turns.num_tasks:
                        raise Incomplete(self._billing.used_up(pending.request))
                    break
            sent.append(pending)
        if self._billing is not None and sent:
            self._billing.sync()
        for pending in sent:
            pending.dialect = self._dialect
            pending.sent_after = self._throttle.num_halvings
            self._turns.start(self._ask(pending))

    def _next(self, num_chosen: int) -> _Pending | None:
        """A request that waits no longer, else a new one; None where there is neither."""
        if self._unpaid is not None:
            pending, self._unpaid = self._unpaid, None
            return pending
        if self._waiting and self._waiting[0][0] <= time.monotonic():
            return heapq.heappop(self._waiting)[2]
        num_pulled = len(self._waiting) + self._turns.num_tasks + num_chosen
        if self._is_exhausted or num_pulled >= self._concurrency:
            return None
        try:
            request = next(self._requests)
        except StopIteration:
            self._is_exhausted = True
            return None
        return None if request is None else _Pending(request)

    def _wait(self, pending: _Pending, seconds: float) -> None:
        due = time.monotonic() + seconds
        heapq.heappush(self._waiting, (due, next(self._numbers), pending))

    def _seconds_to_next(self) -> float:
        is_full = self._turns.num_tasks >= self._throttle.limit or self._unpaid is not None
        if not self._waiting or is_full:
            return TICK_SECONDS
        return max(0.0, self._waiting[0][0] - time.monotonic())

    async def _ask(self, pending: _Pending) -> tuple[_Pending, Response]:
        """Send a request once."""
        request, is_bounded = pending.request, pending.is_bounded
        received = await self._connections.post(
            self._endpoint.path,
            self._endpoint.body(request, pending.dialect, is_bounded=is_bounded),
            self._patience.limits(request),
        )
        if isinstance(received, Again):
            return pending, received
        most = self._endpoint.most(request, is_bounded=is_bounded)
        response = read_response(*received, most)
        return pending, self._endpoint.checked(request, response, is_proven=self._is_proven)

    def _settled(self, pending: _Pending, response: Response) -> Iterator[Outcome]:
        """What comes of a request when a response is there: an outcome, or another try."""
        if self._billing is not None and pending.reservation is not None:
            self._billing.bill(pending.reservation, pending.request, response)
        if isinstance(response, Reply | Refused) and response.usage is not None:
            self._say_once(response.usage.remarks)
        is_busy = isinstance(response, Again) and response.is_busy
        self._throttle.answered(pending.sent_after, is_busy=is_busy)
        key = pending.request.key
        match response:
            case Reply():
                self._num_unconnected = self._num_given_up = 0
                self._note(response)
                is_proven = self._is_proven
                yield from self._proven()
                yield self._endpoint.outcome(pending.request, response, is_proven=is_proven)
            case Refused("prompt_too_long") if pending.is_bounded:
                pending.is_bounded = False
                self._wait(pending, 0.0)
            case Refused(_, said, False) if (other := adapted(pending.dialect, said)) is not None:
                self._adapt(pending, other, said)
            case Refused(reason, said, is_certain):
                yield from self._refused(Refusal(key, reason, said), is_certain=is_certain)
            case Again():
                yield from self._again(pending, response)
            case Stop():
                self._error = self._error or EngineError(self._server.remedy(response))

    def _adapt(self, pending: _Pending, other: Dialect, said: str) -> None:
        """Ask again, and from now on, in another dialect."""
        if self._dialect == pending.dialect:
            change = (
                f"with {other.limit}"
                if other.has_seed == self._dialect.has_seed
                else "without seeds"
            )
            say(f"the server does not take requests as they are ({said}): asking {change}")
            self._dialect = other
        self._wait(pending, 0.0)

    def _proven(self) -> Iterator[Refusal]:
        """An answer shows that the options are not at fault for what was refused."""
        self._is_proven = True
        suspects, self._suspects = self._suspects, []
        yield from suspects

    def _refused(self, refusal: Refusal, *, is_certain: bool) -> Iterator[Refusal]:
        if is_certain or self._is_proven:
            yield refusal
            return
        self._suspects.append(refusal)
        if len(self._suspects) >= NUM_SUSPECTS:
            self._error = EngineError(
                f"{self._server.base_url} refuses every request ({refusal.measured}): change the option "
                "that it names; nothing was rejected, the same command goes on"
            )

    def _again(self, pending: _Pending, response: Again) -> Iterator[Failure]:
        pending.tries += 1
        self._num_unconnected = 0 if response.was_sent else self._num_unconnected + 1
        num_in_flight = self._turns.num_tasks + len(self._waiting) + 1
        if self._num_unconnected >= DEAD_TRIES * num_in_flight:
            self._error = EngineError(
                f"{self._server.base_url} is gone: {response.reason}, {self._num_unconnected:,} times in "
                "a row; start the server again, the same command goes on"
            )
        if pending.tries < MAX_TRIES:
            asked = retry_after_seconds(response.retry_after, time.time())
            seconds = delay(pending.tries, asked, random.random())  # jitter: part of no row
            self._wait(pending, seconds * self._patience.delay_scale)
            if seconds > LONGEST_DELAY and not self._has_told_to_wait:
                say(f"the server asks us to wait {seconds:,.0f} s ({response.reason})")
                self._has_told_to_wait = True
            return
        yield Failure(pending.request.key, redact(f"{response.reason} ({pending.tries} tries)"))
        self._num_given_up += 1
        if self._num_given_up >= max(MANY_FAILURES, self._concurrency):
            self._error = EngineError(
                f"{self._server.base_url} is out of order: {self._num_given_up:,} requests in a row "
                f"failed {MAX_TRIES} times each, the last with: {response.reason}; mend the server, the "
                "same command goes on"
            )

    def _say_once(self, remarks: Sequence[Remark]) -> None:
        """Say what is odd in a server's counts, each kind of it once."""
        for remark in remarks:
            if remark.about not in self._remarks:
                self._remarks.add(remark.about)
                say(f"warning: {one_line(remark.text)}")

    def _note(self, reply: Reply) -> None:
        """Say it when the server begins to call itself something else."""
        served_by = reply.served_by
        if served_by is None or served_by in self._served_by or self._has_many_names:
            return
        if self._served_by:
            name = one_line(repr(served_by))
            say(f"warning: answers now come from {name}, which is new in this run")
        self._served_by.add(served_by)
        if self._has_many_names:
            say(
                f"the server has had {len(self._served_by)} names by now: new ones are not said any more"
            )

    @property
    def _has_many_names(self) -> bool:
        return len(self._served_by) >= NUM_NAMES


# The alarm: a reasoning teacher that returns no reasoning is found out after a few rows.


NUM_ROWS = 5  # without any reasoning, at the beginning of a run


def with_alarm(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """The outcomes; the first answers are held back until one of them has reasoning.

    Raises EngineError where `NUM_ROWS` answers have none: they are no rows then, so that a server started
    anew is asked for them again. Fewer in all pass with a warning. What is held back when a run is
    interrupted is lost, four answers at most.
    """
    held: list[Answer] = []
    is_sure = False
    for outcome in outcomes:
        if is_sure or not isinstance(outcome, Answer):
            yield outcome
            continue
        held.append(outcome)
        is_sure = outcome.message.reasoning_content is not None
        if is_sure:
            yield from held
        elif len(held) >= NUM_ROWS:
            raise EngineError(
                f"the first {NUM_ROWS} answers hold no reasoning: start the server with its reasoning "
                "parser (vllm serve --reasoning-parser ...), ask a reasoning model, or give "
                "--allow-no-reasoning; none of them was kept"
            )
    if not is_sure and held:
        say(f"warning: no reasoning in any of the {len(held)} answers")
        yield from held
