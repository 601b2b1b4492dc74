"""The JSON of a request to a server, in the dialect that it takes.

{"model": "qwen", "messages": [{"role": "user", "content": "1+1?"}], "temperature": 0.6, "top_p": 0.95,
 "seed": 17, "max_tokens": 32768, "chat_template_kwargs": {"enable_thinking": true}}

Where the prompt was rendered here, it is a list of token ids, and ids are asked for (vLLM since 0.10):

{"model": "qwen", "prompt": [151644, 872], "max_tokens": 900, "stop_token_ids": [151645, 151668],
 "return_token_ids": true, "skip_special_tokens": false, ...}
"""

from collections.abc import Collection
from typing import Any, Literal, NamedTuple

import msgspec

from distillpipe.engines.base import Request


class Dialect(NamedTuple):
    """What a server takes of the fields that not all servers know."""

    has_seed: bool = True
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    "the field of the limit: OpenAI's reasoning models refuse the older name"


def adapted(dialect: Dialect, said: str) -> Dialect | None:
    """The dialect that a refusal asks for; None where it asks for none."""
    if dialect.limit == "max_tokens" and "max_completion_tokens" in said:
        return dialect._replace(limit="max_completion_tokens")
    if dialect.has_seed and "seed" in said.lower():
        return dialect._replace(has_seed=False)  # servers without seeds draw as they like anyway
    return None


def body_of(model: str, request: Request, dialect: Dialect, *, is_bounded: bool) -> dict[str, Any]:
    """The JSON of a request; `extra_body` adds fields, and takes away those that it sets to null.

    Unless `is_bounded`, the server may go on to the end of its context.
    """
    asked = [{"role": one.role, "content": one.content} for one in request.messages]
    limit: dict[str, Any] = {dialect.limit: request.max_tokens} if is_bounded else {}
    return _body_of(model, request, dialect, {"messages": asked, **limit})


def body_of_rendered(
    model: str, request: Request, dialect: Dialect, end_ids: Collection[int]
) -> dict[str, Any]:
    """The JSON of a request whose prompt is token ids, for /completions."""
    return _body_of(model, request, dialect, {
        "prompt": request.prompt_ids, "max_tokens": request.max_tokens,
        "stop_token_ids": sorted({*end_ids, *request.stop_ids}),
        "return_token_ids": True, "skip_special_tokens": False,
    })  # fmt: skip


def _body_of(
    model: str, request: Request, dialect: Dialect, asked: dict[str, Any]
) -> dict[str, Any]:
    sampling = request.sampling
    body = {
        "model": model, **asked, "temperature": sampling.temperature, "top_p": sampling.top_p,
    }  # fmt: skip
    if dialect.has_seed:
        body["seed"] = request.seed
    if sampling.extra_body is not None:
        body |= msgspec.json.decode(sampling.extra_body)
        body = {name: value for name, value in body.items() if value is not None}
    return body
