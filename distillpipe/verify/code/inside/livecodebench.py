"""LiveCodeBench's way to run a program, inside the sandbox beside the runner.

The runner loads this file as its program and calls the functions with no underscore. They do what the
benchmark's own harness does wherever a verdict depends on it, good sense or not, since a published score
has it so. Like the runner they know no expected value: what a program printed or returned goes out, and
is judged outside. What was read: lcb_runner/evaluation of LiveCodeBench/LiveCodeBench at 28fef95.

    a script is the body of a function, its top imports in front of it; it is no module `__main__`
    `sys.stdin` is a stand-in: all of it at each read, no iteration, and the first line for ever from
    `sys.stdin.buffer.readline()`; file 0 is empty, and so is what `from sys import stdin` gives
    what counts as printed is what was written to `sys.stdout` as it is while the script runs
    SystemExit with any code is a good end of a script
    names of 18 modules are there without an import
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
"What is in front of each program: of names in several modules the last one's counts."

_USUAL_RECURSION_LIMIT = 1000  # the harness takes programs apart under Python's own
_MAX_INT_DIGITS = 50_000
_WITHOUT = {
    "os": "kill system putenv remove removedirs rmdir fchdir setuid fork forkpty killpg rename renames"
    " truncate replace unlink fchmod fchown chmod chown chroot lchflags lchmod lchown getcwd chdir",
    "shutil": "rmtree move chown",
    "subprocess": "Popen",
    "builtins": "quit help",
}
"Functions that are None."
_NO_MODULES = ("ipdb", "joblib", "resource", "psutil", "tkinter")
_IMPORT = re.compile(r"\bfrom\s+(\w+)[\w.]*\s+import\b|\bimport\s+(\w[\w., \t]*)")

_method: Callable[..., Any] | None = None


def prepare_script(program: str) -> None:
    """Make ready to run a script."""
    module = _loaded(_as_function(program), program)
    _set_method(module.wrapped_function)


def run_script(text: str) -> str:
    """What the script prints, given `text` as its input."""
    captured = io.StringIO()
    setattr(captured, "close", lambda _: None)  # noqa: B010 - called without: a TypeError, as there
    before = (sys.stdin, sys.stdout, builtins.open)
    with _PatchedInput(sys.stdin, text):
        sys.stdin, sys.stdout = _Stdin(text), captured
        builtins.open = _opener(text)
        try:
            _called()
        except SystemExit:
            pass
        finally:
            sys.stdin, sys.stdout, builtins.open = before
    return captured.getvalue()


def prepare_function(program: str, name: str) -> None:
    """Make ready to call a function, or a method of `Solution` where the text has such a class."""
    source = f"{PREAMBLE}\n\n{program}"
    _set_method(getattr(_loaded(source, program), name))


def run_function(*arguments: Any) -> Any:
    """What the function returns, as a plain value that equals the same JSON."""
    return _plain(_called(*arguments))


def _set_method(method: Callable[..., Any]) -> None:
    global _method
    _method = method


def _called(*arguments: Any) -> Any:
    if _method is None:
        raise RuntimeError("nothing is prepared")
    return _method(*arguments)


def _loaded(source: str, program: str) -> Any:
    """The module that a source makes, or the one object of its class `Solution`."""
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 - stays open
    _limit(program)
    module = ModuleType("tmp_sol", "")
    exec(compile(source, "<string>", "exec", dont_inherit=True), module.__dict__)
    return module.Solution() if "class Solution" in source else module


def _as_function(program: str) -> str:
    """The source of a script with all but its top imports in a function.

    A last `if __name__ == '__main__'` is taken for its content. What cannot be taken apart stays as it
    is, which has no function, and so is wrong.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(_USUAL_RECURSION_LIMIT)
    try:
        body = ast.parse(program).body
        last = body[-1] if body else None
        if isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'":
            body = [*body[:-1], *last.body]
        imports: list[ast.stmt] = [
            one for one in body if isinstance(one, (ast.Import, ast.ImportFrom))
        ]
        rest = [one for one in body if not isinstance(one, (ast.Import, ast.ImportFrom))]
        function = ast.parse("def wrapped_function(): pass").body[0]
        function.body = rest  # type: ignore[attr-defined]
        head, tail = ast.unparse(ast.Module(imports, [])), ast.unparse(function)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return program
    finally:
        sys.setrecursionlimit(limit)
    return f"{PREAMBLE}\n{head}\n{tail}"


def _limit(program: str) -> None:
    """Take away what the harness takes away, of modules that would be slow to load only if they are named."""
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
    """Load what the harness itself has loaded, as far as a program may need it: while all functions are there."""
    imported = {
        re.split(r"\W", name.strip(), maxsplit=1)[0]
        for module, names in _IMPORT.findall(program)
        for name in (module or names).split(",")
    }
    if "numpy" in program or imported - sys.stdlib_module_names - {""}:
        with suppress(ImportError):
            __import__("numpy")  # on which other packages are built
    if "multiprocessing" in imported:
        __import__("multiprocessing")


class _PatchedInput:
    """Gives the real standard input, which a program may have by name, the methods that read all of it."""

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
    """What `sys.stdin` is while a script runs."""

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
    """What `sys.stdin.buffer` is: nothing but two methods, which do not move on."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, *_: object) -> bytes:
        return self._data

    def readline(self, *_: object) -> bytes:
        return self._data.split(b"\n")[0] + b"\n"


class _Opened(io.StringIO):
    """Any file that is opened by `builtins.open`: the input, and writing does nothing."""

    def write(self, _: str) -> int:
        return 0


def _opener(text: str) -> Any:
    return lambda *_, **__: _Opened(text)


def _plain(value: Any) -> Any:
    """A value whose numbers are Python's own where they are equal to such: numpy's, sympy's, fractions."""
    if value is None or isinstance(value, (int, float, complex, str, bytes, set, frozenset)):
        return value
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, tuple):
        return tuple(_plain(one) for one in value)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if type(value).__module__ == "numpy" and getattr(value, "size", 0) == 1:
        plain = value.tolist()  # a scalar, or an array of one: a longer one is equal to no list
        return float(str(value)) if isinstance(plain, float) else plain  # float32: as few digits
    for kind in (int, float):
        try:
            if (number := kind(value)) == value:
                return number
        except (TypeError, ValueError, OverflowError, ArithmeticError):
            continue
    return value
