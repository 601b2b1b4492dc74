"""HTTP connections to one server: sends requests and returns status and bytes, or the reason to retry.

- We use httpx2's transport instead of the openai client, which takes two to four times the processor time per
  request and adds nothing here: we do retries, reasoning fields and errors ourselves.
- Connections are in small pools, because a pool of httpx scans all its connections for each request: one pool of
  1,024 reached 100 requests per second, pools of 8 reach 700.
- An answer is read in pieces, and put together if it is streamed. Its size after decompression and its time are limited by its request. All
  answers in flight share a memory limit.
"""

import asyncio
import base64
import resource
import socket
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import NamedTuple

import httpx2
import msgspec

from distillpipe.base.errors import UsageError, first_line
from distillpipe.base.progress import say
from distillpipe.base.redaction import guard
from distillpipe.engines.base import Request
from distillpipe.engines.server.replies import Retry, one_line
from distillpipe.engines.server.streams import StreamedAnswer, Unfinished, Watch

POOL_SIZE = 8
KEEP_SECONDS = 3.0  # shorter than servers keep an idle connection (uvicorn: 5)
CONNECT_SECONDS = 20.0
DRAIN_SECONDS = 1.0  # for the end of a stream after its last event
SPARE_FILES = 128  # file descriptors for everything but connections
ANSWER_BYTES = 4 * 2**20  # of an answer, besides its tokens
TOKEN_BYTES = 1024  # of one token of an answer, whose text may be repeated
LOGPROBS_BYTES = 4096  # of one token with log-probabilities
ERROR_BYTES = 64 * 1024  # of the body of an error: the rest is not read
LIST_BYTES = 32 * 2**20  # of a list of models
# of all answers in flight; beyond this an answer may not be longer than its equal share
HELD_BYTES = 256 * 2**20
_KEEP_ALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
]  # detects a peer that vanished after two minutes, however long an answer takes


class RequestLimits(NamedTuple):
    """Limits on time and size of one request."""

    silence: float
    "seconds without a byte of the answer"
    deadline: float
    "seconds in total: connect, wait, read headers and body"
    num_bytes: int
    "of the answer, decompressed"


class RawResponse(NamedTuple):
    """An HTTP response."""

    status: int
    retry_after: str | None
    body: bytes
    location: str | None = None
    is_stream: bool = False
    "whether the body was put together from the events of a stream"


class _AnswerTooLong(Exception):
    """An answer is longer than its request allows; the text says which limit."""


def max_answer_bytes(request: Request) -> int:
    """Maximum bytes of the answer to a request: its tokens, and the prompt if the server repeats it."""
    has_logprobs = "logprobs" in (request.sampling.extra_body or "")
    token_bytes = LOGPROBS_BYTES if has_logprobs else TOKEN_BYTES
    num_prompt = sum(len(item.content) for item in request.messages) + len(request.prompt_ids)
    return ANSWER_BYTES + token_bytes * (request.max_tokens + num_prompt)


