"""vLLM's offline engine: requests go to the least loaded of its replicas, completions come as they end.

A replica that dies costs its work in flight and no more: the others do it. vLLM itself is imported only in
the processes of the replicas, see `replicas` and `vllm_process`.
"""

import queue
import weakref
from collections.abc import Generator, Iterator
from typing import Any

from distillpipe.base.errors import EngineError
from distillpipe.base.options import EngineOptions
from distillpipe.base.progress import say
from distillpipe.engines.base import Outcome, Request
from distillpipe.engines.vllm import replicas
from distillpipe.engines.vllm.replicas import Ready, Replica
from distillpipe.models.lookup import Model


class VllmEngine:
    """`options.replicas` engines of vLLM as one; see `engines.base.Engine`.

    They end when the engine is dropped, and when its completions are left before the last one.
    """

    def __init__(
        self,
        model: Model,
        end_ids: frozenset[int],
        options: EngineOptions,
        soft_labels: int | None = None,
    ) -> None:
        self._name = model.name
        self._replicas: list[Replica] = []
        self._inbox: queue.Queue[tuple[Replica, Any]] = queue.Queue()
        self._end = weakref.finalize(self, replicas.end, self._replicas)
        places = replicas.environments(options.replicas, options.tensor_parallel_size)
        try:
            for number, environment in enumerate(places):
                self._replicas.append(Replica(number, environment, self._inbox))
                self._replicas[-1].send((model, end_ids, options, soft_labels))
            for _ in places:
                ready = self._wait_for_ready()
        except BaseException:
            self._end()
            raise
        several = f"{len(places)} replicas of " if len(places) > 1 else ""
        self.description = several + ready.description
        self.context_length = ready.context_length

    def complete(self, requests: Iterator[Request | None]) -> Generator[Outcome, None, None]:
        """See `Engine.complete`. Raises EngineError when the last replica has died."""
        try:
            again: list[Request] = []  # what a dead replica left behind
            while self._fill(again, requests):
                replica, said = self._inbox.get()
                if isinstance(said, list):
                    yield from replica.take(said)
                else:
                    again += self._bury(replica, said)
        except BaseException:
            self._end()
            raise

    def _wait_for_ready(self) -> Ready:
        """Wait for one more replica; one that cannot start is an error of all."""
        replica, said = self._inbox.get()
        if isinstance(said, str):
            raise EngineError(f"vLLM could not load {self._name}: {said}")
        ready: Ready = said
        replica.capacity = ready.capacity
        return ready

    def _fill(self, again: list[Request], requests: Iterator[Request | None]) -> bool:
        """Give requests out while a replica has room; whether any are in flight."""
        while replica := self._least_loaded():
            request = again.pop() if again else next(requests, None)
            if request is None:
                break
            replica.ask(request)
        return any(replica.in_flight for replica in self._replicas)

    def _least_loaded(self) -> Replica | None:
        """The replica with the fewest requests, if it has room."""
        alive = [replica for replica in self._replicas if replica.is_alive]
        replica = min(alive, key=lambda one: len(one.in_flight), default=None)
        return replica if replica and len(replica.in_flight) < replica.capacity else None

    def _bury(self, dead: Replica, reason: str) -> list[Request]:
        """The requests that a replica leaves behind when it has died."""
        dead.end()
        num_alive = sum(replica.is_alive for replica in self._replicas)
        if not num_alive:
            raise EngineError(f"vLLM died: {reason}")
        left = list(dead.in_flight.values())
        dead.in_flight.clear()
        say(f"replica {dead.number} of vLLM died: {reason}")
        say(f"its {len(left):,} requests in flight are done by the {num_alive} left")
        return left
