"""Connections through TLS with a private certificate, and through proxies."""

import base64
import json
import shutil
import socketserver
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.errors import EngineError, UsageError
from distillpipe.base.options import Sampling
from distillpipe.base.records import Message
from distillpipe.engines.base import Answer, Failure, Request
from distillpipe.engines.server.engine import OpenAIEngine, Timeouts
from distillpipe.engines.server.server import Server

REQUEST = Request(
    "key", [], Sampling(temperature=0.6, top_p=0.95, max_tokens=64), 0,
    [Message(role="user", content="1+1?")],
)  # fmt: skip


def answers(url: str) -> list[Any]:
    server = Server(url, "teacher", "NO_KEY_HERE")
    server.check()
    return list(OpenAIEngine(server, 1, timeouts=Timeouts(5.0, 0.001)).complete(iter([REQUEST])))


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no certificate from outside."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """The file of a self-signed certificate for 127.0.0.1, and a server's side of it."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    file, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", key, "-out", file, "-days", "2", "-subj", "/CN=test",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file, key)
    return file, context


def test_a_certificate_that_nobody_vouches_for_is_one_line_with_the_remedy(
    serve: Any, sent: Any, certificate: tuple[Path, ssl.SSLContext]
) -> None:
    server = serve(lambda *_: sent(), certificate[1])

    with pytest.raises(
        EngineError, match=r"CERTIFICATE_VERIFY_FAILED.*set SSL_CERT_FILE to"
    ) as told:
        answers(server.url)
    assert "\n" not in str(told.value)


def test_ssl_cert_file_vouches_for_a_certificate_of_ones_own(
    serve: Any,
    sent: Any,
    certificate: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, context = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    (answer,) = answers(serve(lambda *_: sent(), context).url)

    assert isinstance(answer, Answer)


def test_https_to_a_server_without_it_says_so() -> None:
    class Plain(socketserver.BaseRequestHandler):
        def handle(self) -> None:  # what a server of http makes of the beginning of TLS
            self.request.recv(1024)
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Plain) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(
            EngineError, match=r"no connection .*; does the server speak http:// only\?"
        ):
            answers(f"https://127.0.0.1:{server.server_address[1]}/v1")


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_asked(
    serve: Any, sent: Any, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    proxy = serve(lambda *_: sent())
    monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
    (answer,) = answers("http://teacher.invalid/v1")

    assert isinstance(answer, Answer)
    assert len(proxy.bodies) == 1


def test_a_proxy_that_repeats_its_password_is_not_quoted(
    serve: Any, sent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = base64.b64encode(b"user:very-secret%0123").decode()
    told = json.dumps({"error": f"no: {encoded} very-secret%0123 very-secret%250123"}).encode()
    proxy = serve(lambda *_: sent(407, told))
    monkeypatch.setenv("HTTP_PROXY", f"http://user:very-secret%250123@127.0.0.1:{proxy.port}")
    (failure,) = answers("http://teacher.invalid/v1")

    assert failure == Failure("key", "407: no: [key] [key] [key] (8 tries)")


@pytest.mark.parametrize(
    "url",
    ["http://a..b/v1", "http://\u2026/v1", "http://x\x00y/v1", f"http://{'a' * 70}.b/v1"],
    ids=ascii,
)
def test_an_address_that_is_none_is_one_line(url: str) -> None:
    with pytest.raises((UsageError, EngineError)) as told:
        answers(url)
    assert "\n" not in str(told.value)


def test_no_proxy_leaves_it_aside(serve: Any, sent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = serve(lambda *_: sent()), serve(lambda *_: sent())
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    answers(server.url)

    assert (len(proxy.bodies), len(server.bodies)) == (0, 1)


def test_a_proxy_of_another_kind_is_a_usage_error(
    serve: Any, sent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:secret@localhost:1080")

    with pytest.raises(
        UsageError, match=r"a proxy for .* that is not an http:// URL: .* NO_PROXY"
    ) as told:
        answers("http://teacher.invalid/v1")
    assert "secret" not in str(told.value)
