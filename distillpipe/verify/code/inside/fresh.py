"""Restores the state of the interpreter before each call of a program's functions.

A script has a process of its own for each input and does not need this. Functions are loaded once and called
many times, as in the graders of their benchmarks. They keep their own state: the names of their module, objects,
defaults and caches. The state of the interpreter becomes that after loading the program, except for a
recursion limit that was raised.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _thread
import _warnings
import builtins
import gc
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_STREAMS = tuple(
    (name, number, mode)
    for number, mode, names in ((0, "r", "stdin"), (1, "w", "stdout"), (2, "w", "stderr"))
    for name in (names, f"__{names}__")
)
_TIMERS = (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF)
_FOLDERS = (".", "../tmp")


class Interpreter:
    """A snapshot of the interpreter's state; `put_back` restores it."""

    def __init__(self, copies: list[int]) -> None:
        """`copies` are duplicates of the descriptors 0, 1 and 2."""
        self._descriptors = list(zip(copies, range(3), strict=True))
        self._streams = {name: getattr(sys, name) for name, _, _ in _STREAMS}
        self._folder = posix.getcwd()
        self._files = {folder: _names_in(folder) for folder in _FOLDERS}
        self._builtins = dict(vars(builtins))
        self._modules = dict(sys.modules)
        lists: tuple[Any, ...] = (sys.argv, sys.path, _warnings.filters)
        self._lists = [(items, list(items)) for items in lists]
        self._environment = dict(posix.environ)
        self._signals = {number: _signal.getsignal(number) for number in _signal.valid_signals()}
        self._blocked = _signal.pthread_sigmask(_signal.SIG_BLOCK, [])
        self._recursion_limit = sys.getrecursionlimit()
        self._digits = sys.get_int_max_str_digits()
        self._collects = gc.isenabled(), gc.get_threshold()
        self._stack_bytes = _thread.stack_size()
        self._of_modules = {
            name: take(sys.modules[name]) for name, take in _TAKEN.items() if name in sys.modules
        }

    def put_back(self) -> None:
        """Restore each part separately; a part that the program has broken is skipped."""
        parts = [
            self._put_back_descriptors, self._put_back_streams, self._put_back_files,
            self._put_back_names, self._put_back_environment, self._put_back_signals,
            self._put_back_limits,
        ]  # fmt: skip
        for name, fresh in _FRESH.items():
            if name in sys.modules:
                put_back = self._of_modules.get(name) or fresh
                parts.append(lambda name=name, put_back=put_back: put_back(sys.modules[name]))  # type: ignore[misc]
        for part in parts:
            try:
                part()
            except Exception:  # noqa: BLE001 - a program may replace whatever these call
                continue

    def _put_back_descriptors(self) -> None:
        for copy, number in self._descriptors:
            posix.dup2(copy, number)
            posix.set_blocking(number, True)

    def _put_back_streams(self) -> None:
        for name, number, mode in _STREAMS:
            stream = self._streams[name]
            if stream is not None and stream.closed:
                stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - stays open
                self._streams[name] = stream
            setattr(sys, name, stream)

    def _put_back_files(self) -> None:
        posix.chdir(self._folder)
        for folder, names in self._files.items():
            for name in _names_in(folder) - names:
                posix.unlink(f"{folder}/{name}")

    def _put_back_names(self) -> None:
        now = vars(builtins)
        if len(now) != len(self._builtins) or any(
            now.get(name) is not value for name, value in self._builtins.items()
        ):
            now.clear()
            now.update(self._builtins)
        sys.modules.update(self._modules)
        for items, content in self._lists:
            items[:] = content
        sys.argv, sys.path = self._lists[0][0], self._lists[1][0]
        sys.settrace(None)
        sys.setprofile(None)

    def _put_back_environment(self) -> None:
        now, before = posix.environ, self._environment  # `os.environ` is built from it
        for name in [*now]:
            if name not in before:
                del now[name]
                posix.unsetenv(name)
        for name, value in before.items():
            if now.get(name) != value:
                now[name] = value
                posix.putenv(name, value)

    def _put_back_signals(self) -> None:
        for timer in _TIMERS:
            _signal.setitimer(timer, 0)
        for number, handler in self._signals.items():
            if handler is not None and _signal.getsignal(number) is not handler:
                _signal.signal(number, handler)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self._blocked)

    def _put_back_limits(self) -> None:
        if sys.getrecursionlimit() < self._recursion_limit:
            sys.setrecursionlimit(self._recursion_limit)
        sys.set_int_max_str_digits(self._digits)
        (gc.enable if self._collects[0] else gc.disable)()
        gc.set_threshold(*self._collects[1])
        _thread.stack_size(self._stack_bytes)


def _names_in(folder: str) -> set[str]:
    try:
        return set(posix.listdir(folder))
    except OSError:
        return set()


# The state of modules that a program may load. _TAKEN: functions that save it and return one that restores it.
# _FRESH: functions that set the initial state, for a module that was loaded later.


def _decimal(module: Any) -> Callable[[Any], None]:
    context = module.getcontext().copy()
    return lambda module: module.setcontext(context.copy())


def _random(module: Any) -> Callable[[Any], None]:
    state = module.getstate()
    return lambda module: module.setstate(state)


def _locale(module: Any) -> Callable[[Any], None]:
    name = module.setlocale(module.LC_ALL)
    return lambda module: module.setlocale(module.LC_ALL, name)


_TAKEN: dict[str, Callable[[Any], Callable[[Any], None]]] = {
    "decimal": _decimal, "random": _random, "_locale": _locale,
}  # fmt: skip
_FRESH: dict[str, Callable[[Any], Any]] = {
    "decimal": lambda module: module.setcontext(module.Context()),
    "random": lambda module: module.seed(),
    "_locale": lambda module: module.setlocale(module.LC_ALL, "C.UTF-8"),
}
