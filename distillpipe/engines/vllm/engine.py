"""vLLM's offline engine: sends each request to the least loaded replica, yields completions as they finish.

When a replica dies, the others take over its requests in flight. vLLM is imported only in the processes of the
replicas; see `vllm.replicas` and `vllm.process`.
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
    """`options.replicas` vLLM engines as one; see `engines.base.Engine`.

    The replicas end when this object is garbage-collected, and when `complete` is left before its end.
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
        self._end = weakref.finalize(self, replicas.end_replicas, self._replicas)
        environments = replicas.environments(options.replicas, options.tensor_parallel_size)
        try:
            for number, environment in enumerate(environments):
                self._replicas.append(Replica(number, environment, self._inbox))
                self._replicas[-1].send((model, end_ids, options, soft_labels))
            for _ in environments:
                ready = self._wait_for_ready()
        except BaseException:
            self._end()
            raise
        prefix = f"{len(environments)} replicas of " if len(environments) > 1 else ""
        self.description = prefix + ready.description
        self.context_length = ready.context_length

    def complete(self, requests: Iterator[Request | None]) -> Generator[Outcome, None, None]:
        """See `Engine.complete`. Raises EngineError when the last replica has died."""
        try:
            orphaned: list[Request] = []  # requests of a dead replica
            while self._fill(orphaned, requests):
                replica, message = self._inbox.get()
                if isinstance(message, list):
                    yield from replica.take(message)
                else:
                    orphaned += self._remove_dead(replica, message)
        except BaseException:
            self._end()
            raise

    def _wait_for_ready(self) -> Ready:
        """Wait until one more replica is ready. Raises EngineError if it cannot start."""
        replica, message = self._inbox.get()
        if isinstance(message, str):
            raise EngineError(f"vLLM could not load {self._name}: {message}")
        ready: Ready = message
        replica.capacity = ready.capacity
        return ready

    def _fill(self, orphaned: list[Request], requests: Iterator[Request | None]) -> bool:
        """Send requests while a replica has room. Returns whether any are in flight."""
        while replica := self._least_loaded():
            request = orphaned.pop() if orphaned else next(requests, None)
            if request is None:
                break
            replica.submit(request)
        return any(replica.in_flight for replica in self._replicas)

    def _least_loaded(self) -> Replica | None:
        """The replica with the fewest requests, if it has room."""
        alive = [replica for replica in self._replicas if replica.is_alive]
        replica = min(alive, key=lambda replica: len(replica.in_flight), default=None)
        return replica if replica and len(replica.in_flight) < replica.capacity else None

    def _remove_dead(self, dead: Replica, reason: str) -> list[Request]:
        """Remove a replica that died and return its requests in flight."""
        dead.end()
        num_alive = sum(replica.is_alive for replica in self._replicas)
        if not num_alive:
            raise EngineError(f"vLLM died: {reason}")
        orphaned = list(dead.in_flight.values())
        dead.in_flight.clear()
        say(f"replica {dead.number} of vLLM died: {reason}")
        say(f"its {len(orphaned):,} requests in flight go to the remaining replicas ({num_alive})")
        return orphaned
