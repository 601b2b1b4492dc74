"""The options of a server, checked before anything is read or written, and its key, which is never stored."""

import os
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

import msgspec

from distillpipe.base.errors import UsageError
from distillpipe.base.options import EngineOptions
from distillpipe.base.redaction import guard
from distillpipe.engines.server.lenient import Garbled, decoded

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_MAY_BE_LEFT_OUT = ("temperature", "top_p", "seed")
_OURS = (
    *_MAY_BE_LEFT_OUT, "model", "messages", "max_tokens", "max_completion_tokens", "n", "stream",
)  # fmt: skip
_KEY = re.compile(r"[\x21-\x7e]+")
_SECRET = re.compile(
    r"^(key|token)$|(api|access|secret|private)[-_]?key|(api|access|auth|bearer)[-_]?token"
    r"|secret|passw|credential|authorization",
    re.IGNORECASE,
)
"Names of fields whose text is kept out of all that is written."


def asks_for_server(options: EngineOptions) -> bool:
    """Whether the options ask for a server; a UsageError where they do not fit together."""
    paid = (options.price_input, options.price_output, options.max_cost)
    if options.base_url is None:
        if options.engine == "openai":
            raise UsageError("--engine openai needs --base-url: http://localhost:8000/v1")
        if any(one is not None for one in paid):
            raise UsageError(
                "--price-input, --price-output and --max-cost are for a server: give --base-url"
            )
        return False
    if options.replicas > 1 or options.tensor_parallel_size > 1:
        raise UsageError(
            "--replicas and --tensor-parallel-size are for --engine vllm, not a server"
        )
    if options.engine not in ("auto", "openai"):
        raise UsageError(f"--base-url is no option of --engine {options.engine}: leave one out")
    check_address(options.base_url)
    guard_options(msgspec.structs.asdict(options))
    if (options.price_input is None) != (options.price_output is None):
        raise UsageError("--price-input and --price-output go together: give both")
    if options.max_cost is not None and options.price_input is None:
        raise UsageError("--max-cost needs --price-input and --price-output")
    return True


def check_address(base_url: str) -> str:
    """The address, if it can be one and holds no secret: it is stored with the rows."""
    try:
        parts = urllib.parse.urlsplit(base_url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise UsageError("--base-url should look like http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            "--base-url must hold no user, password or query, since it is stored with the rows: "
            "put the key into an environment variable (--api-key-env)"
        )
    return base_url


def check_key_variable(name: str) -> str:
    """The name of the key's variable; what does not look like one may be the key, and is not repeated."""
    if not _VARIABLE.fullmatch(name):
        raise UsageError(
            "--api-key-env takes the name of an environment variable (capital letters, digits, _), "
            "not the key itself"
        )
    return name


def check_extra_body(text: str) -> str:
    """Fields for the body of a request, as JSON with sorted keys: it is part of every row's key."""
    try:
        found = decoded(text.encode(), dict[str, Any])
    except (Garbled, UnicodeEncodeError) as error:
        raise UsageError(
            f'--extra-body takes a JSON object, like \'{{"reasoning_effort": "high"}}\': {error}'
        ) from error
    for name, value in found.items():
        if name in _OURS and (value is not None or name not in _MAY_BE_LEFT_OUT):
            raise UsageError(
                f"--extra-body: {name} is set by distillpipe, which has options of its own for it"
            )
    return msgspec.json.encode(found, order="sorted").decode()


def read_key(variable: str) -> str | None:
    """The key in an environment variable; None where it is not set."""
    key = os.environ.get(variable, "").strip()
    if not key:
        return None
    if not _KEY.fullmatch(key):
        raise UsageError(
            f"the key in {variable} holds white space or other signs that no key has (only ASCII letters, "
            "digits and punctuation can be sent): set it again, without line breaks and quotation marks"
        )
    guard(key)
    return key


def guard_options(options: Mapping[str, Any]) -> None:
    """Keep what is secret in the options of a command out of all that is written of them."""
    if isinstance(variable := options.get("api_key_env"), str):
        guard(os.environ.get(variable, "").strip())
    if isinstance(more := options.get("extra_body"), str):
        _guard_secrets(msgspec.json.decode(more))


def _guard_secrets(value: Any, *, is_secret: bool = False) -> None:
    """Guard the strings of JSON that stand under a name like `api_key`."""
    if isinstance(value, dict):
        for name, one in value.items():
            _guard_secrets(one, is_secret=is_secret or _SECRET.search(name) is not None)
    elif isinstance(value, list):
        for one in value:
            _guard_secrets(one, is_secret=is_secret)
    elif isinstance(value, str) and is_secret:
        guard(value.removeprefix("Bearer ").strip())
