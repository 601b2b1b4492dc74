"""Limits on the size and time of an answer, whatever the server sends."""

import asyncio
import gzip
import re
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from distillpipe.base.options import Sampling
from distillpipe.base.records import Message
from distillpipe.engines.base import Answer, Failure, Request
from distillpipe.engines.server import connections
from distillpipe.engines.server.connections import (
    ANSWER_BYTES,
    Connections,
    RawResponse,
    RequestLimits,
    max_answer_bytes,
)
from distillpipe.engines.server.engine import OpenAIEngine, Timeouts
from distillpipe.engines.server.replies import Retry
from distillpipe.engines.server.server import Server

MB = 2**20
SAMPLING = Sampling(temperature=0.6, top_p=0.95, max_tokens=64)
REQUEST = Request("key", [], SAMPLING, 0, [Message(role="user", content="1+1?")])
LIMITS = RequestLimits(silence=30.0, deadline=60.0, num_bytes=MB)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
PAST_ALL_PATIENCE = 30.0


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


def gzipped(num_bytes: int, times: int = 1) -> bytes:
    content = b" " * num_bytes
    for _ in range(times):
        content = gzip.compress(content, 9)
    return content


def received(server: Any, limits: RequestLimits, number: int = 1) -> list[RawResponse | Retry]:
    """What becomes of so many requests that are made at once."""

    async def ask() -> list[RawResponse | Retry]:
        made = Connections(server.url, None, number)
        body = {"model": "teacher", "messages": [{"content": "1+1?"}]}
        try:
            return await asyncio.gather(
                *(
                    made.post("/chat/completions", body | {"seed": at}, limits)
                    for at in range(number)
                )
            )
        finally:
            assert made._held == 0
            await made.close()

    return asyncio.run(ask())


BOMBS = {
    "gzip": (b"gzip", gzipped(64 * MB)),
    "gzip twice": (b"gzip, gzip", gzipped(64 * MB, 2)),
    "deflate": (b"deflate", zlib.compress(b" " * (64 * MB), 9)),
    "plain": (b"identity", b" " * (2 * MB)),
}


@pytest.mark.parametrize("name", list(BOMBS))
def test_a_body_that_grows_on_decompression_is_left(serve: Any, sent: Any, name: str) -> None:
    encoding, body = BOMBS[name]
    server = serve(lambda *_: sent(body=body, headers=(("Content-Encoding", encoding.decode()),)))
    tracemalloc.start()
    (found,) = received(server, LIMITS)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert isinstance(found, Retry)
    assert (found.may_be_billed, found.was_sent) == (True, True)
    assert "longer than 1,048,576 bytes" in found.reason
    assert most < 12 * MB


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip", "deflate", "x-unknown", "br, gzip"])
def test_a_body_that_cannot_be_decompressed_is_no_answer(
    serve: Any, sent: Any, encoding: str
) -> None:
    server = serve(
        lambda *_: sent(
            body=b"\x28\xb5\x2f\xfd no such stream", headers=(("Content-Encoding", encoding),)
        )
    )
    (failure,) = OpenAIEngine(
        Server(server.url, "teacher", "NO_KEY_HERE"), 1, timeouts=Timeouts(30.0, 0.0001)
    ).complete(iter([REQUEST]))

    assert isinstance(failure, Failure)
    assert re.search("could not be decompressed|is not valid JSON", failure.error)


@pytest.mark.parametrize(
    ("raw", "endless"),
    [
        (OK + CHUNKED, chunk(b" " * MB)),
        (OK + b"\r\n", b" " * MB),
        (OK, b"X-A: " + b"b" * 60_000 + b"\r\n"),
    ],
    ids=["chunks", "no length", "headers"],
)
def test_an_endless_answer_is_left_and_its_connection(
    serve: Any, sent: Any, raw: bytes, endless: bytes
) -> None:
    server = serve(lambda *_: sent(raw=raw, endless=endless))
    (found,) = received(server, LIMITS)

    assert isinstance(found, Retry)
    assert found.may_be_billed
    wait_for(lambda: server.num_broken == 1 and server.under_way == 0)


