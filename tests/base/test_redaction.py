"""Keys are left out of what we write, in every spelling; words and data are left alone."""

import base64
import html
import json
import random
import string
import subprocess
import sys
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from distillpipe.base import redaction
from distillpipe.base.errors import DataError, EngineError, Incomplete, UsageError
from distillpipe.base.progress import say
from distillpipe.base.redaction import guard, holds_key, is_secret, redact, redact_all

KEYS = [
    "sk-or-v1-0f9a7c", "sk_live/with+every'kind\"of&sign=%20<x>\\~!", "hf_" + "aB3" * 12, "AAAA-BBBB-CCCC-123",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.s5c" * 4,
]  # fmt: skip
SPELLINGS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "json": json.dumps,
    "json twice": lambda key: json.dumps(json.dumps(key)),
    "json three times": lambda key: json.dumps(json.dumps(json.dumps(key))),
    "json with slashes": lambda key: json.dumps(key).replace("/", "\\/"),
    "json codes": lambda key: "".join(f"\\u{ord(one):04x}" for one in key),
    "json codes in capitals": lambda key: "".join(f"\\u{ord(one):04X}" for one in key),
    "url": lambda key: quote(key, safe=""),
    "url path": quote,
    "url form": quote_plus,
    "url twice": lambda key: quote(quote(key, safe=""), safe=""),
    "url codes": lambda key: "".join(f"%{ord(one):02x}" for one in key),
    "html": html.escape,
    "html codes": lambda key: "".join(f"&#{ord(one)};" for one in key),
    "html hex codes": lambda key: "".join(f"&#x{ord(one):X};" for one in key),
    "bytes of python": lambda key: repr(key.encode()),
    "hex codes": lambda key: "".join(f"\\x{ord(one):02x}" for one in key),
    "split by a blank": lambda key: f"{key[:7]} {key[7:]}",
    "split over lines": lambda key: f"{key[:9]}\r\n   {key[9:]}",
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
}


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key of another test."""
    monkeypatch.setattr(redaction, "_spellings", {})
    monkeypatch.setattr(redaction, "_in_rows", {})


@pytest.mark.parametrize("spelling", list(SPELLINGS))
@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:12])
def test_a_key_is_left_out_in_every_spelling(key: str, spelling: str) -> None:
    guard(key)
    left = redact(f"before {SPELLINGS[spelling](key)} behind")

    assert left.startswith("before ")
    assert left.endswith(" behind")
    assert "[key]" in left
    assert len(left) <= len("before [key] behind") + 16  # quotation marks around it


def test_keys_of_every_sign_are_left_out() -> None:
    rng = random.Random(16)
    signs = string.ascii_letters + string.digits + string.punctuation
    for _ in range(60):
        key = "".join(rng.choice(signs) for _ in range(rng.randrange(12, 60)))
        if not is_secret(key):
            continue
        guard(key)
        for spell in SPELLINGS.values():
            assert "[key]" in redact(f"a {spell(key)} b"), (key, spell(key))


@pytest.mark.parametrize(
    "key",
    ["", "x", "1", "EMPTY", "ollama", "none", "token", "lm-studio", "not-needed", "dummy", "sk-1234", "a1b2c3d4e5f",
     "sk-no-key-required", "SK-No-Key-Required", "token-abc123", "sk-xxxxxxxxxxxxxxxxxxxx", "000000000000", "your-api-key-here"],
)  # fmt: skip
def test_what_is_no_secret_is_left_alone(key: str) -> None:
    guard(key)
    text = f"an answer with {key} and {key.upper()} in it"
    assert redact(text) == text
    assert not holds_key(text.encode())


def test_texts_without_a_key_are_left_as_they_are() -> None:
    guard(KEYS[0])
    for text in ("", "sk-or-v1-", KEYS[0][:-1], KEYS[0].upper(), KEYS[0][::-1], "\\u0073%73&#115;"):
        assert redact(text) == text


def test_plain_data_is_redacted_to_its_depths() -> None:
    guard(KEYS[0])
    found = redact_all({KEYS[0]: [1, None, {"a": (KEYS[0], "b")}], "n": 1.5})
    assert found == {"[key]": [1, None, {"a": ("[key]", "b")}], "n": 1.5}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:12])
def test_a_row_that_holds_a_key_is_known(key: str) -> None:
    guard(key)
    for text in (key, f"https://x/?k={quote(key, safe='')}"):
        assert holds_key(json.dumps({"content": f"it is {text}"}).encode())
    assert not holds_key(json.dumps({"content": f"it is {key[:-1]}"}).encode())


@pytest.mark.parametrize("kind", [UsageError, DataError, EngineError, Incomplete])
def test_no_error_of_ours_holds_a_key(kind: type[Exception]) -> None:
    guard(KEYS[0])
    assert str(kind(f"no: {KEYS[0]}")) == "no: [key]"


def test_nothing_that_is_said_holds_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    guard(KEYS[0])
    say(f"so {KEYS[0]}")
    assert capsys.readouterr().err == "so [key]\n"


def test_no_traceback_holds_a_key() -> None:
    program = (
        "from distillpipe.base import redaction, terminal; terminal.guard(); "
        f"redaction.guard({KEYS[0]!r}); raise RuntimeError('it is ' + {KEYS[0]!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("RuntimeError: it is [key]\n")
    assert KEYS[0] not in done.stderr


@pytest.mark.parametrize(
    "unit",
    [
        "\\",
        "s",
        "s ",
        "s" + " " * 50,
        "%25",
        "&amp;",
        "\\u00",
        "\\u0073",
        "&#0000",
        "sk-or-v1-0f9a7",
    ],
)
def test_the_time_is_linear_in_the_text(unit: str) -> None:
    guard(KEYS[0])

    def seconds(num_characters: int) -> float:
        text = unit * (num_characters // len(unit))
        times = []
        for _ in range(5):
            started = time.process_time()
            redact(text)
            times.append(time.process_time() - started)
        return min(times)

    assert seconds(160_000) <= 16 * max(seconds(20_000), 1e-4)
