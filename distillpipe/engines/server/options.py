"""Checks the options of a server before anything is read or written, and reads its key, which is never stored."""

import os
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

import msgspec

from distillpipe.base.errors import UsageError
from distillpipe.base.options import EngineOptions
from distillpipe.base.redaction import guard
from distillpipe.engines.server.lenient import InvalidJson, decode_json

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_REMOVABLE = ("temperature", "top_p", "seed")
_RESERVED = (
    *_REMOVABLE, "model", "messages", "max_tokens", "max_completion_tokens", "n", "stream",
)  # fmt: skip
_KEY = re.compile(r"[\x21-\x7e]+")
_SECRET = re.compile(
    r"^(key|token)$|(api|access|secret|private)[-_]?key|(api|access|auth|bearer)[-_]?token"
    r"|secret|passw|credential|authorization",
    re.IGNORECASE,
)
"Names of fields whose text is redacted from everything that is written."


def asks_for_server(options: EngineOptions) -> bool:
    """Whether the options ask for a server. Raises UsageError if they contradict each other."""
    prices = (options.price_input, options.price_output, options.max_cost)
    if options.base_url is None:
        if options.engine == "openai":
            raise UsageError(
                "--engine openai needs --base-url, for example http://localhost:8000/v1"
            )
        if any(price is not None for price in prices):
            raise UsageError(
                "--price-input, --price-output and --max-cost need a server: give --base-url"
            )
        return False
    if options.replicas > 1 or options.tensor_parallel_size > 1:
        raise UsageError(
            "--replicas and --tensor-parallel-size need --engine vllm: leave them out for a server"
        )
    if options.engine not in ("auto", "openai"):
        raise UsageError(
            f"--base-url cannot be used with --engine {options.engine}: leave one of them out"
        )
    check_address(options.base_url)
    guard_options(msgspec.structs.asdict(options))
    if (options.price_input is None) != (options.price_output is None):
        raise UsageError("--price-input and --price-output go together: give both")
    if options.max_cost is not None and options.price_input is None:
        raise UsageError("--max-cost needs --price-input and --price-output")
    return True


def check_address(base_url: str) -> str:
    """Check that the URL is valid and holds no secret, because it is stored with the rows."""
    try:
        parts = urllib.parse.urlsplit(base_url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise UsageError("--base-url should look like http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            "--base-url must not hold a user, password or query, because it is stored with the rows: "
            "put the key into an environment variable (--api-key-env)"
        )
    return base_url


def check_key_variable(name: str) -> str:
    """Check the name of the key's variable. An invalid name may be the key itself and is not printed."""
    if not _VARIABLE.fullmatch(name):
        raise UsageError(
            "--api-key-env takes the name of an environment variable (capital letters, digits, _), "
            "not the key itself"
        )
    return name


def check_extra_body(text: str) -> str:
    """Check extra fields of the request body. Returns JSON with sorted keys, which is part of every row key."""
    try:
        fields = decode_json(text.encode(), dict[str, Any])
    except (InvalidJson, UnicodeEncodeError) as error:
        raise UsageError(
            f'--extra-body takes a JSON object, like \'{{"reasoning_effort": "high"}}\': {error}'
        ) from error
    for name, value in fields.items():
        if name in _RESERVED and (value is not None or name not in _REMOVABLE):
            raise UsageError(
                f"--extra-body: distillpipe sets {name} itself: leave it out, or use the option for it"
            )
    return msgspec.json.encode(fields, order="sorted").decode()


def read_key(variable: str) -> str | None:
    """The key in an environment variable; None if it is not set."""
    key = os.environ.get(variable, "").strip()
    if not key:
        return None
    if not _KEY.fullmatch(key):
        raise UsageError(
            f"the key in {variable} holds white space or other characters that a key cannot have (only "
            "ASCII letters, digits and punctuation): set it again, without line breaks and quotation marks"
        )
    guard(key)
    return key


def guard_options(options: Mapping[str, Any]) -> None:
    """Redact the secrets in the options of a command from everything that is written."""
    if isinstance(variable := options.get("api_key_env"), str):
        guard(os.environ.get(variable, "").strip())
    if isinstance(extra_body := options.get("extra_body"), str):
        _guard_secrets(msgspec.json.decode(extra_body))


def _guard_secrets(value: Any, *, is_secret: bool = False) -> None:
    """Redact the strings in JSON under a name such as `api_key`."""
    if isinstance(value, dict):
        for name, item in value.items():
            _guard_secrets(item, is_secret=is_secret or _SECRET.search(name) is not None)
    elif isinstance(value, list):
        for item in value:
            _guard_secrets(item, is_secret=is_secret)
    elif isinstance(value, str) and is_secret:
        guard(value.removeprefix("Bearer ").strip())