@pytest.mark.parametrize(
    ("raw", "endless"),
    [
        (OK + CHUNKED, chunk(b" ")),
        (OK, b"X-A: b\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1", b" "),
    ],
    ids=["body", "headers", "continue", "status"],
)
def test_an_answer_in_drops_is_left_at_the_deadline(
    serve: Any, sent: Any, raw: bytes, endless: bytes
) -> None:
    server = serve(lambda *_: sent(raw=raw, endless=endless, pause=0.01))
    (found,) = received(server, RequestLimits(PAST_ALL_PATIENCE, 0.3, MB))

    assert found == Retry("no complete answer within 0 s", may_be_billed=True)
    wait_for(lambda: server.num_broken == 1 and server.under_way == 0)


def test_a_deadline_frees_the_place_of_a_request(serve: Any, sent: Any) -> None:
    dripping = sent(raw=OK + CHUNKED, endless=chunk(b" "), pause=0.01)
    server = serve(lambda _, attempt: dripping if attempt < 4 else sent())
    engine = OpenAIEngine(
        Server(server.url, "teacher", "NO_KEY_HERE"), 20,
        timeouts=Timeouts(PAST_ALL_PATIENCE, 0.001, deadline_seconds=0.3),
    )  # fmt: skip
    found = list(engine.complete(REQUEST._replace(key=str(at), seed=at) for at in range(20)))

    assert all(isinstance(one, Answer) for one in found)
    assert set(server.attempts.values()) == {4}


def test_all_answers_under_way_are_bounded_together(
    serve: Any, sent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HELD_BYTES", 4 * MB)
    short = sent(body=b" " * (100 * 1024), stall=0.2)
    long = sent(raw=OK + CHUNKED, endless=chunk(b" " * 65536), pause=0.001)
    server = serve(lambda body, _: short if body["seed"] % 2 else long)
    found = received(server, LIMITS._replace(num_bytes=64 * MB), 16)

    assert all(isinstance(one, RawResponse) for one in found[1::2])
    for one in found[::2]:
        assert isinstance(one, Retry)
        assert "take more than 4,194,304 bytes together" in one.reason


@pytest.mark.parametrize("status", [401, 500])
def test_an_endless_error_is_still_the_error(serve: Any, sent: Any, status: int) -> None:
    raw = b"HTTP/1.1 %d X\r\n" % status + CHUNKED
    server = serve(lambda *_: sent(raw=raw, endless=chunk(b"no " * 1000)))
    (found,) = received(server, LIMITS)

    assert isinstance(found, RawResponse)
    assert (found.status, found.body[:6]) == (status, b"no no ")
    assert len(found.body) < 3 * connections.ERROR_BYTES
    wait_for(lambda: server.num_broken == 1)


def test_an_error_that_cannot_be_decompressed_has_its_status(serve: Any, sent: Any) -> None:
    server = serve(lambda *_: sent(429, b"no stream", (("Content-Encoding", "gzip"),)))
    assert received(server, LIMITS) == [RawResponse(429, None, b"")]


def test_long_answers_that_a_request_can_have_are_taken(serve: Any, sent: Any) -> None:
    """As many bytes as a server can make of so many tokens: four-byte letters, escaped, three times over."""
    text = "\U0001f600" * SAMPLING.max_tokens * 16
    message = {
        "content": "\\boxed{2}",
        "reasoning": text,
        "reasoning_content": text,
        "reasoning_details": [{"text": text}],
    }
    server = serve(lambda *_: sent(message=message))
    (answer,) = OpenAIEngine(Server(server.url, "teacher", "NO_KEY_HERE"), 1).complete(
        iter([REQUEST])
    )

    assert isinstance(answer, Answer)
    assert answer.message.reasoning_content == text


def test_the_limits_of_a_request_grow_with_its_tokens() -> None:
    assert max_answer_bytes(REQUEST) == ANSWER_BYTES + 1024 * (64 + 4)
    asked = Sampling(temperature=0.6, top_p=0.95, max_tokens=64, extra_body='{"top_logprobs":20}')
    assert max_answer_bytes(REQUEST._replace(sampling=asked)) == ANSWER_BYTES + 4096 * (64 + 4)
    assert max_answer_bytes(REQUEST._replace(limit=8, prompt_ids=[1, 2])) == ANSWER_BYTES + 1024 * (
        8 + 4 + 2
    )
    assert Timeouts().limits(REQUEST)[:2] == (606.4, 1212.8)
    assert Timeouts(30.0).limits(REQUEST)[:2] == (30.0, 60.0)


def wait_for(happened: Callable[[], bool]) -> None:
    async def wait() -> None:
        for _ in range(3000):
            if happened():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("what was waited for did not happen")

    asyncio.run(wait())
