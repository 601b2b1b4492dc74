r"""Puts the events of a streamed answer together, to the body that the same server sends without streaming.

    data: {"model": "qwen", "choices": [{"delta": {"reasoning": "1+1"}}]}
    data: {"model": "qwen", "choices": [{"delta": {"content": "\\boxed{2}"}, "finish_reason": "stop"}]}
    data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 12}}
    data: [DONE]

Texts under the same key are joined, whatever the key is, so `replies` reads both kinds of answer by the same rules. A
body that is no stream (a server may ignore `stream`, and errors are not streamed) is handed on as it came.
"""

import json
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from distillpipe.base.decoding import NOT_DECODED, NOT_PARSED
from distillpipe.engines.base import ends_in_loop

MIN_REPEATS = 32  # of a text that is a loop, as of tokens (`engines.base.ends_in_loop`)
MAX_PERIOD = 256  # characters that repeat: 64 tokens
MIN_LOOP = 1_000  # characters; rows of dashes and zeros are shorter
CHECK_CHARACTERS = 500  # between two searches for a loop
MAX_EVENT_BYTES = 64 * 2**20

Stop = Literal["repetition", "length"]
Watch = Callable[["StreamedAnswer"], Stop | None]
"Called for each event; a value ends the answer there, and is its finish reason."


class Unfinished(Exception):
    """A stream ended before its answer did, or holds what is no event; the text says why."""


