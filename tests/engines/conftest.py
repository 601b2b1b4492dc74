"""A scripted HTTP server: it counts requests, bills, errs, stalls and breaks connections."""

import asyncio
import json
import random
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

Body = dict[str, Any]


class Sent(NamedTuple):
    """What the server does with a request."""

    status: int = 200
    body: bytes | None = None
    "None: an answer"
    headers: tuple[tuple[str, str], ...] = ()
    cut: int | None = None
    "bytes of the body that are sent before the connection breaks off"
    stall: float = 0.0
    "seconds before the body"
    message: Body | None = None
    finish_reason: str = "stop"
    usage: Body | None = None
    extra: Body | None = None
    "other keys of the answer"
    raw: bytes | None = None
    "sent in place of status, headers and body"
    endless: bytes = b""
    "sent after it again and again, until the client leaves, or 3,000 times where there are pauses"
    pause: float = 0.0
    "seconds between two of these, and between two events of a stream"
    events: tuple[Body | str, ...] | None = None
    "a streamed answer: its events, or lines as they are sent"
    hang: float = 0.0
    "seconds behind the last event, before the connection ends"


def error(status: int, message: str, *headers: tuple[str, str]) -> Sent:
    return Sent(status, json.dumps({"error": {"message": message}}).encode(), headers)


class FaultServer:
    """An OpenAI-compatible server in a thread; `react(body, attempt)` says what each request gets.

    A request whose answer was made is billed, whether or not it arrives.
    """

    PROMPT_TOKENS, COMPLETION_TOKENS = 20, 60

    def __init__(
        self, react: Callable[[Body, int], Sent], tls: ssl.SSLContext | None = None
    ) -> None:
        self.react = react
        self.scheme = "http" if tls is None else "https"
        self.models: list[Body] | int | bytes = [{"id": "teacher"}]
        "a list, or the status that the list is refused with, or what is sent in its place"
        self.bodies: list[Body] = []
        self.keys: set[str] = set()
        self.attempts: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.billed_prompt = self.billed_completion = 0
        self.under_way = self.most_under_way = 0
        self.num_broken = 0
        "connections that the client left in the middle of an answer"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._call(
            asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024, ssl=tls)
        )
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/v1"

    def bill(self, price_input: float, price_output: float) -> float:
        """Dollars, by this server's own count."""
        return (self.billed_prompt * price_input + self.billed_completion * price_output) / 1e6

    def stop(self) -> None:
        """Refuse all connections from now on."""
        self._call(self._stopped())

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _stopped(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read one request and answer it; false where the connection ends."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
        }
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        self.keys.add(headers.get("authorization", ""))
        if head.startswith("GET"):
            return await self._write(writer, self._list(), b"")
        body = json.loads(content)
        self.bodies.append(body)
        said = body["messages"][-1]["content"] if "messages" in body else str(body["prompt"])
        asked = said + str(body.get("seed"))
        self.attempts[asked] += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            sent = self.react(body, self.attempts[asked])
            answer = self._answer(body, sent) if sent.status == 200 else b""
            if sent.stall:
                gone = asyncio.create_task(reader.read(1))
                done, _ = await asyncio.wait([gone], timeout=sent.stall)
                if done:
                    self.num_broken += 1
                    return False
                gone.cancel()
                await asyncio.wait([gone])
            if sent.status == 200 and sent.body is None and sent.cut is None:
                self.answered[asked] += 1
            return await self._write(writer, sent, answer)
        finally:
            self.under_way -= 1

    async def _write(self, writer: asyncio.StreamWriter, sent: Sent, answer: bytes) -> bool:
        if sent.raw is not None:
            return await self._write_endless(writer, sent)
        if sent.events is not None:
            return await self._write_events(writer, sent)
        body = answer if sent.body is None else sent.body
        headers = "".join(f"{name}: {value}\r\n" for name, value in sent.headers)
        head = f"HTTP/1.1 {sent.status} X\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        writer.write(head.encode() + body[: sent.cut])
        await writer.drain()
        return sent.cut is None

    async def _write_events(self, writer: asyncio.StreamWriter, sent: Sent) -> bool:
        """Send a stream event by event, and a last chunk at its end, so that the connection stays open."""
        head = "HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        try:
            for event in sent.events or ():
                line = event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n"
                content = line.encode()
                writer.write(b"%x\r\n%s\r\n" % (len(content), content))
                await writer.drain()
                if sent.pause:
                    await asyncio.sleep(sent.pause)
            await asyncio.sleep(sent.hang)
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        except ConnectionError:
            self.num_broken += 1
            return False
        return sent.cut is None

    async def _write_endless(self, writer: asyncio.StreamWriter, sent: Sent) -> bool:
        writer.write(sent.raw or b"")
        try:
            for number in count():
                if sent.pause and number == 3000:
                    return False
                writer.write(sent.endless)
                await writer.drain()
                await asyncio.sleep(sent.pause)
        except ConnectionError:
            self.num_broken += 1
        return False

    def _list(self) -> Sent:
        if isinstance(self.models, bytes):
            return Sent(200, self.models)
        if isinstance(self.models, int):
            return error(self.models, "no list for you")
        return Sent(200, json.dumps({"data": self.models}).encode())

    def _answer(self, body: Body, sent: Sent) -> bytes:
        usage = {
            "prompt_tokens": self.PROMPT_TOKENS,
            "completion_tokens": min(self.COMPLETION_TOKENS, body.get("max_tokens", 10**9)),
        }
        usage |= sent.usage or {}
        self.billed_prompt += usage["prompt_tokens"]
        self.billed_completion += usage["completion_tokens"]
        message = sent.message or {"content": "\\boxed{2}", "reasoning": "1+1=2."}
        choice = {"index": 0, "message": message, "finish_reason": sent.finish_reason}
        answer = {"model": body["model"], "choices": [choice], "usage": usage}
        return json.dumps(answer | (sent.extra or {})).encode()


