"""Runs a program as LiveCodeBench's harness does, inside the sandbox.

The runner loads this file as its program and calls the public functions. They follow the harness wherever a
verdict depends on it, reasonable or not, since published scores do. They know no expected value: the printed
text or the result leaves the sandbox and is compared outside.
Source: lcb_runner/evaluation of LiveCodeBench/LiveCodeBench at 28fef95. What differs from plain Python:

- A script is the body of a function, after its top-level imports; it is not the module `__main__`.
- `sys.stdin` is replaced: each `read()` gives the whole input, iteration is not possible, and
  `sys.stdin.buffer.readline()` always gives the first line. Descriptor 0 and `from sys import stdin` are empty.
- The output is what was written to the replaced `sys.stdout` while the script ran.
- SystemExit with any code is a normal end of a script.
- The names of 18 modules are available without an import.
"""

import ast
import builtins
import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

MODULES = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random",
    "statistics", "itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing",
)  # fmt: skip
_RECURSION_LIMIT = 50_000
PREAMBLE = "\n".join(
    [
        *(f"from {name} import *" for name in MODULES),
        *(f"import {name}" for name in MODULES if name not in ("builtins", "typing")),
        f"sys.setrecursionlimit({_RECURSION_LIMIT})\n",
    ]
)
"The imports before each program; a name in several modules is that of the last one."

_USUAL_RECURSION_LIMIT = 1000  # Python's default, under which the harness parses programs
_MAX_INT_DIGITS = 50_000
_WITHOUT = {
    "os": "kill system putenv remove removedirs rmdir fchdir setuid fork forkpty killpg rename renames"
    " truncate replace unlink fchmod fchown chmod chown chroot lchflags lchmod lchown getcwd chdir",
    "shutil": "rmtree move chown",
    "subprocess": "Popen",
    "builtins": "quit help",
}
"Functions that are replaced by None."
_NO_MODULES = ("ipdb", "joblib", "resource", "psutil", "tkinter")
_IMPORT = re.compile(r"\bfrom\s+(\w+)[\w.]*\s+import\b|\bimport\s+(\w[\w., \t]*)")

_method: Callable[..., Any] | None = None


def prepare_script(program: str) -> None:
    """Load a script for `run_script`."""
    module = _loaded(_as_function(program), program)
    _set_method(module.wrapped_function)


def run_script(text: str) -> str:
    """The text that the script prints with `text` as its input."""
    captured = io.StringIO()
    # As in the harness, `close()` raises TypeError: it is called without an argument.
    setattr(captured, "close", lambda _: None)  # noqa: B010 - mypy refuses a plain assignment
    before = (sys.stdin, sys.stdout, builtins.open)
    with _PatchedInput(sys.stdin, text):
        sys.stdin, sys.stdout = _Stdin(text), captured
        builtins.open = lambda *_, **__: _Opened(text)  # type: ignore[assignment]
        try:
            _called()
        except SystemExit:
            pass
        finally:
            sys.stdin, sys.stdout, builtins.open = before
    return captured.getvalue()


def prepare_function(program: str, name: str) -> None:
    """Load a program for `run_function`: a function, or a method of `Solution` if it has that class."""
    source = f"{PREAMBLE}\n\n{program}"
    _set_method(getattr(_loaded(source, program), name))


def run_function(*arguments: Any) -> Any:
    """The result of the function, as a plain value that can be compared with JSON."""
    return _plain(_called(*arguments))


def _set_method(method: Callable[..., Any]) -> None:
    global _method
    _method = method


def _called(*arguments: Any) -> Any:
    if _method is None:
        raise RuntimeError("nothing is prepared")
    return _method(*arguments)


def _loaded(source: str, program: str) -> Any:
    """The module of a source, or an object of its class `Solution`."""
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 - stays open
    _limit(program)
    module = ModuleType("tmp_sol", "")
    exec(compile(source, "<string>", "exec", dont_inherit=True), module.__dict__)
    return module.Solution() if "class Solution" in source else module


