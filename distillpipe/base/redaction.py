"""Keys are kept out of what we write ourselves: messages, errors.jsonl, reasons of a rejection, manifests.

A completion is data and is stored as it was sent; `holds_key` only says that a key stands in it. What may be
secret is guarded once, where it enters (`guard`); every door to the outside passes its text through `redact`.

    guard("sk-1f0c9a7b22")
    redact("401: no such key: sk-1f0c9a7b22")       "401: no such key: [key]"
"""

import base64
import json
import re
from typing import Any
from urllib.parse import quote

MIN_CHARACTERS = 12  # a shorter key is a word that may stand in any text: EMPTY, ollama, x
MIN_DISTINCT = 6  # characters of a key; `sk-xxxxxxxxxxxxxxxx` is nobody's
MARK = "[key]"
PLACEHOLDERS = frozenset(
    {
        "api-key-not-needed", "api-key-not-required", "change-me-please", "dummy-api-key", "dummy_api_key",
        "fake-api-key", "fake_api_key", "insert-your-api-key", "no-api-key-needed", "no-api-key-required",
        "no-key-needed", "no-key-required", "no_key_required", "not-applicable", "not-required",
        "not_required", "placeholder-key", "sk-dummy-key", "sk-fake-key", "sk-no-key-needed",
        "sk-no-key-required", "sk-not-needed", "sk-not-required", "sk-placeholder", "token-abc123",
        "your-api-key", "your-api-key-here", "your_api_key", "your_api_key_here", "your-openai-api-key",
    }
)  # fmt: skip
"That local servers are used with; shorter ones are no secret anyway."

_NAMED = {"&": "amp", '"': "quot", "'": "apos", "<": "lt", ">": "gt"}

_spellings: dict[str, re.Pattern[str]] = {}
"of each guarded key"
_in_rows: dict[str, tuple[bytes, ...]] = {}
"how each of them may stand in a row: as it is, escaped in JSON, or as in an address"


def is_secret(key: str) -> bool:
    """Whether a key can be one: it is long and varied enough, and no known placeholder."""
    return (
        len(key) >= MIN_CHARACTERS
        and len(set(key)) >= MIN_DISTINCT
        and key.lower() not in PLACEHOLDERS
    )


def guard(key: str | None) -> None:
    """Keep a key out of all that is written from now on, if it is a secret at all."""
    if key is not None and is_secret(key) and key not in _spellings:
        encoded = base64.b64encode(_bytes(key)).decode().rstrip("=")
        _spellings[key] = re.compile(f"{_spelling(key)}|{re.escape(encoded)}")
        ways = (key, json.dumps(key)[1:-1], quote(_bytes(key), safe=""))
        _in_rows[key] = tuple({_bytes(one) for one in ways})


def _bytes(key: str) -> bytes:
    """A key as the environment holds it, be it UTF-8 or not."""
    return key.encode("utf-8", "surrogateescape")


def redact(text: str) -> str:
    """A text with `[key]` in place of each guarded key, however it is escaped in it."""
    for spelling in _spellings.values():
        text = spelling.sub(MARK, text)
    return text


def redact_all(value: Any) -> Any:
    """A value of plain data, the strings in it redacted, those that are names too."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact_all(name): redact_all(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(redact_all(one) for one in value)
    return value


def holds_key(line: bytes) -> bool:
    """Whether a guarded key stands in the line of a row."""
    return any(one in line for ways in _in_rows.values() for one in ways)


def _spelling(key: str) -> str:
    r"""A pattern for a key in which any character may be escaped: `\u002f`, `\/`, `%2F`, `&#x2f;`, `\x2f`.

    White space is allowed between characters: a server may have wrapped its line. Every repetition is bounded,
    so that the time is linear in the text.
    """
    return r"\s{0,8}".join(_character(one) for one in key)


def _character(one: str) -> str:
    code = ord(one)
    ways = [
        rf"\\{{0,8}}{re.escape(one)}",
        rf"(?i:\\{{1,8}}(?:u00|u\{{0{{0,4}}|x){code:02x}\}}?)",
        rf"(?i:%(?:25){{0,4}}{code:02x})",
        rf"(?i:&(?:amp;){{0,4}}#(?:0{{0,4}}{code}|x0{{0,4}}{code:x});?)",
    ]
    if one in _NAMED:
        ways.insert(0, f"&(?:amp;){{0,4}}{_NAMED[one]};")
    return f"(?:{'|'.join(ways)})"
