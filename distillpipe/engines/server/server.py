"""Where a server is and what it says of itself: address, key, models; errors that name the remedy."""

import sys
import urllib.parse
from contextlib import suppress

import msgspec
from msgspec import Raw

from distillpipe.base.errors import EngineError
from distillpipe.engines.server.connections import Connections, Received
from distillpipe.engines.server.event_loop import Turns
from distillpipe.engines.server.lenient import NOTHING, Garbled, decoded, value
from distillpipe.engines.server.options import read_key
from distillpipe.engines.server.replies import Again, Stop, one_line, read_response

CHECK_SECONDS = 60.0  # for the list of models
NUM_MODELS_SHOWN = 12
LONGEST_CONTEXT = 10**9  # tokens


class _Card(msgspec.Struct):
    id: str
    max_model_len: Raw = NOTHING
    "vLLM and SGLang say it"

    @property
    def context_length(self) -> int | None:
        """Tokens of prompt and completion together; null where none are said that could be true."""
        found = value(self.max_model_len)
        is_length = isinstance(found, int) and not isinstance(found, bool)
        return found if is_length and 1 < found < LONGEST_CONTEXT else None


class _Models(msgspec.Struct):
    data: list[Raw]


class Server:
    """An OpenAI-compatible server and the model that is asked of it."""

    def __init__(self, base_url: str, model: str, key_variable: str) -> None:
        self.base_url = base_url.rstrip("/")
        self.model = model
        self._key_variable = key_variable
        self._key = read_key(key_variable)
        self.context_length = sys.maxsize

    def connect(self, num_connections: int) -> Connections:
        return Connections(self.base_url, self._key, num_connections)

    def check(self) -> None:
        """Ask for the list of models: a wrong address or key ends here, and the context is learnt.

        A server that has no such list is asked no further.
        """
        received = self._list_models()
        if isinstance(received, Again):
            if not received.was_sent:
                raise EngineError(f"{self.base_url}: {received.reason}; {_CHECK_ADDRESS}")
            return
        refused = read_response(*received) if received.status in (401, 403) else None
        if isinstance(refused, Stop):
            raise EngineError(self.remedy(refused))
        if received.status == 200 and received.body.lstrip().startswith(b"<"):
            raise EngineError(f"{self.base_url} answers with a web page; {_CHECK_ADDRESS}")
        for card in _cards(received):
            if card.id == self.model and card.context_length is not None:
                self.context_length = card.context_length

    def remedy(self, stop: Stop) -> str:
        """One line for what stops a run: what the server says, and what to do."""
        where = f"{self.base_url} ({stop.said})"
        match stop.fault:
            case "key" if self._key is None:
                return f"{where} wants a key: set the environment variable {self._key_variable}"
            case "key":
                return f"{where} refuses the key in {self._key_variable}: set another one"
            case "balance":
                return (
                    f"{where} says that the money is used up: top it up, the same command goes on"
                )
            case "redirect":
                return f"{self.base_url} answers with {stop.said}, {self._leads_to(stop.location)}"
        listed = self._list_models()
        models = [] if isinstance(listed, Again) else [one_line(card.id) for card in _cards(listed)]
        is_api = stop.fault == "model" or bool(models)
        what = f"has no model {self.model!r}" if is_api else "is no API of this kind"
        if not models:
            return f"{where} {what}; {_CHECK_ADDRESS}"
        more = ", ..." if len(models) > NUM_MODELS_SHOWN else ""
        return f"{where} {what}: it has {', '.join(models[:NUM_MODELS_SHOWN])}{more}"

    def _leads_to(self, location: str | None) -> str:
        """Where a redirect leads, without what may be secret in its address, and what to do."""
        if not location:
            return f"which leads elsewhere without saying where; {_CHECK_ADDRESS}"
        try:
            parts = urllib.parse.urlsplit(urllib.parse.urljoin(f"{self.base_url}/", location))
            parts = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
        except ValueError:
            return f"which leads to no address ({one_line(location.rpartition('@')[2])}); {_CHECK_ADDRESS}"
        target = one_line(parts.geturl())
        for path in ("/chat/completions", "/completions", "/models"):
            if target.endswith(path):
                there = target.removesuffix(path)
                return f"which leads to {target}: give --base-url {there}, if that is the server"
        return f"which leads to {target}: give that as --base-url, if it is the server"

    def _list_models(self) -> Received | Again:
        turns, connections = Turns(), self.connect(1)
        try:
            return turns.result(connections.get("/models", CHECK_SECONDS))
        finally:
            turns.close(connections.close())


_CHECK_ADDRESS = "is it running, and is --base-url right? (most end in /v1)"


def _cards(received: Received) -> list[_Card]:
    """The models of a list; those are left out that are not described as a model is."""
    cards = []
    try:
        for one in decoded(received.body, _Models).data:
            with suppress(Garbled):
                cards.append(decoded(one, _Card))
    except Garbled:
        return []
    return cards
