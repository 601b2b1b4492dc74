"""The five kinds of tests that a programming problem may have.

Expected values stay outside the sandbox wherever the tests can be taken apart: `InputTests` and `CallTests`
send inputs and arguments in and compare what comes out. `CheckTests` are free programs that run in a
sandbox of their own and call the candidate through us. `ExpressionTests` need names of the candidate to
make their arguments; only their values come out. `BesideTests` can do no better than run in the
candidate's own process.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class InputTests:
    """A script that reads standard input: pairs of an input and the output to expect."""

    cases: tuple[tuple[str, str], ...]
    is_lenient: bool = False
    "blank lines count for nothing, and a decimal fraction may be a little off: see `equal_output`"


@dataclass(frozen=True)
class Call:
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    expected: Any
    also: tuple[Any, ...] = ()
    "other values that are as right"


@dataclass(frozen=True)
class CallTests:
    """Calls of `path`, `function` or `Class().method`, with plain arguments and plain results."""

    path: str
    cases: tuple[Call, ...]
    setup: str = ""
    "source that runs before the program"
    tuple_is_list: bool = False
    "a tuple is taken for a list, as results that are JSON want"
    inner_tuple_is_list: bool = False
    "one in a list, too"


@dataclass(frozen=True)
class CheckTests:
    """Programs that call the candidate through `names` (name: path) and fail by raising."""

    names: dict[str, str]
    cases: tuple[str, ...]
    setup: str = ""
    "source that runs before the program, and before the tests"


@dataclass(frozen=True)
class ExpressionTests:
    """Expressions over the program's names, and the values to expect."""

    cases: tuple[tuple[str, Any], ...]
    setup: str = ""
    "source that runs after the program"


@dataclass(frozen=True)
class BesideTests:
    """Programs that pass if they end; they must see the candidate itself."""

    cases: tuple[str, ...]
    setup: str = ""


CodeTests = InputTests | CallTests | CheckTests | ExpressionTests | BesideTests
