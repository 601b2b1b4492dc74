"""An engine with budget forcing: samples each completion in rounds, on top of another engine.

Each round is a request of its own: the prompt followed by the completion so far. vLLM finds both in its prefix
cache. So budget forcing works with every engine that takes token ids. A completion is yielded when it is
whole. Continuing rounds come before new requests.
"""

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Literal

import msgspec

from distillpipe.base.hashing import seed_of
from distillpipe.base.options import Budget
from distillpipe.base.records import FinishReason
from distillpipe.engines.base import Completion, Engine, Outcome, Refusal, Request
from distillpipe.engines.budget import policy
from distillpipe.engines.budget.policy import (
    Accept,
    Force,
    SampleOn,
    ThoughtState,
    TokenLimits,
    Truncate,
    Wait,
)
from distillpipe.engines.budget.thoughts import Thought, ThoughtEditor
from distillpipe.models.chat import Chat

if TYPE_CHECKING:  # this imports numpy, which an "up to date" answer does not need
    from distillpipe.data.store.labels import Labels

_STOPPED: dict[FinishReason, Literal["end", "limit", "loop"]] = {
    "stop": "end", "length": "limit", "repetition": "loop",
}  # fmt: skip


class BudgetedEngine:
    """Samples with another engine, under a budget; see `engines.base.Engine`."""

    def __init__(self, engine: Engine, chat: Chat, budget: Budget) -> None:
        self._engine = engine
        self._chat = chat
        self._budget = budget
        self.description = engine.description
        self.context_length = engine.context_length

    def complete(self, requests: Iterator[Request | None]) -> Generator[Outcome, None, None]:
        """See `Engine.complete`. Refuses a prompt that leaves no room for the budget."""
        rounds = _Rounds(requests, self._chat, self._budget, self.context_length)
        with closing(self._engine.complete(rounds.requests())) as outcomes:
            for outcome in outcomes:
                rounds.receive(outcome)
                yield from rounds.take_finished()
        yield from rounds.take_finished()


class _Sequence(msgspec.Struct):
    """A completion in progress."""

    request: Request
    limits: TokenLimits
    ids: list[int]
    "of the completion so far"
    num_rounds: int = 0
    num_waits: int = 0
    forced_end: bool = False
    is_responding: bool = False
    served_by: str | None = None
    labels: "Labels | None" = None
    "as of the last round: without what was cut or inserted since then"

    def all_labels(self, k: int) -> "Labels":
        """The labels of all tokens so far; those inserted since the last round are marked as inserted."""
        from distillpipe.data.store.labels import labels_of_edited

        return labels_of_edited(self.labels, self.ids, k)


