"""The engine for any OpenAI-compatible server: `vllm serve`, SGLang, Ollama, DeepSeek, OpenRouter.

A synchronous scheduler decides what is sent and when; only the single HTTP request is asynchronous. So requests
are pulled and rows are written by one thread, and Ctrl-C arrives between two slices of the event loop.
"""

import heapq
import random
import re
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from itertools import count
from typing import NamedTuple

import msgspec

from distillpipe.base.errors import EngineError, Incomplete
from distillpipe.base.options import STALL_SECONDS
from distillpipe.base.progress import say
from distillpipe.base.redaction import redact
from distillpipe.engines.base import Failure, Outcome, Refusal, Request
from distillpipe.engines.server.alarm import require_reasoning
from distillpipe.engines.server.billing import Billing
from distillpipe.engines.server.bodies import Dialect, Endpoint, adapt_dialect, change_of
from distillpipe.engines.server.connections import (
    RequestLimits,
    max_answer_bytes,
    num_connections_allowed,
)
from distillpipe.engines.server.event_loop import SLICE_SECONDS, TaskLoop
from distillpipe.engines.server.replies import (
    Fatal,
    Refused,
    Reply,
    Response,
    Retry,
    one_line,
    read_response,
)
from distillpipe.engines.server.retry import (
    LONGEST_DELAY,
    MAX_TRIES,
    Throttle,
    retry_after_seconds,
    retry_delay,
)
from distillpipe.engines.server.server import Server
from distillpipe.engines.server.streams import Stop, StreamedAnswer
from distillpipe.engines.server.usage import UsageWarning

DEAD_TRIES = 6  # tries in a row without a connection, per request in flight: the server is down
MANY_FAILURES = 20  # failed requests in a row, or the concurrency if larger: the server is broken
MAX_NAMES = (
    20  # new model names that are reported, for a server that changes its name again and again
)
SILENT_TRIES = (
    2  # tries in a row without a byte of an answer, per request in flight: the server hangs
)
MAX_SUSPECTS = 5  # refusals before the first answer: an option is the cause

_REFUSES_STREAM = re.compile(
    r"\bstream(ing|ed|s)?\b.{0,60}\b(not|un)|\b(not|un)\w*\b.{0,60}\bstream", re.IGNORECASE
)


class Timeouts(NamedTuple):
    """How long a server may take."""

    silence_seconds: float | None = None
    "without a byte of an answer that is not streamed; null: ten minutes, plus a second per ten tokens of its limit"
    delay_scale: float = 1.0
    "factor on the delays between tries"
    deadline_seconds: float | None = None
    "for the whole request; null: twice the time without a byte of an answer that is not streamed"
    stall_seconds: float = STALL_SECONDS
    "without a byte of an answer that is streamed, or may be"

    def silence(self, max_tokens: int) -> float:
        """Seconds without a byte where an answer comes in one piece at its end."""
        return 600 + max_tokens / 10 if self.silence_seconds is None else self.silence_seconds

    def limits(self, request: Request, *, is_streamed: bool = False) -> RequestLimits:
        """The limits of one request: time without a byte, total time, bytes of its answer."""
        silence = self.silence(request.max_tokens)
        deadline = 2 * silence if self.deadline_seconds is None else self.deadline_seconds
        stall = self.stall_seconds if is_streamed else silence
        if is_streamed and self.silence_seconds is not None:
            stall = min(stall, silence)
        return RequestLimits(stall, max(deadline, stall), max_answer_bytes(request))


DEFAULT_TIMEOUTS = Timeouts()


class OpenAIEngine:
    """Requests completions from a server; see `engines.base.Engine`. With `billing`, requests cost money.

    With `needs_reasoning`, answers without reasoning raise EngineError; see `require_reasoning`. `end_ids` are
    the end tokens of the chat that renders prompts here; null if the server renders them.
    """

    def __init__(
        self,
        server: Server,
        concurrency: int,
        billing: Billing | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        *,
        needs_reasoning: bool = False,
        end_ids: frozenset[int] | None = None,
    ) -> None:
        self._server = server
        self._concurrency = num_connections_allowed(concurrency)
        self._billing = billing
        self._timeouts = timeouts
        self._needs_reasoning = needs_reasoning
        self._endpoint = Endpoint(
            server.model, server.context_length, end_ids, server.template_variables
        )
        self.context_length = server.context_length
        self.description = f"{server.model} at {server.base_url}"

    def complete(self, requests: Iterator[Request | None]) -> Generator[Outcome, None, None]:
        """See `Engine.complete`. Raises Incomplete when --max-cost is reached."""
        scheduler = _Scheduler(
            self._server, self._endpoint, requests, self._concurrency, self._billing, self._timeouts
        )
        outcomes = scheduler.outcomes()
        try:
            if self._needs_reasoning:
                outcomes = require_reasoning(outcomes, self._server)
            yield from outcomes
        finally:
            scheduler.close()
            if self._billing is not None:
                self._billing.close()


