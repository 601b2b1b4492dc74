"""API keys stay out of everything that we write: messages, errors.jsonl, drop reasons, manifests.

A secret is registered once, where it enters (`guard`). Every text that leaves the program passes through `redact`.
A completion is data and is stored as the server sent it; `holds_key` only reports that it contains a key.

    guard("sk-1f0c9a7b22")
    redact("401: no such key: sk-1f0c9a7b22")       "401: no such key: [key]"
"""

import base64
import json
import re
from typing import Any
from urllib.parse import quote

MIN_CHARACTERS = 12  # a shorter key may be an ordinary word: EMPTY, ollama, x
MIN_DISTINCT = 6  # different characters; `sk-xxxxxxxxxxxxxxxx` is not a real key
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
"Keys that users of local servers type because the client wants one."

_NAMED = {"&": "amp", '"': "quot", "'": "apos", "<": "lt", ">": "gt"}

_spellings: dict[str, re.Pattern[str]] = {}
"of each registered key: a pattern of all ways to write it"
_in_rows: dict[str, tuple[bytes, ...]] = {}
"of each registered key: its bytes in a row, plain, JSON-escaped and URL-encoded"


def is_secret(key: str) -> bool:
    """Whether a key may be a real secret: long and varied enough, and not a known placeholder."""
    return (
        len(key) >= MIN_CHARACTERS
        and len(set(key)) >= MIN_DISTINCT
        and key.lower() not in PLACEHOLDERS
    )


def guard(key: str | None) -> None:
    """Register a key, if it may be a secret: from now on `redact` removes it from every text."""
    if key is not None and is_secret(key) and key not in _spellings:
        encoded = base64.b64encode(_bytes(key)).decode().rstrip("=")
        _spellings[key] = re.compile(f"{_spelling(key)}|{re.escape(encoded)}")
        written = (key, json.dumps(key)[1:-1], quote(_bytes(key), safe=""))
        _in_rows[key] = tuple({_bytes(text) for text in written})


def _bytes(key: str) -> bytes:
    """The bytes of a key in the environment, which need not be UTF-8."""
    return key.encode("utf-8", "surrogateescape")


def redact(text: str) -> str:
    """The text with `[key]` in place of each registered key, however the key is escaped."""
    for spelling in _spellings.values():
        text = spelling.sub(MARK, text)
    return text


def redact_all(value: Any) -> Any:
    """Plain data with all its strings redacted, dictionary keys too."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact_all(name): redact_all(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(redact_all(item) for item in value)
    return value


def holds_key(line: bytes) -> bool:
    """Whether the line of a row contains a registered key."""
    return any(text in line for written in _in_rows.values() for text in written)


def _spelling(key: str) -> str:
    r"""A pattern for a key in which any character may be escaped: `\u002f`, `\/`, `%2F`, `&#x2f;`, `\x2f`.

    White space may stand between the characters, because servers wrap lines. Every repetition is bounded, so the
    search takes time linear in the text.
    """
    return r"\s{0,8}".join(map(_character_pattern, key))


def _character_pattern(character: str) -> str:
    code = ord(character)
    patterns = [
        rf"\\{{0,8}}{re.escape(character)}",
        rf"(?i:\\{{1,8}}(?:u00|u\{{0{{0,4}}|x){code:02x}\}}?)",
        rf"(?i:%(?:25){{0,4}}{code:02x})",
        rf"(?i:&(?:amp;){{0,4}}#(?:0{{0,4}}{code}|x0{{0,4}}{code:x});?)",
    ]
    if character in _NAMED:
        patterns.insert(0, f"&(?:amp;){{0,4}}{_NAMED[character]};")
    return f"(?:{'|'.join(patterns)})"