class _Rounds:
    """Turns the requests of one `complete` call into rounds, and outcomes of rounds into completions."""

    def __init__(
        self, requests: Iterator[Request | None], chat: Chat, budget: Budget, context: int
    ) -> None:
        self._requests = requests
        self._end_ids = chat.end_ids
        self._budget = budget
        self._editor = ThoughtEditor(chat, budget)
        self._context = context
        self._in_flight: dict[str, _Sequence] = {}
        "by the key of the round"
        self._ready: deque[Request] = deque()
        self._finished: list[Outcome] = []

    def requests(self) -> Iterator[Request | None]:
        """The rounds for the engine; None while every further round depends on one in flight."""
        for request in self._requests:
            if request is None or request.completion_ids is not None:
                yield request
            else:
                self._begin(request)
            while self._ready:
                yield self._ready.popleft()
        while self._in_flight:
            yield self._ready.popleft() if self._ready else None

    def receive(self, outcome: Outcome) -> None:
        """Process the outcome of a round and plan the next one."""
        sequence = self._in_flight.pop(outcome.key, None)
        if sequence is None:  # a request to label an existing completion, which has no rounds
            self._finished.append(outcome)
        elif isinstance(outcome, Completion):
            if outcome.labels is not None:
                before = sequence.all_labels(outcome.labels.k)
                sequence.labels = before.followed_by(outcome.labels)
            sequence.ids += outcome.token_ids
            sequence.served_by = outcome.served_by
            self._continue(sequence, outcome.finish_reason)
        else:
            self._finished.append(outcome._replace(key=sequence.request.key))

    def take_finished(self) -> Iterator[Outcome]:
        """Whole completions, failures and refusals, each once."""
        finished, self._finished = self._finished, []
        yield from finished

    def _begin(self, request: Request) -> None:
        limits = policy.token_limits(
            self._budget,
            request.sampling.max_tokens,
            self._context - len(request.prompt_ids),
            self._editor.delimiters,
        )
        if limits is None:
            measured = str(len(request.prompt_ids))
            self._finished.append(Refusal(request.key, "prompt_too_long", measured))
            return
        self._think(_Sequence(request, limits, list(self._editor.opening_ids)))

    def _continue(self, sequence: _Sequence, reason: FinishReason) -> None:
        """Decide what follows a round that stopped for `reason`."""
        if sequence.is_responding:
            self._finish(sequence, reason)
            return
        thought = self._editor.read(sequence.ids)
        state = self._state(sequence, thought, "end" if thought.is_closed else _STOPPED[reason])
        num_wait_tokens = len(self._editor.wait_ids)
        match policy.next_step(self._budget, sequence.limits, state, num_wait_tokens):
            case Accept() if thought.is_closed:
                if reason == "repetition" or sequence.ids[-1] in self._end_ids:
                    self._finish(sequence, reason)
                else:
                    self._respond(sequence)
            case Accept() | Force() as step:
                self._close(sequence, thought, is_accepted=isinstance(step, Accept))
            case Wait(num_tokens):
                sequence.ids = thought.ids + self._editor.wait_ids[:num_tokens]
                sequence.num_waits += 1
                self._think(sequence)
            case SampleOn():
                sequence.ids = thought.ids
                self._think(sequence)
            case Truncate(why):
                self._finish(sequence, why)

    def _think(self, sequence: _Sequence) -> None:
        """Request more reasoning; end the reasoning if there is no room."""
        thought = self._editor.read(sequence.ids)
        state = self._state(sequence, thought, "limit")
        slack = self._editor.delimiters.slack
        next_round = policy.next_round(self._budget, sequence.limits, state, slack)
        if next_round.num_tokens:
            stop_ids = self._editor.stop_ids if next_round.stops_at_end else ()
            self._request(sequence, next_round.num_tokens, stop_ids)
        else:
            self._continue(sequence, "length")

    def _close(self, sequence: _Sequence, thought: Thought, *, is_accepted: bool) -> None:
        """Close the reasoning for the model.

        With `is_accepted` the model ended its whole turn: the reasoning is closed at its end if it keeps
        to the maximum, else it is cut to the limit.
        """
        high = sequence.limits.thought
        closed = self._editor.close(thought.ids) if is_accepted else []
        if high is None and len(closed) > sequence.limits.completion:
            # without a maximum no room was reserved: the reasoning stays open and is truncated
            sequence.ids = thought.ids
            self._finish(sequence, "length")
            return
        if is_accepted and (high is None or self._editor.read(closed).num_reasoning <= high):
            sequence.ids = closed
        else:
            sequence.ids = self._editor.force_end(thought.ids, sequence.limits)
        sequence.forced_end = True
        self._respond(sequence)

    def _respond(self, sequence: _Sequence) -> None:
        """Request the response, with all tokens that are left."""
        sequence.is_responding = True
        num_left = sequence.limits.completion - len(sequence.ids)
        if num_left > 0:
            self._request(sequence, num_left, ())
        else:
            self._finish(sequence, "length")

    def _request(self, sequence: _Sequence, num_tokens: int, stop_ids: tuple[int, ...]) -> None:
        request, number = sequence.request, sequence.num_rounds
        key = f"{request.key}-{number}"
        sequence.num_rounds += 1
        self._in_flight[key] = sequence
        self._ready.append(
            request._replace(
                key=key,
                prompt_ids=request.prompt_ids + sequence.ids,
                seed=seed_of(request.seed, number) if number else request.seed,
                limit=num_tokens,
                stop_ids=stop_ids,
                is_continuation=number > 0,
            )
        )

    def _finish(self, sequence: _Sequence, reason: FinishReason) -> None:
        request = sequence.request
        k = request.soft_labels
        self._finished.append(
            Completion(
                request.key, sequence.ids, reason, sequence.num_waits, sequence.forced_end,
                sequence.served_by, None if k is None else sequence.all_labels(k),
            )
        )  # fmt: skip

    @staticmethod
    def _state(
        sequence: _Sequence, thought: Thought, stopped: Literal["end", "limit", "loop"]
    ) -> ThoughtState:
        limits = sequence.limits
        num_left = limits.completion - limits.reserved - len(thought.ids)
        return ThoughtState(stopped, thought.num_reasoning, sequence.num_waits, num_left)
