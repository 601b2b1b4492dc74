"""Values as JSON, also where a text in them is no UTF-8, as paths need not be."""

from typing import Any, overload

import msgspec


def document(content: object) -> bytes:
    """A value as JSON on several lines, for people and for other programs."""
    try:
        encoded = msgspec.json.encode(content)
    except UnicodeEncodeError:  # a path need not be UTF-8
        encoded = msgspec.json.encode(escaped(msgspec.to_builtins(content)))
    return msgspec.json.format(encoded, indent=1) + b"\n"


@overload
def escaped(value: str) -> str: ...
@overload
def escaped(value: Any) -> Any: ...
def escaped(value: Any) -> Any:
    r"""Plain data with what is no UTF-8 in its texts written as `\\udce9`: JSON cannot hold it as it is.

    Paths are such texts: Python keeps a byte of a path that is no UTF-8 as a lone surrogate.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {escaped(key): escaped(one) for key, one in value.items()}
    return [escaped(one) for one in value] if isinstance(value, (list, tuple)) else value


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8: not where it came from bytes that are none."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