class _Pending(msgspec.Struct):
    """A request that was pulled and is not finished."""

    request: Request
    tries: int = 0
    sent_after: int = 0
    "number of throttle halvings when it was sent"
    reservation: int | None = None
    is_bounded: bool = True
    "false once the server has said that prompt and `max_tokens` together exceed its context"
    dialect: Dialect = Dialect()
    "of the last try"
    is_over_cost: bool = False
    "its answer was ended because --max-cost allows no more"


class _Scheduler:
    """Sends the requests of one `complete` call, retries them and turns responses into outcomes."""

    def __init__(
        self,
        server: Server,
        endpoint: Endpoint,
        requests: Iterator[Request | None],
        concurrency: int,
        billing: Billing | None,
        timeouts: Timeouts,
    ) -> None:
        self._server, self._endpoint = server, endpoint
        self._requests, self._concurrency = requests, concurrency
        self._billing, self._timeouts = billing, timeouts
        self._connections = server.connect(concurrency)
        self._loop = TaskLoop()
        self._throttle = Throttle(concurrency)
        self._is_exhausted = False
        self._delayed: list[tuple[float, int, _Pending]] = []
        "a heap: due time, a unique number, the request"
        self._numbers = count()
        self._unpaid: _Pending | None = None
        "a request that does not fit under --max-cost until reservations of others are released"
        self._suspects: list[Refusal] = []
        "refusals before the first answer, which may be the fault of an option"
        self._is_proven = False
        "whether an answer has come"
        self._dialect = Dialect()
        self._num_unconnected = self._num_failed = self._num_silent = 0
        "each in a row"
        self._notes: Counter[str] = Counter()
        "what was remarkable about answers that were kept"
        self._served_by: set[str] = set()
        self._error: EngineError | None = None
        self._has_reported_delay = False
        self._warned: set[str] = set()
        "kinds of usage warnings that were printed"

    def outcomes(self) -> Iterator[Outcome]:
        """The outcomes of the requests, in the order they finish."""
        self._send()
        while self._loop.num_tasks or self._delayed or self._unpaid is not None:
            for pending, response in self._loop.run_slice(self._seconds_to_next()):
                yield from self._receive(pending, response)
            if self._error is not None:  # raised after all responses of the same slice are yielded
                raise self._error
            self._send()
        yield from self._suspects
        for note, number in self._notes.items():
            say(f"{number:,} answers {note}")

    def _count_notes(self, reply: Reply) -> None:
        """Count answers that were kept although something about them is odd; their rows' `extra` has it."""
        for name, text in reply.notes:
            match name:
                case "finish_reason":
                    read = f"read as {reply.finish_reason!r}"
                    self._notes[
                        f"ended with a finish_reason that is not known ({text}): {read}"
                    ] += 1
                case "halves_of_characters_replaced":
                    self._notes["held halves of characters: replaced by U+FFFD"] += 1
                case "text_before_reasoning":
                    self._notes["held text before the reasoning: kept in `extra`"] += 1

    def _lacks_ids(self, pending: _Pending, response: Response) -> bool:
        """Whether a server leaves out the token ids because the answer is streamed."""
        if self._endpoint.end_ids is None or self._is_proven or not isinstance(response, Reply):
            return False
        return response.token_ids is None and pending.dialect.is_streamed

    def close(self) -> None:
        """Cancel what is in flight and close all connections."""
        self._loop.close(self._connections.close())

    def _send(self) -> None:
        """Send due and new requests, as many as throttle and --max-cost allow."""
        batch: list[_Pending] = []
        while self._loop.num_tasks + len(batch) < self._throttle.limit:
            pending = self._next(len(batch))
            if pending is None:
                break
            if self._billing is not None:
                pending.reservation = self._billing.reserve(pending.request)
                if pending.reservation is None:
                    self._unpaid = pending
                    if not batch and not self._loop.num_tasks:
                        raise Incomplete(self._billing.used_up(pending.request))
                    break
            batch.append(pending)
        if self._billing is not None and batch:
            self._billing.sync()  # reservations are on disk before anything is sent
        for pending in batch:
            pending.dialect = self._dialect
            pending.sent_after = self._throttle.num_halvings
            self._loop.start(self._post(pending))

    def _next(self, num_chosen: int) -> _Pending | None:
        """A delayed request that is due, else a new one; None if there is neither."""
        if self._unpaid is not None:
            pending, self._unpaid = self._unpaid, None
            return pending
        if self._delayed and self._delayed[0][0] <= time.monotonic():
            return heapq.heappop(self._delayed)[2]
        num_pulled = len(self._delayed) + self._loop.num_tasks + num_chosen
        if self._is_exhausted or num_pulled >= self._concurrency:
            return None
        try:
            request = next(self._requests)
        except StopIteration:
            self._is_exhausted = True
            return None
        return None if request is None else _Pending(request)

    def _delay(self, pending: _Pending, seconds: float) -> None:
        due = time.monotonic() + seconds
        heapq.heappush(self._delayed, (due, next(self._numbers), pending))

    def _seconds_to_next(self) -> float:
        is_full = self._loop.num_tasks >= self._throttle.limit or self._unpaid is not None
        if not self._delayed or is_full:
            return SLICE_SECONDS
        return max(0.0, self._delayed[0][0] - time.monotonic())

    async def _post(self, pending: _Pending) -> tuple[_Pending, Response]:
        """Send a request once and read its response."""
        request, is_bounded, dialect = pending.request, pending.is_bounded, pending.dialect
        raw_response = await self._connections.post(
            self._endpoint.path,
            self._endpoint.body(request, dialect, is_bounded=is_bounded),
            self._timeouts.limits(request, is_streamed=dialect.is_streamed),
            lambda answer: self._stop_for(pending, answer),
        )
        if isinstance(raw_response, Retry):
            return pending, raw_response
        bounds = self._endpoint.usage_bounds(request, is_bounded=is_bounded)
        response = read_response(*raw_response[:4], bounds)
        if isinstance(response, Reply) and dialect.is_streamed and not raw_response.is_stream:
            self._say_not_streamed(request)
        if pending.is_over_cost and isinstance(response, Reply):
            # its text was cut, so it says nothing of what was billed
            response = response._replace(
                usage=response.usage._replace(booked=None, is_billed=False)
            )
        is_proven = self._is_proven
        if raw_response.is_stream and self._lacks_ids(pending, response):
            return pending, Retry("its streams do not hold token ids", may_be_billed=True)
        return pending, self._endpoint.check_token_ids(request, response, is_proven=is_proven)

    def _stop_for(self, pending: _Pending, answer: StreamedAnswer) -> Stop | None:
        """Why an answer under way is ended: it loops, or the server goes on beyond what --max-cost allows."""
        if pending.request.sampling.stop_loops and answer.is_loop():
            return "repetition"
        if self._billing is None or pending.reservation is None:
            return None
        if self._billing.allows(pending.reservation, pending.request, answer.num_tokens):
            return None
        pending.is_over_cost = True
        return "length"

    def _say_not_streamed(self, request: Request) -> None:
        """From now on answers are asked for in one piece: say how long one may take."""
        if self._dialect.is_streamed:
            self._dialect = self._dialect._replace(stream="no")
            seconds = self._timeouts.silence(request.max_tokens)
            loops = "; --stop-loops has no effect" if request.sampling.stop_loops else ""
            say(
                f"the server does not stream its answers: each is waited for up to {seconds:,.0f} s{loops}"
            )

    def _receive(self, pending: _Pending, response: Response) -> Iterator[Outcome]:
        """Bill a response and turn it into outcomes, or into another try."""
        if self._billing is not None and pending.reservation is not None:
            self._billing.bill(pending.reservation, pending.request, response)
        if isinstance(response, Reply | Refused) and response.usage is not None:
            self._warn_once(response.usage.warnings)
        # a request that waits in the server's queue is silent too: fewer at a time are the remedy
        is_busy = isinstance(response, Retry) and (response.is_busy or response.is_silent)
        self._throttle.record(pending.sent_after, is_busy=is_busy)
        key = pending.request.key
        match response:
            case Reply():
                self._num_unconnected = self._num_failed = self._num_silent = 0
                self._check_name(response.served_by)
                is_proven, self._is_proven = self._is_proven, True
                # an answer has come: the options are not to blame for earlier refusals
                suspects, self._suspects = self._suspects, []
                yield from suspects
                self._count_notes(response)
                yield self._endpoint.outcome(pending.request, response, is_proven=is_proven)
            case Refused("prompt_too_long") if pending.is_bounded:
                pending.is_bounded = False
                self._delay(pending, 0.0)
            case Refused(_, detail, False) if (
                dialect := adapt_dialect(pending.dialect, detail)
            ) is not None:
                self._adapt(pending, dialect, detail)
            case Refused(reason, detail, is_certain):
                yield from self._refuse(Refusal(key, reason, detail), is_certain=is_certain)
            case Retry():
                yield from self._retry(pending, response)
            case Fatal():
                self._error = self._error or EngineError(self._server.remedy(response))

    def _adapt(self, pending: _Pending, dialect: Dialect, detail: str) -> None:
        """Send a request again in another dialect, and all later ones."""
        if self._dialect == pending.dialect:
            change = change_of(self._dialect, dialect)
            say(
                f"the server does not support a field of the requests ({detail}): sending them {change}"
            )
            if not dialect.is_streamed and self._dialect.is_streamed:
                self._say_not_streamed(pending.request)
            self._dialect = dialect
        self._delay(pending, 0.0)

    def _refuse(self, refusal: Refusal, *, is_certain: bool) -> Iterator[Refusal]:
        """Yield a refusal; hold it back while an option may be the cause."""
        if is_certain or self._is_proven:
            yield refusal
            return
        self._suspects.append(refusal)
        if len(self._suspects) >= MAX_SUSPECTS:
            self._error = EngineError(
                f"{self._server.base_url} refuses every request ({refusal.measured}): change the option "
                "that it names and run the same command again; no row was rejected"
            )

    def _retry(self, pending: _Pending, response: Retry) -> Iterator[Failure]:
        """Schedule another try; yield a failure after the last one."""
        if (
            pending.dialect.is_streamed
            and not self._is_proven
            and _REFUSES_STREAM.search(response.reason)
        ):
            self._adapt(pending, pending.dialect._replace(stream="no"), response.reason)
            return
        pending.tries += 1
        self._num_unconnected = 0 if response.was_sent else self._num_unconnected + 1
        self._num_silent = self._num_silent + 1 if response.is_silent else 0
        num_in_flight = self._loop.num_tasks + len(self._delayed) + 1
        if self._num_unconnected >= DEAD_TRIES * num_in_flight:
            self._error = EngineError(
                f"{self._server.base_url} is down: {response.reason}, {self._num_unconnected:,} times in "
                "a row; start the server again and run the same command to continue"
            )
        if response.is_silent and self._num_silent == 1:
            say(f"warning: {response.reason} (--stall-seconds): asking again")
        if self._num_silent > SILENT_TRIES * num_in_flight:
            self._error = EngineError(
                f"{self._server.base_url} takes requests and does not answer: {response.reason}, "
                f"{self._num_silent:,} times in a row; restart the server, or give a longer --stall-seconds or a "
                "smaller --concurrency, and run the same command to continue"
            )
        if pending.tries < MAX_TRIES:
            retry_after = retry_after_seconds(response.retry_after, time.time())
            # the jitter does not enter any row, so it needs no seed
            seconds = retry_delay(pending.tries, retry_after, random.random())
            self._delay(pending, seconds * self._timeouts.delay_scale)
            if seconds > LONGEST_DELAY and not self._has_reported_delay:
                say(f"the server asks to wait {seconds:,.0f} s ({response.reason})")
                self._has_reported_delay = True
            return
        yield Failure(pending.request.key, redact(f"{response.reason} ({pending.tries} tries)"))
        self._num_failed += 1
        if self._num_failed >= max(MANY_FAILURES, self._concurrency):
            self._error = EngineError(
                f"{self._server.base_url} does not work: {self._num_failed:,} requests in a row failed "
                f"{MAX_TRIES} times each, the last with: {response.reason}; repair the server and run the "
                "same command to continue"
            )

    def _warn_once(self, warnings: Sequence[UsageWarning]) -> None:
        """Print warnings about the server's token counts, each kind once."""
        for warning in warnings:
            if warning.kind not in self._warned:
                self._warned.add(warning.kind)
                say(f"warning: {one_line(warning.text)}")

    def _check_name(self, served_by: str | None) -> None:
        """Warn when the model name that the server reports changes."""
        names = self._served_by
        if served_by is None or served_by in names or len(names) >= MAX_NAMES:
            return
        if names:
            say(
                f"warning: answers now come from {one_line(repr(served_by))}, a new name in this run"
            )
        names.add(served_by)
        if len(names) >= MAX_NAMES:
            say(f"the server has reported {len(names)} names: further new names are not shown")
