"""Requests to a server over many connections, and what became of each: a status and bytes, or nothing.

httpx2's transport rather than the openai client, which spends two to four times the processor time on a
request and offers nothing for it here: retries, reasoning fields and errors are read by us. Connections lie in
small pools, since a pool of httpx looks at all of its connections for every request: one pool of 1,024 made 100
requests a second where pools of 8 make 700.

An answer is taken in pieces, and no further than what its request can have: in bytes after decompression,
and in time. All that are under way together are bounded too.
"""

import asyncio
import base64
import resource
import socket
import urllib.parse
import urllib.request
from contextlib import aclosing, suppress
from typing import NamedTuple

import httpx2
import msgspec

from distillpipe.base.errors import UsageError, first_line
from distillpipe.base.progress import say
from distillpipe.base.redaction import guard
from distillpipe.engines.base import Request
from distillpipe.engines.server.replies import Again, one_line

POOL_SIZE = 8
KEEP_SECONDS = 3.0  # less than a server keeps an idle connection (uvicorn: 5)
CONNECT_SECONDS = 20.0
SPARE_FILES = 128  # descriptors for all that is no connection
ANSWER_BYTES = 4 * 2**20  # of an answer, beside its tokens
TOKEN_BYTES, LOGPROBS_BYTES = (
    1024,
    4096,
)  # of one token: its text several times over; with log-probabilities
ERROR_BYTES = 64 * 1024  # of what comes with an error: the rest is left
LIST_BYTES = 32 * 2**20  # of a list of models
HELD_BYTES = (
    256 * 2**20
)  # of all answers under way; beyond it none may have more than its equal share
_ALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
]  # a peer that vanished is noticed after two minutes, however long an answer takes


class Limits(NamedTuple):
    """What one request may take."""

    silence: float
    "seconds without a byte of the answer"
    deadline: float
    "seconds in all: to connect, to wait, to read headers and body"
    num_bytes: int
    "of the answer, decompressed"


class Received(NamedTuple):
    """A response."""

    status: int
    retry_after: str | None
    body: bytes
    location: str | None = None


class _TooLong(Exception):
    """An answer is longer than its request allows; the text says by what."""


def most_bytes(request: Request) -> int:
    """Bytes that the answer to a request can have: its tokens, and the prompt if it is repeated."""
    more = request.sampling.extra_body or ""
    a_token = LOGPROBS_BYTES if "logprobs" in more else TOKEN_BYTES
    prompt = sum(len(one.content) for one in request.messages) + len(request.prompt_ids)
    return ANSWER_BYTES + a_token * (request.max_tokens + prompt)