class Connections:
    """Up to `num_connections` concurrent requests to one server. The key is used in a header only."""

    def __init__(self, base_url: str, key: str | None, num_connections: int) -> None:
        guard(key)
        self._base_url = base_url
        self._urls: dict[str, httpx2.URL] = {}
        self._share = HELD_BYTES // num_connections
        self._held = 0
        self._free = list(range(num_connections))
        self._headers = {
            "Content-Type": "application/json", "User-Agent": "distillpipe", "Accept": "application/json, text/event-stream",
            "Accept-Encoding": "gzip, deflate",
        }  # fmt: skip
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._url("")
        context, proxy = httpx2.create_ssl_context(), _proxy(base_url)
        self._pools = [
            httpx2.AsyncHTTPTransport(
                verify=context,
                proxy=proxy,
                limits=httpx2.Limits(
                    max_connections=POOL_SIZE,
                    max_keepalive_connections=POOL_SIZE,
                    keepalive_expiry=KEEP_SECONDS,
                ),
                socket_options=_KEEP_ALIVE,
            )
            for _ in range(0, num_connections, POOL_SIZE)
        ]

    async def post(
        self, path: str, body: object, limits: RequestLimits, watch: Watch | None = None
    ) -> RawResponse | Retry:
        """POST `body` as JSON. `watch` sees a streamed answer as it comes, and may end it."""
        return await self._request("POST", path, msgspec.json.encode(body), limits, watch)

    async def get(self, path: str, seconds: float) -> RawResponse | Retry:
        """GET, with up to `seconds` without a byte and twice as long in total."""
        return await self._request(
            "GET", path, None, RequestLimits(seconds, 2 * seconds, LIST_BYTES)
        )

    async def close(self) -> None:
        for pool in self._pools:
            await pool.aclose()

    async def _request(
        self,
        method: str,
        path: str,
        content: bytes | None,
        limits: RequestLimits,
        watch: Watch | None = None,
    ) -> RawResponse | Retry:
        slot = self._free.pop()
        answer = StreamedAnswer(watch)
        try:
            async with asyncio.timeout(limits.deadline):
                pool = self._pools[slot // POOL_SIZE]
                return await self._exchange(pool, method, path, content, limits, answer)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            cause = one_line(first_line(error))
            return Retry(f"no connection ({cause}{_tls_remedy(cause)})", was_sent=False)
        except httpx2.TimeoutException:
            has_begun = answer.num_events > 0
            when = "in mid-answer" if has_begun else "with no answer"
            return Retry(
                f"the server fell silent for {limits.silence:,.3g} s {when}",
                may_be_billed=True,
                is_silent=not has_begun,
            )
        except Unfinished as error:
            return Retry(str(error), may_be_billed=True)
        except TimeoutError:
            reason = f"no complete answer within {limits.deadline:,.0f} s"
            return Retry(reason, may_be_billed=True)
        except _AnswerTooLong as error:
            return Retry(str(error), may_be_billed=True)
        except httpx2.TransportError as error:
            cause = one_line(first_line(error))
            return Retry(f"the connection broke ({cause})", may_be_billed=True)
        except httpx2.DecodingError as error:
            cause = one_line(first_line(error))
            return Retry(f"the answer could not be decompressed ({cause})", may_be_billed=True)
        finally:
            self._free.append(slot)

    async def _exchange(
        self,
        pool: httpx2.AsyncHTTPTransport,
        method: str,
        path: str,
        content: bytes | None,
        limits: RequestLimits,
        answer: StreamedAnswer,
    ) -> RawResponse:
        """Send a request and read its answer. An answer that is not read to its end closes its connection."""
        connect = min(limits.silence, CONNECT_SECONDS)
        timeout = httpx2.Timeout(limits.silence, connect=connect, pool=None).as_dict()
        request = httpx2.Request(
            method, self._url(path), headers=self._headers, content=content,
            extensions={"timeout": timeout},
        )  # fmt: skip
        response = await pool.handle_async_request(request)
        response.request = request
        try:
            is_answer = 200 <= response.status_code < 300
            body = await self._read(response, limits.num_bytes if is_answer else None, answer)
        finally:
            await response.aclose()
        headers = response.headers
        return RawResponse(
            response.status_code,
            headers.get("retry-after"),
            body,
            headers.get("location"),
            bool(answer.is_stream),
        )

    async def _read(
        self, response: httpx2.Response, max_bytes: int | None, answer: StreamedAnswer
    ) -> bytes:
        """The decompressed body. Raises `_AnswerTooLong` beyond `max_bytes`.

        Without `max_bytes` it is the body of an error, of which `ERROR_BYTES` are enough.
        """
        num_bytes = num_held = 0
        if max_bytes is None:
            answer.is_stream = False
        try:
            async with aclosing(response.aiter_bytes()) as stream:
                async for piece in stream:
                    num_bytes += len(piece)
                    answer.feed(piece)
                    # of a stream only its text is kept in memory
                    self._held += answer.num_held - num_held
                    num_held = answer.num_held
                    if answer.is_done:  # read the rest, so that the connection can be used again
                        await _drain(stream)
                    is_enough = max_bytes is None and num_bytes >= ERROR_BYTES
                    if answer.is_done or answer.stopped is not None or is_enough:
                        break
                    self._check_size(num_bytes, num_held, max_bytes)
        except httpx2.DecodingError:
            if max_bytes is not None:
                raise
            return b""  # the status is enough
        finally:
            self._held -= num_held
        return answer.close()

    def _check_size(self, num_bytes: int, num_held: int, max_bytes: int | None) -> None:
        """Raise `_AnswerTooLong` for an answer that is longer than its request or the common memory allows."""
        if max_bytes is not None and num_bytes > max_bytes:
            raise _AnswerTooLong(
                f"the answer is longer than {max_bytes:,} bytes, the maximum for its request"
            )
        if self._held > HELD_BYTES and num_held > self._share:
            raise _AnswerTooLong(
                f"the answers in flight take more than {HELD_BYTES:,} bytes together, and this "
                f"one is one of the longest with {num_held:,}"
            )

    def _url(self, path: str) -> httpx2.URL:
        """The URL of a path. Raises UsageError if the base URL is invalid."""
        if path not in self._urls:
            try:
                self._urls[path] = httpx2.URL(self._base_url + path)
            except (httpx2.InvalidURL, ValueError) as error:
                raise UsageError(
                    f"--base-url {self._base_url} is not a URL ({first_line(error)}): it should look like "
                    "http://localhost:8000/v1"
                ) from error
        return self._urls[path]


async def _drain(stream: AsyncIterator[bytes]) -> None:
    """Read a stream to its end; a server that does not end it keeps nobody waiting."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in stream:
                pass


def _proxy(base_url: str) -> str | None:
    """The proxy that the environment names for a URL (HTTPS_PROXY, ALL_PROXY, NO_PROXY).

    Raises UsageError for a proxy that is not http or https. Its password is redacted from all messages.
    """
    url, proxies = urllib.parse.urlsplit(base_url), urllib.request.getproxies()
    proxy_url = proxies.get(url.scheme) or proxies.get("all")
    if proxy_url is None or urllib.request.proxy_bypass(url.hostname or ""):
        return None
    proxy = urllib.parse.urlsplit(proxy_url)
    guard(proxy.password)
    if proxy.password is not None:
        # the same secret as it may appear unquoted, and in a Proxy-Authorization header
        guard(urllib.parse.unquote(proxy.password))
        credentials = urllib.parse.unquote(f"{proxy.username}:{proxy.password}")
        guard(base64.b64encode(credentials.encode()).decode())
    if proxy.scheme not in ("http", "https"):
        raise UsageError(
            f"the environment names a proxy for {base_url} that is not an http:// URL: set "
            f"{url.scheme.upper()}_PROXY to one, or add the server to NO_PROXY"
        )
    return proxy_url


def _tls_remedy(cause: str) -> str:
    """What to do about a connection that failed in TLS; "" for any other cause."""
    if "CERTIFICATE_VERIFY_FAILED" in cause:
        return "; for a certificate of your own set SSL_CERT_FILE to the file of its authority"
    is_plain = any(name in cause for name in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"))
    return "; does the server speak http:// only?" if is_plain else ""


def num_connections_allowed(num_requested: int) -> int:
    """The number of connections that the limit on open files allows; the limit is raised if possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = num_requested + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        # macOS refuses more than the maximum of its kernel, which is below the hard limit
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        if soft < needed:
            allowed = max(1, soft - SPARE_FILES)
            say(f"{allowed} concurrent requests: `ulimit -n` allows no more connections")
            return allowed
    return num_requested
