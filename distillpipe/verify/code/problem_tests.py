"""Reads the tests of a programming problem from the row of a benchmark.

Rows are untrusted: their code is parsed but never run here, and their pickles are never loaded.
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
NUM_KEPT = 4  # problems whose parsed tests stay in memory
_LONG_DIGITS = 4000
_STRING_OPERATIONS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_OTHER_OPERATIONS = {"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP"}


TEST_KEYS = frozenset(
    ("public_test_cases", "private_test_cases", "metadata", "input_output", "test_list", "test_imports",
     "test_setup_code", "challenge_test_list", "test", "entry_point", "tests")
)  # fmt: skip
"The keys of a row that may hold its tests."


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
    """The keys of a row that are part of the problem's id: its tests or its options; None for other verifiers."""
    if verifier == "code":
        return {key: row[key] for key in sorted(TEST_KEYS) if row.get(key)}
    if verifier == "choice":
        return {key: row[key] for key in OPTION_KEYS if row.get(key)} or None
    return None


def tests_of(extra: str | dict[str, Any], problem: str = "") -> CodeTests:
    """The tests in a row of HumanEval, MBPP, LiveCodeBench, APPS, or with `tests.functional`.

    `extra` holds the row's keys, as a dict or as JSON; `problem` replaces HumanEval's `prompt` if the row
    no longer has it. Raises DataError if there are no tests, or if they cannot be read.
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
    """As `tests_of`, cached, since the samples of a problem follow one another."""
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
        return InputTests(tuple((_text(argument), _text(output)) for argument, output in pairs))
    calls = [Call(_arguments(argument), {}, _value(output)) for argument, output in pairs]
    return CallTests(f"Solution().{function}", tuple(calls), tuple_is_list=True)


def _apps(text: str | dict[str, Any]) -> CodeTests:
    """The tests of APPS, TACO and data sets made from them: texts for a script, values for a function.

    - Their graders (and prime_code of verl, taco.py of rllm) accept `result == output` or `result == output[0]`,
      since some rows wrap a result in a list of one. We accept the second only if all outputs of a row are such
      lists; else the first element of a list would pass for the list.
    - JSON turned the keys of dicts into strings. As in these graders, the keys of a single argument become
      numbers if all can. A result may have either; these graders accept numbers only.
    """
    row = _loads(text) if isinstance(text, str) else text
    pairs = list(zip(row["inputs"], row["outputs"], strict=True))
    if (function := row.get("fn_name")) is None:
        texts = tuple((_text(argument), _text(output)) for argument, output in pairs)
        return InputTests(texts, is_lenient=True)
    results = [_accepted_results(argument, output) for argument, output in pairs]
    if all(isinstance(accepted[0], list) and len(accepted[0]) == 1 for accepted in results):
        results = [
            [item for value in accepted for item in (value, value[0])] for accepted in results
        ]
    calls = []
    for (argument, _), accepted in zip(pairs, results, strict=True):
        arguments = _arguments(argument)
        if len(arguments) == 1 and isinstance(arguments[0], dict):
            arguments = (_with_number_keys(arguments[0]),)
        expected, *also = accepted
        also += [numbered for value in accepted if (numbered := _with_number_keys(value)) != value]
        calls.append(Call(arguments, {}, expected, tuple(also)))
    return CallTests(
        f"Solution().{function}", tuple(calls), tuple_is_list=True, inner_tuple_is_list=True
    )


def _accepted_results(argument: Any, output: Any) -> list[Any]:
    """The results that a call may return: the parsed output, and its text too if the arguments are not JSON."""
    if isinstance(argument, str) or not isinstance(output, str):
        return [_value(output)]
    try:
        return [output, _loads(output)]
    except ValueError:
        return [output]


def _arguments(value: Any) -> tuple[Any, ...]:
    """Arguments as JSON text, one a line, or as values."""
    return tuple(map(_loads, value.split("\n"))) if isinstance(value, str) else tuple(value)


def _value(output: Any) -> Any:
    return _loads(output) if isinstance(output, str) else output


def _with_number_keys(value: Any) -> Any:
    """A dict, or a list of one dict, with its keys as integers if all can be; other values unchanged."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        return [_with_number_keys(value[0])]
    if not isinstance(value, dict):
        return value
    try:
        return {int(key): item for key, item in value.items()}
    except ValueError:
        return value


def _text(value: Any) -> str:
    """A text, also from a list of lines."""
    if isinstance(value, str):
        return value
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _loads(text: str) -> Any:
    return json.loads(text, parse_int=_int)


def _int(digits: str) -> int:
    """An integer of any length: `int` refuses texts of more than 4,300 digits."""
    return int(digits) if len(digits) < _LONG_DIGITS else int(Decimal(digits))


def private_cases(text: str) -> list[dict[str, str]]:
    """LiveCodeBench's private tests: JSON, or base64 of zlib of a pickle of one JSON string.

    The pickle is read as a list of instructions and never run. Raises DataError if it does more than hold one
    string, or if the tests have more than `MAX_TESTS_BYTES`.
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
    strings: list[str] = []
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in _STRING_OPERATIONS:
            strings.append(str(argument))
        elif operation.name not in _OTHER_OPERATIONS:
            raise DataError(
                f"private tests are a pickle that does more than hold text: {operation.name}"
            )
    if len(strings) != 1:
        raise DataError(f"private tests are a pickle of {len(strings)} strings, expected 1")
    return strings[0]
