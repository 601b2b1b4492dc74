"""Pool of worker processes that run math-verify: started on demand, reused, killed after a time limit.

`ask` may be called from several threads. Each takes an idle worker or starts one, so there are as many
workers as concurrent callers. A fork of this process starts workers of its own. A worker is killed

- by the kernel, when a question exceeds its CPU time or this process is killed;
- by `ask`, when a question exceeds its wall-clock time;
- by `close`, and at the exit of this process.
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
WALL_SECONDS = 20.0  # longer, since a busy machine gives less CPU; a question that sleeps uses none
START_SECONDS = 120.0  # for a cold disk: sympy alone has hundreds of files

_ROOT = str(Path(__file__).resolve().parents[3])

Outcome = Literal["same", "different", "unreadable_answer", "unreadable_reference", "failed"]


class Closed(Abandoned):
    """`close` was called while a question was pending: its verdict is not needed any more."""


def ask(answer: str, reference: str) -> Outcome:
    """The outcome of math-verify for a pair; `failed` if it raised, ran out of time or its process died.

    Raises MissingDependencyError or EngineError where no worker can be started at all.
    """
    question = {"answer": answer, "reference": reference, "cpu_seconds": CPU_SECONDS}
    line = json.dumps(question).encode() + b"\n"
    epoch, worker = _take_worker()
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
    """Kill all workers, busy ones too; a later question starts new ones."""
    with _state.lock:
        _state.epoch += 1
        workers, _state.idle, _state.all = _state.all, [], set()
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.wait()


class _Worker:
    """A worker process. Only the thread that took it uses its pipes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "distillpipe.verify.math.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # Ctrl-C reaches only this process, which handles it
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONSAFEPATH": "1",  # do not import a json.py in the working folder
                "PYTHONPATH": os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")])),
            },
        )
        self.is_ready = False

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def ask(self, line: bytes) -> dict[str, str] | None:
        """The reply; None if the process ended or the time ran out."""
        if not self.is_ready:
            self._wait_until_ready()
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line)  # never blocks: shorter than the buffer of a pipe
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
                f"the process that runs math-verify did not start (exit code {self.process.poll()}): "
                f"to see its error, run {sys.executable} -m distillpipe.verify.math.worker {os.getpid()}"
            )
        if reply["outcome"] == "missing":
            raise MissingDependencyError(
                f"the verifier math needs math-verify ({reply['error']}): {install_command('math-verify')}"
            )
        self.is_ready = True

    def _read(self, seconds: float) -> dict[str, str] | None:
        """The next line of output; None if the output ends or the time runs out."""
        assert self.process.stdout is not None
        output = self.process.stdout.fileno()
        poll = select.poll()
        poll.register(output, select.POLLIN)
        deadline = time.monotonic() + seconds
        line = b""
        while not line.endswith(b"\n"):
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not poll.poll(remaining * 1000):
                return None
            if not (chunk := os.read(output, 65536)):
                return None
            line += chunk
        return cast(dict[str, str], json.loads(line))


class _State:
    """The workers of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.idle: list[_Worker] = []
        self.all: set[_Worker] = set()
        self.epoch = 0  # number of calls of `close`


_state = _State()


def _take_worker() -> tuple[int, _Worker]:
    """The current epoch, and an idle worker that is alive or a new one."""
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


def _abandon_workers() -> None:
    """After a fork: forget the workers, which belong to the parent; close only our copies of the pipes."""
    for worker in _state.all:
        for stream in (worker.process.stdin, worker.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        worker.process.returncode = 0  # only the parent can wait for it
    _state.lock, _state.idle, _state.all = threading.Lock(), [], set()


atexit.register(close)
os.register_at_fork(after_in_child=_abandon_workers)
