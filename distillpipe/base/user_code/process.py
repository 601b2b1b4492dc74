"""The process that calls a function of the user's: one JSON line in, one out, until its input ends.

    {"arguments": {"answer": "4", ...}, "limits": {"cpu": 5, "wall": 20, "memory": 2147483648}}
    {"verdict": "wrong", "reason": null}          of a verifier
    {"reason": "too_short", "measured": "12"}     of a rule; the reason is null for a trace that it keeps
    {"failed": "KeyError: 'unit' (checks.py:12)"}

The file is imported once. Each call is made in a fork, so that it finds all as it was after the import.
"""

import importlib
import importlib.util
import inspect
import json
import os
import re
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from distillpipe.base.errors import summary
from distillpipe.base.interrupts import leave_with_parent
from distillpipe.base.memory import limit_memory
from distillpipe.base.records import Trace
from distillpipe.base.user_code.functions import LOADING, digest_of, package_of
from distillpipe.base.workers import is_ready

PARAMETERS = ("response", "answer", "reference_answer", "problem", "extra")
MAX_CHARACTERS = 160  # of a reason or of what an error says
IMPORT_BYTES = (
    8 * 2**30
)  # of memory of its own: a file that fills the machine while it is imported ends
_VERDICTS = ("correct", "wrong", "unverifiable")
_REASON = re.compile(r"[A-Za-z0-9_]{1,64}")
_PLAIN = inspect.Parameter.POSITIONAL_OR_KEYWORD

Function = Callable[..., Any]


class Refused(Exception):
    """The file or the function cannot be used; its text says why."""


def main() -> None:
    """Serve the parent whose process id is the first argument."""
    parent, kind, path, function, digest = sys.argv[1:]
    leave_with_parent(int(parent))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    questions, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # what it reads or prints is no message of ours
    os.dup2(2, 1)
    os.environ[LOADING] = "1"
    try:
        called = _loaded(kind, Path(path), function, digest)
    except Refused as error:
        _send(answers, {"outcome": "refused", "error": str(error)})
        os._exit(1)
    _send(answers, {"outcome": "ready"})
    for line in questions:
        _send(answers, _answered(called, kind, line, (questions.fileno(), answers)))
    os._exit(0)  # threads that the file has started are not waited for


def _loaded(kind: str, path: Path, name: str, digest: str) -> Function:
    """The function, in the form that takes the arguments of a question."""
    limit = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (IMPORT_BYTES, limit[1]))
    sys.dont_write_bytecode = True
    root, module_name = package_of(path)
    sys.path.insert(0, str(root))  # as `python FILE.py` does
    source = path.read_bytes()
    if digest_of(path) != digest:
        raise Refused("the file was changed meanwhile: run the command again")
    try:
        if "." in module_name:
            importlib.import_module(module_name.rpartition(".")[0])
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None  # of a .py file there is one
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        # not by the spec's loader: that believes a cached .pyc of the same second
        exec(compile(source, str(path), "exec"), module.__dict__)
    except BaseException as error:  # noqa: BLE001 - whatever the file does, the user is told
        raise Refused(_of_import(error, path)) from None
    resource.setrlimit(resource.RLIMIT_DATA, limit)
    if not hasattr(module, name):
        known = [
            one for one, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module_name
        ]  # fmt: skip
        raise Refused(f"no {name} in {path.name}, which has {', '.join(known) or 'no function'}")
    return _checked(kind, name, getattr(module, name))


