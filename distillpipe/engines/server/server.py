"""The server's address, API key and models, and error messages that name the remedy."""

import sys
import urllib.parse
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Raw

from distillpipe.base.errors import EngineError
from distillpipe.engines.server.connections import Connections, RawResponse
from distillpipe.engines.server.event_loop import TaskLoop
from distillpipe.engines.server.lenient import NULL, InvalidJson, decode_json, optional_value
from distillpipe.engines.server.options import read_key
from distillpipe.engines.server.replies import Fatal, Retry, one_line, read_response

CHECK_SECONDS = 60.0  # for the list of models
NUM_MODELS_SHOWN = 12
LONGEST_CONTEXT = 10**9  # tokens
_CHECK_ADDRESS = "is it running, and is --base-url right? (most end in /v1)"


class _ModelCard(msgspec.Struct):
    id: str
    max_model_len: Raw = NULL
    "reported by vLLM and SGLang"
    owned_by: Raw = NULL
    "the software of a server that one runs oneself: vllm, sglang, llamacpp, library (Ollama)"

    @property
    def context_length(self) -> int | None:
        """Maximum tokens of prompt and completion together; None if no plausible number is reported."""
        length = optional_value(self.max_model_len)
        is_length = isinstance(length, int) and not isinstance(length, bool)
        return length if is_length and 1 < length < LONGEST_CONTEXT else None


class _ModelList(msgspec.Struct):
    data: list[Raw]


class Server:
    """An OpenAI-compatible server and the model to request from it."""

    def __init__(
        self,
        base_url: str,
        model: str,
        key_variable: str,
        template_variables: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """`template_variables` go to the chat template of the server with each request."""
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.template_variables = template_variables
        self._key_variable = key_variable
        self._key = read_key(key_variable)
        self.context_length = sys.maxsize
        self.software = ""
        "vllm, sglang, ollama, llamacpp or openrouter; empty if the list of models does not tell"

    def connect(self, num_connections: int) -> Connections:
        return Connections(self.base_url, self._key, num_connections)

    def check(self) -> None:
        """Request the list of models: finds a wrong address or key early, and the context length.

        A server without such a list passes.
        """
        response = self._list_models()
        if isinstance(response, Retry):
            if not response.was_sent:
                raise EngineError(f"{self.base_url}: {response.reason}; {_CHECK_ADDRESS}")
            return
        refusal = read_response(*response[:4]) if response.status in (401, 403) else None
        if isinstance(refusal, Fatal):
            raise EngineError(self.remedy(refusal))
        if response.status == 200 and response.body.lstrip().startswith(b"<"):
            raise EngineError(f"{self.base_url} answers with a web page; {_CHECK_ADDRESS}")
        cards = _model_cards(response)
        self.software = self._software(cards)
        for card in cards:
            if card.id == self.model and card.context_length is not None:
                self.context_length = card.context_length

    def _software(self, cards: list[_ModelCard]) -> str:
        """What the server runs, as far as its address and its list of models tell."""
        host = urllib.parse.urlsplit(self.base_url).hostname or ""
        if host.endswith("openrouter.ai"):
            return "openrouter"
        owners = {optional_value(card.owned_by) for card in cards if card.id == self.model}
        owner = next((str(owner).lower() for owner in owners if isinstance(owner, str)), "")
        return "ollama" if owner == "library" else owner

    def remedy(self, fatal: Fatal) -> str:
        """One line for an error that stops the run: what the server said, and what to do."""
        server = f"{self.base_url} ({fatal.detail})"
        match fatal.fault:
            case "key" if self._key is None:
                return f"{server} needs a key: set the environment variable {self._key_variable}"
            case "key":
                return f"{server} refuses the key in {self._key_variable}: set another one"
            case "balance":
                return (
                    f"{server} says that the balance is used up: top it up and run the same command "
                    "to continue"
                )
            case "redirect":
                redirect = self._redirect(fatal.location)
                return f"{self.base_url} answers with {fatal.detail}, {redirect}"
        response = self._list_models()
        cards = [] if isinstance(response, Retry) else _model_cards(response)
        is_api = fatal.fault == "model" or bool(cards)
        problem = f"has no model {self.model!r}" if is_api else "is not an OpenAI-compatible API"
        if not cards:
            return f"{server} {problem}; {_CHECK_ADDRESS}"
        names = ", ".join(one_line(card.id) for card in cards[:NUM_MODELS_SHOWN])
        more = ", ..." if len(cards) > NUM_MODELS_SHOWN else ""
        return f"{server} {problem}: it has {names}{more}"

    def _redirect(self, location: str | None) -> str:
        """The target of a redirect, without secrets in its URL, and what to do."""
        if not location:
            return f"a redirect without a target; {_CHECK_ADDRESS}"
        try:
            parts = urllib.parse.urlsplit(urllib.parse.urljoin(f"{self.base_url}/", location))
            parts = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
        except ValueError:
            return f"a redirect to an invalid URL ({one_line(location.rpartition('@')[2])}); {_CHECK_ADDRESS}"
        target = one_line(parts.geturl())
        for path in ("/chat/completions", "/completions", "/models"):
            if target.endswith(path):
                base_url = target.removesuffix(path)
                return f"a redirect to {target}: give --base-url {base_url} if that is the server"
        return f"a redirect to {target}: give that as --base-url if it is the server"

    def _list_models(self) -> RawResponse | Retry:
        loop, connections = TaskLoop(), self.connect(1)
        try:
            return loop.run(connections.get("/models", CHECK_SECONDS))
        finally:
            loop.close(connections.close())


def _model_cards(response: RawResponse) -> list[_ModelCard]:
    """The valid entries in a list of models."""
    cards = []
    try:
        for card in decode_json(response.body, _ModelList).data:
            with suppress(InvalidJson):
                cards.append(decode_json(card, _ModelCard))
    except InvalidJson:
        return []
    return cards
