"""The process that calls a function of the user: it reads and writes JSON lines until its input ends.

    {"arguments": {"answer": "4", ...}, "limits": {"cpu": 5, "wall": 20, "memory": 2147483648}}
    {"verdict": "wrong", "reason": null}          from a verifier
    {"reason": "too_short", "measured": "12"}     from a rule; the reason is null for a trace that it keeps
    {"failed": "KeyError: 'unit' (checks.py:12)"}

The file is imported once. Each call runs in a fork, so it starts from the state after the import.
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
MAX_CHARACTERS = 160  # of a reason or of an error message
IMPORT_BYTES = 8 * 2**30  # of memory for the import of the file, so that it cannot fill the machine
_VERDICTS = ("correct", "wrong", "unverifiable")
_REASON = re.compile(r"[A-Za-z0-9_]{1,64}")
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

Function = Callable[..., Any]


class Refused(Exception):
    """The file or the function cannot be used; the message is the reason."""


def main() -> None:
    """Answer the requests of the parent process, whose id is the first argument."""
    parent, kind, path, function, digest = sys.argv[1:]
    leave_with_parent(int(parent))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    questions, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(
        os.open(os.devnull, os.O_RDONLY), 0
    )  # the user's code must not read or write our messages
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
    os._exit(0)  # without waiting for threads that the file has started


def _loaded(kind: str, path: Path, name: str, digest: str) -> Function:
    """Import the function, as a function of the arguments of a question."""
    limit = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (IMPORT_BYTES, limit[1]))
    sys.dont_write_bytecode = True
    root, module_name = package_of(path)
    sys.path.insert(0, str(root))  # as `python FILE.py` does
    source = path.read_bytes()
    if digest_of(path) != digest:
        raise Refused("the file has changed since the command started: run it again")
    try:
        if "." in module_name:
            importlib.import_module(module_name.rpartition(".")[0])
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None  # every .py file has one
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        # not with the spec's loader, which may use a cached .pyc of the same second
        exec(compile(source, str(path), "exec"), module.__dict__)
    except BaseException as error:  # noqa: BLE001 - any failure of the file is reported to the user
        raise Refused(_import_failure(error, path)) from None
    resource.setrlimit(resource.RLIMIT_DATA, limit)
    if not hasattr(module, name):
        functions = [
            other for other, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module_name
        ]  # fmt: skip
        raise Refused(
            f"no {name} in {path.name}, which has {', '.join(functions) or 'no function'}"
        )
    return _checked(kind, name, getattr(module, name))


def _checked(kind: str, name: str, function: Any) -> Function:
    """The function, after a check of its parameters. Raises Refused if they are wrong."""
    if not callable(function):
        raise Refused(f"{name} is not a function, but {type(function).__name__}")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise Refused(
            f"{name} is async or a generator: expected a function that returns its result"
        )
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise Refused(
            f"{name}: Python cannot tell its parameters: write a function that calls it"
        ) from None
    required = [parameter for parameter in parameters if parameter.default is parameter.empty]
    listed = ", ".join(map(str, parameters))
    if kind == "rule":
        single = [parameter for parameter in required if parameter.kind not in _VARIADIC]
        if len(single) != 1 or single[0].kind == inspect.Parameter.KEYWORD_ONLY:
            raise Refused(f"{name}({listed}): expected one parameter, the trace: def {name}(trace)")
        return lambda arguments: function(msgspec.convert(arguments, Trace))
    takes_all = any(parameter.kind == inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    by_name = {parameter.name for parameter in parameters if parameter.kind in _BY_NAME}
    unknown = [
        parameter.name
        for parameter in required
        if parameter.kind != inspect.Parameter.VAR_KEYWORD
        and (parameter.name not in by_name or parameter.name not in PARAMETERS)
    ]
    used = [argument for argument in PARAMETERS if takes_all or argument in by_name]
    if unknown or not used:
        mistake = f"unknown: {', '.join(unknown)}" if unknown else "it has none of them"
        raise Refused(
            f"{name}({listed}): the parameters of a verifier are any of {', '.join(PARAMETERS)}; {mistake}"
        )
    return lambda arguments: function(**{argument: arguments[argument] for argument in used})


def _import_failure(error: BaseException, path: Path) -> str:
    """Why a file cannot be imported, with the line."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return f"it needs the package {package}, which is not installed ({_described(error)}): install it here ({sys.executable})"
    return f"importing {path.name} failed: {_described(error)}"


def _answered(called: Function, kind: str, line: bytes, ours: tuple[int, int]) -> dict[str, Any]:
    """The result of a call in a fork, in which the descriptors `ours` are closed."""
    question = json.loads(line)
    limits = question["limits"]
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            for descriptor in (reading, *ours):
                os.close(descriptor)
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
    """Call the function, write its result, and end this process."""
    parent = os.getppid()
    os.setsid()  # so that processes that it starts can be killed with it
    leave_with_parent(parent)
    own_id = os.getpid()
    try:
        limit_memory(limits["memory"])
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, limits["cpu"])
        reply = result_of(kind, called(arguments))
    except MemoryError as error:
        reply = {
            "failed": f"took more than {limits['memory'] >> 20} MB of memory: {_described(error)}"
        }
    except BaseException as error:  # noqa: BLE001 - any exception, SystemExit too, is the result of this row
        reply = {"failed": _described(error)}
    if os.getpid() == own_id:  # not in a fork that the user's code has made
        _send(to, reply)
    os._exit(0)


def result_of(kind: str, value: Any) -> dict[str, Any]:
    """The result of a verifier or rule as plain data; `failed` for a value that it must not return."""
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
    """The reply of a call, None if there is none, and whether the deadline has passed."""
    line = b""
    while not line.endswith(b"\n"):
        if not is_ready(reading, select.POLLIN, deadline):
            return None, True
        if not (data := os.read(reading, 65536)):
            return None, False
        line += data
    reply: dict[str, Any] = json.loads(line)
    return reply, False


def _kill(child: int) -> None:
    """Kill the process of a call and the processes that it has started."""
    for kill in (os.killpg, os.kill):
        try:
            kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _described(error: BaseException) -> str:
    """The type, the message and the source line of an error."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and not frame.filename.startswith("<frozen")
    ]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{summary(error, MAX_CHARACTERS)}{place}"


def _send(to: int, message: dict[str, Any]) -> None:
    pending = json.dumps(message).encode() + b"\n"
    while pending:
        pending = pending[os.write(to, pending) :]


if __name__ == "__main__":
    main()