class StreamedAnswer:
    """The body of one response, streamed or not, as far as it has come."""

    def __init__(self, watch: Watch | None = None) -> None:
        self._watch = watch
        self._line = bytearray()
        "bytes after the last line end, or the whole body if it is no stream"
        self._event = b""
        "data of an event that goes over several lines"
        self._body: dict[str, Any] = {}
        self._choice: dict[str, Any] = {}
        self._message: dict[str, Any] = {}
        self._tail = ""
        self._num_checked = 0
        self.is_stream: bool | None = None
        "null until the first bytes tell"
        self.is_done = False
        self.stopped: Stop | None = None
        self.num_events = self.num_characters = 0
        "events with text, and the characters of it"

    @property
    def num_held(self) -> int:
        """About the bytes that are kept in memory."""
        return len(self._line) + len(self._event) + self.num_characters

    @property
    def num_tokens(self) -> int:
        """The least number of tokens that the text so far can have been: an event holds at least one of them.

        Gateways that pretend to stream send events of single characters; these are not counted as tokens.
        """
        usage = self._body.get("usage")
        counted = usage.get("completion_tokens") if isinstance(usage, dict) else None
        are_tokens = self.num_characters >= 2 * self.num_events
        seen = self.num_events if are_tokens else self.num_characters // 4
        if isinstance(counted, int) and not isinstance(counted, bool):
            return max(seen, counted)
        return seen

    def feed(self, piece: bytes) -> None:
        """Take bytes of the body. Raises `Unfinished` for an event that is not JSON."""
        self._line += piece
        if self.is_stream is None:
            beginning = bytes(self._line[:64]).lstrip(b"\xef\xbb\xbf \t\r\n")
            if not beginning:
                return
            if len(beginning) < 6 and any(
                mark.startswith(beginning) for mark in (b"data:", b"event:")
            ):
                return
            self.is_stream = beginning.startswith((b"data:", b"event:", b":", b"id:", b"retry:"))
        if not self.is_stream:
            return
        *lines, rest = bytes(self._line).split(b"\n")
        self._line = bytearray(rest)
        for line in lines:
            self._read_line(line.rstrip(b"\r"))
            if self.is_done or self.stopped is not None:
                return

    def close(self) -> bytes:
        """The whole body, at its end. Raises `Unfinished` for a stream that ended too early."""
        if not self.is_stream:
            return bytes(self._line)
        if self._line and not self.is_done and self.stopped is None:
            self._read_line(bytes(self._line).rstrip(b"\r"))
        reason = self._choice.get("finish_reason")
        if (
            not self.is_done
            and self.stopped is None
            and reason is None
            and "error" not in self._body
        ):
            raise Unfinished("the stream ended before the answer did")
        if self.stopped is not None:
            self._choice["finish_reason"] = self.stopped
        choice = self._choice | ({"message": self._message} if self._message else {})
        choices = [choice] if choice else []
        return json.dumps(_plain({**self._body, "choices": choices})).encode()

    def _read_line(self, line: bytes) -> None:
        if not line.startswith(b"data:"):
            if not line and self._event:
                raise Unfinished("an event of the stream is not valid JSON")
            return
        data = self._event + line[5:].strip()
        if data == b"[DONE]":
            self.is_done = True
            return
        if not data:
            return
        event = _decoded(data)
        if event is None:  # it goes on in the next line
            self._event = data
            if len(data) > MAX_EVENT_BYTES:
                raise Unfinished("an event of the stream has no end")
            return
        self._event = b""
        if isinstance(event, dict):
            self._add(event)

    def _add(self, event: dict[str, Any]) -> None:
        for name in ("model", "provider", "usage", "error", "id"):
            if event.get(name) is not None:
                self._body[name] = event[name]
        choices = event.get("choices")
        choice = (
            next((one for one in choices if isinstance(one, dict)), None)
            if isinstance(choices, list)
            else None
        )
        before = self.num_characters
        if choice is not None:
            self._add_choice(choice)
        elif isinstance(event.get("message"), str) and "choices" not in event:
            self._body["error"] = event  # an error without its envelope
        if self.num_characters > before:
            self.num_events += 1
        if self._watch is not None:
            self.stopped = self._watch(self)

    def _add_choice(self, choice: dict[str, Any]) -> None:
        for name in ("finish_reason", "stop_reason", "native_finish_reason"):
            if choice.get(name) is not None:
                self._choice[name] = choice[name]
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._merge(self._message, delta)
        elif isinstance(choice.get("message"), dict):
            self._message = dict(choice["message"])  # some servers end with the whole message
            self._count(choice["message"])
        if isinstance(choice.get("text"), str):
            self._merge(self._choice, {"text": choice["text"]})
        if isinstance(choice.get("token_ids"), list):
            self._choice.setdefault("token_ids", []).extend(choice["token_ids"])

    def _merge(self, whole: dict[str, Any], part: dict[str, Any]) -> None:
        """Add the fields of a part of a message: texts are joined, lists of objects item by item."""
        for name, value in part.items():
            if value is None or (name in _NAMES and name in whole):
                continue
            if isinstance(value, str) and name not in _NAMES:
                self._see(value)
                pieces = whole.setdefault(name, _Pieces())
                if isinstance(pieces, _Pieces):
                    pieces.append(value)
            elif isinstance(value, dict):
                inner = whole.setdefault(name, {})
                if isinstance(inner, dict):
                    self._merge(inner, value)
            elif isinstance(value, list) and all(isinstance(item, dict) for item in value):
                items = whole.setdefault(name, [])
                for item in value:
                    self._merge_item(items, item)
            else:
                whole[name] = value

    def _merge_item(self, items: Any, item: dict[str, Any]) -> None:
        """Add an object to a list: to the item of its index, else to the last one if that has its type."""
        if not isinstance(items, list) or isinstance(items, _Pieces):
            return
        index, kind = item.get("index"), item.get("type")
        for known in reversed(items):
            is_same = known.get("index") == index if index is not None else known is items[-1]
            if is_same and known.get("type") == (kind or known.get("type")):
                self._merge(known, item)
                return
        fresh: dict[str, Any] = {}
        self._merge(fresh, item)
        items.append(fresh)

    def _count(self, message: dict[str, Any]) -> None:
        for value in message.values():
            if isinstance(value, str):
                self._see(value)

    def _see(self, text: str) -> None:
        self.num_characters += len(text)
        self._tail = (self._tail + text)[-MIN_REPEATS * MAX_PERIOD :]

    def is_loop(self) -> bool:
        """Whether the completion repeats itself to its end: by token ids if there are any, else by characters."""
        ids = self._choice.get("token_ids")
        if ids:
            return ends_in_loop(ids)
        if self.num_characters - self._num_checked < CHECK_CHARACTERS:
            return False
        self._num_checked = self.num_characters
        return text_ends_in_loop(self._tail)


_NAMES = ("role", "type", "id", "signature", "format", "index", "name")
"fields of parts that name something: they are set once, not joined"


class _Pieces(list[str]):
    """The pieces of a text that is not yet joined."""


def text_ends_in_loop(text: str) -> bool:
    """Whether a text ends in at least MIN_REPEATS copies of up to MAX_PERIOD characters, MIN_LOOP in all."""
    for period in range(1, MAX_PERIOD + 1):
        span = max(MIN_REPEATS * period, MIN_LOOP)
        if len(text) < span:
            if period * MIN_REPEATS > len(text):
                return False
            continue
        if text[-1] == text[-1 - period] and text[-span:-period] == text[-span + period :]:
            return True
    return False


def _decoded(data: bytes) -> Any:
    """The value of an event; None if it is not JSON. Half a character stays as it is: its other half may follow."""
    if b"\\ud" not in data and b"\\uD" not in data:
        try:
            return msgspec.json.decode(data)
        except NOT_DECODED:
            pass
    try:
        return json.loads(data)
    except NOT_PARSED:
        return None


def _plain(value: Any) -> Any:
    """The value with its texts joined."""
    if isinstance(value, _Pieces):
        return "".join(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
