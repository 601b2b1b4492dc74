"""The program inside the sandbox: it obeys requests, one after the other, and answers in plain values.

It knows no expected value and makes no verdict. The candidate runs in the same process and may read and
change everything here; all that it gains is to say other *values*, and only right ones pass outside.
The same file serves the tests that are free programs: they run in a sandbox of their own (`check`), and
each call of the candidate is asked for outside.

A request is its length in 8 bytes and a marshalled tuple, name first. An answer is one line of JSON:
    ["value", V]  ["raised", "IndexError", "list index out of range"]  ["done"]
    ["call", name, V of the arguments, V of the keyword arguments]       from a checker only
where V is a plain value: null, true, 1.5, "text"; what JSON has not is a list that names its type first:
["l", V...] list, ["t", V...] tuple, ["s", V...] set, ["f", V...] frozenset, ["d", key, value...] dict,
["i", "0x1f"] int, ["b", "hex"] bytes, ["c", real, imaginary] complex.
"""

from __future__ import annotations

import builtins
import marshal
import posix  # what `os` is made of; `os`, `types` and `typing` would take longer than all the rest
import resource
import sys
from _json import encode_basestring_ascii as quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any, BinaryIO

ModuleType = type(sys)
_compile, _exec, _eval = compile, exec, eval  # a program may replace the names in `builtins`
RECURSION_LIMIT = 50_000  # as in LiveCodeBench's harness; Python's own is 1000
MAX_MESSAGE_CHARACTERS = 500


class NotPlain(TypeError):
    """A value that is made of more than Python's literals, or nested too deeply."""


class Runner:
    """What one sandbox holds: the channel, and the program that was loaded last."""

    def __init__(self, requests: BinaryIO, replies: int) -> None:
        self.requests = requests
        self.replies = replies
        self.output = posix.dup(1)
        self.codes: list[CodeType] = []
        self.names: dict[str, Any] = {}

    def serve(self) -> None:
        """Answer until the requests end."""
        self.reply('["done"]')
        while True:
            if (request := self.next_request()) is None:
                return
            name, *arguments = request
            try:
                said = getattr(self, "do_" + name)(*arguments)
            except BaseException as error:  # noqa: BLE001 - whatever a candidate raises is an answer
                said = raised(error)
            self.reply(said)

    def next_request(self) -> tuple[Any, ...] | None:
        size = int.from_bytes(self.requests.read(8), "big")
        return marshal.loads(self.requests.read(size)) if size else None

    def reply(self, line: str) -> None:
        data = line.encode("ascii") + b"\n"
        while data:
            data = data[posix.write(self.replies, data) :]

    def do_compile(self, sources: list[str]) -> str:
        """Read the sources of a program that will be run for each input."""
        self.codes = [
            _compile(source, "<program>", "exec", dont_inherit=True) for source in sources
        ]
        return '["done"]'

    def do_load(self, sources: list[str]) -> str:
        """Run the sources, one after the other, as the module whose functions will be called."""
        self.names = new_module("solution")
        for source in sources:
            _exec(_compile(source, "<program>", "exec", dont_inherit=True), self.names)
        return '["done"]'

    def do_input(self, text: bytes) -> str:
        """Run the compiled program as a script, with `text` on its standard input."""
        connect(text, self.output)
        try:
            names = new_module("__main__")
            for code in self.codes:
                _exec(code, names)
        except SystemExit as stop:
            if stop.code not in (None, 0):
                raise
        end_script()
        return '["done"]'

    def do_call(self, path: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> str:
        """Call `function` or `Class().method`; of a class one object serves all calls."""
        return f'["value",{encoded(self.find(path)(*arguments, **keywords))}]'

    def do_relay(self, path: str, arguments: Any, keywords: Any) -> str:
        """A call whose arguments a checker encoded."""
        return self.do_call(path, decoded(arguments), decoded(keywords))

    def do_evaluate(self, setup: str, expression: str) -> str:
        """The value of an expression among the names of the program, after the setup has run there."""
        _exec(_compile(setup, "<tests>", "exec", dont_inherit=True), self.names)
        code = _compile(expression, "<tests>", "eval", dont_inherit=True)
        return f'["value",{encoded(_eval(code, self.names))}]'

    def do_beside(self, source: str, nonce: str) -> str:
        """Run tests in the candidate's own process: `nonce` is said where the last one has passed."""
        _exec(_compile(source, "<tests>", "exec", dont_inherit=True), self.names)
        return f'["value",{encoded(nonce)}]'

    def do_check(self, setup: list[str], names: dict[str, str], source: str) -> str:
        """Run tests after their setup; calls of the candidate's `names` are made outside."""
        space = new_module("tests")
        for part in setup:
            _exec(_compile(part, "<tests>", "exec", dont_inherit=True), space)
        space.update({name: self.stand_in(path) for name, path in names.items()})
        _exec(_compile(source, "<tests>", "exec", dont_inherit=True), space)
        return '["done"]'

    def stand_in(self, path: str) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            self.reply(f'["call",{quoted(path)},{encoded(arguments)},{encoded(keywords)}]')
            kind, *said = self.next_request() or ("raised", "EOFError", "")
            if kind == "value":
                return decoded(said[0])
            error = getattr(builtins, said[0], None)
            is_error = isinstance(error, type) and issubclass(error, Exception)
            raise (error if is_error else RuntimeError)(said[1])  # type: ignore[misc]

        return call

    def find(self, path: str) -> Callable[..., Any]:
        owner, _, method = path.rpartition("().")
        if not owner:
            return self.names[path]  # type: ignore[no-any-return]
        key = f"{owner}()"
        if key not in self.names:
            self.names[key] = self.names[owner]()
        return getattr(self.names[key], method)  # type: ignore[no-any-return]


def new_module(name: str) -> dict[str, Any]:
    """The names of an empty module that `sys.modules` knows, as dataclasses and pickle want."""
    module = ModuleType(name)
    sys.modules[name] = module
    return module.__dict__


def connect(text: bytes, output: int) -> None:
    """Fresh standard streams: `text` to read, and the pipe to the judge, whatever was done to them."""
    with open("stdin", "w+b") as file:  # noqa: PTH123 - pathlib is slow to import
        posix.unlink("stdin")
        file.write(text)
        file.seek(0)
        posix.dup2(file.fileno(), 0)
    posix.dup2(output, 1)
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc] # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # type: ignore[misc] # noqa: SIM115


