r"""What a server's response means: an answer, a refusal, a reason to ask again, or to stop the run.

Pure: status, headers and body in, one of four values out. One response of `vllm serve`, shortened:

    {"model": "qwen", "choices": [{"finish_reason": "stop", "message": {"content": "\\boxed{2}",
     "reasoning": "1+1=2."}}], "usage": {"prompt_tokens": 9, "completion_tokens": 12}}
"""

import re
from typing import Any, Literal, NamedTuple

import msgspec

from distillpipe.engines.reasoning_fields import read_message
from distillpipe.records import FinishReason, Message, TokenCounts


class Reply(NamedTuple):
    """An answer, read."""

    message: Message
    finish_reason: FinishReason
    num_tokens: TokenCounts | None
    "null where the server does not say"
    served_by: str | None
    token_ids: list[int] | None = None
    "of a completion whose prompt was rendered here"


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
    num_tokens: TokenCounts | None = None
    "what was billed for it all the same"


class Stop(NamedTuple):
    """No request of this run will be answered."""

    fault: Literal["key", "address", "model", "balance"]
    said: str


Response = Reply | Again | Refused | Stop

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
_FIELD = re.compile(r"unsupported[ _](parameter|value)|max_completion_tokens", re.IGNORECASE)
_NO_MONEY = re.compile(r"insufficient[ _](quota|balance|credit|funds)", re.IGNORECASE)


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    completion_tokens_details: dict[str, Any] | None = None
    reasoning_tokens: int | None = None  # SGLang puts it here


class _Choice(msgspec.Struct):
    message: dict[str, Any] | None = None
    text: str | None = None
    "in place of the message, where the prompt was rendered here"
    token_ids: list[int] | None = None
    finish_reason: str | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    model: str | None = None
    provider: str | None = None
    "which of its suppliers OpenRouter asked"
    error: Any = None


_bodies = msgspec.json.Decoder(_Body)


def read_response(status: int, retry_after: str | None, body: bytes) -> Response:
    """What a response to a completion means."""
    if status == 200:
        return _read_body(body)
    if status < 400:
        return Stop("address", f"it answers with status {status}, which leads elsewhere")
    return _read_error(status, retry_after, _said(body))


def _read_body(body: bytes) -> Response:
    try:
        found = _bodies.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return Again(f"the answer is garbled or cut short ({error})", may_be_billed=True)
    if found.error is not None:  # OpenRouter: the status that it got stands inside
        code = found.error.get("code") if isinstance(found.error, dict) else None
        return _read_error(code if isinstance(code, int) else 500, None, _said(body))
    if not found.choices:
        return Again("the answer holds no choices", may_be_billed=True)
    choice, tokens = found.choices[0], found.usage
    if choice.finish_reason == "content_filter":
        counted = _count(tokens, Message(role="assistant", content=""))
        return Refused("refused_by_server", "content_filter", is_certain=True, num_tokens=counted)
    finish_reason = FINISH_REASONS.get(choice.finish_reason or "")
    if finish_reason is None:
        reason = f"the answer ended by {choice.finish_reason!r}"
        return Again(reason, may_be_billed=True)
    if choice.message is None and choice.text is None:
        return Again("the answer holds no message", may_be_billed=True)
    message = read_message(choice.message or {"content": choice.text})
    provider = f" ({found.provider})" if found.provider else ""
    served_by = f"{found.model or ''}{provider}".strip() or None
    return Reply(message, finish_reason, _count(tokens, message), served_by, choice.token_ids)


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


def _count(usage: _Usage | None, message: Message) -> TokenCounts | None:
    """Tokens of an answer, from what the server counted.

    Where it does not count reasoning apart, completion tokens are shared out by characters. The
    response has what is not reasoning: delimiters and the end token too.
    """
    if usage is None:
        return None
    counted = (usage.completion_tokens_details or {}).get("reasoning_tokens")
    reasoning = counted if isinstance(counted, int) else usage.reasoning_tokens or 0
    thought, said = len(message.reasoning_content or ""), len(message.content)
    if not reasoning and thought:
        reasoning = round(usage.completion_tokens * thought / (thought + said))
    reasoning = min(reasoning, usage.completion_tokens)
    return TokenCounts(
        prompt=usage.prompt_tokens,
        reasoning=reasoning,
        response=usage.completion_tokens - reasoning,
        total=usage.prompt_tokens + usage.completion_tokens,
    )


def _said(body: bytes) -> str:
    """What an error's body says, in one line."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        found = body.decode("utf-8", "replace")
    while isinstance(found, dict):
        parts = [found.get(name) for name in ("error", "message", "detail", "code", "type")]
        told = [part for part in parts if isinstance(part, str) and part]
        inner = [part for part in parts if isinstance(part, dict | list) and part]
        found = inner[0] if inner and not told else " ".join(told[:2])
    text = found if isinstance(found, str) else msgspec.json.encode(found).decode()
    return " ".join(text.split())[:SAID_CHARACTERS]
