"""Requests to a server over many connections, and what became of each: a status and bytes, or nothing.

httpx2 rather than the openai client, which spends two to four times the processor time on a request and
offers nothing for it here: retries, reasoning fields and errors are read by us. Connections lie in small
pools, since a pool of httpx looks at all of its connections for every request: one pool of 1,024 made 100
requests a second where pools of 8 make 700.
"""

import resource
import socket
import urllib.parse
import urllib.request
from typing import NamedTuple

import httpx2
import msgspec

from distillpipe.engines.replies import Again
from distillpipe.errors import UsageError, first_line
from distillpipe.progress import say

POOL_SIZE = 8
KEEP_SECONDS = 3.0  # less than a server keeps an idle connection (uvicorn: 5)
CONNECT_SECONDS = 20.0
SPARE_FILES = 128  # descriptors for all that is no connection
_ALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
]  # a peer that vanished is noticed after two minutes, however long an answer takes


class Received(NamedTuple):
    """A response."""

    status: int
    retry_after: str | None
    body: bytes


class Connections:
    """Up to `num_connections` requests at once to one server; the key goes nowhere but into a header."""

    def __init__(self, base_url: str, key: str | None, num_connections: int) -> None:
        self._url = base_url
        self._key = (key or "").encode()
        self._free = list(range(num_connections))
        headers = {"Content-Type": "application/json", "User-Agent": "distillpipe"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        context = httpx2.create_ssl_context()
        self._pools = [
            httpx2.AsyncClient(
                headers=headers,
                transport=httpx2.AsyncHTTPTransport(
                    verify=context,
                    proxy=_proxy(base_url),
                    limits=httpx2.Limits(
                        max_connections=POOL_SIZE,
                        max_keepalive_connections=POOL_SIZE,
                        keepalive_expiry=KEEP_SECONDS,
                    ),
                    socket_options=_ALIVE,
                ),
            )
            for _ in range(0, num_connections, POOL_SIZE)
        ]

    async def post(self, path: str, body: object, seconds: float) -> Received | Again:
        """POST `body` as JSON; no more than `seconds` may pass without a byte of the answer."""
        return await self._request("POST", path, msgspec.json.encode(body), seconds)

    async def get(self, path: str, seconds: float) -> Received | Again:
        """GET."""
        return await self._request("GET", path, None, seconds)

    async def close(self) -> None:
        for pool in self._pools:
            await pool.aclose()

    async def _request(
        self, method: str, path: str, content: bytes | None, seconds: float
    ) -> Received | Again:
        timeout = httpx2.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS), pool=None)
        slot = self._free.pop()
        try:
            pool = self._pools[slot // POOL_SIZE]
            response = await pool.request(
                method, self._url + path, content=content, timeout=timeout
            )
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            told = self._told(error)
            return Again(f"no connection ({told}{_remedy(told)})", was_sent=False)
        except httpx2.TimeoutException:
            return Again("no answer in time", may_be_billed=True)
        except httpx2.TransportError as error:
            return Again(f"the connection broke off ({self._told(error)})", may_be_billed=True)
        except httpx2.DecodingError as error:
            return Again(f"the answer is garbled ({self._told(error)})", may_be_billed=True)
        finally:
            self._free.append(slot)
        body = response.content
        if self._key and self._key in body:  # a server that repeats our key must not have it stored
            body = body.replace(self._key, b"[key]")
        return Received(response.status_code, response.headers.get("retry-after"), body)

    def _told(self, error: Exception) -> str:
        return (
            first_line(error).replace(self._key.decode(), "[key]")
            if self._key
            else first_line(error)
        )


def _proxy(base_url: str) -> str | None:
    """The proxy that the environment names for an address (HTTPS_PROXY, ALL_PROXY, NO_PROXY).

    Raises UsageError for a kind of proxy that is not known.
    """
    url, proxies = urllib.parse.urlsplit(base_url), urllib.request.getproxies()
    found = proxies.get(url.scheme) or proxies.get("all")
    if found is None or urllib.request.proxy_bypass(url.hostname or ""):
        return None
    if urllib.parse.urlsplit(found).scheme not in ("http", "https"):
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
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < needed:
            say(f"{soft - SPARE_FILES} requests at once: `ulimit -n` allows no more connections")
            return max(1, soft - SPARE_FILES)
    return wanted