class Connections:
    """Up to `num_connections` requests at once to one server; the key goes nowhere but into a header."""

    def __init__(self, base_url: str, key: str | None, num_connections: int) -> None:
        guard(key)
        self._base_url = base_url
        self._urls: dict[str, httpx2.URL] = {}
        self._share = HELD_BYTES // num_connections
        self._held = 0
        self._free = list(range(num_connections))
        self._headers = {
            "Content-Type": "application/json", "User-Agent": "distillpipe", "Accept": "application/json",
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
                socket_options=_ALIVE,
            )
            for _ in range(0, num_connections, POOL_SIZE)
        ]

    async def post(self, path: str, body: object, limits: Limits) -> Received | Again:
        """POST `body` as JSON."""
        return await self._request("POST", path, msgspec.json.encode(body), limits)

    async def get(self, path: str, seconds: float) -> Received | Again:
        """GET; `seconds` without a byte, and twice as many in all."""
        return await self._request("GET", path, None, Limits(seconds, 2 * seconds, LIST_BYTES))

    async def close(self) -> None:
        for pool in self._pools:
            await pool.aclose()

    async def _request(
        self, method: str, path: str, content: bytes | None, limits: Limits
    ) -> Received | Again:
        slot = self._free.pop()
        try:
            async with asyncio.timeout(limits.deadline):
                pool = self._pools[slot // POOL_SIZE]
                return await self._exchange(pool, method, path, content, limits)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            told = _told(error)
            return Again(f"no connection ({told}{_remedy(told)})", was_sent=False)
        except httpx2.TimeoutException:
            return Again("no answer in time", may_be_billed=True)
        except TimeoutError:
            reason = f"no whole answer within {limits.deadline:,.0f} s"
            return Again(reason, may_be_billed=True)
        except _TooLong as error:
            return Again(str(error), may_be_billed=True)
        except httpx2.TransportError as error:
            return Again(f"the connection broke off ({_told(error)})", may_be_billed=True)
        except httpx2.DecodingError as error:
            return Again(f"the answer is garbled ({_told(error)})", may_be_billed=True)
        finally:
            self._free.append(slot)

    async def _exchange(
        self,
        pool: httpx2.AsyncHTTPTransport,
        method: str,
        path: str,
        content: bytes | None,
        limits: Limits,
    ) -> Received:
        """Send a request and take in its answer. What is left of the answer ends with its connection."""
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
            body = await self._read(response, limits.num_bytes if is_answer else None)
        finally:
            await response.aclose()
        headers = response.headers
        return Received(
            response.status_code, headers.get("retry-after"), body, headers.get("location")
        )

    async def _read(self, response: httpx2.Response, most: int | None) -> bytes:
        """The body, decompressed: up to `most` bytes, else `_TooLong`; where that is null, what an error needs."""
        pieces: list[bytes] = []
        num_bytes = 0
        try:
            async with aclosing(response.aiter_bytes()) as stream:
                async for piece in stream:
                    pieces.append(piece)
                    num_bytes += len(piece)
                    self._held += len(piece)
                    if most is None and num_bytes >= ERROR_BYTES:
                        break
                    if most is not None and num_bytes > most:
                        raise _TooLong(
                            f"the answer is longer than {most:,} bytes, the most that its request allows"
                        )
                    if self._held > HELD_BYTES and num_bytes > self._share:
                        raise _TooLong(
                            f"the answers under way take {HELD_BYTES:,} bytes together, and this one is "
                            f"one of the longest with {num_bytes:,}"
                        )
        except httpx2.DecodingError:
            if most is not None:
                raise
            return b""  # the status says enough
        finally:
            self._held -= num_bytes
        return b"".join(pieces)

    def _url(self, path: str) -> httpx2.URL:
        """The address of a path; a UsageError where the base is none."""
        if path not in self._urls:
            try:
                self._urls[path] = httpx2.URL(self._base_url + path)
            except (httpx2.InvalidURL, ValueError) as error:
                raise UsageError(
                    f"--base-url {self._base_url} is no address ({first_line(error)}): it should look like "
                    "http://localhost:8000/v1"
                ) from error
        return self._urls[path]


def _told(error: Exception) -> str:
    return one_line(first_line(error))


def _proxy(base_url: str) -> str | None:
    """The proxy that the environment names for an address (HTTPS_PROXY, ALL_PROXY, NO_PROXY).

    Raises UsageError for a kind of proxy that is not known. Its password is kept out of all messages.
    """
    url, proxies = urllib.parse.urlsplit(base_url), urllib.request.getproxies()
    found = proxies.get(url.scheme) or proxies.get("all")
    if found is None or urllib.request.proxy_bypass(url.hostname or ""):
        return None
    proxy = urllib.parse.urlsplit(found)
    guard(proxy.password)
    if proxy.password is not None:
        guard(urllib.parse.unquote(proxy.password))
        guard(
            base64.b64encode(
                urllib.parse.unquote(f"{proxy.username}:{proxy.password}").encode()
            ).decode()
        )
    if proxy.scheme not in ("http", "https"):
        raise UsageError(
            f"the environment names a proxy that is no http:// address for {base_url}: name one in "
            f"{url.scheme.upper()}_PROXY, or the server in NO_PROXY"
        )
    return found


def _remedy(told: str) -> str:
    """What to do about a connection that failed in its TLS."""
    if "CERTIFICATE_VERIFY_FAILED" in told:
        return "; for a certificate of your own set SSL_CERT_FILE to the file of its authority"
    is_plain = any(name in told for name in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"))
    return "; does it speak http:// only?" if is_plain else ""


def num_connections_allowed(wanted: int) -> int:
    """As many connections as the limit on open files lets this process have, which is raised if it can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        # macOS refuses more than the maximum of its kernel, which is below the hard limit
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        if soft < needed:
            say(f"{soft - SPARE_FILES} requests at once: `ulimit -n` allows no more connections")
            return max(1, soft - SPARE_FILES)
    return wanted
