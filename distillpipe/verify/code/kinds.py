"""The five kinds of tests of a programming problem; the candidate is the model's program.

Expected values stay outside the sandbox wherever possible:

- `InputTests` and `CallTests` send inputs or arguments into the sandbox and compare the results outside.
- `CheckTests` are programs that run in a sandbox of their own; we pass their calls to the candidate.
- `ExpressionTests` need names of the candidate for their arguments; only their values leave the sandbox.
- `BesideTests` must run in the candidate's own process, which is the weakest form.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class InputTests:
    """Tests of a script that reads standard input: pairs of an input and the expected output."""

    cases: tuple[tuple[str, str], ...]
    is_lenient: bool = False
    "ignore blank lines, and compare decimal fractions with a tolerance: see `equal_output`"


@dataclass(frozen=True)
class Call:
    """A call of the candidate and its expected result."""

    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    expected: Any
    also: tuple[Any, ...] = ()
    "other correct results"


@dataclass(frozen=True)
class CallTests:
    """Calls of `path`, `function` or `Class().method`, with plain arguments and plain results."""

    path: str
    cases: tuple[Call, ...]
    setup: str = ""
    "source that runs before the program"
    tuple_is_list: bool = False
    "a tuple equals a list, since the expected results are JSON"
    inner_tuple_is_list: bool = False
    "inside of lists too"


@dataclass(frozen=True)
class CheckTests:
    """Programs that call the candidate by `names` (name: path); a test fails by raising an exception."""

    names: dict[str, str]
    cases: tuple[str, ...]
    setup: str = ""
    "source that runs before the program, and before the tests"


@dataclass(frozen=True)
class ExpressionTests:
    """Expressions that use the candidate's names, and their expected values."""

    cases: tuple[tuple[str, Any], ...]
    setup: str = ""
    "source that runs after the program"


@dataclass(frozen=True)
class BesideTests:
    """Programs that need the candidate in their own process; they pass if they end without an exception."""

    cases: tuple[str, ...]
    setup: str = ""


CodeTests = InputTests | CallTests | CheckTests | ExpressionTests | BesideTests
