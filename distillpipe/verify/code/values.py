"""What a program said against what was expected: the judge of values and of output, outside the sandbox.

What was said is hostile: it may nest without end, or hold sets whose hashes all collide. So values are
compared as they came, as lists, and only what has the size of the expected value becomes a set or a key.
"""

import re
from decimal import Decimal, InvalidOperation
from itertools import repeat
from typing import Any

_FRACTION = re.compile(r"[+-]?\d*(?:\.\d+|\.?\d*[eE][+-]?\d+)")


def equal_value(said: Any, expected: Any, *, tuple_is_list: bool = False) -> bool:
    """Whether the value in the runner's JSON is `==` the expected one; False for what is no value.

    With `tuple_is_list` a tuple that was said equals the list with the same elements, at any depth.
    """
    try:
        return _equal(said, expected, tuple_is_list)
    except (RecursionError, IndexError, KeyError, TypeError, ValueError, OverflowError):
        return False


def _equal(said: Any, expected: Any, tuple_is_list: bool) -> bool:
    if not isinstance(said, list):
        return not isinstance(said, dict) and bool(said == expected)
    mark, parts = said[0], said[1:]
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
    return _size(said) == _size(expected) and bool(_decoded(said) == expected)


def _equal_dict(parts: list[Any], expected: dict[Any, Any], tuple_is_list: bool) -> bool:
    keys, values = parts[::2], parts[1::2]
    if len(keys) != len(expected) or len(values) != len(expected):
        return False
    if sum(map(_size, keys)) != sum(map(_size, expected)):
        return False
    said = dict(zip(map(_decoded, keys), values, strict=True))
    return all(
        key in said and _equal(said[key], value, tuple_is_list) for key, value in expected.items()
    )


def _size(value: Any) -> int:
    """How many values a set or a key is made of: the same for what was said and what it stands for."""
    if isinstance(value, list):  # said: its mark stands for itself
        return 1 if value[0] in ("i", "b", "c") else sum(map(_size, value))
    if isinstance(value, (tuple, set, frozenset)):
        return 1 + sum(map(_size, value))
    return 1


def _decoded(said: Any) -> Any:
    """A value that can be a key or an element of a set, or a number; TypeError for a list or a dict."""
    if not isinstance(said, list):
        return said
    mark, parts = said[0], said[1:]
    if mark == "i":
        return int(parts[0], 16)
    if mark == "b":
        return bytes.fromhex(parts[0])
    if mark == "c":
        return complex(*parts)
    kinds = {"t": tuple, "s": set, "f": frozenset}
    if mark not in kinds:
        raise TypeError(f"no value to compare: {mark!r}")
    return kinds[mark](map(_decoded, parts))


def equal_output(printed: str, expected: str, *, is_lenient: bool = False) -> bool:
    """LiveCodeBench's rule: the same lines but for space at their ends, or the same decimals in them.

    The lenient rule is that of APPS and TACO as far as it calls nothing wrong right: blank lines and the
    width of spaces count for nothing, and where a number with a decimal point or an exponent is expected,
    one that numpy's `allclose` takes for it passes. (Theirs also passes lines in any order.)
    """
    lines, wanted_lines = _lines(printed), _lines(expected)
    if len(lines) == len(wanted_lines) and all(map(_equal_line, lines, wanted_lines)):
        return True
    if not is_lenient:
        return False
    lines, wanted_lines = [*filter(None, lines)], [*filter(None, wanted_lines)]
    return len(lines) == len(wanted_lines) and all(map(_close_line, lines, wanted_lines))


def _close_line(line: str, wanted: str) -> bool:
    if _equal_line(line, wanted):
        return True
    words, wanted_words = line.split(), wanted.split()
    return len(words) == len(wanted_words) and all(map(_close_word, words, wanted_words))


def _close_word(word: str, wanted: str) -> bool:
    if word == wanted:
        return True
    if not _FRACTION.fullmatch(wanted):
        return False
    try:
        return abs(float(word) - (number := float(wanted))) <= 1e-8 + 1e-5 * abs(number)
    except ValueError:
        return False


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def _equal_line(line: str, wanted: str) -> bool:
    if line == wanted:
        return True
    words, wanted_words = line.split(), wanted.split()
    if len(words) != len(wanted_words):
        return False
    try:
        return all(
            Decimal(word) == Decimal(other) for word, other in zip(words, wanted_words, strict=True)
        )
    except InvalidOperation:
        return False
