r"""Interprets a server's response: an answer, a refusal, a reason to retry, or a reason to stop the run.

Pure functions: status, headers and body in, one of four values out. A response of `vllm serve`, shortened:

    {"model": "qwen", "choices": [{"finish_reason": "stop", "message": {"content": "\\boxed{2}",
     "reasoning": "1+1=2."}}], "usage": {"prompt_tokens": 9, "completion_tokens": 12}}
"""

import re
from contextlib import suppress
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Raw

from distillpipe.base.assistant import calls_tools, read_assistant, refusal_of
from distillpipe.base.finish import ending
from distillpipe.base.marks import Marked
from distillpipe.base.records import FinishReason, Message
from distillpipe.base.redaction import redact
from distillpipe.engines.server.lenient import (
    NULL,
    InvalidJson,
    decode_json,
    num_lone_surrogates,
    optional_value,
    summarize,
)
from distillpipe.engines.server.usage import Usage, UsageBounds, read_usage


class Reply(NamedTuple):
    """An answer."""

    message: Message
    finish_reason: FinishReason
    usage: Usage
    served_by: str | None
    token_ids: list[int] | None = None
    "of the completion, if the prompt was sent as token ids"
    has_invalid_ids: bool = False
    "the field of the token ids holds something else"
    notes: tuple[tuple[str, str], ...] = ()
    "what the server sent and the row does not hold otherwise, as name and text: it goes to the row's `extra`"


class Retry(NamedTuple):
    """No answer to this try."""

    reason: str
    is_busy: bool = False
    "the server wants fewer concurrent requests"
    may_be_billed: bool = False
    retry_after: str | None = None
    "the header of this name"
    was_sent: bool = True
    "false if there was no connection"
    is_silent: bool = False
    "the server took the request and sent nothing of an answer for too long"


class Refused(NamedTuple):
    """A request that will never be answered."""

    reason: Literal["prompt_too_long", "refused_by_server", "refused_by_model", "called_a_tool"]
    detail: str
    is_certain: bool
    "false if an option may be the cause, so that every request would be refused"
    usage: Usage | None = None
    "what was billed all the same"


class Fatal(NamedTuple):
    """No request of this run will be answered."""

    fault: Literal["key", "address", "model", "balance", "redirect"]
    detail: str
    location: str | None = None
    "target of a redirect, as the server sent it"


Response = Reply | Retry | Refused | Fatal
UNBOUNDED = UsageBounds()

DETAIL_CHARACTERS = 300  # of a server's error that are shown

_BUSY = (429, 503, 529)
# a gateway gave up, but the server behind it may have finished and billed
_UNKNOWN_BILL = (408, 502, 504, 520, 522, 524)
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
    message: Raw = NULL
    text: Raw = NULL
    "in place of the message, if the prompt was sent as token ids"
    token_ids: Raw = NULL
    finish_reason: Raw = NULL


class _Body(msgspec.Struct):
    choices: Raw = NULL
    usage: Raw = NULL
    model: Raw = NULL
    provider: Raw = NULL
    "which supplier OpenRouter asked"
    error: Raw = NULL


def read_response(
    status: int,
    retry_after: str | None,
    body: bytes,
    location: str | None = None,
    bounds: UsageBounds = UNBOUNDED,
) -> Response:
    """Interpret the response to a completion request with the given bounds on its usage."""
    if 200 <= status < 300:
        return _read_body(body, bounds)
    if 300 <= status < 400:
        return Fatal("redirect", f"status {status}", location)
    return _read_error(status, retry_after, _error_detail(body))


