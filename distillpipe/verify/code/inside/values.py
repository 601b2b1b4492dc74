"""Encodes plain values as JSON and decodes them, inside the sandbox; a result leaves it as one line.

Null, booleans, numbers and strings are JSON. Other types are a list that names the type first:
["l", V...] list, ["t", V...] tuple, ["s", V...] set, ["f", V...] frozenset, ["d", key, value...] dict,
["i", "0x1f"] int, ["b", "hex"] bytes, ["c", real, imaginary] complex.
"""

from __future__ import annotations

from _json import encode_basestring_ascii as quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_MESSAGE_CHARACTERS = 500


class NotPlain(TypeError):
    """Raised for a value that is not made of Python literals, or is nested too deeply."""


def raised(error: BaseException) -> str:
    """The runner's answer if a program raised an exception."""
    name = quoted(str(type(error).__name__))
    try:
        message = quoted(str(error)[:MAX_MESSAGE_CHARACTERS])
    except BaseException:  # noqa: BLE001 - `__str__` of the exception may raise anything
        message = '""'
    return f'["raised",{name},{message}]'


def encoded(value: Any) -> str:
    """The JSON of a plain value; raises NotPlain for other values."""
    try:
        return _encoded(value)
    except RecursionError:
        raise NotPlain("nested too deeply") from None


def _encoded(value: Any) -> str:
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        value = int.__add__(value, 0)
        return f"{value}" if -(2**63) < value < 2**63 else f'["i","{value:#x}"]'
    if isinstance(value, float):
        text = float.__repr__(value)
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text, text)
    if isinstance(value, str):
        return quoted(str.__str__(value))
    if isinstance(value, complex):
        return f'["c",{_encoded(value.real)},{_encoded(value.imag)}]'
    if isinstance(value, (bytes, bytearray)):
        return f'["b","{value.hex()}"]'
    kinds: tuple[tuple[str, Any], ...] = (("l", list), ("t", tuple), ("s", set), ("f", frozenset))
    for mark, kind in kinds:
        if isinstance(value, kind):
            return ",".join([f'["{mark}"', *map(_encoded, kind.__iter__(value))]) + "]"
    if isinstance(value, dict):
        parts = [part for pair in dict.items(value) for part in pair]
        return ",".join(['["d"', *map(_encoded, parts)]) + "]"
    return _encoded(_plain_number(value))


def _plain_number(value: Any) -> int | float:
    """The Python number that equals a number of another type (numpy, sympy, Fraction); raises NotPlain."""
    for kind in (int, float):
        try:
            if (number := kind(value)) == value and not isinstance(value, type):
                return number
        except (TypeError, ValueError, OverflowError, ArithmeticError):
            continue
    raise NotPlain(f"a value of type {type(value).__name__} is not made of literals")


def decoded(value: Any) -> Any:
    """The plain value of parsed JSON."""
    if not isinstance(value, list):
        return value
    mark, parts = value[0], value[1:]
    if mark == "i":
        return int(parts[0], 16)
    if mark == "b":
        return bytes.fromhex(parts[0])
    if mark == "c":
        return complex(*parts)
    parts = [decoded(part) for part in parts]
    if mark == "d":
        return dict(zip(parts[::2], parts[1::2], strict=True))
    return {"l": list, "t": tuple, "s": set, "f": frozenset}[mark](parts)
