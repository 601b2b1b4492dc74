"""Compares the results and the output of a program with the expected ones, outside the sandbox.

Results are untrusted: they may nest without end, or hold sets whose hashes all collide. So values are compared
in their encoded form, as lists. Only a value of the same size as the expected one is decoded, to be an element of
a set or a dict key.
"""

import re
from decimal import Decimal, InvalidOperation
from itertools import repeat
from typing import Any

from distillpipe.verify.code.inside.values import decoded

_FRACTION = re.compile(r"[+-]?\d*(?:\.\d+|\.?\d*[eE][+-]?\d+)")


def equal_value(encoded: Any, expected: Any, *, tuple_is_list: bool = False) -> bool:
    """Whether the encoded value in the runner's JSON equals the expected one; False if it is not a value.

    With `tuple_is_list` a tuple equals an expected list with the same elements, at any depth.
    """
    try:
        return _equal(encoded, expected, tuple_is_list)
    except (RecursionError, IndexError, KeyError, TypeError, ValueError, OverflowError):
        return False


def _equal(encoded: Any, expected: Any, tuple_is_list: bool) -> bool:
    if not isinstance(encoded, list):
        return not isinstance(encoded, dict) and bool(encoded == expected)
    mark, parts = encoded[0], encoded[1:]
    if mark in ("l", "t"):
        is_list = mark == "l" or (tuple_is_list and isinstance(expected, list))
        return (
            type(expected) is (list if is_list else tuple)
            and len(parts) == len(expected)
            and all(map(_equal, parts, expected, repeat(tuple_is_list)))
        )
    if mark == "d":
        return isinstance(expected, dict) and _equal_dict(parts, expected, tuple_is_list)
    if isinstance(expected, (list, dict)):
        return False
    return _size(encoded) == _size(expected) and bool(decoded(encoded) == expected)


def _equal_dict(parts: list[Any], expected: dict[Any, Any], tuple_is_list: bool) -> bool:
    keys, values = parts[::2], parts[1::2]
    if len(keys) != len(expected) or len(values) != len(expected):
        return False
    if sum(map(_size, keys)) != sum(map(_size, expected)):
        return False
    by_key = dict(zip(map(decoded, keys), values, strict=True))
    return all(
        key in by_key and _equal(by_key[key], value, tuple_is_list)
        for key, value in expected.items()
    )


def _size(value: Any) -> int:
    """The number of values in a set or a key; equal for an encoded value and the value itself."""
    if isinstance(value, list):  # encoded: its mark counts as the container
        return 1 if value[0] in ("i", "b", "c") else sum(map(_size, value))
    if isinstance(value, (tuple, set, frozenset)):
        return 1 + sum(map(_size, value))
    return 1


def equal_output(printed: str, expected: str, *, is_lenient: bool = False) -> bool:
    """LiveCodeBench's rule: the same lines, except for white space at their ends, or the same decimals in them.

    The lenient rule is that of APPS and TACO, without the parts that accept wrong output: blank lines and the
    amount of white space do not count, and an expected number with a decimal point or an exponent is compared
    with the tolerance of numpy's `allclose`. (Their rule also accepts the lines in any order.)
    """
    lines, expected_lines = _lines(printed), _lines(expected)
    if len(lines) == len(expected_lines) and all(map(_equal_line, lines, expected_lines)):
        return True
    if not is_lenient:
        return False
    lines, expected_lines = [*filter(None, lines)], [*filter(None, expected_lines)]
    return len(lines) == len(expected_lines) and all(map(_close_line, lines, expected_lines))


def _close_line(line: str, expected: str) -> bool:
    if _equal_line(line, expected):
        return True
    words, expected_words = line.split(), expected.split()
    return len(words) == len(expected_words) and all(map(_close_word, words, expected_words))


def _close_word(word: str, expected: str) -> bool:
    if word == expected:
        return True
    if not _FRACTION.fullmatch(expected):
        return False
    try:
        return abs(float(word) - (number := float(expected))) <= 1e-8 + 1e-5 * abs(number)
    except ValueError:
        return False


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def _equal_line(line: str, expected: str) -> bool:
    if line == expected:
        return True
    words, expected_words = line.split(), expected.split()
    if len(words) != len(expected_words):
        return False
    try:
        return all(
            Decimal(word) == Decimal(other)
            for word, other in zip(words, expected_words, strict=True)
        )
    except InvalidOperation:
        return False