def _read_body(content: bytes, bounds: UsageBounds) -> Response:
    try:
        body = decode_json(content, _Body)
        choice = _first_choice(body.choices)
    except InvalidJson as error:
        return Retry(
            f"the answer is not valid JSON or is cut short ({one_line(str(error))})",
            may_be_billed=True,
        )
    inner_error = optional_value(body.error)
    if _is_error(inner_error):  # OpenRouter passes the status of its supplier inside the body
        response = _read_error(_inner_status(inner_error), None, _error_detail(content))
        return _with_usage(response, body.usage, bounds)
    if choice is None:
        return Retry("the answer holds no choices", may_be_billed=True)
    message = _message(choice)
    if isinstance(message, str):
        return Retry(message, may_be_billed=True)
    refusal = _refusal(choice, message)
    if refusal is not None:
        usage = read_usage(body.usage, Message(role="assistant", content=""), bounds)
        return refusal._replace(usage=usage)
    finish = _finish_reason(choice, message)
    if isinstance(finish, str):
        return Retry(finish, may_be_billed=True)
    try:
        ids = decode_json(choice.token_ids, list[Annotated[int, msgspec.Meta(ge=0, lt=2**31)]])
    except InvalidJson:
        ids = None
    has_invalid_ids = ids is None and optional_value(choice.token_ids, default=0) is not None
    answer = Message(
        role="assistant",
        content=message.response,
        reasoning_content=message.reasoning or None,
    )
    usage = read_usage(body.usage, answer, bounds, None if ids is None else len(ids))
    notes = [("finish_reason", finish.note)] if finish.note else []
    notes += [("text_before_reasoning", message.before)] if message.before else []
    if num_replaced := num_lone_surrogates(content):
        notes.append(("halves_of_characters_replaced", str(num_replaced)))
    served_by = _served_by(body)
    return Reply(answer, finish.reason, usage, served_by, ids, has_invalid_ids, tuple(notes))


class _Finish(NamedTuple):
    """How an answer ended."""

    reason: FinishReason
    note: str = ""
    "what the server said, where our table does not know it"


def _finish_reason(choice: _Choice, message: Marked) -> _Finish | str:
    """How an answer ended, or why it is none. A word that is not known costs no answer: it is kept with a note."""
    said = optional_value(choice.finish_reason)
    shown = one_line(said) if isinstance(said, str) and said else summarize(said) or "empty"
    kind = ending(said)
    has_text = bool(message.response.strip() or message.reasoning.strip())
    if kind == "failed" or (kind is None and not has_text):
        return f"the answer has the finish_reason {one_line(repr(said)) if isinstance(said, str) else shown}"
    if kind in ("stop", "length", "repetition"):
        return _Finish(kind)
    # without a response the thought was cut off
    return _Finish("stop" if message.response.strip() else "length", shown)


def _refusal(choice: _Choice, message: Marked) -> Refused | None:
    """The refusal that a choice holds in place of an answer; None for an answer."""
    said = optional_value(choice.finish_reason)
    kind = ending(said)
    if kind == "filtered":
        return Refused("refused_by_server", one_line(str(said)), is_certain=True)
    fields = optional_value(choice.message)
    if message.response.strip() or message.reasoning.strip() or not isinstance(fields, dict):
        return None
    if refusal := refusal_of(fields):
        return Refused("refused_by_model", one_line(refusal), is_certain=True)
    if kind == "tool_call" or calls_tools(fields):
        detail = "the model called a tool in place of an answer"
        return Refused("called_a_tool", detail, is_certain=True)
    return None


def _with_usage(response: Response, usage: Raw, bounds: UsageBounds) -> Response:
    """An error response with its usage: a server that counts tokens may bill them."""
    if optional_value(usage) in (None, {}):
        return response
    if isinstance(response, Refused):
        empty = Message(role="assistant", content="")
        return response._replace(usage=read_usage(usage, empty, bounds))
    return response._replace(may_be_billed=True) if isinstance(response, Retry) else response


def _first_choice(content: Raw) -> _Choice | None:
    """The first valid choice; None if there is none."""
    try:
        choices = decode_json(content, list[Raw])
    except InvalidJson:
        return None
    for choice in choices:
        with suppress(InvalidJson):
            return decode_json(choice, _Choice)
    return None


