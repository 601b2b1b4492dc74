"""What decoders raise for bytes and texts from outside.

A decoder has errors of its own class, but raises others too: UnicodeDecodeError for what is not UTF-8, RecursionError
for brackets that are nested too deep, ValueError for a number with too many digits. An `except` names one of the
tuples here, never the decoder's own class alone.
"""

from typing import Any

import msgspec

from distillpipe.errors import first_line

NOT_DECODED = (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError)
"of msgspec"
NOT_PARSED = (ValueError, RecursionError)
"of json, tomllib and ast.literal_eval, whose own errors are ValueErrors"
NOT_TRANSLATED = (*NOT_DECODED, *NOT_PARSED, TypeError)
"where json reads a text and msgspec writes it and reads it again: msgspec writes no integer over 64 bits"
MAX_DEPTH = 100
"of lists and objects in each other that are taken in: whoever reads them later has a smaller stack"


def what_is_wrong(error: BaseException) -> str:
    """What a decoder's error says, in words for whoever made the file."""
    if isinstance(error, RecursionError):
        return f"its lists and objects are nested more than {MAX_DEPTH} deep"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: {error.reason} at byte {error.start:,} of a text"
    return first_line(error) if isinstance(error, Exception) else repr(error)


def check_depth(value: Any) -> None:
    """Raise RecursionError for a decoded value whose lists and objects are nested too deep."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return
        level = [
            child
            for one in level
            for child in (one.values() if isinstance(one, dict) else one)
            if isinstance(child, dict | list)
        ]
    if level:
        raise RecursionError


def json_object(text: str | None) -> dict[str, Any]:
    """The object that a row keeps as text in `extra`; {} for none, and for a text of another program's making."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except NOT_DECODED:
        return {}
