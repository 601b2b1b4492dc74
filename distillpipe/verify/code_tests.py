"""The tests of a programming problem, read from the rows of the benchmarks.

A row is data from outside: its code is parsed and never run here, its pickles are never loaded.
"""

import base64
import binascii
import functools
import json
import pickletools
import zlib
from typing import Any

from distillpipe.errors import DataError
from distillpipe.verify.code_asserts import tests_of_asserts, tests_of_check
from distillpipe.verify.code_kinds import Call, CallTests, CodeTests, InputTests

MAX_TESTS_BYTES = 1 << 30
NUM_KEPT = 4  # tests of so many problems stay parsed
_STRING_OPERATIONS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_OTHER_OPERATIONS = {"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP"}


TEST_KEYS = frozenset(
    ("public_test_cases", "private_test_cases", "metadata", "input_output", "test_list", "test_imports",
     "test_setup_code", "challenge_test_list", "test", "entry_point", "tests")
)  # fmt: skip
"under which rows keep their tests"


def has_tests(row: dict[str, Any]) -> bool:
    """Whether a row has the fields of one of the benchmarks that `tests_of` reads."""
    tests = row.get("tests")
    return (
        any(row.get(key) for key in ("public_test_cases", "private_test_cases", "input_output"))
        or isinstance(row.get("test_list"), list)
        or bool(row.get("test") and row.get("entry_point"))
        or (isinstance(tests, dict) and "functional" in tests)
    )


OPTION_KEYS = ("options", "choices")


def tests_for(verifier: str, row: dict[str, Any]) -> dict[str, Any] | None:
    """What of a row's keys the id of a problem depends on: its tests, or its options; null for none."""
    if verifier == "code":
        return {key: row[key] for key in sorted(TEST_KEYS) if row.get(key)}
    if verifier == "choice":
        return {key: row[key] for key in OPTION_KEYS if row.get(key)} or None
    return None


def tests_of(extra: str | dict[str, Any], problem: str = "") -> CodeTests:
    """The tests in a row of HumanEval, MBPP, LiveCodeBench, APPS, or with `tests.functional`.

    `extra` holds the row's keys, as a dict or as JSON; `problem` stands for HumanEval's `prompt` where
    the row has it no more. Raises DataError where there are no tests, or none that can be read.
    """
    try:
        row = json.loads(extra) if isinstance(extra, str) else extra
        tests = _read(row, problem)
    except (ValueError, TypeError, KeyError, AttributeError, SyntaxError, RecursionError) as error:
        raise DataError(f"the tests cannot be read: {error!r}") from error
    if tests is None or not tests.cases:
        raise DataError("no tests: the row has none of the fields of a known benchmark")
    return tests


@functools.lru_cache(maxsize=NUM_KEPT)
def tests_in(extra: str | None, problem: str) -> CodeTests:
    """`tests_of`, read once for the samples of a problem that come one after the other."""
    return tests_of(extra or "{}", problem)


def _read(row: dict[str, Any], problem: str) -> CodeTests | None:
    if "public_test_cases" in row or "private_test_cases" in row:
        return _live_code_bench(row)
    if row.get("input_output"):
        return _apps(row["input_output"])
    if row.get("test_list"):
        imports = "\n".join(row.get("test_imports") or [])
        setup = f"{imports}\n{row.get('test_setup_code') or ''}".strip()
        return tests_of_asserts(row["test_list"], setup)
    if row.get("test") and row.get("entry_point"):
        return tests_of_check(row["test"], row["entry_point"], row.get("prompt") or problem)
    if isinstance(row.get("tests"), dict) and row["tests"].get("functional"):
        return tests_of_check(row["tests"]["functional"], None, "")
    return None


# ---------------------------------------------------------------- inputs and outputs


def _live_code_bench(row: dict[str, Any]) -> CodeTests:
    cases: list[dict[str, str]] = json.loads(row.get("public_test_cases") or "[]")
    if private := row.get("private_test_cases"):
        cases = cases + private_cases(private)
    metadata = row.get("metadata") or {}
    metadata = json.loads(metadata) if isinstance(metadata, str) else metadata
    inputs, outputs = [case["input"] for case in cases], [case["output"] for case in cases]
    return _paired(inputs, outputs, metadata.get("func_name"))


def _apps(text: str | dict[str, Any]) -> CodeTests:
    row = json.loads(text) if isinstance(text, str) else text
    return _paired(row["inputs"], row["outputs"], row.get("fn_name"))


def _paired(inputs: list[Any], outputs: list[Any], function: str | None) -> CodeTests:
    """Texts for a script; for a function JSON, one argument a line, or values already."""
    pairs = zip(inputs, outputs, strict=True)
    if function is None:
        return InputTests(tuple((_text(given), _text(wanted)) for given, wanted in pairs))
    calls = [
        Call(
            tuple(map(json.loads, given.split("\n"))) if isinstance(given, str) else tuple(given),
            {},
            json.loads(wanted) if isinstance(wanted, str) else wanted,
        )
        for given, wanted in pairs
    ]
    return CallTests(f"Solution().{function}", tuple(calls), tuple_is_list=True)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "\n".join(map(str, value))


def private_cases(text: str) -> list[dict[str, str]]:
    """LiveCodeBench's private tests: JSON, or base64 of zlib of a pickle of one JSON string.

    The pickle is read as a list of instructions and never run; DataError for one that does more than
    hold a string, and for tests of more than `MAX_TESTS_BYTES`.
    """
    if text.lstrip().startswith("["):
        return json.loads(text)  # type: ignore[no-any-return]
    try:
        inflate = zlib.decompressobj()
        data = inflate.decompress(base64.b64decode(text, validate=True), MAX_TESTS_BYTES)
    except (binascii.Error, zlib.error) as error:
        raise DataError(f"private tests are neither JSON nor base64 of zlib: {error}") from error
    if not inflate.eof:
        raise DataError(f"private tests are cut short, or over {MAX_TESTS_BYTES:,} bytes")
    return json.loads(_only_string(data))  # type: ignore[no-any-return]


def _only_string(data: bytes) -> str:
    found: list[str] = []
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in _STRING_OPERATIONS:
            found.append(str(argument))
        elif operation.name not in _OTHER_OPERATIONS:
            raise DataError(
                f"private tests are a pickle that does more than hold text: {operation.name}"
            )
    if len(found) != 1:
        raise DataError(f"private tests are a pickle of {len(found)} strings, expected 1")
    return found[0]