def _message(choice: _Choice) -> Marked | str:
    """The parts of a choice's message, or the reason why there is none."""
    try:
        fields, text = decode_json(choice.message, object), decode_json(choice.text, object)
    except InvalidJson as error:
        return f"the answer is not valid JSON ({one_line(str(error))})"
    if not isinstance(fields, dict):
        return (
            read_assistant({"content": text})
            if isinstance(text, str)
            else "the answer holds no message"
        )
    content = fields.get("content")
    message = read_assistant(fields)
    is_text = content is None or isinstance(content, str) or message.response
    if is_text or message.reasoning or content in ([], {}) or refusal_of(fields):
        return message
    return f"the answer's content is not text ({summarize(content)})"


def _served_by(body: _Body) -> str | None:
    """The model name and supplier that the server reports, if they are strings."""
    model, provider = optional_value(body.model), optional_value(body.provider)
    names = [model] if isinstance(model, str) and model else []
    names += [f"({provider})"] if isinstance(provider, str) and provider else []
    return " ".join(names) or None


def _is_error(error: Any) -> bool:
    """Whether an `error` field reports one. Beside an answer it may be false, empty or a word for success."""
    if isinstance(error, dict):
        values = [error.get(name) for name in ("message", "code", "type", "status")]
        return any(
            str(value).lower() not in _NO_ERROR for value in values if value not in (None, "")
        )
    return bool(error) and str(error).lower() not in _NO_ERROR


def _inner_status(error: Any) -> int:
    """The HTTP status inside an error, as a number or as text; 500 if there is none."""
    codes = [error.get("code"), error.get("status")] if isinstance(error, dict) else []
    for code in codes:
        status = int(code) if isinstance(code, str) and _STATUS.fullmatch(code) else code
        if isinstance(status, int) and 400 <= status < 600:
            return status
    return 500


def _read_error(status: int, retry_after: str | None, message: str) -> Response:
    detail = f"{status}: {message}" if message else str(status)
    if status == 402 or _NO_MONEY.search(message):
        return Fatal("balance", detail)
    if status == 401:
        return Fatal("key", detail)
    if status == 403:
        if _FILTERED.search(message):
            return Refused("refused_by_server", detail, is_certain=True)
        return Fatal("key", detail)
    if status in (400, 422) and _FIELD.search(message):  # "... is not supported with this model"
        return Refused("refused_by_server", detail, is_certain=False)
    if status in (404, 405) or (status in (400, 422) and _NO_MODEL.search(message)):
        return Fatal("model" if _NO_MODEL.search(message) else "address", detail)
    if status in (400, 413, 422):
        if _TOO_LONG.search(message) or status == 413:
            return Refused("prompt_too_long", detail, is_certain=True)
        return Refused("refused_by_server", detail, is_certain=bool(_FILTERED.search(message)))
    return Retry(detail, status in _BUSY, status in _UNKNOWN_BILL, retry_after)


def _error_detail(body: bytes) -> str:
    """The error message in a body, as one line with keys redacted."""
    try:
        detail = decode_json(body, object)
    except InvalidJson:
        detail = body.decode("utf-8", "replace")
    while isinstance(detail, dict):
        values = [detail.get(name) for name in ("error", "message", "detail", "code", "type")]
        texts = [value for value in values if isinstance(value, str) and value]
        nested = [value for value in values if isinstance(value, dict | list) and value]
        detail = nested[0] if nested and not texts else " ".join(texts[:2])
    if not isinstance(detail, str):
        try:
            detail = msgspec.json.encode(detail).decode()
        except (RecursionError, OverflowError, ValueError):  # the encoder's stack is smaller
            detail = body.decode("utf-8", "replace")
    return one_line(detail)


def one_line(text: str) -> str:
    """A server's text for our message: keys redacted, then cut, control characters replaced."""
    line = " ".join(redact(text).split())
    return "".join(char if char.isprintable() else "\ufffd" for char in line[:DETAIL_CHARACTERS])
