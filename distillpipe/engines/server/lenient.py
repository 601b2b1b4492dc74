"""Lenient JSON decoding for servers: required fields are read, malformed optional fields are ignored.

An optional field stays `Raw` JSON until its value is needed, so that a malformed one never costs the answer.
Every decoding error is one exception, `InvalidJson`: nesting that is too deep for the decoder's stack, a number
out of range, bytes that are not UTF-8.
"""

import json
import math
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from distillpipe.base.decoding import NOT_DECODED, NOT_TRANSLATED
from distillpipe.base.redaction import redact

NULL = Raw(b"null")
SHOWN_CHARACTERS = 40  # of a value in a message

T = TypeVar("T")


class InvalidJson(Exception):
    """The content is not JSON of the expected type; the text says why."""


def decode_json(content: bytes | Raw, kind: type[T]) -> T:
    """Decode JSON to a struct or a plain type. Raises `InvalidJson`.

    `NaN` and `Infinity` are not JSON, but Python servers write them: they are read as null. A lone surrogate
    (`ud83d`, where a text was cut inside a character) cannot be encoded as UTF-8: it is read as U+FFFD.
    """
    text = bytes(content).removeprefix(b"\xef\xbb\xbf")
    try:
        return msgspec.json.decode(text, type=kind)
    except NOT_DECODED as error:
        if not any(mark in text for mark in (b"NaN", b"Infinity", b"\\ud", b"\\uD")):
            raise InvalidJson(_reason(error)) from error
    try:
        unescaped = json.dumps(json.loads(text), ensure_ascii=False)
        repaired = unescaped.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return msgspec.json.decode(msgspec.json.encode(json.loads(repaired)), type=kind)
    except NOT_TRANSLATED as error:
        raise InvalidJson(_reason(error)) from error


def num_lone_surrogates(content: bytes) -> int:
    """How many halves of a character `decode_json` replaces in the texts of a body."""
    if b"\\ud" not in content and b"\\uD" not in content:
        return 0
    try:
        unescaped = json.dumps(json.loads(content), ensure_ascii=False)
    except NOT_TRANSLATED:
        return 0
    paired = unescaped.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return sum("\ud800" <= char <= "\udfff" for char in paired)


def optional_value(content: Raw, default: Any = None) -> Any:
    """The value of an optional field; `default` if it cannot be decode_json."""
    try:
        return decode_json(content, object)
    except InvalidJson:
        return default


def summarize(value: Any) -> str:
    """A value for a message: one short line, with keys redacted before it is cut."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, int) and not isinstance(value, bool):
        is_long = abs(value) >= 10**15
        return f"about 10^{math.log10(abs(value)):.0f}" if is_long else f"{value:,}"
    text = "".join(char if char.isprintable() else "?" for char in redact(str(value)))
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
