"""Render chat templates in a separate process, with limits on time and memory.

A chat template is a program of someone else. Jinja's sandbox keeps it from files and Python internals, but not
from using all memory or time: `{{ 'x' * 10 ** 10 }}` or three nested loops are enough. So a forked process
renders. It ends when its pipe is closed. If it takes too long or is killed, that text is an error, and the next
text gets a new fork.
"""

import os
import signal
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from distillpipe.base.errors import DistillError
from distillpipe.base.interrupts import leave_to_parent
from distillpipe.base.memory import limit_memory
from distillpipe.models.loading import outside

CPU_SECONDS = 10.0  # per conversation; a usual one takes a thousandth of that
MEMORY_BYTES = 1 << 30  # in addition to what the process has when it forks
MAX_GROWTH = 64  # characters that a template may write per input character
MAX_DESCRIPTORS = (
    1 << 20
)  # closed in the fork; the limit that macOS reports may not fit into an int
MAX_CHARACTERS = 1 << 20  # that a template may write in any case

Messages = Sequence[Mapping[str, Any]]


class Rendered(NamedTuple):
    """A rendered text, or None and the reason."""

    text: str | None
    why: str = ""


class _Job(NamedTuple):
    template: Any
    "None: the template of the previous job"
    messages: Messages
    add_generation_prompt: bool
    variables: Mapping[str, Any]
    now: datetime | None


class _Fork(NamedTuple):
    owner: int
    "id of the process that forked it"
    child: int
    pipe: Connection


class Renderer:
    """Renders with the chat template of a tokenizer. Threads and forks of this process may share it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._fork: _Fork | None = None
        self._template: Any = None
        "the template that the fork has"
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def render(
        self,
        messages: Messages,
        *,
        add_generation_prompt: bool,
        variables: Mapping[str, Any] | None = None,
        now: datetime | None = None,
    ) -> Rendered:
        """Render a conversation with the current template of the tokenizer.

        `variables` are handed to it besides the messages. `now` is what its clock shows; None: the time of day.
        """
        if self._owner != os.getpid():  # we were forked: lock and pipe belong to the parent
            self._lock, self._fork, self._owner = threading.Lock(), None, os.getpid()
        with self._lock:
            template = self._tokenizer.chat_template
            is_known = self._fork is not None and template == self._template
            job = _Job(
                None if is_known else template,
                messages,
                add_generation_prompt,
                variables or {},
                now,
            )
            self._template = template
            if self._fork is None:
                self._fork = _begin(self._tokenizer)
                self._finalizer = weakref.finalize(self, _end, self._fork)
            try:
                self._fork.pipe.send(job)
                rendered: Rendered = self._fork.pipe.recv()
            except (EOFError, OSError):
                rendered = Rendered(None, _why_ended(self._drop_fork(is_dead=True)))
            except BaseException:  # an unread answer may be in the pipe: do not use it again
                self._drop_fork()
                raise
        return rendered

    def _drop_fork(self, *, is_dead: bool = False) -> int:
        """End the fork and return the signal that ended it. The next text gets a new fork."""
        assert self._fork is not None
        fork, self._fork = self._fork, None
        self._finalizer.detach()
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
    """End a fork and wait for it. Returns the signal that ended it, 0 for none."""
    if fork.owner != os.getpid():
        return 0
    fork.pipe.close()
    with suppress(ChildProcessError):
        if not is_dead:
            os.kill(fork.child, signal.SIGKILL)
        _, status = os.waitpid(fork.child, 0)
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return 0


def _why_ended(signal_number: int) -> str:
    if signal_number == signal.SIGPROF:
        return f"it takes more than {CPU_SECONDS:.0f} s for one conversation"
    name = f" by {signal.Signals(signal_number).name}" if signal_number else ""
    return f"the process that renders it was ended{name}, probably because memory ran out"


def _serve(pipe: Connection, tokenizer: Any) -> None:
    """The fork: render jobs until the other end of the pipe is closed. Never returns."""
    try:
        _isolate(pipe.fileno())
        while True:
            job: _Job = pipe.recv()
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # its signal ends the process
            rendered = _rendered(tokenizer, job)
            signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send(rendered)
    finally:
        os._exit(0)


def _isolate(pipe: int) -> None:
    """Close everything of the parent except the pipe and stderr, and limit memory."""
    leave_to_parent()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    devnull = os.open(os.devnull, os.O_RDWR)
    os.dup2(devnull, 0)
    os.dup2(devnull, 1)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, max(pipe + 1, min(os.sysconf("SC_OPEN_MAX"), MAX_DESCRIPTORS)))
    limit_memory(MEMORY_BYTES)


def _rendered(tokenizer: Any, job: _Job) -> Rendered:
    if job.template is not None:
        tokenizer.chat_template = job.template
    clock = {} if job.now is None else {"strftime_now": job.now.strftime}
    try:
        with outside(""):
            text = tokenizer.apply_chat_template(
                list(job.messages),
                tokenize=False,
                add_generation_prompt=job.add_generation_prompt,
                **{**job.variables, **clock},
            )
    except DistillError as error:
        lineno = getattr(error.__cause__, "lineno", None)
        line = "" if lineno is None else f"line {lineno}: "
        return Rendered(None, line + str(error).removeprefix(": "))
    num_input = sum(len(str(value)) for message in job.messages for value in message.values())
    if not isinstance(text, str):
        return Rendered(None, f"it returns {type(text).__name__}, not text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return Rendered(None, f"it writes {text[error.start]!a}, which is half of a surrogate pair")
    if len(text) > max(MAX_CHARACTERS, MAX_GROWTH * num_input):
        return Rendered(
            None, f"it writes {len(text):,} characters for {num_input:,} characters of messages"
        )
    return Rendered(text)
