"""Talks to a running sandbox: sends requests, reads answers and output, enforces limits.

The output is untrusted: a line may be anything, and never more than the limit is read.
"""

import json
import marshal
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from distillpipe.base.errors import DistillError

BOOTSTRAP = (
    "import sys,marshal\n"
    "f=open(int(sys.argv[1]),'rb')\n"
    "for name,code in marshal.loads(f.read(int.from_bytes(f.read(8),'big'))):\n"
    " module=sys.modules[name]=type(sys)(name)\n"
    " exec(code,module.__dict__)\n"
    "module.main(f,int(sys.argv[2]))"
)
"Source of the process inside: loads the modules sent first through the pipe, then runs `main` of the last one."
START_SECONDS = 30  # a busy machine may need long to start a process
_CHUNK_BYTES = 1 << 16
_KILL_SECONDS = 10.0  # deleting a million files takes seconds
_END_SECONDS = 1.0  # between the end of the answers and the end of the process
_WATCH_SECONDS = (
    0.02  # between two checks of the number of files, which may exceed its limit meanwhile
)


class SandboxError(DistillError):
    """A sandbox that worked before could not be started: a fault of the machine, not of a program."""


Status = Literal["answered", "ended", "time_limit", "output_limit", "file_limit"]


class Answer(NamedTuple):
    """The result of a request."""

    status: Status
    reply: list[Any]
    "the parsed line of the answer; `[]` if there is none or it is not a JSON list"
    output: bytes
    "what the program printed"
    exit_code: int | None = None
    "if the program ended"


class FileLimit(NamedTuple):
    """The maximal number of files in the file system of a folder inside the sandbox."""

    folder: str
    max_files: int


