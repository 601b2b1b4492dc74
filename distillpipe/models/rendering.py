"""Chat templates are programs of others: they are run in a process of their own, under limits.

Jinja's sandbox keeps a template from files and from Python's insides, not from taking all memory or all
time: `{{ 'x' * 10 ** 10 }}` and three nested loops are enough. So a fork of this process renders. It ends with
its pipe; one that takes too long, or that the system kills, costs an error, and the next text a new fork.
"""

import os
import resource
import signal
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from distillpipe.base.errors import DistillError
from distillpipe.base.interrupts import leave_to_parent
from distillpipe.models.loading import outside

CPU_SECONDS = 10.0  # of one text; a common one takes a thousandth
MEMORY_BYTES = 1 << 30  # beside what the process has at its fork
MAX_GROWTH = 64  # characters that a template may write for each that it is given
MAX_DESCRIPTORS = 1 << 20  # that are closed in the fork; macOS may name a limit that no int holds
MAX_CHARACTERS = 1 << 20  # that it may write in any case

Messages = Sequence[Mapping[str, Any]]


class Rendered(NamedTuple):
    """What came of a text: itself, or why there is none."""

    text: str | None
    why: str = ""


class _Job(NamedTuple):
    template: Any
    "None: that of the job before"
    messages: Messages
    add_generation_prompt: bool


class _Fork(NamedTuple):
    owner: int
    "the process that it was forked from"
    child: int
    pipe: Connection


class Renderer:
    """Renders with the chat template of a tokenizer; threads and forks of this process may share it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._fork: _Fork | None = None
        self._template: Any = None
        "that the fork knows"
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def render(self, messages: Messages, *, add_generation_prompt: bool) -> Rendered:
        """The text of a conversation as the tokenizer's template of now writes it."""
        if self._owner != os.getpid():  # a fork: the lock and the pipe are those of another process
            self._lock, self._fork, self._owner = threading.Lock(), None, os.getpid()
        with self._lock:
            template = self._tokenizer.chat_template
            is_known = self._fork is not None and template == self._template
            job = _Job(None if is_known else template, messages, add_generation_prompt)
            self._template = template
            if self._fork is None:
                self._fork = _begin(self._tokenizer)
                self._at_end = weakref.finalize(self, _end, self._fork)
            try:
                self._fork.pipe.send(job)
                rendered: Rendered = self._fork.pipe.recv()
            except (EOFError, OSError):
                rendered = Rendered(None, _death(self._let_go(is_dead=True)))
            except BaseException:  # between question and answer the pipe is of no use
                self._let_go()
                raise
        return rendered

    def _let_go(self, *, is_dead: bool = False) -> int:
        """Collect the fork, once: the next text gets a new one."""
        assert self._fork is not None
        fork, self._fork = self._fork, None
        self._at_end.detach()
        return _end(fork, is_dead=is_dead)


def _begin(tokenizer: Any) -> _Fork:
    ours, theirs = Pipe()
    owner = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _serve(theirs, tokenizer)
    theirs.close()
    return _Fork(owner, child, ours)


def _end(fork: _Fork, *, is_dead: bool = False) -> int:
    """Let a fork go, and collect it: the signal that ended it, 0 where there was none."""
    if fork.owner != os.getpid():
        return 0
    fork.pipe.close()
    with suppress(ChildProcessError):
        if not is_dead:
            os.kill(fork.child, signal.SIGKILL)
        _, status = os.waitpid(fork.child, 0)
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return 0


def _death(signal_number: int) -> str:
    if signal_number == signal.SIGPROF:
        return f"it takes more than {CPU_SECONDS:.0f} s for one conversation"
    name = f" by {signal.Signals(signal_number).name}" if signal_number else ""
    return f"the process that renders it was ended{name}, as for want of memory"


def _serve(pipe: Connection, tokenizer: Any) -> None:
    """What the fork does: render until the other end of the pipe is gone. Never returns."""
    try:
        _shut_off(pipe.fileno())
        while True:
            job: _Job = pipe.recv()
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # ends the process, in any loop
            rendered = _rendered(tokenizer, job)
            signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send(rendered)
    finally:
        os._exit(0)


def _shut_off(pipe: int) -> None:
    """Hold nothing of the parent's: no lock, no pipe of others, no standard stream but for errors."""
    leave_to_parent()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, max(pipe + 1, min(os.sysconf("SC_OPEN_MAX"), MAX_DESCRIPTORS)))
    with suppress(OSError, ValueError):  # elsewhere than on Linux
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        limit = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _rendered(tokenizer: Any, job: _Job) -> Rendered:
    if job.template is not None:
        tokenizer.chat_template = job.template
    try:
        with outside(""):
            text = tokenizer.apply_chat_template(
                list(job.messages),
                tokenize=False,
                add_generation_prompt=job.add_generation_prompt,
            )
    except DistillError as error:
        lineno = getattr(error.__cause__, "lineno", None)
        line = "" if lineno is None else f"line {lineno}: "
        return Rendered(None, line + str(error).removeprefix(": "))
    given = sum(len(str(value)) for message in job.messages for value in message.values())
    if not isinstance(text, str):
        return Rendered(None, f"it gives {type(text).__name__}, no text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return Rendered(None, f"it writes {text[error.start]!a}, which is half of a character")
    if len(text) > max(MAX_CHARACTERS, MAX_GROWTH * given):
        return Rendered(None, f"it writes {len(text):,} characters for {given:,} of messages")
    return Rendered(text)
