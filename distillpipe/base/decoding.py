"""The exceptions that decoders raise for untrusted bytes and texts.

A decoder raises more than its own error class: UnicodeDecodeError for bytes that are not UTF-8, RecursionError for
deeply nested brackets, ValueError for a number with too many digits. An `except` names one of the tuples below, never
the decoder's own class alone.
"""

from typing import Any

import msgspec

from distillpipe.base.errors import first_line

NOT_DECODED = (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError)
"raised by msgspec"
NOT_PARSED = (ValueError, RecursionError)
"raised by json, tomllib and ast.literal_eval, whose own errors are ValueErrors"
NOT_TRANSLATED = (*NOT_DECODED, *NOT_PARSED, TypeError)
"raised where json reads a text and msgspec writes and reads it again: msgspec writes no integer over 64 bits"
MAX_DEPTH = 100
"Nesting depth of lists and objects that we accept; a later reader may have a smaller stack."


def what_is_wrong(error: BaseException) -> str:
    """A decoder's error in words for the author of the file."""
    if isinstance(error, RecursionError):
        return f"its lists and objects are nested more than {MAX_DEPTH} deep"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: {error.reason} at byte {error.start:,} of a text"
    return first_line(error) if isinstance(error, Exception) else repr(error)


def check_depth(value: Any) -> None:
    """Raise RecursionError if the lists and objects of a decoded value are nested deeper than MAX_DEPTH."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, dict | list)
        ]
    if level:
        raise RecursionError


def json_object(text: str | None) -> dict[str, Any]:
    """The JSON object in the `extra` of a row; {} if it is null or not a JSON object."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except NOT_DECODED:
        return {}