Serve = Callable[..., FaultServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(react)` starts a server, `serve(react, tls)` one that speaks https."""
    servers: list[FaultServer] = []

    def start(react: Callable[[Body, int], Sent], tls: ssl.SSLContext | None = None) -> FaultServer:
        servers.append(FaultServer(react, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def faults() -> list[Sent]:
    """All that may go wrong with one request, at once."""
    garbled = b'{"choices": [{"message": {"content": \xff\xfe nonsense'
    return [
        error(429, "slow down"), error(429, "slow down", ("Retry-After", "0")),
        error(500, "oops"), error(503, "the queue is full"), Sent(cut=40), Sent(cut=0),
        Sent(body=garbled), Sent(body=b'{"choices": [{"mess'), Sent(body=b""),
    ]  # fmt: skip


@pytest.fixture(scope="session")
def with_faults(faults: list[Sent]) -> Callable[..., Callable[[Body, int], Sent]]:
    """`with_faults(share, stall=5.0)`: a share of the requests meets a fault, drawn anew each time."""

    def factory(share: float, stall: float = 0.0) -> Callable[[Body, int], Sent]:
        rng = random.Random(0)
        drawn = faults + [Sent(stall=stall)] * bool(stall)

        def react(_body: Body, _attempt: int) -> Sent:
            return rng.choice(drawn) if rng.random() < share else Sent()

        return react

    return factory


@pytest.fixture(scope="session")
def sent() -> type[Sent]:
    """What a server does with a request; see `Sent`."""
    return Sent


@pytest.fixture
def write_problems(tmp_path: Path) -> Callable[[int], Path]:
    """`write_problems(20)`: a file of so many sums."""

    def write(number: int) -> Path:
        rows = ({"problem": f"What is {at}+1?", "answer": str(at + 1)} for at in range(number))
        path = tmp_path / "problems.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def problems(write_problems: Callable[[int], Path]) -> Path:
    """A file of twenty sums."""
    return write_problems(20)


@pytest.fixture(scope="session")
def generate_from() -> Callable[[FaultServer, Path, Path], list[str]]:
    """`generate_from(server, problems, out)`: the arguments of a `generate` whose teacher is the server."""

    def arguments(server: FaultServer, problems: Path, out: Path) -> list[str]:
        return [
            "generate", str(problems), "--teacher", "teacher", "--base-url", server.url, "--out", str(out),
            "--max-tokens", "64", "--concurrency", "8",
        ]  # fmt: skip

    return arguments


@pytest.fixture
def generate(
    distill: Callable[..., Any], problems: Path, tmp_path: Path,
    generate_from: Callable[..., list[str]],
) -> Callable[..., Any]:  # fmt: skip
    """`generate(server, *options)` runs the command on the twenty problems."""

    def run(server: FaultServer, *options: object) -> Any:
        return distill(*generate_from(server, problems, tmp_path / "out"), *options)

    return run
