"""An exception that nobody foresaw costs one row: counted, said, and tolerated up to 1%."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from distillpipe import filters
from distillpipe.base import rowguard
from distillpipe.base.errors import Abandoned, DataError, UsageError
from distillpipe.base.rowguard import InternalError, guarded


def fault(*_: object) -> Any:
    raise KeyError("log")


# ---------------------------------------------------------------- the guard


def deep(number: int) -> int:
    return deep(number + 1)


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (fault, "KeyError: 'log' (tests/base/test_rowguard.py:"),
        (
            lambda: deep(0),
            "RecursionError: maximum recursion depth exceeded (tests/base/test_rowguard.py:",
        ),
        (
            lambda: 1 // 0,
            "ZeroDivisionError: integer division or modulo by zero (tests/base/test_rowguard",
        ),
        (lambda: "x" * (1 << 62), "MemoryError (tests/base/test_rowguard.py:"),
        (lambda: "\ud800".encode(), "UnicodeEncodeError: 'utf-8' codec can't encode character"),
        (lambda: json.loads("{"), "JSONDecodeError: Expecting property name"),
    ],
)
def test_an_unforeseen_exception_is_the_rows(work: Callable[[], Any], said: str) -> None:
    found = guarded(work)

    assert isinstance(found, InternalError)
    assert found.description.startswith(said)
    assert found.reason == f"internal_error: {found.description}"
    found.description.encode("utf-8")


def test_the_place_is_the_last_line_of_ours() -> None:
    found = guarded(filters.unjudged, None, None)  # type: ignore[arg-type]

    assert isinstance(found, InternalError)
    assert " (distillpipe/filters/__init__.py:" in found.description


def test_half_a_character_in_an_error_can_be_written() -> None:
    def work() -> None:
        raise LookupError("\ud800")

    assert isinstance(found := guarded(work), InternalError)
    assert found.description.startswith(r"LookupError: \ud800 (")


def test_an_error_without_a_text_of_its_own_is_the_rows() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise self

    def work() -> None:
        raise Mute

    assert isinstance(found := guarded(work), InternalError)
    assert found.description.startswith("Mute: ")


@pytest.mark.parametrize("error", [OSError("odd"), TimeoutError("slow"), TimeoutError()])
def test_an_error_that_comes_from_no_disk_is_the_rows(error: OSError) -> None:
    def work() -> None:
        raise error

    assert isinstance(found := guarded(work), InternalError)
    assert found.description.startswith(type(error).__name__)


@pytest.mark.parametrize(
    "error",
    [UsageError("x"), DataError("x"), OSError(28, "full"), Abandoned(), KeyboardInterrupt(), SystemExit(1)],
)  # fmt: skip
def test_what_concerns_the_run_passes(error: BaseException) -> None:
    def work() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        guarded(work)
    assert raised.value is error


@pytest.mark.parametrize(
    ("num_errors", "num_rows", "is_too_many"),
    [
        (0, 0, False),
        (1, 100, False),
        (2, 100, True),
        (1, 99, True),
        (10, 1000, False),
        (1, 1, True),
    ],
)
def test_one_percent_is_tolerated(num_errors: int, num_rows: int, is_too_many: bool) -> None:
    assert rowguard.too_many(num_errors, num_rows) is is_too_many
