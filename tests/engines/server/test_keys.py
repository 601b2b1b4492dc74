"""API keys and redirects through the commands: a key stands only in what the server sent."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.dataset import read_traces

KEY = "sk-canary-5cc5e9d8b1f04a7e"
PRICES = ("--price-input", 0.55, "--price-output", 2.19)
Distill = Callable[..., Any]


# ---------------------------------------------------------------- keys


def echo(server: Any, sent: Any) -> None:
    """Let the server repeat the key wherever it can, escaped in every way."""
    spellings = [
        KEY, json.dumps(json.dumps(KEY)), "".join(f"\\u{ord(one):04X}" for one in KEY),
        "".join(f"%{ord(one):02x}" for one in KEY), f"{KEY[:9]} {KEY[9:]}", base64.b64encode(KEY.encode()).decode(),
    ]  # fmt: skip
    told = json.dumps({"error": {"message": f"no: {' '.join(spellings)}"}}).encode()
    cut = json.dumps(
        {"error": {"message": f"{'no ' * 94}{KEY}"}}
    ).encode()  # cut in the middle of it

    def react(body: Any, attempt: int) -> Any:
        if " 3+1" in body["messages"][-1]["content"]:
            return sent(400, told)
        if " 4+1" in body["messages"][-1]["content"]:
            return sent(400, cut)
        if attempt == 1:
            return sent(500, told, (("Retry-After", KEY), ("X-Key", KEY)))
        thought = {"content": KEY, "reasoning": f"the key is {KEY}"}
        return sent(message=thought, extra={"model": KEY, "system_fingerprint": KEY})

    server.react = react


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_key_stands_only_in_what_the_server_sent(
    serve: Any, sent: Any, distill_process: Distill, write_problems: Callable[[int], Path],
    generate_from: Callable[..., list[str]], tmp_path: Path,
) -> None:  # fmt: skip
    problems = write_problems(8)
    server = serve(lambda *_: sent())
    echo(server, sent)
    out = tmp_path / "out"
    environment = {
        "MY_KEY": KEY,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONASYNCIODEBUG": "1",
    }
    done = distill_process(
        *generate_from(server, problems, out),
        "--api-key-env",
        "MY_KEY",
        *PRICES,
        "--json",
        **environment,
    )

    assert server.keys == {f"Bearer {KEY}"}
    assert done.code == 0, done.err
    parts = [path.read_bytes() for path in sorted(out.rglob("part-*.jsonl"))]
    rows = list(read_traces(str(out)))
    assert {(row.reasoning, row.response, row.served_by) for row in rows} == {
        (f"the key is {KEY}", KEY, KEY)
    }
    assert len(rows) == manifests.read(out / "v1").counts.rows_with_key == 6
    assert done.err.count("warning: a row contains the API key") == 1
    assert ", 6 of the rows hold the API key" in done.err
    rest = everything(tmp_path)
    for part in parts:
        rest = rest.replace(part, b"")
    assert b"400: no: [key] " in rest
    server.models = 401
    refused = distill_process(
        *generate_from(server, problems, tmp_path / "other"),
        "--api-key-env",
        "MY_KEY",
        **environment,
    )
    assert "refuses the key in MY_KEY" in refused.err
    said = (done.err + done.out + refused.err + refused.out).encode()
    for spelling in spellings_of(KEY):
        assert spelling not in rest + said


def spellings_of(key: str) -> list[bytes]:
    """A key and its first half, as they may stand in an address or in JSON."""
    encoded = base64.b64encode(key.encode()).decode()
    ways = [key, key[:14], encoded, encoded[:20], *("".join(f(ord(one)) for one in key[:14]) for f in (
        "%{:02x}".format, "%{:02X}".format, "\\u{:04x}".format, "\\u{:04X}".format))]  # fmt: skip
    return [way.encode() for way in ways]


@pytest.mark.parametrize("key", ["EMPTY", "x", "1", "token", "none", "sk-no-key-required", "e"])
def test_a_key_that_is_a_word_changes_nothing_at_all(
    serve: Any,
    sent: Any,
    distill: Distill,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
) -> None:
    text = f"{key} EMPTY token x=1, none of \\boxed{{{key}}}"
    problems = tmp_path / "problems.jsonl"
    row = {"problem": f"What is {key}?", "answer": key, "verifier": "exact"}
    problems.write_text(json.dumps(row) + "\n")
    server = serve(
        lambda *_: sent(message={"content": text, "reasoning": f"{key}{key}"}, extra={"model": key})
    )
    monkeypatch.setenv("OPENAI_API_KEY", key)
    done = distill(
        "eval", "teacher", "--base-url", server.url, "--benchmark", problems, "--out", tmp_path / "out",
        "--max-tokens", 64,
    )  # fmt: skip

    assert done.code == 0, done.err
    assert server.keys == {f"Bearer {key}"}
    (row,) = read_traces(str(tmp_path / "out" / "problems"))
    assert (row.response, row.reasoning, row.served_by) == (text, f"{key}{key}", key)
    assert (row.answer, row.verdict) == (key, "correct")
    assert "[key]" not in done.err + everything(tmp_path).decode()
    assert manifests.read(tmp_path / "out" / "problems" / "v1").counts.rows_with_key == 0


def test_a_word_is_not_redacted_in_an_error_either(
    serve: Any, sent: Any, generate: Distill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    done = generate(serve(lambda *_: sent(401, b'{"error": "EMPTY is no key"}')))
    assert (done.code, "(401: EMPTY is no key)" in done.err) == (1, True)


def test_secrets_in_the_options_stand_in_no_manifest(
    serve: Any, sent: Any, generate: Distill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    other = "pk-another-secret-0123"
    body = {
        "user": KEY,
        "provider": {"api_key": other, "headers": {"Authorization": f"Bearer {other}x"}},
    }
    server = serve(lambda *_: sent())
    given = ("--extra-body", json.dumps(body), "--limit", 2)
    dry = [generate(server, *given, "--dry-run", *more) for more in ([], ["--json"])]
    done = generate(server, *given, "--json")

    assert done.code == 0, done.err
    assert server.bodies[0]["provider"] == body["provider"]
    assert server.bodies[0]["user"] == KEY
    said = everything(tmp_path / "out").decode() + "".join(
        one.out + one.err for one in (*dry, done)
    )
    assert KEY not in said
    assert other not in said
    assert '{\\"api_key\\":\\"[key]\\"' in said
    again = json.loads(generate(server, *given, "--num-samples", 2, "--dry-run", "--json").out)
    assert again["dry_run"][0]["estimate"]["basis"] == f"from the 2 rows under {tmp_path}/out"


def test_a_key_with_a_line_break_around_it_is_sent_without(
    serve: Any, sent: Any, generate: Distill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" \t{KEY}\r\n")
    server = serve(lambda *_: sent())
    assert generate(server).code == 0
    assert server.keys == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    "key",
    [f"{KEY}\n{KEY}", f"{KEY}\u00e9", f"{KEY}\u4f60", f"\ufeff{KEY}", f"{KEY}\x7f", f"{KEY}\udcff"],
)
def test_a_key_that_no_header_takes_is_one_line(
    serve: Any, sent: Any, generate: Distill, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    done = generate(serve(lambda *_: sent()))

    assert (done.code, KEY in done.err, done.err.count("\nerror: ")) == (2, False, 1)
    assert "the key in OPENAI_API_KEY holds white space" in done.err


def test_the_count_of_rows_with_a_key_outlives_an_interruption(
    serve: Any, sent: Any, generate: Distill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = serve(lambda *_: sent(message={"content": KEY, "reasoning": "so"}))
    generate(server, "--limit", 5, "--dry-run", "--pilot", 2)
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}-other")
    server.react = lambda *_: sent(message={"content": f"{KEY}-other", "reasoning": "so"})
    assert generate(server, "--limit", 5).code == 0
    assert manifests.read(tmp_path / "out" / "v1").counts.rows_with_key == 5


# ---------------------------------------------------------------- redirects


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://else.where/v2/chat/completions", "a redirect to https://else.where/v2/chat/completions: give --base-url https://else.where/v2 if"),
        ("http://127.0.0.1:1/steal", "a redirect to http://127.0.0.1:1/steal: give that as --base-url"),
        ("/other/chat/completions", "/other/chat/completions: give --base-url http"),
        (f"https://user:{KEY}@else.where/x?key={KEY}#{KEY}", "a redirect to https://else.where/x: give that"),
        (f"https://else.where/{KEY}/x", "a redirect to https://else.where/[key]/x: give that"),
        ("http://a\x1b[31mb/\x9b", "a redirect to"),
        ("http://[::1", "a redirect to an invalid URL (http://[::1)"),
        ("", "a redirect without a target"),
        ("x" * 9000, "a redirect to"),
    ],
    ids=["same path", "other path", "relative", "secrets", "key in the path", "control", "no address", "empty", "long"],
)  # fmt: skip
@pytest.mark.parametrize("status", [301, 307])
def test_a_redirect_is_named_and_followed_by_nobody(
    serve: Any,
    sent: Any,
    generate: Distill,
    monkeypatch: pytest.MonkeyPatch,
    location: str,
    expected: str,
    status: int,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    done = generate(serve(lambda *_: sent(status, b"", (("Location", location),))))

    (line,) = (one for one in done.err.splitlines() if one.startswith("error: "))
    assert (done.code, f"answers with status {status}, a redirect" in line) == (1, True)
    assert expected in line
    assert KEY not in done.err
    assert line.isprintable()
    assert len(line) < 900


def test_a_key_that_cannot_be_one_is_not_repeated(
    serve: Any, sent: Any, generate: Distill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY} {KEY}")
    done = generate(serve(lambda *_: sent()))

    assert (done.code, KEY in done.err) == (2, False)
    assert "the key in OPENAI_API_KEY holds white space" in done.err
