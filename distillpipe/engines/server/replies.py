r"""What a server's response means: an answer, a refusal, a reason to ask again, or to stop the run.

Pure: status, headers and body in, one of four values out. One response of `vllm serve`, shortened:

    {"model": "qwen", "choices": [{"finish_reason": "stop", "message": {"content": "\\boxed{2}",
     "reasoning": "1+1=2."}}], "usage": {"prompt_tokens": 9, "completion_tokens": 12}}
"""

import re
from contextlib import suppress
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Raw

from distillpipe.base.records import FinishReason, Message
from distillpipe.base.redaction import redact
from distillpipe.engines.server.lenient import NOTHING, Garbled, decoded, shown, value
from distillpipe.engines.server.reasoning_fields import read_message
from distillpipe.engines.server.usage import Most, Usage, read_usage


class Reply(NamedTuple):
    """An answer, read."""

    message: Message
    finish_reason: FinishReason
    usage: Usage
    served_by: str | None
    token_ids: list[int] | None = None
    "of a completion whose prompt was rendered here"
    has_odd_ids: bool = False
    "what stands in their place is no list of ids"


class Again(NamedTuple):
    """No answer this time."""

    reason: str
    is_busy: bool = False
    "the server wants fewer requests at once"
    may_be_billed: bool = False
    retry_after: str | None = None
    "the header of this name"
    was_sent: bool = True
    "false where not even a connection was to be had"


class Refused(NamedTuple):
    """A request that will never be answered."""

    reason: Literal["prompt_too_long", "refused_by_server"]
    said: str
    is_certain: bool
    "false where the fault may lie in the options, so that every request would be refused"
    usage: Usage | None = None
    "what was billed for it all the same"


class Stop(NamedTuple):
    """No request of this run will be answered."""

    fault: Literal["key", "address", "model", "balance", "redirect"]
    said: str
    location: str | None = None
    "that a redirect leads to, as it was sent"


Response = Reply | Again | Refused | Stop
ANY = Most()

FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop", "eos": "stop", "stop_sequence": "stop", "end_turn": "stop",
    "length": "length", "max_tokens": "length", "model_length": "length",
    "repetition": "repetition",
}  # fmt: skip
SAID_CHARACTERS = 300  # of what a server says in an error