class Session:
    """A process in a sandbox, started by `Sandbox.start`; a context manager that kills it at the end."""

    def __init__(
        self,
        command: Sequence[str],
        seccomp: bytes | None,
        *,
        max_output_bytes: int,
        files: FileLimit | None = None,
        folder: str | None = None,
        errors: int = subprocess.DEVNULL,
    ) -> None:
        """Start `command` with the descriptors of its two pipes appended; `{seccomp}` is replaced by a third."""
        self.max_output_bytes = max_output_bytes
        self._file_limit = files
        self._files: int | None = None
        self._next_watch = 0.0
        self._unread = bytearray()
        self._is_isolated = seccomp is not None
        inside, self._requests = os.pipe()
        self._replies, answers = os.pipe()
        filter_end = None
        if seccomp is not None:  # a pipe that holds the filter, which is at most 64 KB
            filter_end, writing = os.pipe()
            os.write(writing, seccomp)
            os.close(writing)
        ends = [inside, answers] + ([] if filter_end is None else [filter_end])
        try:
            self.process = subprocess.Popen(
                [
                    *(str(filter_end) if part == "{seccomp}" else part for part in command),
                    *(str(inside), str(answers)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=folder,
                env={},  # pid 1 inside keeps this environment, which must not hold API keys
                pass_fds=ends,
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._requests)
            os.close(self._replies)
            raise SandboxError(f"the sandbox could not be started: {error}") from error
        finally:
            for end in ends:
                os.close(end)
        assert self.process.stdout is not None
        self._output = self.process.stdout.fileno()
        for pipe in (self._requests, self._replies, self._output):
            os.set_blocking(pipe, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the process inside and close the pipes."""
        if self.process.returncode is None:
            self._kill()
        if self.process.stdout is not None and not self.process.stdout.closed:
            self.process.stdout.close()
            os.close(self._requests)
            os.close(self._replies)
            if self._files is not None:
                os.close(self._files)
                self._files = None

    def _kill(self) -> None:
        """Kill the first process inside, so that bubblewrap ends; kill bubblewrap only if that fails.

        If bubblewrap were killed, its dead child would be left to the init process, and not every container
        has one that reaps zombies.
        """
        if self._is_isolated and _kill_children(self.process.pid):
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=_KILL_SECONDS)
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def send_first(self, code: bytes, *setup: Any) -> None:
        """Send the runner and its first request, and wait until it is ready."""
        packed = len(code).to_bytes(8, "big") + code + packed_request(setup)
        answer = self._exchange(packed, START_SECONDS)
        if answer.reply != ["done"]:
            raise SandboxError(
                f"the sandbox does not start: {answer.status}, exit code {answer.exit_code};"
                " run `distill doctor` to see why"
            )

    def ask(self, request: tuple[Any, ...], seconds: float) -> Answer:
        """Send a request and wait for its answer, at most `seconds`.

        The sandbox is closed after any status but `answered`: also if the program printed or answered more than
        `max_output_bytes`, or created too many files.
        """
        return self._exchange(packed_request(request), seconds)

    def _exchange(self, data: bytes, seconds: float) -> Answer:
        deadline = time.monotonic() + seconds
        output = bytearray()
        status = self._pump(memoryview(data), output, deadline)
        if status == "answered" and not _drain(self._output, output, self.max_output_bytes):
            status = "output_limit"
        if status == "answered":
            line, _, rest = bytes(self._unread).partition(b"\n")
            self._unread = bytearray(rest)
            return Answer("answered", parsed_line(line), bytes(output))
        if status == "ended":
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=_END_SECONDS)
            if not _drain(self._output, output, self.max_output_bytes):
                status = "output_limit"
        exit_code = self.process.returncode if self.process.returncode is not None else -9
        self.close()
        return Answer(status, [], bytes(output), exit_code)

    def _pump(self, data: memoryview, output: bytearray, deadline: float) -> Status:
        """Send and read data until an answer is complete, the process ends, or a limit is exceeded."""
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        poll.register(self._output, select.POLLIN)
        if data:
            poll.register(self._requests, select.POLLOUT)
        self._next_watch = time.monotonic() + _WATCH_SECONDS
        while b"\n" not in self._unread:
            now = time.monotonic()
            if (limit := self._exceeded_limit(now, deadline, output)) is not None:
                return limit
            for pipe, _ in poll.poll(1000 * min(deadline - now, _WATCH_SECONDS)):
                if pipe == self._requests:
                    data = data[_write(pipe, data) :]
                    if not data:
                        poll.unregister(pipe)
                    continue
                is_open = _read(pipe, self._unread if pipe == self._replies else output)
                if not is_open and pipe == self._replies:
                    return "ended"
                if not is_open:
                    poll.unregister(pipe)
        return "answered"

    def _exceeded_limit(self, now: float, deadline: float, output: bytearray) -> Status | None:
        if max(len(output), len(self._unread)) > self.max_output_bytes:
            return "output_limit"
        if now >= deadline:
            return "time_limit"
        return "file_limit" if self._has_too_many_files(now) else None

    def _has_too_many_files(self, now: float) -> bool:
        """Whether there are more files than allowed: an empty file takes kernel memory that no size limit counts.

        The file system counts them; we reach it through the process inside.
        """
        if self._file_limit is None or now < self._next_watch:
            return False
        self._next_watch = now + _WATCH_SECONDS
        try:
            if self._files is None:
                root = f"/proc/{_innermost(self.process.pid)}/root"
                self._files = os.open(root + self._file_limit.folder, os.O_PATH | os.O_DIRECTORY)
            stats = os.fstatvfs(self._files)
        except OSError:
            return False  # the process is ending
        return stats.f_files - stats.f_ffree > self._file_limit.max_files


def packed_request(request: tuple[Any, ...]) -> bytes:
    """A request as the runner reads it: its length in 8 bytes, then the marshalled tuple."""
    data = marshal.dumps(request)
    return len(data).to_bytes(8, "big") + data


def _kill_children(process: int) -> bool:
    """Kill the children of a process; False if it had none or one could not be killed."""
    path = Path(f"/proc/{process}/task/{process}/children")
    try:
        children = path.read_text(encoding="utf-8").split()
        for child in children:
            handle = os.pidfd_open(int(child))
            try:
                # Process ids are reused: check that the handle is that of a child.
                if child in path.read_text(encoding="utf-8").split():
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)
    except OSError:
        return False
    return bool(children)


def _innermost(process: int) -> int:
    """The last process in the chain of first children: bubblewrap, its process inside, the runner."""
    path = f"/proc/{process}/task/{process}/children"
    while children := Path(path).read_text(encoding="utf-8").split():
        process = int(children[0])
        path = f"/proc/{process}/task/{process}/children"
    return process


def _write(pipe: int, data: memoryview) -> int:
    """Write without blocking; return the number of bytes written, all of them if the reader is gone."""
    try:
        return os.write(pipe, data[:_CHUNK_BYTES])
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        return len(data)


def _read(pipe: int, into: bytearray) -> bool:
    """Read available data into a buffer; False at the end of the pipe."""
    try:
        data = os.read(pipe, _CHUNK_BYTES)
    except BlockingIOError:
        return True
    into += data
    return bool(data)


def _drain(pipe: int, into: bytearray, limit: int) -> bool:
    """Read all remaining data without waiting; False if the buffer exceeds the limit."""
    while len(into) <= limit:
        try:
            data = os.read(pipe, _CHUNK_BYTES)
        except BlockingIOError:
            return True
        if not data:
            return True
        into += data
    return False


def parsed_line(line: bytes) -> list[Any]:
    """The JSON list in a line; `[]` for anything else, also for numbers of over 4,300 digits and deep nesting."""
    try:
        reply = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return reply if isinstance(reply, list) else []
