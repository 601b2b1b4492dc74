"""JSON of values whose texts may hold bytes that are not UTF-8, as paths may."""

from typing import Any, overload

import msgspec


def document(content: object) -> bytes:
    """The value as indented JSON."""
    try:
        encoded = msgspec.json.encode(content)
    except UnicodeEncodeError:  # a path may hold bytes that are not UTF-8
        encoded = msgspec.json.encode(escaped(msgspec.to_builtins(content)))
    return msgspec.json.format(encoded, indent=1) + b"\n"


@overload
def escaped(value: str) -> str: ...
@overload
def escaped(value: Any) -> Any: ...
def escaped(value: Any) -> Any:
    r"""Plain data with lone surrogates in its strings escaped (`\\udce9`), because JSON cannot hold them.

    Python keeps a byte of a path that is not UTF-8 as a lone surrogate.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {escaped(key): escaped(item) for key, item in value.items()}
    return [escaped(item) for item in value] if isinstance(value, (list, tuple)) else value


def is_utf8(text: str) -> bool:
    """Whether a text can be encoded as UTF-8: it has no lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