_BUSY = (429, 503, 529)
_UNKNOWN_BILL = (
    408,
    502,
    504,
    520,
    522,
    524,
)  # a gateway gave up; what stands behind it may not have
_FILTERED = re.compile(
    r"content[ _]?(filter|policy|management)|moderation|flagged|inspection_failed|content exists risk",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(
    r"context[ _-]?(length|window)|maximum (model|input|prompt) length|max_model_len|too many tokens"
    r"|(prompt|input)\b.{0,40}\btoo long|longer than the (model|maximum)",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"model\b.{0,80}(not[ _]?(exist|found)|does not exist|not a valid|unknown|unsupported)"
    r"|(not a valid|unknown|invalid|no such)\b.{0,20}\bmodel|model_not_found",
    re.IGNORECASE,
)
_NO_ERROR = ("false", "no", "none", "null", "ok", "success", "0", "200", "{}", "[]")
_STATUS = re.compile(r"[45][0-9]{2}")
_FIELD = re.compile(r"unsupported[ _](parameter|value)|max_completion_tokens", re.IGNORECASE)
_NO_MONEY = re.compile(r"insufficient[ _](quota|balance|credit|funds)", re.IGNORECASE)


class _Choice(msgspec.Struct):
    message: Raw = NOTHING
    text: Raw = NOTHING
    "in place of the message, where the prompt was rendered here"
    token_ids: Raw = NOTHING
    finish_reason: Raw = NOTHING


class _Body(msgspec.Struct):
    choices: Raw = NOTHING
    usage: Raw = NOTHING
    model: Raw = NOTHING
    provider: Raw = NOTHING
    "which of its suppliers OpenRouter asked"
    error: Raw = NOTHING


def read_response(
    status: int, retry_after: str | None, body: bytes, location: str | None = None, most: Most = ANY
) -> Response:
    """What a response to a completion means; `most` is what its request can have had."""
    if 200 <= status < 300:
        return _read_body(body, most)
    if 300 <= status < 400:
        return Stop("redirect", f"status {status}", location)
    return _read_error(status, retry_after, _said(body))


def _read_body(body: bytes, most: Most) -> Response:
    try:
        found = decoded(body, _Body)
        choice = _choice(found.choices)
    except Garbled as error:
        return Again(
            f"the answer is garbled or cut short ({one_line(str(error))})", may_be_billed=True
        )
    inside = value(found.error)
    if _is_error(inside):  # OpenRouter: the status that it got stands inside
        return _counted(_read_error(_status_of(inside), None, _said(body)), found.usage, most)
    if choice is None:
        return Again("the answer holds no choices", may_be_billed=True)
    reason = value(choice.finish_reason)
    if reason == "content_filter":
        counted = read_usage(found.usage, Message(role="assistant", content=""), most)
        return Refused("refused_by_server", reason, is_certain=True, usage=counted)
    finish_reason = FINISH_REASONS.get(reason) if isinstance(reason, str) else None
    if finish_reason is None:
        ended = one_line(repr(reason)) if isinstance(reason, str) else shown(reason)
        return Again(f"the answer ended by {ended}", may_be_billed=True)
    message = _message(choice)
    if isinstance(message, str):
        return Again(message, may_be_billed=True)
    ids = _token_ids(choice.token_ids)
    usage = read_usage(found.usage, message, most, None if ids is None else len(ids))
    has_odd_ids = ids is None and value(choice.token_ids, otherwise=0) is not None
    return Reply(message, finish_reason, usage, _served_by(found), ids, has_odd_ids)


def _counted(response: Response, usage: Raw, most: Most) -> Response:
    """An error beside which the server counts tokens: it may bill them."""
    if value(usage) in (None, {}):
        return response
    if isinstance(response, Refused):
        return response._replace(
            usage=read_usage(usage, Message(role="assistant", content=""), most)
        )
    return response._replace(may_be_billed=True) if isinstance(response, Again) else response


def _choice(choices: Raw) -> _Choice | None:
    """The first choice that is one; None where there is none."""
    try:
        found = decoded(choices, list[Raw])
    except Garbled:
        return None
    for one in found:
        with suppress(Garbled):
            return decoded(one, _Choice)
    return None


def _message(choice: _Choice) -> Message | str:
    """The message of a choice, or why there is none."""
    try:
        found, text = decoded(choice.message, object), decoded(choice.text, object)
    except Garbled as error:
        return f"the answer is garbled ({one_line(str(error))})"
    if not isinstance(found, dict):
        if not isinstance(text, str):
            return "the answer holds no message"
        return read_message({"content": text})
    content = found.get("content")
    message = read_message(found)
    is_text = content is None or isinstance(content, str) or message.content
    if is_text or message.reasoning_content or content in ([], {}):
        return message
    return f"the answer's content is no text ({shown(content)})"


def _served_by(found: _Body) -> str | None:
    """What the server calls itself, where it says it in words."""
    model, provider = value(found.model), value(found.provider)
    names = [model] if isinstance(model, str) and model else []
    names += [f"({provider})"] if isinstance(provider, str) and provider else []
    return " ".join(names) or None


def _token_ids(content: Raw) -> list[int] | None:
    """The ids of a completion; null where not all are ids."""
    try:
        return decoded(content, list[Annotated[int, msgspec.Meta(ge=0, lt=2**31)]])
    except Garbled:
        return None


def _is_error(error: Any) -> bool:
    """Whether a field `error` tells of one: beside an answer it may be false, empty or say that there is none."""
    if isinstance(error, dict):
        said = [error.get(name) for name in ("message", "code", "type", "status")]
        return any(str(one).lower() not in _NO_ERROR for one in said if one not in (None, ""))
    return bool(error) and str(error).lower() not in _NO_ERROR


def _status_of(error: Any) -> int:
    """The HTTP status that stands in an error, as a number or as text; 500 where none does."""
    codes = [error.get("code"), error.get("status")] if isinstance(error, dict) else []
    for code in codes:
        found = int(code) if isinstance(code, str) and _STATUS.fullmatch(code) else code
        if isinstance(found, int) and 400 <= found < 600:
            return found
    return 500


def _read_error(status: int, retry_after: str | None, said: str) -> Response:
    where = f"{status}: {said}" if said else str(status)
    if status == 402 or _NO_MONEY.search(said):
        return Stop("balance", where)
    if status == 401:
        return Stop("key", where)
    if status == 403:
        if _FILTERED.search(said):
            return Refused("refused_by_server", where, is_certain=True)
        return Stop("key", where)
    if status in (400, 422) and _FIELD.search(said):  # "... is not supported with this model"
        return Refused("refused_by_server", where, is_certain=False)
    if status in (404, 405) or (status in (400, 422) and _NO_MODEL.search(said)):
        return Stop("model" if _NO_MODEL.search(said) else "address", where)
    if status in (400, 413, 422):
        if _TOO_LONG.search(said) or status == 413:
            return Refused("prompt_too_long", where, is_certain=True)
        return Refused("refused_by_server", where, is_certain=bool(_FILTERED.search(said)))
    return Again(where, status in _BUSY, status in _UNKNOWN_BILL, retry_after)


def _said(body: bytes) -> str:
    """What an error's body says, in one line, keys left out."""
    try:
        found = decoded(body, object)
    except Garbled:
        found = body.decode("utf-8", "replace")
    while isinstance(found, dict):
        parts = [found.get(name) for name in ("error", "message", "detail", "code", "type")]
        told = [part for part in parts if isinstance(part, str) and part]
        inner = [part for part in parts if isinstance(part, dict | list) and part]
        found = inner[0] if inner and not told else " ".join(told[:2])
    if not isinstance(found, str):
        try:
            found = msgspec.json.encode(found).decode()
        except (RecursionError, OverflowError, ValueError):  # it could be read, but only just
            found = body.decode("utf-8", "replace")
    return one_line(found)


def one_line(text: str) -> str:
    """A text of a server as part of a message of ours: keys left out, then cut, control characters made harmless."""
    line = " ".join(redact(text).split())
    return "".join(one if one.isprintable() else "\ufffd" for one in line[:SAID_CHARACTERS])
