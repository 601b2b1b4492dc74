"""JSON of a server that may hold anything: what is needed is read, what is odd beside it is passed over.

A field that is optional is kept as `Raw` JSON until somebody asks for its value, so that nothing in it can
cost the answer. What a decoder raises is one error here, `Garbled`: nested too deeply for the decoder's stack,
a number out of range, text that is no UTF-8.
"""

import json
import math
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from distillpipe.base.decoding import NOT_DECODED, NOT_TRANSLATED
from distillpipe.base.redaction import redact

NOTHING = Raw(b"null")
SHOWN_CHARACTERS = 40  # of a value in a message

T = TypeVar("T")


class Garbled(Exception):
    """What came is no JSON of the kind that is wanted; the text says why."""


def decoded(content: bytes | Raw, kind: type[T]) -> T:
    """A JSON text as a struct or a plain type. Raises `Garbled`.

    `NaN` and `Infinity` are no JSON, but Python's servers write them: they are read as null. Half of a
    character (a lone `ud83d`, where a text was cut) has no UTF-8: it is read as U+FFFD.
    """
    text = bytes(content).removeprefix(b"\xef\xbb\xbf")
    try:
        return msgspec.json.decode(text, type=kind)
    except NOT_DECODED as error:
        if not any(one in text for one in (b"NaN", b"Infinity", b"\\ud", b"\\uD")):
            raise Garbled(_why(error)) from error
    try:
        read = json.dumps(json.loads(text), ensure_ascii=False)
        whole = read.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return msgspec.json.decode(msgspec.json.encode(json.loads(whole)), type=kind)
    except NOT_TRANSLATED as error:
        raise Garbled(_why(error)) from error


def value(content: Raw, otherwise: Any = None) -> Any:
    """The value of an optional field; `otherwise` where it cannot be read."""
    try:
        return decoded(content, object)
    except Garbled:
        return otherwise


def shown(found: Any) -> str:
    """A value in a message: short, in one line, whatever it is; keys left out before it is cut."""
    if isinstance(found, list | dict):
        return "a list" if isinstance(found, list) else "an object"
    if isinstance(found, int) and not isinstance(found, bool):
        is_long = abs(found) >= 10**15
        return f"about 10^{math.log10(abs(found)):.0f}" if is_long else f"{found:,}"
    text = "".join(one if one.isprintable() else "?" for one in redact(str(found)))
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _why(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
