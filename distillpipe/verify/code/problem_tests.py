"""The tests of a programming problem, read from the rows of the benchmarks.

A row is data from outside: its code is parsed and never run here, its pickles are never loaded.
"""

import base64
import binascii
import functools
import json
import pickletools
import zlib
from decimal import Decimal
from typing import Any

from distillpipe.base.errors import DataError
from distillpipe.verify.code.asserts import tests_of_asserts, tests_of_check
from distillpipe.verify.code.kinds import Call, CallTests, CodeTests, InputTests

MAX_TESTS_BYTES = 1 << 30
NUM_KEPT = 4  # tests of so many problems stay parsed
_LONG_DIGITS = 4000
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
        row = _loads(extra) if isinstance(extra, str) else extra
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
    cases: list[dict[str, str]] = _loads(row.get("public_test_cases") or "[]")
    if private := row.get("private_test_cases"):
        cases = cases + private_cases(private)
    metadata = row.get("metadata") or {}
    metadata = _loads(metadata) if isinstance(metadata, str) else metadata
    pairs = [(case["input"], case["output"]) for case in cases]
    if (function := metadata.get("func_name")) is None:
        return InputTests(tuple((_text(given), _text(wanted)) for given, wanted in pairs))
    calls = [Call(_arguments(given), {}, _value(wanted)) for given, wanted in pairs]
    return CallTests(f"Solution().{function}", tuple(calls), tuple_is_list=True)


def _apps(text: str | dict[str, Any]) -> CodeTests:
    """Tests of APPS, of TACO, and of what is made of them: texts for a script, values for a function.

    Their graders (and prime_code of verl, taco.py of rllm) take `said == output` or `said == output[0]`,
    since some rows keep a result in a list of one. Here the second only where all outputs of a row are such
    lists: else the first element of a list would do for the list. JSON has made texts of the keys of dicts;
    as there, the keys of an only argument become numbers where all can. In a result both will do: they
    take numbers only, whatever the function was to return.
    """
    row = _loads(text) if isinstance(text, str) else text
    pairs = list(zip(row["inputs"], row["outputs"], strict=True))
    if (function := row.get("fn_name")) is None:
        texts = tuple((_text(given), _text(wanted)) for given, wanted in pairs)
        return InputTests(texts, is_lenient=True)
    results = [_results(given, wanted) for given, wanted in pairs]
    if all(isinstance(one[0], list) and len(one[0]) == 1 for one in results):
        results = [[value for one in found for value in (one, one[0])] for found in results]
    calls = []
    for (given, _), found in zip(pairs, results, strict=True):
        arguments = _arguments(given)
        if len(arguments) == 1 and isinstance(arguments[0], dict):
            arguments = (_with_numbers(arguments[0]),)
        expected, *also = found
        also += [numbered for one in found if (numbered := _with_numbers(one)) != one]
        calls.append(Call(arguments, {}, expected, tuple(also)))
    return CallTests(
        f"Solution().{function}", tuple(calls), tuple_is_list=True, inner_tuple_is_list=True
    )


def _results(given: Any, wanted: Any) -> list[Any]:
    """What a call may return: JSON where its arguments are JSON; else a text as it stands, too."""
    if isinstance(given, str) or not isinstance(wanted, str):
        return [_value(wanted)]
    try:
        return [wanted, _loads(wanted)]
    except ValueError:
        return [wanted]


def _arguments(given: Any) -> tuple[Any, ...]:
    """JSON, one argument a line, or values already."""
    return tuple(map(_loads, given.split("\n"))) if isinstance(given, str) else tuple(given)


def _value(wanted: Any) -> Any:
    return _loads(wanted) if isinstance(wanted, str) else wanted


def _with_numbers(value: Any) -> Any:
    """A dict, or the one in a list of one, with numbers for keys, if all can be."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        return [_with_numbers(value[0])]
    if not isinstance(value, dict):
        return value
    try:
        return {int(key): one for key, one in value.items()}
    except ValueError:
        return value


def _text(value: Any) -> str:
    """A text, or its lines."""
    if isinstance(value, str):
        return value
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _loads(text: str) -> Any:
    return json.loads(text, parse_int=_int)


def _int(digits: str) -> int:
    """An integer of any length: Python refuses to read those with over 4,300 digits from a text."""
    return int(digits) if len(digits) < _LONG_DIGITS else int(Decimal(digits))


def private_cases(text: str) -> list[dict[str, str]]:
    """LiveCodeBench's private tests: JSON, or base64 of zlib of a pickle of one JSON string.

    The pickle is read as a list of instructions and never run; DataError for one that does more than
    hold a string, and for tests of more than `MAX_TESTS_BYTES`.
    """
    if text.lstrip().startswith("["):
        return _loads(text)  # type: ignore[no-any-return]
    try:
        inflate = zlib.decompressobj()
        data = inflate.decompress(base64.b64decode(text, validate=True), MAX_TESTS_BYTES)
    except (binascii.Error, zlib.error) as error:
        raise DataError(f"private tests are neither JSON nor base64 of zlib: {error}") from error
    if not inflate.eof:
        raise DataError(f"private tests are cut short, or over {MAX_TESTS_BYTES:,} bytes")
    return _loads(_only_string(data))  # type: ignore[no-any-return]


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