def _as_function(program: str) -> str:
    """The source of a script with all statements but its top-level imports moved into a function.

    A final `if __name__ == '__main__'` is replaced by its body. A script that cannot be parsed is returned
    unchanged: then the function is missing, and the script fails.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(_USUAL_RECURSION_LIMIT)
    try:
        body = ast.parse(program).body
        last = body[-1] if body else None
        if isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'":
            body = [*body[:-1], *last.body]
        imports: list[ast.stmt] = [
            part for part in body if isinstance(part, (ast.Import, ast.ImportFrom))
        ]
        rest = [part for part in body if not isinstance(part, (ast.Import, ast.ImportFrom))]
        function = ast.parse("def wrapped_function(): pass").body[0]
        function.body = rest  # type: ignore[attr-defined]
        head, tail = ast.unparse(ast.Module(imports, [])), ast.unparse(function)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return program
    finally:
        sys.setrecursionlimit(limit)
    return f"{PREAMBLE}\n{head}\n{tail}"


def _limit(program: str) -> None:
    """Disable what the harness disables; modules that are slow to load only if the program names them."""
    _load_before(program)
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.argv = [""]
    if not hasattr(builtins, "exit"):
        builtins.exit = sys.exit  # type: ignore[assignment]
    for module, names in _WITHOUT.items():
        if module in ("os", "builtins") or module in program:
            for name in names.split():
                setattr(__import__(module), name, None)
    for name in _NO_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    sys.set_int_max_str_digits(_MAX_INT_DIGITS)


def _load_before(program: str) -> None:
    """Load the modules that the harness has loaded and the program may need, before functions are disabled."""
    imported = {
        re.split(r"\W", name.strip(), maxsplit=1)[0]
        for module, names in _IMPORT.findall(program)
        for name in (module or names).split(",")
    }
    if "numpy" in program or imported - sys.stdlib_module_names - {""}:
        with suppress(ImportError):
            __import__("numpy")  # other packages need it
    if "multiprocessing" in imported:
        __import__("multiprocessing")


class _PatchedInput:
    """Patches the read methods of the real standard input, which a program may have imported by name."""

    def __init__(self, stream: Any, text: str) -> None:
        lines = iter(text.split("\n"))
        self._stream = stream
        self._methods = {
            "read": lambda *_: text,
            "readline": lambda *_: next(lines),
            "readlines": lambda *_: text.split("\n"),
        }

    def __enter__(self) -> None:
        for name, method in self._methods.items():
            setattr(self._stream, name, method)

    def __exit__(self, *_: object) -> None:
        for name in self._methods:
            delattr(self._stream, name)


class _Stdin:
    """Replaces `sys.stdin` while a script runs."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = io.StringIO(text)
        self.buffer = _Bytes(text.encode())

    def read(self, *_: object) -> str:
        return self._text

    def readline(self, *arguments: Any) -> str:
        return self._lines.readline(*arguments)

    def readlines(self, *_: object) -> list[str]:
        return self._text.split("\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lines, name)


class _Bytes:
    """Replaces `sys.stdin.buffer`: only two methods, which always read from the start."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, *_: object) -> bytes:
        return self._data

    def readline(self, *_: object) -> bytes:
        return self._data.split(b"\n")[0] + b"\n"


class _Opened(io.StringIO):
    """Replaces any file opened by `builtins.open`: reading gives the input, writing does nothing."""

    def write(self, _: str) -> int:
        return 0


def _plain(value: Any) -> Any:
    """Convert numbers of other types (numpy, sympy, Fraction) to equal Python numbers, also inside containers."""
    if value is None or isinstance(value, (int, float, complex, str, bytes, set, frozenset)):
        return value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if type(value).__module__ == "numpy" and getattr(value, "size", 0) == 1:
        plain = value.tolist()  # a scalar or an array of one item; longer arrays equal no list
        return float(str(value)) if isinstance(plain, float) else plain  # the digits of a float32
    for kind in (int, float):
        try:
            if (number := kind(value)) == value:
                return number
        except (TypeError, ValueError, OverflowError, ArithmeticError):
            continue
    return value
