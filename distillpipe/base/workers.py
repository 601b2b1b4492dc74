"""Worker processes that are started when needed, kept, and killed when a question takes too long.

A worker is a Python module that reads lines of JSON and answers each with a line, until its input ends. Its first
line is `{"outcome": "ready"}`, or the reason why it cannot work.

`ask` may be called from several threads: each takes an idle worker or starts one, so there are as many workers as
simultaneous callers. A worker is killed when `ask` runs out of time, by `close`, at the end of this process, and by the
kernel if this process is killed. A fork of this process starts its own workers.
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
from typing import Any, NamedTuple

from distillpipe.base.errors import Abandoned

START_SECONDS = 120.0  # a cold disk; sympy alone is some hundred files

_ROOT = str(Path(__file__).resolve().parents[2])


class Program(NamedTuple):
    """The module that a worker runs, and its arguments after the first, which is the process id of its parent."""

    module: str
    arguments: tuple[str, ...] = ()


class NotStartedError(Exception):
    """A worker could not start."""

    def __init__(self, program: Program, reply: dict[str, Any] | None, status: int | None) -> None:
        super().__init__(program.module)
        self.reply = reply
        "its first line; None if it wrote none"
        self.status = status
        "its exit status; None if it ran out of time"
        self.command = f"{sys.executable} -m {program.module} {os.getpid()}"


class Closed(Abandoned):
    """The workers were closed before the answer to a question, which nobody needs any more."""


def ask(program: Program, question: dict[str, Any], seconds: float) -> dict[str, Any] | None:
    """The reply of a worker; None if it ended or took longer than `seconds`.

    Raises NotStartedError if no worker can be started.
    """
    line = json.dumps(question).encode() + b"\n"
    epoch, worker = _taken(program)
    try:
        worker.wait_until_ready()
        reply = worker.ask(line, seconds)
    except NotStartedError:
        _drop(worker)
        if epoch != _state.epoch:
            raise Closed from None
        raise
    except BaseException:
        _drop(worker)
        raise
    if reply is None:
        _drop(worker)
        if epoch != _state.epoch:
            raise Closed
        return None
    _give_back(worker)
    return reply


def start(program: Program) -> dict[str, Any]:
    """Start a worker, unless one is idle, and keep it for the first question. Returns its first line.

    Raises NotStartedError if it cannot work.
    """
    _, worker = _taken(program)
    try:
        worker.wait_until_ready()
    except BaseException:
        _drop(worker)
        raise
    _give_back(worker)
    return worker.began


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

    def __init__(self, program: Program) -> None:
        self.program = program
        self.began: dict[str, Any] = {}
        "its first line; empty until it is ready"
        self.process = subprocess.Popen(
            [sys.executable, "-m", program.module, str(os.getpid()), *program.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # Ctrl-C must reach only this process
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONSAFEPATH": "1",  # do not import a json.py of the user's folder
                "PYTHONPATH": os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")])),
            },
        )
        assert self.process.stdin is not None
        os.set_blocking(
            self.process.stdin.fileno(), False
        )  # a worker that reads nothing must not block us

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def ask(self, line: bytes, seconds: float) -> dict[str, Any] | None:
        """The reply; None if the process ended or the time is over."""
        deadline = time.monotonic() + seconds
        return self._read(deadline) if self._write(line, deadline) else None

    def wait_until_ready(self) -> None:
        if self.began:
            return
        reply = self._read(time.monotonic() + START_SECONDS)
        if reply is None or reply["outcome"] != "ready":
            status = None
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self.process.wait(timeout=1.0 if reply is None else 0.0)
            raise NotStartedError(self.program, reply, status)
        self.began = reply

    def _write(self, line: bytes, deadline: float) -> bool:
        """Whether all of a line was taken; a line may be longer than what a pipe holds."""
        assert self.process.stdin is not None
        to = self.process.stdin.fileno()
        while line:
            if not is_ready(to, select.POLLOUT, deadline):
                return False
            try:
                line = line[os.write(to, line) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return False
        return True

    def _read(self, deadline: float) -> dict[str, Any] | None:
        """The next line of its output; None at the end of the output or of the time."""
        assert self.process.stdout is not None
        output = self.process.stdout.fileno()
        line = b""
        while not line.endswith(b"\n"):
            if not is_ready(output, select.POLLIN, deadline):
                return None
            if not (read := os.read(output, 65536)):
                return None
            line += read
        reply: dict[str, Any] = json.loads(line)
        return reply


def is_ready(descriptor: int, event: int, deadline: float) -> bool:
    """Whether a descriptor can be read or written, or its other end is closed, before the deadline."""
    seconds = deadline - time.monotonic()
    poll = select.poll()
    poll.register(descriptor, event)
    return seconds > 0 and bool(poll.poll(seconds * 1000))


class _State:
    """The workers of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.idle: list[_Worker] = []
        self.all: set[_Worker] = set()
        self.epoch = 0


_state = _State()


def _taken(program: Program) -> tuple[int, _Worker]:
    """An idle worker that is alive, else a new one; and the number of calls of `close` so far."""
    with _state.lock:
        for worker in [idle for idle in _state.idle if idle.program == program]:
            _state.idle.remove(worker)
            if worker.is_alive:
                return _state.epoch, worker
            _state.all.discard(worker)
        worker = _Worker(program)
        _state.all.add(worker)
        return _state.epoch, worker


def _give_back(worker: _Worker) -> None:
    with _state.lock:
        if worker in _state.all:  # else `close` was called
            _state.idle.append(worker)


def _drop(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.wait()
    with _state.lock:
        _state.all.discard(worker)


def _forget() -> None:
    """In a fork: close our copies of the pipes; the workers belong to the parent."""
    for worker in _state.all:
        for stream in (worker.process.stdin, worker.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        worker.process.returncode = 0  # not ours to wait for
    _state.lock, _state.idle, _state.all = threading.Lock(), [], set()


atexit.register(close)
os.register_at_fork(after_in_child=_forget)
