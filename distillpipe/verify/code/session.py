"""One running sandbox, seen from outside: requests go in, answers and output come out, under limits.

Nothing that comes out is trusted: a line may be anything, and never more than the limit is read.
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
"Runs the modules that come first through the pipe, and then the last one's `main`."
START_SECONDS = 30  # a busy machine may need long to start a process
_CHUNK_BYTES = 1 << 16
_KILL_SECONDS = 10.0  # a million files take seconds to vanish
_END_SECONDS = 1.0  # between the end of the answers and the end of the process
_WATCH_SECONDS = (
    0.02  # between two looks at the number of files: so long it may grow beyond its limit
)


class SandboxError(DistillError):
    """A sandbox that worked before could not be started: the machine's fault, no program's."""


class Answer(NamedTuple):
    """What came of a request."""

    status: Literal["answered", "ended", "time_limit", "output_limit", "file_limit"]
    reply: list[Any]
    "the line that was said, `[]` where none was or it is no JSON list"
    output: bytes
    "what was printed meanwhile"
    exit_code: int | None = None
    "of a program that ended"


class FileLimit(NamedTuple):
    """How many files may be on the file system of a folder inside."""

    folder: str
    max_files: int


class Session:
    """A process in a sandbox, started by `Sandbox.start`; a context manager that kills all that is left."""

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
        """Start `command` with the numbers of its two pipes appended; `{seccomp}` stands for a third."""
        self.max_output_bytes = max_output_bytes
        self._file_limit = files
        self._files: int | None = None
        self._next_watch = 0.0
        self._unread = bytearray()
        self._is_isolated = seccomp is not None
        inside, self._requests = os.pipe()
        self._replies, answers = os.pipe()
        filter_end = None if seccomp is None else _full_pipe(seccomp)
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
                env={},  # pid 1 inside keeps what it was started with: keys must not be there
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
        """Kill whatever still runs inside."""
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
        """Kill the first process inside, and bubblewrap ends; bubblewrap only where that fails.

        Killed itself it would leave a dead child to the machine's init, and not every container has
        one that buries the dead.
        """
        if self._is_isolated and _kill_children(self.process.pid):
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=_KILL_SECONDS)
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def send_first(self, code: bytes, *setup: Any) -> None:
        """Hand over the program inside and what it begins with, and wait until it is ready."""
        packed = len(code).to_bytes(8, "big") + code + packed_request(setup)
        answer = self._exchange(packed, START_SECONDS)
        if answer.reply != ["done"]:
            raise SandboxError(
                f"the sandbox does not start: {answer.status}, exit code {answer.exit_code};"
                " `distill doctor` says what is wrong"
            )

    def ask(self, request: tuple[Any, ...], seconds: float) -> Answer:
        """Send a request and wait for its answer, at most so many seconds.

        After any status but `answered` the sandbox is closed. It also is where more than
        `max_output_bytes` were printed or answered, or more files made than are allowed.
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

    def _pump(
        self, data: memoryview, output: bytearray, deadline: float
    ) -> Literal["answered", "ended", "time_limit", "output_limit", "file_limit"]:
        """Move bytes until there is a line, the end, or a limit."""
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        poll.register(self._output, select.POLLIN)
        if data:
            poll.register(self._requests, select.POLLOUT)
        self._next_watch = time.monotonic() + _WATCH_SECONDS
        while b"\n" not in self._unread:
            now = time.monotonic()
            if (limit := self._passed_limit(now, deadline, output)) is not None:
                return limit
            for pipe, _ in poll.poll(1000 * min(deadline - now, _WATCH_SECONDS)):
                if pipe == self._requests:
                    data = data[_write(pipe, data) :]
                    if not data:
                        poll.unregister(pipe)
                    continue
                taken = _read(pipe, self._unread if pipe == self._replies else output)
                if not taken and pipe == self._replies:
                    return "ended"
                if not taken:
                    poll.unregister(pipe)
        return "answered"

    def _passed_limit(
        self, now: float, deadline: float, output: bytearray
    ) -> Literal["time_limit", "output_limit", "file_limit"] | None:
        if max(len(output), len(self._unread)) > self.max_output_bytes:
            return "output_limit"
        if now >= deadline:
            return "time_limit"
        return "file_limit" if self._has_too_many_files(now) else None

    def _has_too_many_files(self, now: float) -> bool:
        """Whether there are more files than allowed: an empty one takes kernel memory that no size counts.

        They are counted by the file system, which is looked at through the process inside.
        """
        if self._file_limit is None or now < self._next_watch:
            return False
        self._next_watch = now + _WATCH_SECONDS
        try:
            if self._files is None:
                root = f"/proc/{_innermost(self.process.pid)}/root"
                self._files = os.open(root + self._file_limit.folder, os.O_PATH | os.O_DIRECTORY)
            seen = os.fstatvfs(self._files)
        except OSError:
            return False  # it ends just now
        return seen.f_files - seen.f_ffree > self._file_limit.max_files


def packed_request(request: tuple[Any, ...]) -> bytes:
    data = marshal.dumps(request)
    return len(data).to_bytes(8, "big") + data


def _kill_children(process: int) -> bool:
    """Whether the process had children, all of them killed now; by a handle, as numbers are used again."""
    path = Path(f"/proc/{process}/task/{process}/children")
    try:
        children = path.read_text(encoding="utf-8").split()
        for child in children:
            handle = os.pidfd_open(int(child))
            try:
                if child in path.read_text(encoding="utf-8").split():
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)
    except OSError:
        return False
    return bool(children)


def _innermost(process: int) -> int:
    """The last of the line of first children: bubblewrap, its process inside, the runner."""
    path = f"/proc/{process}/task/{process}/children"
    while children := Path(path).read_text(encoding="utf-8").split():
        process = int(children[0])
        path = f"/proc/{process}/task/{process}/children"
    return process


def _full_pipe(data: bytes) -> int:
    """The reading end of a pipe that holds `data`, at most 64 KB."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return reading


def _write(pipe: int, data: memoryview) -> int:
    """How many bytes went in; all of them where nobody reads any more."""
    try:
        return os.write(pipe, data[:_CHUNK_BYTES])
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        return len(data)


def _read(pipe: int, into: bytearray) -> bool:
    """Read what is there; False at the end of the pipe."""
    try:
        data = os.read(pipe, _CHUNK_BYTES)
    except BlockingIOError:
        return True
    into += data
    return bool(data)


def _drain(pipe: int, into: bytearray, limit: int) -> bool:
    """Read what is left without waiting; False where it is more than the limit."""
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
    """The JSON list of a line, `[]` for anything else: numbers beyond 4,300 digits, endless nesting."""
    try:
        reply = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return reply if isinstance(reply, list) else []