def end_script() -> None:
    """What Python does at the end of a script: wait for threads, call what waits for the exit, flush."""
    if threading := sys.modules.get("threading"):
        for thread in threading.enumerate():
            if not thread.daemon and thread is not threading.main_thread():
                thread.join()
    if atexit := sys.modules.get("atexit"):
        atexit._run_exitfuncs()
    for stream in {sys.stdout, sys.__stdout__}:
        if stream is not None and not stream.closed:
            stream.flush()


def raised(error: BaseException) -> str:
    name = quoted(str(type(error).__name__))
    try:
        message = quoted(str(error)[:MAX_MESSAGE_CHARACTERS])
    except BaseException:  # noqa: BLE001 - an error that cannot be printed
        message = '""'
    return f'["raised",{name},{message}]'


def encoded(value: Any) -> str:
    """The JSON of a plain value; raises NotPlain for any other."""
    try:
        return _encoded(value)
    except RecursionError:
        raise NotPlain("nested too deeply") from None


def _encoded(value: Any) -> str:
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        value = int.__add__(value, 0)
        return f"{value}" if -(2**63) < value < 2**63 else f'["i","{value:#x}"]'
    if isinstance(value, float):
        text = float.__repr__(value)
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text, text)
    if isinstance(value, str):
        return quoted(str.__str__(value))
    if isinstance(value, complex):
        return f'["c",{_encoded(value.real)},{_encoded(value.imag)}]'
    if isinstance(value, (bytes, bytearray)):
        return f'["b","{value.hex()}"]'
    kinds: tuple[tuple[str, Any], ...] = (("l", list), ("t", tuple), ("s", set), ("f", frozenset))
    for mark, kind in kinds:
        if isinstance(value, kind):
            return ",".join([f'["{mark}"', *map(_encoded, kind.__iter__(value))]) + "]"
    if isinstance(value, dict):
        parts = [part for pair in dict.items(value) for part in pair]
        return ",".join(['["d"', *map(_encoded, parts)]) + "]"
    raise NotPlain(f"a value of type {type(value).__name__} is not made of literals")


def decoded(value: Any) -> Any:
    """A plain value from its JSON, read already."""
    if not isinstance(value, list):
        return value
    mark, parts = value[0], value[1:]
    if mark == "i":
        return int(parts[0], 16)
    if mark == "b":
        return bytes.fromhex(parts[0])
    if mark == "c":
        return complex(*parts)
    parts = [decoded(part) for part in parts]
    if mark == "d":
        return dict(zip(parts[::2], parts[1::2], strict=True))
    return {"l": list, "t": tuple, "s": set, "f": frozenset}[mark](parts)


def set_limits(limits: dict[str, int]) -> None:
    """Set limits by their names in `resource`, for good."""
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name}", None)
        if number is not None:
            resource.setrlimit(number, (value, value))
    sys.setrecursionlimit(RECURSION_LIMIT)
    sys.set_int_max_str_digits(0)


def main(requests: BinaryIO, replies: int) -> None:
    """Serve after the first request, which holds the limits."""
    runner = Runner(requests, replies)
    set_limits(*(runner.next_request() or ({},)))
    runner.serve()