def _checked(kind: str, name: str, function: Any) -> Function:
    """The function; Refused where it cannot be called as it will be."""
    if not callable(function):
        raise Refused(f"{name} is no function, but {type(function).__name__}")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise Refused(
            f"{name} is async or a generator: expected a function that returns its result"
        )
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise Refused(
            f"{name}: its parameters cannot be told: write a function around it"
        ) from None
    needed = [one for one in parameters if one.default is one.empty]
    listed = ", ".join(map(str, parameters))
    if kind == "rule":
        takes_one = [one for one in needed if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        if len(takes_one) != 1 or takes_one[0].kind == inspect.Parameter.KEYWORD_ONLY:
            raise Refused(f"{name}({listed}): expected one parameter, the trace: def {name}(trace)")
        return lambda arguments: function(msgspec.convert(arguments, Trace))
    takes_all = any(one.kind == one.VAR_KEYWORD for one in parameters)
    by_name = {one.name for one in parameters if one.kind in (_PLAIN, one.KEYWORD_ONLY)}
    unknown = [
        one.name for one in needed
        if one.kind != one.VAR_KEYWORD and not (one.name in by_name and one.name in PARAMETERS)
    ]  # fmt: skip
    taken = [one for one in PARAMETERS if takes_all or one in by_name]
    if unknown or not taken:
        said = f"{', '.join(unknown)} is none of them" if unknown else "it takes none of them"
        raise Refused(
            f"{name}({listed}): a verifier names what it wants of {', '.join(PARAMETERS)}; {said}"
        )
    return lambda arguments: function(**{one: arguments[one] for one in taken})


def _of_import(error: BaseException, path: Path) -> str:
    """What kept a file from being imported, with the line."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return f"it needs the package {package}, which is not installed ({_said(error)}): install it here ({sys.executable})"
    return f"importing {path.name} failed: {_said(error)}"


def _answered(called: Function, kind: str, line: bytes, ours: tuple[int, int]) -> dict[str, Any]:
    """What came of a call, made in a fork that holds nothing of `ours`."""
    question = json.loads(line)
    limits = question["limits"]
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            for one in (reading, *ours):
                os.close(one)
            _call(called, kind, question["arguments"], limits, writing)
        finally:
            os._exit(1)
    os.close(writing)
    try:
        reply, is_late = _reply(reading, time.monotonic() + limits["wall"])
    finally:
        os.close(reading)
        _kill(child)
    _, status = os.waitpid(child, 0)
    if reply is not None:
        return reply
    if is_late:
        return {"failed": f"took more than {limits['wall']:g} s"}
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGPROF:
        return {"failed": f"took more than {limits['cpu']:g} s of CPU time"}
    ended = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return {"failed": f"ended its process ({ended})"}


def _call(called: Function, kind: str, arguments: Any, limits: dict[str, Any], to: int) -> NoReturn:
    """Call the function and write what came of it; this process ends here."""
    parent = os.getppid()
    os.setsid()  # so that what it starts ends with it
    leave_with_parent(parent)
    me = os.getpid()
    try:
        limit_memory(limits["memory"])
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, limits["cpu"])
        reply = returned(kind, called(arguments))
    except MemoryError as error:
        reply = {"failed": f"took more than {limits['memory'] >> 20} MB of memory: {_said(error)}"}
    except BaseException as error:  # noqa: BLE001 - whatever it raises, SystemExit too, is the row's
        reply = {"failed": _said(error)}
    if os.getpid() == me:  # a fork of the user's own has nothing to say
        _send(to, reply)
    os._exit(0)


def returned(kind: str, value: Any) -> dict[str, Any]:
    """What a verifier or rule returned as plain data; `failed` where it is none of what it may return."""
    first, second = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
    if type(first).__module__ == "numpy" and type(first).__name__ in ("bool", "bool_"):
        first = bool(first)
    shown = repr(value)[:60]
    if kind == "verifier":
        verdict = {True: "correct", False: "wrong"}[first] if isinstance(first, bool) else first
        if not (isinstance(verdict, str) and verdict in _VERDICTS):
            return {
                "failed": f"returned {shown}, expected True, False, {', '.join(map(repr, _VERDICTS))}, or one of "
                "them with a reason"
            }
        if second is not None and not isinstance(second, str):
            return {"failed": f"returned {shown}, expected a text as the reason"}
        return {"verdict": verdict, "reason": second and " ".join(second.split())[:MAX_CHARACTERS]}
    if first is None and second is None:
        return {"reason": None, "measured": None}
    if not (isinstance(first, str) and _REASON.fullmatch(first)):
        return {
            "failed": f"returned {shown}, expected None, or a reason of letters, digits and underscores, alone or "
            "with a measured value"
        }
    return {"reason": first, "measured": None if second is None else str(second)[:MAX_CHARACTERS]}


def _reply(reading: int, deadline: float) -> tuple[dict[str, Any] | None, bool]:
    """The line of a call, null where none came, and whether the time was over."""
    line = b""
    while not line.endswith(b"\n"):
        if not is_ready(reading, select.POLLIN, deadline):
            return None, True
        if not (read := os.read(reading, 65536)):
            return None, False
        line += read
    reply: dict[str, Any] = json.loads(line)
    return reply, False


def _kill(child: int) -> None:
    """End a call, and whatever it has started."""
    for kill in (os.killpg, os.kill):
        try:
            kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _said(error: BaseException) -> str:
    """Type and text of an error, and the line of a file that it came from."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and not frame.filename.startswith("<frozen")
    ]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{summary(error, MAX_CHARACTERS)}{place}"


def _send(to: int, message: dict[str, Any]) -> None:
    left = json.dumps(message).encode() + b"\n"
    while left:
        left = left[os.write(to, left) :]


if __name__ == "__main__":
    main()
