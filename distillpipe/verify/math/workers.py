"""Worker processes that are started when needed, kept, and killed when a question takes too long.

`ask` may be called from several threads: each takes an idle worker or starts one, so that there are as
many as callers at a time. A worker is killed by its own clock of CPU time, by a clock of ours that also
sees one that sleeps, at the end of this process, by `close`, and by the kernel where this process is
killed. A fork of this process starts workers of its own.
"""

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Literal, cast

from distillpipe.base.errors import Abandoned, EngineError, MissingDependencyError
from distillpipe.base.requirements import install_command

CPU_SECONDS = 5.0
WALL_SECONDS = 20.0  # a busy machine gives less CPU, and a question that sleeps needs none
START_SECONDS = 120.0  # a cold disk; sympy alone is some hundred files

_ROOT = str(Path(__file__).resolve().parents[3])

Outcome = Literal["same", "different", "unreadable_answer", "unreadable_reference", "failed"]


class Closed(Abandoned):
    """The workers were closed while a question was open: nobody wants its verdict any more."""


def ask(answer: str, reference: str) -> Outcome:
    """What math-verify says of a pair; `failed` where it raised, ran out of time or lost its process.

    Raises MissingDependencyError or EngineError where no worker can be started at all.
    """
    question = {"answer": answer, "reference": reference, "cpu_seconds": CPU_SECONDS}
    line = json.dumps(question).encode() + b"\n"
    epoch, worker = _taken()
    try:
        reply = worker.ask(line)
    except BaseException:
        _drop(worker)
        raise
    if reply is None:
        _drop(worker)
        if epoch != _state.epoch:
            raise Closed
        return "failed"
    with _state.lock:
        _state.idle.append(worker)
    return cast(Outcome, reply["outcome"])


def close() -> None:
    """Kill all workers, busy ones too; a question that comes later starts new ones."""
    with _state.lock:
        _state.epoch += 1
        workers, _state.idle, _state.all = _state.all, [], set()
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.wait()


class _Worker:
    """One process. Only the thread that took it reads and writes its pipes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "distillpipe.verify.math.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for us to handle
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONSAFEPATH": "1",  # a json.py in the user's folder is not ours
                "PYTHONPATH": os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")])),
            },
        )
        self.is_ready = False

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def ask(self, line: bytes) -> dict[str, str] | None:
        """The reply; None where the process ended or the time did."""
        if not self.is_ready:
            self._wait_until_ready()
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line)  # shorter than what a pipe holds: never waits
        except BrokenPipeError:
            return None
        return self._read(WALL_SECONDS)

    def _wait_until_ready(self) -> None:
        epoch = _state.epoch
        reply = self._read(START_SECONDS)
        if reply is None and epoch != _state.epoch:
            raise Closed
        if reply is None:
            raise EngineError(
                f"the process that compares answers did not start ({self.process.poll()}): try "
                f"{sys.executable} -m distillpipe.verify.math.worker {os.getpid()}"
            )
        if reply["outcome"] == "missing":
            raise MissingDependencyError(
                f"the verifier math needs math-verify ({reply['error']}): {install_command('math-verify')}"
            )
        self.is_ready = True

    def _read(self, seconds: float) -> dict[str, str] | None:
        """The next line of its output; None at the end of the output or of the time."""
        assert self.process.stdout is not None
        output = self.process.stdout.fileno()
        poll = select.poll()
        poll.register(output, select.POLLIN)
        deadline = time.monotonic() + seconds
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                return None
            if not (read := os.read(output, 65536)):
                return None
            line += read
        return cast(dict[str, str], json.loads(line))


class _State:
    """What this process knows of its workers."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.idle: list[_Worker] = []
        self.all: set[_Worker] = set()
        self.epoch = 0


_state = _State()


def _taken() -> tuple[int, _Worker]:
    """An idle worker that lives, else a new one; and the number of times that all were closed."""
    with _state.lock:
        while _state.idle:
            worker = _state.idle.pop()
            if worker.is_alive:
                return _state.epoch, worker
            _state.all.discard(worker)
        worker = _Worker()
        _state.all.add(worker)
        return _state.epoch, worker


def _drop(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.wait()
    with _state.lock:
        _state.all.discard(worker)


def _forget() -> None:
    """In a fork: the workers are the parent's; only our copies of the pipes are closed."""
    for worker in _state.all:
        for stream in (worker.process.stdin, worker.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        worker.process.returncode = 0  # not ours to wait for
    _state.lock, _state.idle, _state.all = threading.Lock(), [], set()


atexit.register(close)
os.register_at_fork(after_in_child=_forget)
