"""An engine whose thoughts keep to a budget: what one completion is, is sampled in rounds.

Each round is a request of its own: the prompt, then all of the completion that stands. The engine samples
on as it would anyway (vLLM finds what it has seen in its prefix cache), so this works for every engine that
takes token ids. A row is handed on only when it is whole. Rounds that go on come before new requests.
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
from distillpipe.engines.budget import policy as machine
from distillpipe.engines.budget.policy import Accept, Force, GoOn, Limits, Seen, Stop, Wait
from distillpipe.engines.budget.thoughts import Thought, Thoughts
from distillpipe.models.chat import Chat

if TYPE_CHECKING:  # it loads numpy, which an answer of "up to date" has no use for
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
        """See `Engine.complete`. A prompt that leaves no room for the budget is refused."""
        run = _Run(requests, self._chat, self._budget, self.context_length)
        with closing(self._engine.complete(run.rounds())) as outcomes:
            for outcome in outcomes:
                run.settle(outcome)
                yield from run.taken()
        yield from run.taken()


class _Sequence(msgspec.Struct):
    """A completion that is under way."""

    request: Request
    limits: Limits
    ids: list[int]
    "of the completion so far"
    num_rounds: int = 0
    num_waits: int = 0
    forced_end: bool = False
    is_responding: bool = False
    served_by: str | None = None
    labels: "Labels | None" = None
    "of the completion after its last round; what was cut away since, or inserted, is not in them yet"


class _Run:
    """The requests of one call of `complete`."""

    def __init__(
        self, requests: Iterator[Request | None], chat: Chat, budget: Budget, context: int
    ) -> None:
        self._requests = requests
        self._end_ids = chat.end_ids
        self._budget = budget
        self._thoughts = Thoughts(chat, budget)
        self._context = context
        self._under_way: dict[str, _Sequence] = {}
        "by the key of the round"
        self._ready: deque[Request] = deque()
        self._settled: list[Outcome] = []

    def rounds(self) -> Iterator[Request | None]:
        """What the engine is asked for: None while all that there is depends on what it works on."""
        for request in self._requests:
            if request is None or request.completion_ids is not None:
                yield request
            else:
                self._begin(request)
            while self._ready:
                yield self._ready.popleft()
        while self._under_way:
            yield self._ready.popleft() if self._ready else None

    def settle(self, outcome: Outcome) -> None:
        """Take in what came of a round, and plan the next one."""
        sequence = self._under_way.pop(outcome.key, None)
        if sequence is None:  # a completion that was there
            self._settled.append(outcome)
        elif isinstance(outcome, Completion):
            if outcome.labels is not None:
                before = _labels_of(sequence, outcome.labels.k)
                sequence.labels = before.followed_by(outcome.labels)
            sequence.ids += outcome.token_ids
            sequence.served_by = outcome.served_by
            self._go_on(sequence, outcome.finish_reason)
        else:
            self._settled.append(outcome._replace(key=sequence.request.key))

    def taken(self) -> Iterator[Outcome]:
        """What is whole, or will never be, each once."""
        settled, self._settled = self._settled, []
        yield from settled

    def _begin(self, request: Request) -> None:
        room = self._context - len(request.prompt_ids)
        max_tokens = request.sampling.max_tokens
        allowed = machine.limits(self._budget, max_tokens, room, self._thoughts.around)
        if allowed is None:
            measured = str(len(request.prompt_ids))
            self._settled.append(Refusal(request.key, "prompt_too_long", measured))
            return
        self._think(_Sequence(request, allowed, list(self._thoughts.opening_ids)))

    def _go_on(self, sequence: _Sequence, reason: FinishReason) -> None:
        """Decide what follows a round that has stopped for `reason`."""
        if sequence.is_responding:
            self._end(sequence, reason)
            return
        thought = self._thoughts.read(sequence.ids)
        stopped = "end" if thought.is_closed else _STOPPED[reason]
        match self._next_step(sequence, thought, stopped):
            case Accept() if thought.is_closed:
                if reason == "repetition" or sequence.ids[-1] in self._end_ids:
                    self._end(sequence, reason)
                else:
                    self._respond(sequence)
            case Accept() | Force() as step:
                self._close(sequence, thought, is_accepted=isinstance(step, Accept))
            case Wait(num_tokens):
                sequence.ids = thought.ids + self._thoughts.wait_ids[:num_tokens]
                sequence.num_waits += 1
                self._think(sequence)
            case GoOn():
                sequence.ids = thought.ids
                self._think(sequence)
            case Stop(why):
                self._end(sequence, why)

    def _think(self, sequence: _Sequence) -> None:
        """Ask for more of the thought; end it where there is no room."""
        thought = self._thoughts.read(sequence.ids)
        seen = self._seen(sequence, thought, "limit")
        slack = self._thoughts.around.slack
        asked = machine.next_round(self._budget, sequence.limits, seen, slack)
        if asked.num_tokens:
            stop_ids = self._thoughts.stop_ids if asked.stops_at_end else ()
            self._ask(sequence, asked.num_tokens, stop_ids)
        else:
            self._go_on(sequence, "length")

    def _close(self, sequence: _Sequence, thought: Thought, *, is_accepted: bool) -> None:
        """End the thought for the model: where it stands, if the model ended all, else within the limits.

        Without a maximum no room was kept for it: a thought that leaves none stays open, cut off.
        """
        most = sequence.limits.thought
        closed = self._thoughts.closed(thought.ids) if is_accepted else []
        if most is None and len(closed) > sequence.limits.completion:
            sequence.ids = thought.ids
            self._end(sequence, "length")
            return
        if is_accepted and (most is None or self._thoughts.read(closed).num_reasoning <= most):
            sequence.ids = closed
        else:
            sequence.ids = self._thoughts.ended(thought.ids, sequence.limits)
        sequence.forced_end = True
        self._respond(sequence)

    def _respond(self, sequence: _Sequence) -> None:
        """Ask for the response, with all tokens that are left."""
        sequence.is_responding = True
        num_left = sequence.limits.completion - len(sequence.ids)
        if num_left > 0:
            self._ask(sequence, num_left, ())
        else:
            self._end(sequence, "length")

    def _ask(self, sequence: _Sequence, num_tokens: int, stop_ids: tuple[int, ...]) -> None:
        request, number = sequence.request, sequence.num_rounds
        key = f"{request.key}-{number}"
        sequence.num_rounds += 1
        self._under_way[key] = sequence
        self._ready.append(
            request._replace(
                key=key,
                prompt_ids=request.prompt_ids + sequence.ids,
                seed=seed_of(request.seed, number) if number else request.seed,
                limit=num_tokens,
                stop_ids=stop_ids,
                goes_on=number > 0,
            )
        )

    def _end(self, sequence: _Sequence, reason: FinishReason) -> None:
        k = sequence.request.soft_labels
        labels = None if k is None else _labels_of(sequence, k)
        self._settled.append(
            Completion(
                sequence.request.key, sequence.ids, reason, sequence.num_waits, sequence.forced_end,
                sequence.served_by, labels,
            )
        )  # fmt: skip

    def _next_step(
        self, sequence: _Sequence, thought: Thought, stopped: Literal["end", "limit", "loop"]
    ) -> machine.Step:
        seen = self._seen(sequence, thought, stopped)
        num_wait_tokens = len(self._thoughts.wait_ids)
        return machine.next_step(self._budget, sequence.limits, seen, num_wait_tokens)

    def _seen(
        self, sequence: _Sequence, thought: Thought, stopped: Literal["end", "limit", "loop"]
    ) -> Seen:
        allowed = sequence.limits
        num_left = allowed.completion - allowed.kept - len(thought.ids)
        return Seen(stopped, thought.num_reasoning, sequence.num_waits, num_left)


def _labels_of(sequence: _Sequence, k: int) -> "Labels":
    """The labels of all tokens of a sequence; what was put there since its last round is marked so."""
    from distillpipe.data.store.labels import labels_of_edited

    return labels_of_edited(sequence.labels, sequence.ids, k)
