"""What a program said against what was expected: the judge of values and of output, outside the sandbox.

What was said is hostile: it may nest without end, or hold sets whose hashes all collide. So values are
compared as they came, as lists, and only what has the size of the expected value becomes a set or a key.
"""

from decimal import Decimal, InvalidOperation
from typing import Any


def equal_value(said: Any, expected: Any) -> bool:
    """Whether the value in the runner's JSON is `==` the expected one; False for what is no value."""
    try:
        return _equal(said, expected)
    except (RecursionError, IndexError, KeyError, TypeError, ValueError, OverflowError):
        return False


def _equal(said: Any, expected: Any) -> bool:
    if not isinstance(said, list):
        return not isinstance(said, dict) and bool(said == expected)
    mark, parts = said[0], said[1:]
    if mark in ("l", "t"):
        return (
            type(expected) is (list if mark == "l" else tuple)
            and len(parts) == len(expected)
            and all(map(_equal, parts, expected))
        )
    if mark == "d":
        return isinstance(expected, dict) and _equal_dict(parts, expected)
    if isinstance(expected, (list, dict)):
        return False
    return _size(said) == _size(expected) and bool(_decoded(said) == expected)


def _equal_dict(parts: list[Any], expected: dict[Any, Any]) -> bool:
    keys, values = parts[::2], parts[1::2]
    if len(keys) != len(expected) or len(values) != len(expected):
        return False
    if sum(map(_size, keys)) != sum(map(_size, expected)):
        return False
    said = dict(zip(map(_decoded, keys), values, strict=True))
    return all(key in said and _equal(said[key], value) for key, value in expected.items())


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


def equal_output(printed: str, expected: str) -> bool:
    """LiveCodeBench's rule: the same lines but for space at their ends, or the same decimals in them."""
    lines, wanted_lines = _lines(printed), _lines(expected)
    return len(lines) == len(wanted_lines) and all(map(_equal_line, lines, wanted_lines))


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
